"""`koseki switchover`: 正 and 副 change places, in order and without losing a write."""

from __future__ import annotations

import sys

import click

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.progress import Progress
from koseki_ops.engines import pyinfra_run
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.remote.cluster import LEADING, Member, members
from koseki_ops.remote.ssh_config import ensure_site_ssh

PROCEDURE = "pyinfra_deploys/procedures/switchover.py"


def choose(found: list[Member], to: str | None) -> tuple[str, str]:
    """Return who leads and who shall lead; refuse unless a synchronous standby is at hand."""
    leaders = [row for row in found if (row.role, row.state) == LEADING]
    if len(leaders) != 1:
        seen = ", ".join(f"{row.name} {row.role} {row.state}" for row in found)
        raise KosekiError("the cluster has no leader", seen, "heal it first")
    leader = leaders[0]
    ready = [row.name for row in found if row.role == "Sync Standby" and row.state == "streaming"]
    if to == leader.name:
        return leader.name, leader.name
    if not ready or (to is not None and to not in ready):
        seen = ", ".join(f"{row.name} {row.role} {row.state}" for row in found)
        raise KosekiError(
            f"{to or 'no member'} is no synchronous standby",
            seen,
            "wait until both record, or heal the member first",
        )
    return leader.name, to or ready[0]


@click.command("switchover")
@click.argument("host", required=False)
@site_options
@json_option
def switchover_command(site: Site, host: str | None, *, as_json: bool) -> None:
    """Hand the lead to HOST (default: the synchronous standby); wait until both record again.

    Refused unless a synchronous standby is at hand. Writers wait for some seconds.

    Example: koseki switchover primary1
    """
    inventory = Inventory(site.inventory)
    to = inventory.resolve(host)[0] if host else None
    ensure_site_ssh(site, inventory)
    leader, chosen = choose(members(site, inventory), to)
    progress = Progress([])
    if leader != chosen:
        progress.say(f"{leader} hands over to {chosen}")
        result = pyinfra_run.run_deploys(
            site,
            [PROCEDURE],
            limit=inventory.hosts_in("databases"),
            check=False,
            progress=progress.say,
            data={"switchover_to": chosen},
        )
        for error in (error for row in result.hosts.values() for error in row.errors):
            click.echo(f"koseki: {error}", err=True)
        if result.failed:
            sys.exit(1)
    seconds = round(progress.elapsed(), 1)
    click.echo(f"{chosen} leads, {seconds} s" if leader != chosen else f"{chosen} leads already")
    if as_json:
        print_json({"from": leader, "to": chosen, "seconds": seconds})
