"""The host municipality issues for another that is cut off, while that is declared (K-06).

Declarations, their ends and what was issued are rows in that municipality's own database
(platform.takeovers and those beside it, append only); the database lets the stand-in in and shuts
it out by them. Here a declaration is held against the inventory, and issued numbers are reconciled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.foreign import as_asked, rows_from
from koseki_ops.core.language import _
from koseki_ops.plan.model import Municipality, Takeover
from koseki_ops.plan.naming import database_of
from koseki_ops.registers.requests.service import RegisterService, ends_within, one_line
from koseki_ops.remote.psql import LEADER, literal, run_on_leader

# More than every municipality of the country would issue; so many numbers are held in memory.
MOST_DOCUMENTS = 1_000_000
STATUS = """SELECT json_build_object('municipality', '{slug}',
  'last', (SELECT max(last) FROM platform.takeover_numbers),
  'takeovers', (SELECT coalesce(json_agg(json_build_object('number', t.number,
      'declared_by', declared_by, 'approver', approver, 'cause', cause, 'starts_at', starts_at,
      'ends_at', ends_at, 'state', CASE WHEN how IS NOT NULL THEN how
        WHEN ends_at <= clock_timestamp() THEN 'expired' ELSE 'declared' END,
      'ended_at', ended_at, 'ended_by', ended_by) ORDER BY t.number), '[]')
    FROM platform.takeovers t LEFT JOIN platform.takeover_ends e ON e.number = t.number),
  'documents', (SELECT coalesce(json_agg(json_build_object('number', d.number,
      'takeover', takeover, 'as_of', as_of, 'issued_at', issued_at, 'signatory', signatory,
      'within', issued_at BETWEEN starts_at AND coalesce(ended_at, ends_at)) ORDER BY d.number),
      '[]')
    FROM platform.takeover_documents d JOIN platform.takeovers t ON t.number = takeover
    LEFT JOIN platform.takeover_ends e ON e.number = takeover));"""


@dataclass(frozen=True)
class TakeoverSpec:
    """A takeover as it is declared. until: with its zone."""

    municipality: str
    declared_by: str
    approver: str
    cause: str
    until: datetime


def clause(registers: RegisterService, municipality: str) -> tuple[Municipality, Takeover]:
    """Return a municipality and what holds in its takeover; KosekiError without such a clause.

    municipality: slug, name or six-digit code of a municipality.
    """
    rows = registers.platform.municipalities
    found = next((row for row in rows if municipality in (row.slug, row.name, row.code6)), None)
    slug = registers.municipality(found.slug if found else municipality)
    for row in rows:
        if row.slug == slug and row.takeover:
            return row, row.takeover
    known = ", ".join(row.slug for row in rows if row.takeover) or _("none")
    raise KosekiError(
        _("the inventory allows no takeover for this municipality"),
        municipality,
        _("name one of `takeovers` in the inventory: {known}").format(known=known),
    )


def declare(registers: RegisterService, spec: TakeoverSpec, typed_by: str) -> str:
    """Declare a takeover and return its id; the database refuses one that is declared already."""
    municipality, takeover = clause(registers, spec.municipality)
    if registers.operator(spec.approver) == registers.operator(spec.declared_by):
        remedy = _("give another operator with --approver")
        raise KosekiError(_("who declares does not approve"), spec.approver, remedy)
    one_line("cause", spec.cause)
    ends_within(spec.until, datetime.now(UTC), takeover.longest_hours)
    row_values = {
        "declared_by": spec.declared_by,
        "approver": spec.approver,
        "cause": spec.cause,
        "typed_by": typed_by,
        "ends_at": spec.until.isoformat(),
    }
    script = (
        f"\\connect {municipality.database}\n"
        f"SELECT platform.declare_takeover({literal(row_values)}::jsonb);\n"
    )
    return (
        f"{municipality.slug}-{run_on_leader(registers.site, registers.inventory, script).strip()}"
    )


def end(registers: RegisterService, municipality: str, ended_by: str) -> str:
    """End what is declared for a municipality before its time; return its slug."""
    row, _ = clause(registers, municipality)
    script = (
        f"\\connect {row.database}\n"
        f"SELECT platform.end_takeover({literal(registers.operator(ended_by))});\n"
        "SELECT platform.end_sessions();\n"
    )
    run_on_leader(registers.site, registers.inventory, script)
    return row.slug


@dataclass(frozen=True)
class TakeoverStatus:
    """How it stands with one municipality.

    takeovers, documents: rows as JSON names them, without what a document is about; faults: what
    does not reconcile, as sentences.
    """

    municipality: str
    takeovers: Sequence[dict[str, object]]
    documents: Sequence[dict[str, object]]
    faults: Sequence[str]


def status(registers: RegisterService, municipalities: Sequence[str]) -> list[TakeoverStatus]:
    """Return how it stands with these municipalities, empty for every one with the clause."""
    chosen = [clause(registers, municipality)[0].slug for municipality in municipalities] or [
        municipality.slug for municipality in registers.platform.joined if municipality.takeover
    ]
    script = "\n".join(
        f"\\connect {database_of(slug)}\n{STATUS.format(slug=slug)}" for slug in chosen
    )
    found = []
    for row in (
        rows_from(LEADER, run_on_leader(registers.site, registers.inventory, script))
        if chosen
        else []
    ):
        with as_asked(LEADER):
            found.append(_standing(row))
    return found


def _standing(row: Any) -> TakeoverStatus:  # noqa: ANN401 - JSON is whatever came
    numbers = [int(document["number"]) for document in row["documents"]]
    outside = [int(d["number"]) for d in row["documents"] if not d["within"]]
    last = int(row["last"] or 0)
    if last > MOST_DOCUMENTS:
        raise ValueError(f"{last} documents")
    faults = reconcile(last, numbers, outside)
    return TakeoverStatus(row["municipality"], row["takeovers"], row["documents"], faults)


def reconcile(last: int, numbers: Iterable[int], outside: Iterable[int]) -> list[str]:
    """Return what is wrong with issued numbers; last: the last one that was ever taken.

    outside: those of documents that were issued when nothing was declared.
    """
    there = set(numbers)
    return [
        *(
            _("number {n} was taken and has no document").format(n=n)
            for n in sorted({*range(1, last + 1)} - there)
        ),
        *(
            _("number {n} was never taken").format(n=n)
            for n in sorted(there - {*range(1, last + 1)})
        ),
        *(_("number {n} was issued outside of its takeover").format(n=n) for n in sorted(outside)),
    ]
