"""`koseki restore rehearse`: the sealed copies are restored and held against the leader (K-04).

A backup that was never restored is a hope. The rehearsal runs on a member that does not lead,
beside its server and never into it, and measures how long the way back takes (K-18).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import click

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.formatting import in_short
from koseki_ops.core.language import N_, _
from koseki_ops.core.progress import OnProgress, Progress
from koseki_ops.core.results import EngineResult
from koseki_ops.engines import pyinfra_run
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.procedures.base import Order, Procedure
from koseki_ops.procedures.options import carry_out, procedure_options
from koseki_ops.remote.cluster import members
from koseki_ops.remote.ssh_config import ensure_site_ssh

DEPLOY = "pyinfra_deploys/procedures/rehearse_restore.py"

# Rows and sum of a database at one moment.
Digest = tuple[str, str]


@dataclass
class Rehearsal:
    """What a vault's copy was worth.

    equal: databases whose every row is as on the leader; moved: those that were written to while
    the moment was named, so that nothing can be said; different: those that are not the same;
    seconds: from the first byte asked for to the first answer of the restored server, None when it
    never answered.
    """

    vault: str
    equal: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    seconds: int | None = None

    @property
    def holds(self) -> bool:
        """Whether the copy was restored and nothing in it is different."""
        return self.seconds is not None and bool(self.equal) and not self.different


@dataclass(frozen=True)
class Rehearsed:
    """What was rehearsed. at: when it began, in seconds since 1970; result: pyinfra's."""

    at: int
    rehearsals: Sequence[Rehearsal]
    result: EngineResult


def compare(
    vaults: Sequence[tuple[str, int]], leader: Sequence[str], member: Sequence[str]
) -> list[Rehearsal]:
    """Return a rehearsal for each vault (name, repository) from the lines that the hosts printed.

    The form of a line is said at the head of the program `rehearse-restore`.
    """
    digests: dict[str, dict[str, Digest]] = {}
    seconds: dict[str, int] = {}
    for words in (line.split() for line in [*leader, *member]):
        match words:
            case ["digest", moment, database, rows, total]:
                digests.setdefault(moment, {})[database] = (rows, total)
            case ["seconds", moment, number]:
                seconds[moment] = int(number)
    before, after = digests.get("before", {}), digests.get("after", {})
    found = []
    for name, repository in vaults:
        restored = digests.get(str(repository), {})
        rehearsal = Rehearsal(name, seconds=seconds.get(str(repository)))
        for database in before:
            if before[database] != after.get(database):
                rehearsal.moved.append(database)
            elif restored.get(database) == before[database]:
                rehearsal.equal.append(database)
            else:
                rehearsal.different.append(database)
        found.append(rehearsal)
    return found


class RehearseRestore(Procedure[Rehearsed]):
    """Restore each vault's newest copy beside a running member; nothing that runs is touched."""

    name = "restore rehearse"
    title = N_("Restore every vault's newest copy beside a member, and compare.")
    changes = False

    def __init__(self, site: Site, vaults: Sequence[str]) -> None:
        """Take the names of the vaults, empty for all."""
        super().__init__(site)
        self.vaults = _chosen(self.inventory, vaults)
        self.leader = self.member = ""

    @property
    def arguments(self) -> Mapping[str, str]:
        """Which vaults, and where it was restored."""
        return {"vaults": ", ".join(self.vaults), "on": self.member}

    def preflight(self) -> None:
        """Ask who leads, and beside whom the copies can be restored."""
        ensure_site_ssh(self.site, self.inventory)
        self.leader, self.member = _places(self.site, self.inventory)

    def describe(self) -> Sequence[str]:
        """Return what it will do."""
        return [
            _("{leader} names a moment in the log and counts every database's rows").format(
                leader=self.leader
            ),
            *(
                _("{member} restores the newest copy of {name}").format(
                    member=self.member, name=name
                )
                for name in self.vaults
            ),
            _("every row of every database is compared"),
        ]

    def run(self, on_progress: OnProgress) -> Rehearsed:
        """Restore, compare, and record what each vault's copy was worth."""
        begun = time.time()
        on_progress(
            _("{member} restores what {leader} has sealed").format(
                member=self.member, leader=self.leader
            )
        )
        result = pyinfra_run.run_deploys(
            self.site,
            [DEPLOY],
            limit=[self.leader, self.member],
            check=False,
            progress=on_progress,
            data={
                "rehearsal": time.strftime("rehearsal-%Y%m%dT%H%M%SZ", time.gmtime(begun)),
                "marks": self.leader,
                "restores": self.member,
                "repositories": ",".join(map(str, self.vaults.values())),
            },
        )
        outputs = [result.hosts[host].output for host in (self.leader, self.member)]
        rehearsals = compare(list(self.vaults.items()), *outputs)
        Ledger(self.site, "rehearsals").append(
            {"at": round(begun), "vaults": [asdict(row) for row in rehearsals]}
        )
        return Rehearsed(round(begun), rehearsals, result)

    def succeeded(self, outcome: Rehearsed) -> bool:
        """Say whether every copy is whole."""
        return not outcome.result.unreachable and all(row.holds for row in outcome.rehearsals)


@click.group("restore")
def restore_group() -> None:
    """Bring sealed copies back, or rehearse it."""


@restore_group.command("rehearse")
@click.option("--vault", "chosen", multiple=True, metavar="VAULT", help="Only this (repeatable).")
@procedure_options
@site_options
@json_option
def rehearse_command(
    site: Site, chosen: tuple[str, ...], order: Order | None, *, as_json: bool
) -> None:
    """Restore each vault's newest copy beside a running member; compare every row with the leader.

    Nothing that runs is touched; the member needs room for a second copy meanwhile. It is recorded
    (`koseki evidence show rehearsals`). Exit 0: every copy is whole; 1: one is not; 2: it could not
    be asked.

    Example: koseki restore rehearse --vault remote
    """
    procedure = RehearseRestore(site, chosen)
    found = carry_out(procedure, order, Progress([]))
    if found is None:
        return
    for error in found.result.errors:
        click.echo(f"koseki: {in_short(error)}", err=True)
    for row in found.rehearsals:
        click.echo(_sentence(row))
    if as_json:
        print_json({"at": found.at, "vaults": [asdict(row) for row in found.rehearsals]})
    if found.result.unreachable:
        sys.exit(2)
    sys.exit(0 if procedure.succeeded(found) else 1)


def _chosen(inventory: Inventory, names: Sequence[str]) -> dict[str, int]:
    """Return repository by name of the vaults that were asked for, empty for all."""
    known = {row.name: row.repository for row in inventory.platform.vaults}
    for name in names:
        if name not in known:
            raise KosekiError(
                _("unknown vault"),
                name,
                _("give --vault one of {known}").format(known=", ".join(known)),
            )
    return {name: known[name] for name in names or known}


def _places(site: Site, inventory: Inventory) -> tuple[str, str]:
    """Return who leads, and the member beside whose server the copies are restored."""
    found = members(site, inventory)
    leaders = [row.name for row in found if row.role == "Leader" and row.state == "running"]
    others = [row.name for row in found if row.state == "streaming"]
    if len(leaders) != 1 or not others:
        seen = ", ".join(f"{row.name} {row.role} {row.state}" for row in found)
        raise KosekiError(
            _("a rehearsal needs a leader and a synchronous or streaming replica"),
            seen,
            _("see `koseki verify replication`"),
        )
    return leaders[0], others[0]


def _sentence(row: Rehearsal) -> str:
    if row.seconds is None:
        return _("{vault}: the copy could not be restored").format(vault=row.vault)
    parts = [_("{count} databases equal").format(count=len(row.equal))]
    if row.moved:
        parts.append(
            _("{count} written to meanwhile ({moved})").format(
                count=len(row.moved), moved=", ".join(row.moved)
            )
        )
    if row.different:
        parts.append(
            _("{count} DIFFERENT ({different})").format(
                count=len(row.different), different=", ".join(row.different)
            )
        )
    return _("{vault}: restored in {seconds} s, {parts}").format(
        vault=row.vault, seconds=row.seconds, parts=", ".join(parts)
    )
