"""The command tree of `koseki`: parses, prints, sets exit codes."""

from __future__ import annotations

import importlib
import signal
import sys

import click

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.progress import Progress
from koseki_ops.core.results import EngineResult
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.municipalities import active, effective_day
from koseki_ops.plan.site import Site
from koseki_ops.trust.secrets import init_secrets, load_secrets, secrets_file, wanted_secrets

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


# Commands that live in rooms of their own, imported when they are called: `koseki lab exec` must
# not wait for the verification's imports, nor `koseki --help` for any. Each with what it is for.
ROOMS = {
    "costs": (
        "koseki_ops.costs.cli:costs_group",
        "Shares of what is paid together.",
    ),
    "drift": (
        "koseki_ops.drift.cli:drift_group",
        "What changed on the hosts since the last apply.",
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
    "release": (
        "koseki_ops.supply.release_cli:release_group",
        "Build, sign and verify the application.",
    ),
    "request": (
        "koseki_ops.registers.requests.cli:request_group",
        "Sessions on a municipality's registers.",
    ),
    "restore": (
        "koseki_ops.procedures.rehearse_restore:restore_group",
        "Rehearse the way back from the vaults.",
    ),
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
    "verify": ("koseki_ops.verify.cli:verify_command", "Hold the running hosts to the plan."),
    "watch": ("koseki_ops.watch.schedule.cli:watch_group", "The checks that run by the clock."),
    "withdraw": (
        "koseki_ops.procedures.cli:withdraw_command",
        "Close a municipality that has left.",
    ),
}


class RoomGroup(click.Group):
    """A command group that imports a room only when one of its commands is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands here and those in the rooms."""
        return sorted({*super().list_commands(ctx), *ROOMS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, importing its room."""
        if cmd_name not in ROOMS:
            return super().get_command(ctx, cmd_name)
        module, attribute = ROOMS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands; none is imported for that."""
        rows = [
            (name, ROOMS[name][1] if name in ROOMS else str(self.commands[name].short_help))
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=RoomGroup, context_settings=CONTEXT)
def cli() -> None:
    """Provision, verify and evidence the shared family-register platform.

    Exit codes: 0 it holds, 1 it does not hold, 2 the question could not be asked.
    """


@cli.command("check", short_help="Hold the inventory to its rules.")
@site_options
@json_option
def check_command(site: Site, *, as_json: bool) -> None:
    """Hold the inventory against the model: file, key, value seen and remedy of each fault.

    Example: koseki check -i iida
    """
    from koseki_ops.plan.rules import check_inventory  # noqa: PLC0415 - the model is slow to import

    inventory = Inventory(site.inventory)
    findings = check_inventory(inventory)
    for finding in findings:
        click.echo(f"koseki: {finding}", err=True)
    if not findings:
        click.echo(f"{site.inventory_name}: {len(inventory.hosts)} hosts, the inventory holds")
    if as_json:
        print_json(
            {
                "findings": [
                    {"file": str(f.file), "key": f.key, "seen": f.seen, "remedy": f.remedy}
                    for f in findings
                ]
            }
        )
    if findings:
        sys.exit(2)


@cli.command("municipalities", short_help="Who has joined by a day.")
@click.option("--as-of", metavar="DATE", help="An ISO date (default: the inventory's day).")
@site_options
@json_option
def municipalities_command(site: Site, *, as_of: str | None, as_json: bool) -> None:
    """List the municipalities that have joined by a day, in the plan's order.

    Example: koseki municipalities -i iida --as-of 2015-11-01
    """
    from koseki_ops.plan.rules import load_platform  # noqa: PLC0415 - the model is slow to import

    inventory = Inventory(site.inventory)
    platform = load_platform(inventory)
    try:
        day = effective_day(as_of or str(platform.effective_date), platform.timezone)
    except ValueError as error:
        raise KosekiError("this is no day", str(as_of), "write it as 2015-11-01") from error
    joined = active(inventory.shared["municipalities"], day)
    for row in joined:
        click.echo(f"{row['code6']}  {row['slug']:10}  {row['joined_on']}  {row['name']}")
    click.echo(f"{len(joined)} municipalities on {day}")
    if as_json:
        print_json({"as_of": day.isoformat(), "active": len(joined), "municipalities": joined})


@cli.group("secrets", short_help="The inventory's vault of secrets.")
def secrets_group() -> None:
    """Make and test the inventory's vault of secrets."""


@secrets_group.command("init")
@site_options
def secrets_init(site: Site) -> None:
    """Make the vault password and every secret that is missing; what is there stays.

    Example: koseki secrets init -i iida
    """
    made = init_secrets(site)
    path = secrets_file(site).relative_to(site.root)
    click.echo(f"{path}: {made} secrets made" if made else f"{path}: complete, nothing made")


@secrets_group.command("check")
@site_options
def secrets_check(site: Site) -> None:
    """Say whether the vault opens and holds every secret that the inventory asks for.

    Example: koseki secrets check -i iida
    """
    present = load_secrets(site)
    wanted = wanted_secrets(Inventory(site.inventory))
    missing = [name for name in wanted if not present.get(name)]
    if missing:
        click.echo(f"missing: {', '.join(missing)}; run `koseki secrets init`")
        sys.exit(1)
    click.echo(f"{len(wanted)} secrets, all there")


@cli.command("apply", short_help="Bring the hosts to what the inventory says.")
@click.option("--check", is_flag=True, help="Change nothing; say what an apply would change.")
@click.option("--limit", multiple=True, metavar="HOST|GROUP", help="Only these (repeatable).")
@click.option(
    "--only",
    type=click.Choice(["ground", "services"]),
    help="Only the ground (pyinfra) or only the services (Ansible).",
)
@site_options
@json_option
def apply_command(
    site: Site, *, check: bool, limit: tuple[str, ...], only: str | None, as_json: bool
) -> None:
    """Bring the hosts to what the inventory says: the ground, then the services.

    Exit 0: every host is as the inventory says (with --check: could be asked); 1: something
    failed; 2: bad input, an unhealthy cluster, or a host did not answer (the others went on).

    Example: koseki apply --check --limit databases
    """
    from koseki_ops.engines import apply as engine  # noqa: PLC0415 - the engines take a second to import

    plan = engine.Plan(check, limit, (only,) if only else engine.ENGINES)
    progress = Progress([])
    result = engine.apply(site, plan, progress.say)
    print_result(result, check=check)
    if as_json:
        print_json(engine.as_json(result))
    if result.unreachable or result.refused:
        sys.exit(2)
    if result.failed:
        sys.exit(1)


def print_result(result: EngineResult, *, check: bool) -> None:
    """Print a line for each host, then each failure as a sentence."""
    verb = "would change" if check else "changed"
    for name, host in result.hosts.items():
        state = "not touched" if host.unreachable else f"{host.changed} {verb}"
        failed = f", {host.failed} failed" if host.failed else ""
        click.echo(f"{name:20} {state}{failed}")
        for error in host.errors:
            click.echo(f"  {error}", err=True)
    click.echo(f"{result.changed} {verb}, {result.failed} failed, {result.seconds:.1f} s")


@cli.command("demo", short_help="From nothing to a verified platform.")
@site_options
def demo_command(site: Site) -> None:
    """From nothing to a verified platform in the lab; leaves the lab running.

    Example: koseki demo
    """
    from koseki_ops.demo import run_demo  # noqa: PLC0415 - it imports every part

    sys.exit(run_demo(site))


def main() -> None:
    """Run the command; a KosekiError or an interrupt becomes one sentence and exit code 2."""
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
            "koseki: interrupted: run the same command again, it goes on from here", err=True
        )
    sys.exit(2)
