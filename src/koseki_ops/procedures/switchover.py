"""`koseki switchover`: 正 and 副 change places, in order and without losing a write."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import click

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.formatting import in_short
from koseki_ops.core.language import N_, _
from koseki_ops.core.progress import OnProgress, Progress
from koseki_ops.core.results import EngineResult
from koseki_ops.engines import pyinfra_run
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.site import Site
from koseki_ops.procedures.base import Order, Procedure
from koseki_ops.procedures.options import carry_out, procedure_options
from koseki_ops.remote.cluster import LEADING, Member, members
from koseki_ops.remote.ssh_config import ensure_site_ssh

DEPLOY = "pyinfra_deploys/procedures/switchover.py"


class Switchover(Procedure[EngineResult | None]):
    """Hand the lead to another member; the outcome is what pyinfra did, None when it led already.

    Patroni itself goes back to the old leader when the new one cannot take over: there is nothing
    to roll back.
    """

    name = "switchover"
    title = N_("Hand the lead to the other database server.")

    def __init__(self, site: Site, host: str | None) -> None:
        """Take the host that shall lead; None: the synchronous standby."""
        super().__init__(site)
        self.wanted = self.inventory.resolve(host)[0] if host else None
        self.leader = self.chosen = ""

    @property
    def arguments(self) -> Mapping[str, str]:
        """Who led, and who was chosen."""
        return {"from": self.leader, "to": self.chosen}

    def preflight(self) -> None:
        """Ask who leads, and whether a synchronous standby is at hand."""
        ensure_site_ssh(self.site, self.inventory)
        self.leader, self.chosen = choose(members(self.site, self.inventory), self.wanted)

    def describe(self) -> Sequence[str]:
        """Return what it will do."""
        if self.leader == self.chosen:
            return [_("{chosen} leads already: there is nothing to do").format(chosen=self.chosen)]
        return [
            _("{leader} hands the lead over to {chosen}; writers wait for some seconds").format(
                leader=self.leader, chosen=self.chosen
            ),
            _("wait until both record again"),
        ]

    def run(self, on_progress: OnProgress) -> EngineResult | None:
        """Hand over, and wait until both record again."""
        if self.leader == self.chosen:
            return None
        on_progress(
            _("{leader} hands over to {chosen}").format(leader=self.leader, chosen=self.chosen)
        )
        return pyinfra_run.run_deploys(
            self.site,
            [DEPLOY],
            limit=self.inventory.hosts_in("databases"),
            check=False,
            progress=on_progress,
            data={"switchover_to": self.chosen},
        )

    def succeeded(self, outcome: EngineResult | None) -> bool:
        """Say whether the one that was chosen leads and both record."""
        return outcome is None or not outcome.failed


def choose(found: list[Member], to: str | None) -> tuple[str, str]:
    """Return who leads and who shall lead; refuse unless a synchronous standby is at hand."""
    leaders = [row for row in found if (row.role, row.state) == LEADING]
    seen = ", ".join(f"{row.name} {row.role} {row.state}" for row in found)
    if len(leaders) != 1:
        raise KosekiError(
            _("the cluster has no leader"), seen, _("see `koseki verify replication`")
        )
    leader = leaders[0]
    ready = [row.name for row in found if row.role == "Sync Standby" and row.state == "streaming"]
    if to == leader.name:
        return leader.name, leader.name
    if not ready or (to is not None and to not in ready):
        raise KosekiError(
            _("{to} is not a synchronous standby").format(to=to or _("no member")),
            seen,
            _("wait until `koseki verify replication` passes"),
        )
    return leader.name, to or ready[0]


@click.command("switchover")
@click.argument("host", required=False)
@procedure_options
@site_options
@json_option
def switchover_command(site: Site, host: str | None, order: Order | None, *, as_json: bool) -> None:
    """Hand the lead to HOST (default: the synchronous standby); wait until both record again.

    Refused unless a synchronous standby is at hand. Writers wait for some seconds.
    Exit 0: it leads; 1: the hand-over failed; 2: it was refused, or broken off.

    Example: koseki switchover primary1
    """
    procedure, progress = Switchover(site, host), Progress([])
    result = carry_out(procedure, order, progress)
    for error in result.errors if result else ():
        click.echo(f"koseki: {in_short(error)}", err=True)
    if result and result.failed:
        sys.exit(1)
    seconds = round(progress.elapsed(), 1)
    leader, chosen = procedure.leader, procedure.chosen
    if order:
        done = _("{chosen} leads, {seconds} s").format(chosen=chosen, seconds=seconds)
        click.echo(done if leader != chosen else _("{chosen} leads already").format(chosen=chosen))
    if as_json:
        print_json({"from": leader, "to": chosen, "seconds": seconds})
