"""The command tree of `koseki`: parses, prints, sets exit codes."""

from __future__ import annotations

import signal
import sys

import click

from koseki_ops.core.command_language import language_option, speak_for_click
from koseki_ops.core.environment import forget_caller
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.core.lazy_group import LazyGroup
from koseki_ops.core.terminal import guard

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


# Every command lives in its room, imported when it is called: `koseki lab exec` must not wait for
# the verification's imports, nor `koseki --help` for any. Each with what it is for.
ROOMS = {
    "apply": (
        "koseki_ops.engines.cli:apply_command",
        "Bring the hosts to what is in the inventory.",
    ),
    "check": ("koseki_ops.plan.cli:check_command", "Check the inventory against its rules."),
    "costs": (
        "koseki_ops.costs.cli:costs_group",
        "Shares of what is paid together.",
    ),
    "demo": ("koseki_ops.demo:demo_command", "From nothing to a verified platform."),
    "drift": (
        "koseki_ops.drift.cli:drift_group",
        "What changed on the hosts since the last apply.",
    ),
    "duplicate": (
        "koseki_ops.duplicates.cli:duplicate_group",
        "The duplicates (副本) sent to the ministry, day by day.",
    ),
    "enroll": (
        "koseki_ops.procedures.cli:enroll_command",
        "Bring a municipality onto the platform.",
    ),
    "evidence": ("koseki_ops.evidence.cli:evidence_group", "Show and verify the site's records."),
    "image": ("koseki_ops.image.cli:image_group", "The hosts as disks that boot."),
    "lab": ("koseki_ops.lab.cli:lab_group", "Six real hosts on this machine."),
    "link": (
        "koseki_ops.registers.link.cli:link_group",
        "The exchange with the residents' registries.",
    ),
    "mirror": (
        "koseki_ops.supply.mirror_cli:mirror_group",
        "The platform's own signed package mirror.",
    ),
    "municipalities": ("koseki_ops.plan.cli:municipalities_command", "Who has joined by a day."),
    "procedure": ("koseki_ops.procedures.cli:procedure_group", "Ordered work, and its last runs."),
    "release": (
        "koseki_ops.supply.release_cli:release_group",
        "Build, sign and verify the application.",
    ),
    "request": (
        "koseki_ops.registers.requests.cli:request_group",
        "Sessions on a municipality's registers.",
    ),
    "restart": (
        "koseki_ops.procedures.restart_members:restart_command",
        "Restart database servers for which a setting waits.",
    ),
    "restore": (
        "koseki_ops.procedures.rehearse_restore:restore_group",
        "Rehearse the way back from the vaults.",
    ),
    "secrets": ("koseki_ops.trust.cli:secrets_group", "The inventory's vault of secrets."),
    "ssh": ("koseki_ops.remote.cli:ssh_group", "SSH certificates, and the one configuration."),
    "switchover": (
        "koseki_ops.procedures.switchover:switchover_command",
        "Hand the lead to another server.",
    ),
    "takeover": (
        "koseki_ops.registers.takeovers.cli:takeover_group",
        "Issue for one that is cut off.",
    ),
    "terminal": (
        "koseki_ops.trust.cli:terminal_group",
        "Certificates of the terminals.",
    ),
    "verify": ("koseki_ops.verify.cli:verify_command", "Check the running hosts against the plan."),
    "watch": ("koseki_ops.watch.cli:watch_group", "The checks that run by the clock."),
    "withdraw": (
        "koseki_ops.procedures.cli:withdraw_command",
        "Close a municipality that has left.",
    ),
}


@click.group(cls=LazyGroup, places=ROOMS, context_settings=CONTEXT)
@language_option
def cli() -> None:
    """Provision, verify and evidence the shared family-register platform.

    Exit codes: 0 passed or done, 1 something failed, 2 it could not be checked.
    """


def main() -> None:
    """Run the command; a KosekiError or an interrupt becomes one sentence and exit code 2."""
    forget_caller()
    speak_for_click()
    guard()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # A command that sets an exit code leaves by SystemExit; click returns those of its own.
        sys.exit(cli.main(prog_name="koseki", standalone_mode=False))
    except KosekiError as error:
        click.echo(f"koseki: {error}", err=True)
    except click.ClickException as error:
        error.show()
    except (click.Abort, KeyboardInterrupt):
        click.echo(
            _("koseki: interrupted: run the same command again, it goes on from here"), err=True
        )
    sys.exit(2)
