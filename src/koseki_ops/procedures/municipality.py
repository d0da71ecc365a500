"""What joining, leaving and deleting a municipality share (K-02).

The inventory says who is there (`joined_on`, `left_on`, `joining`); an ordinary apply brings that
about without the others noticing. What was done is recorded (`koseki evidence show joinings`).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.core.progress import OnProgress
from koseki_ops.core.results import EngineResult
from koseki_ops.engines import apply as engine
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import Municipality
from koseki_ops.plan.site import Site
from koseki_ops.remote.run import A_DAY, run
from koseki_ops.verify.results import FAILED, Results
from koseki_ops.verify.runner import verify

# What proves that a municipality is in, or out, and the others are where they were.
SUITES = ("application", "databases", "flows", "gateway", "link")


@dataclass(frozen=True)
class Outcome:
    """What was done: the apply, and what the suites found after it; nothing when that failed."""

    applied: EngineResult
    found: Results

    @property
    def holds(self) -> bool:
        """Whether every host was brought along, answered, and every test passed."""
        brought = not (self.applied.failed or self.applied.unreachable)
        return brought and not (self.found.unreachable or self.found.count(FAILED))


def row_of(inventory: Inventory, slug: str) -> Municipality:
    """Return a municipality's row of the plan, or raise KosekiError."""
    rows = {row.slug: row for row in inventory.platform.municipalities}
    if slug not in rows:
        raise KosekiError(
            _("no such municipality in the plan"),
            slug,
            _("name one of {rows} (`koseki municipalities`)").format(rows=", ".join(rows)),
        )
    return rows[slug]


def bring_about(site: Site, on_progress: OnProgress) -> Outcome:
    """Apply, and when that went well ask the suites."""
    applied = engine.apply(site, engine.Plan(), on_progress)
    if applied.failed or applied.unreachable:
        return Outcome(applied, Results())
    on_progress(_("verifying"))
    return Outcome(applied, verify(site, SUITES, ()))


def departed(inventory: Inventory, slug: str) -> Municipality:
    """Return the row of a municipality that has left, or raise KosekiError."""
    row = row_of(inventory, slug)
    day = inventory.effective_day
    if not row.has_left(day):
        raise KosekiError(
            _("{name} has not left").format(name=row.name),
            _("left_on is {left_on}, today is {day}").format(
                left_on=row.left_on or "null", day=day
            ),
            _("write its day into municipalities.yml when its leaving is agreed"),
        )
    return row


def program_on_host(
    site: Site,
    host: str,
    program: str,
    database: str,
    stdin: bytes = b"",
    out: IO[bytes] | None = None,
) -> str:
    """Run one of this room's programs as root on a host; return its errors' text."""
    text = files("koseki_ops.procedures").joinpath("files", program).read_text(encoding="utf-8")
    return run_as_root(site, host, ["bash", "-c", text, program, database], stdin, out)


def run_as_root(
    site: Site,
    host: str,
    argv: Sequence[str],
    stdin: bytes = b"",
    out: IO[bytes] | None = None,
) -> str:
    """Run a command as root on a host; return its errors' text. out: a file for its output."""
    done = run(site, host, f"sudo -n {shlex.join(argv)}", stdin, seconds=A_DAY, out=out)
    if done.code:
        seen = done.reason
        raise KosekiError(
            _("{argv} failed on {host}").format(argv=argv[0], host=host),
            seen,
            _("read `journalctl -n 50` on {host}, then run the same command again").format(
                host=host
            ),
        )
    return done.stderr.strip()


def record(site: Site, row: Mapping[str, Any]) -> None:
    """Add a row to the record of joining and leaving."""
    Ledger(site, "joinings").append(row)


def export_path(site: Site, slug: str) -> Path:
    """Return where it is kept what of a municipality's data was handed over."""
    return site.state / "exports" / f"{slug}.json"
