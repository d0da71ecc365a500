"""The demonstration: from nothing to a verified platform in the lab, which is left running."""

from __future__ import annotations

import sys

import click

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import N_, _, ngettext
from koseki_ops.core.progress import Progress
from koseki_ops.engines import apply as engine
from koseki_ops.lab.lab import Lab
from koseki_ops.plan.cli_options import site_options
from koseki_ops.plan.host_kinds import kinds_of
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.supply.mirror import build_mirror
from koseki_ops.supply.toolkit import build_wheelhouse
from koseki_ops.trust.secrets import init_secrets
from koseki_ops.verify.cli import print_results
from koseki_ops.verify.results import FAILED, PASSED, SKIPPED, Results
from koseki_ops.verify.runner import Reports, verify

STEPS = (N_("secrets"), N_("package mirror"), N_("lab"), N_("apply"), N_("verify"))


@click.command("demo")
@site_options
def demo_command(site: Site) -> None:
    """From nothing to a verified platform in the lab; leaves the lab running.

    Exit 0: all of it stands and holds; 1: something failed; 2: it could not go on.

    Example: koseki demo
    """
    sys.exit(run_demo(site))


def run_demo(site: Site) -> int:
    """Do every step, print what stands, and return the exit code of the weakest answer."""
    if not site.is_lab:
        raise KosekiError(
            _("the demonstration runs in the lab only"),
            site.inventory_name,
            _("leave --inventory out"),
        )
    progress = Progress([_(step) for step in STEPS])
    with progress.step(_("secrets")):
        made = init_secrets(site)
        made_now = ngettext("{count} secret made", "{count} secrets made", made)
        progress.report(made_now.format(count=made) if made else _("complete"))
    with progress.step(_("package mirror")):
        build_mirror(site, progress.report)
        build_wheelhouse(site, progress.report)
    with progress.step(_("lab")):
        Lab(site, progress.report).up()
    with progress.step(_("apply")):
        result = engine.apply(site, engine.Plan(), progress.report)
        changed = _("{changed} changed, {failed} failed")
        progress.report(changed.format(changed=result.changed, failed=result.failed))
    for host in result.hosts.values():
        for error in host.errors:
            click.echo(f"  {error}", err=True)
    if result.failed:
        click.echo(_("The platform is not up; the lines above show why."))
        return 1
    with progress.step(_("verify")):
        verified = verify(site, (), ())
    print_results(verified)
    print_table(site, result.changed, verified, progress)
    return 1 if verified.count(FAILED) else 0


def print_table(site: Site, changed: int, verified: Results, progress: Progress) -> None:
    """Print what stands, how long it took, and where to look next."""
    inventory = Inventory(site.inventory)
    click.echo(_("\nWhat stands"))
    for host in inventory.hosts:
        groups = [kind.group for kind in kinds_of(inventory, host)]
        address = inventory.address_of(host, site.origin)
        click.echo(f"  {host:16} {', '.join(groups):14} {address}")
    click.echo(_("\nHow long it took"))
    for name, seconds in progress.done:
        click.echo(f"  {name:16} {seconds:6.1f} s")
    click.echo(
        _(
            "\n{changed} changes; {passed} checks passed, {failed} failed, {skipped} not verified"
        ).format(
            changed=changed,
            passed=verified.count(PASSED),
            failed=verified.count(FAILED),
            skipped=verified.count(SKIPPED),
        )
    )
    where = [
        (_("the report"), str(Reports.of(site).html.relative_to(site.root))),
        (_("a shell on a host"), ".venv/bin/koseki lab exec primary1 -- bash"),
        (
            _("who leads"),
            ".venv/bin/koseki lab exec primary1 -- patronictl -c /etc/patroni/config.yml list",
        ),
        (_("verify again"), ".venv/bin/koseki verify"),
        (_("take it down"), "make down"),
    ]
    click.echo(_("\nWhere to look next"))
    for what, command in where:
        click.echo(f"  {what:18} {command}")
