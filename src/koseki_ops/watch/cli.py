"""`koseki watch`: what the hosts that keep watch do by the clock."""

from __future__ import annotations

import sys

import click

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.formatting import in_short
from koseki_ops.core.language import _
from koseki_ops.engines import apply as engine
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.remote.run import run
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.supply.toolkit import watch_hosts
from koseki_ops.watch.schedule import STATUS, RunState, opinion, run_states


@click.group("watch")
def watch_group() -> None:
    """Look at the platform by the clock: what ran, what comes next, and the second opinion."""


@watch_group.command("opinion")
@site_options
@json_option
def opinion_command(site: Site, *, as_json: bool) -> None:
    """Ask both engines, under check, what they would change: a second opinion on the sweep.

    Exit 0: nothing; 1: something, named host by host; 2: a host did not answer.

    Example: koseki watch opinion
    """
    result = engine.apply(site, engine.Plan(check=True), lambda _line: None)
    sentences = opinion(result)
    for line in sentences:
        click.echo(f"koseki: {in_short(line)}", err=True)
    if not sentences:
        click.echo(
            _("{count} hosts, nothing would change, {seconds:.0f} s").format(
                count=len(result.hosts), seconds=result.seconds
            )
        )
    if as_json:
        print_json(engine.as_json(result))
    if result.unreachable or result.refused:
        sys.exit(2)
    sys.exit(1 if sentences else 0)


@watch_group.command("status")
@site_options
@json_option
def status_command(site: Site, *, as_json: bool) -> None:
    """Show when each run was last, how it ended and when it comes next.

    Exit 0: each ended well, or is not due yet; 1: one did not; 2: a host did not answer.

    Example: koseki watch status
    """
    inventory = Inventory(site.inventory)
    ensure_site_ssh(site, inventory)
    states = {host: _ask(site, host) for host in watch_hosts(inventory)}
    for host, rows in states.items():
        for row in rows:
            click.echo(f"{host:14} {in_short(row.unit):24} {in_short(row.sentence)}")
    if as_json:
        print_json({host: [vars(row) for row in rows] for host, rows in states.items()})
    if not all(row.well for rows in states.values() for row in rows):
        sys.exit(1)


def _ask(site: Site, host: str) -> list[RunState]:
    done = run(site, host, STATUS)
    if done.code:
        raise KosekiError(
            _("{host} does not answer").format(host=host),
            done.reason,
            _("check the host and its line: `ssh {host}`").format(host=host),
        )
    try:
        return run_states(done.stdout)
    except ValueError as error:
        raise KosekiError(
            _("{host} did not report its runs").format(host=host),
            str(error),
            _("check it: `ssh {host}`").format(host=host),
        ) from error
