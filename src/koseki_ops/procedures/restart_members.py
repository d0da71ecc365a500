"""`koseki restart`: the database servers take over a setting that waits for a restart.

Nothing else restarts PostgreSQL (docs/adr/0011).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import click

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.formatting import in_short
from koseki_ops.core.language import N_, _
from koseki_ops.core.progress import OnProgress, Progress
from koseki_ops.core.results import EngineResult
from koseki_ops.engines import ansible_run
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.site import Site
from koseki_ops.procedures.base import Order, Procedure
from koseki_ops.procedures.options import carry_out, procedure_options
from koseki_ops.remote.cluster import LEADING, Member, members
from koseki_ops.remote.ssh_config import ensure_site_ssh

PLAYBOOK = "playbooks/restart-members.yml"
WELL = {"running", "streaming"}


class RestartMembers(Procedure[EngineResult | None]):
    """Restart members for which a setting waits, one at a time; None when none waits.

    A restart cannot be taken back, and what is not restarted yet goes on as it was: after one that
    failed the others are left alone.
    """

    name = "restart"
    title = N_("Restart the database servers for which a changed setting waits.")

    def __init__(self, site: Site) -> None:
        """Take the site."""
        super().__init__(site)
        self.waiting: list[Member] = []

    @property
    def arguments(self) -> Mapping[str, str]:
        """Who waited for a restart."""
        return {"members": ", ".join(row.name for row in self.waiting)}

    def preflight(self) -> None:
        """Ask who waits for a restart, and whether the cluster is well enough for one."""
        ensure_site_ssh(self.site, self.inventory)
        found = members(self.site, self.inventory)
        self.waiting = in_order([row for row in found if row.pending_restart])
        seen = ", ".join(f"{row.name} {row.role} {row.state}" for row in found)
        well = all(row.state in WELL for row in found)
        if self.waiting and not (well and any(row.role == "Sync Standby" for row in found)):
            raise KosekiError(
                _("the cluster is not healthy, so no member is restarted"),
                seen,
                _("see `koseki verify replication`"),
            )

    def describe(self) -> Sequence[str]:
        """Return what it will do."""
        if not self.waiting:
            return [_("no setting waits for a restart: there is nothing to do")]
        return [
            _("restart {name}, then wait until both record again").format(name=row.name)
            for row in self.waiting
        ]

    def run(self, on_progress: OnProgress) -> EngineResult | None:
        """Restart them, replicas first."""
        if not self.waiting:
            return None
        return ansible_run.run_playbook(
            self.site,
            PLAYBOOK,
            limit=self.inventory.hosts_in("databases"),
            check=False,
            progress=on_progress,
        )

    def succeeded(self, outcome: EngineResult | None) -> bool:
        """Say whether nobody waits any more."""
        if outcome is not None and outcome.failed:
            return False
        return not any(row.pending_restart for row in members(self.site, self.inventory))


def in_order(found: Sequence[Member]) -> list[Member]:
    """Return members in the order of their restarts: replicas, then who leads."""
    return sorted(found, key=lambda row: ((row.role, row.state) == LEADING, row.name))


@click.command("restart")
@procedure_options
@site_options
@json_option
def restart_command(site: Site, order: Order | None, *, as_json: bool) -> None:
    """Restart the database servers for which a changed setting waits: replicas, then the leader.

    One at a time, each when all others are well. Exit 0: none waits any more; 1: one failed, the
    others were left alone; 2: the cluster is not well.

    Example: koseki restart --dry-run
    """
    procedure, progress = RestartMembers(site), Progress([])
    result = carry_out(procedure, order, progress)
    for error in result.errors if result else ():
        click.echo(f"koseki: {in_short(error)}", err=True)
    names = [row.name for row in procedure.waiting]
    failed = result.failed if result else 0
    if order:
        click.echo(
            _("restarted: {names}").format(names=", ".join(names))
            if names
            else _("no setting waits for a restart")
        )
    if as_json:
        seconds = round(progress.elapsed(), 1)
        print_json({"restarted": names if order else [], "failed": failed, "seconds": seconds})
    sys.exit(1 if failed else 0)
