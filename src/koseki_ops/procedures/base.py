"""What every procedure is: asked before, described, run by one at a time, recorded.

A procedure is ordered work on a running platform. Each is a class that says what has to be true
before (`preflight`), what it will do (`describe`), and does it (`run`); `perform` is the one way to
run it. Its record (`koseki evidence show procedures`) is written before it begins and when it has
ended, however it ended: one without an end was interrupted.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import N_, _
from koseki_ops.core.locks import exclusive
from koseki_ops.core.progress import OnProgress
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site

RECORDS = "procedures"
BEGUN, ENDED = "begun", "ended"
COMPLETED, FAILED, INTERRUPTED = N_("completed"), N_("failed"), N_("interrupted")


@dataclass(frozen=True)
class Order:
    """Why a procedure is run, and the account on this machine that runs it."""

    reason: str
    by: str


class Procedure[Outcome](ABC):
    """Ordered work on a running platform.

    name: as records and `koseki procedure list` have it; title: one line; changes: whether anything
    on the platform is another afterwards, which asks for a reason.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    changes: ClassVar[bool] = True

    def __init__(self, site: Site) -> None:
        """Take the site that it works on."""
        self.site, self.inventory = site, Inventory(site.inventory)

    @property
    def arguments(self) -> Mapping[str, str]:
        """What it was called with, for the record."""
        return {}

    @abstractmethod
    def preflight(self) -> None:
        """Raise KosekiError for whatever must be true before and is not; change nothing."""

    @abstractmethod
    def describe(self) -> Sequence[str]:
        """Return what it will do, in order; asked after `preflight`."""

    @abstractmethod
    def run(self, on_progress: OnProgress) -> Outcome:
        """Do it. What is done already is not done again: it may be repeated."""

    @abstractmethod
    def succeeded(self, outcome: Outcome) -> bool:
        """Say whether what it was for is so now."""

    def facts(self, outcome: Outcome) -> Mapping[str, Any]:  # noqa: ARG002 - for those that have some
        """Return what of the outcome is worth knowing later, as plain data."""
        return {}

    def rollback(self, on_progress: OnProgress) -> None:  # noqa: B027 - most leave nothing that repeating would not mend
        """Take back what a run that broke off has begun."""


def perform[Outcome](
    procedure: Procedure[Outcome], order: Order, on_progress: OnProgress
) -> Outcome:
    """Run a procedure, alone, and record that it began and how it ended; return its outcome.

    Raises KosekiError, with nothing changed or recorded, when something is missing before or
    another procedure is at work.
    """
    site = procedure.site
    if procedure.changes and not order.reason and not site.is_lab:
        raise KosekiError(
            _("{procedure} changes {site} and was given no reason").format(
                procedure=procedure.name, site=site.name
            ),
            "",
            _("add --reason TEXT; it is recorded"),
        )
    ledger = Ledger(site, RECORDS)
    taken = _("another procedure is at work on {site}").format(site=site.name)
    with exclusive(site.state / "procedure.lock", taken):
        procedure.preflight()
        begun = ledger.append(
            {
                "procedure": procedure.name,
                "event": BEGUN,
                "arguments": dict(procedure.arguments),
                "reason": order.reason,
                "by": order.by,
            }
        )
        started = time.monotonic()

        def end(outcome: str, facts: Mapping[str, Any]) -> None:
            seconds = round(time.monotonic() - started, 1)
            row = {"procedure": procedure.name, "event": ENDED, "begun": begun.number}
            ledger.append({**row, "outcome": outcome, "seconds": seconds, **facts})

        try:
            found = procedure.run(on_progress)
        except BaseException as error:
            try:
                procedure.rollback(on_progress)
            finally:
                end(FAILED, {"why": str(error) or type(error).__name__})
            raise
        end(COMPLETED if procedure.succeeded(found) else FAILED, procedure.facts(found))
        return found


@dataclass(frozen=True)
class LastRun:
    """The last run of a procedure. at: when it began; seconds: None while it has no end."""

    at: str
    by: str
    reason: str
    outcome: str
    seconds: float | None


def last_runs(site: Site) -> dict[str, LastRun]:
    """Return the last run of each procedure that ever ran, by its name."""
    begun: dict[int, Mapping[str, Any]] = {}
    found: dict[str, LastRun] = {}
    for row in Ledger(site, RECORDS).rows():
        record = row.record
        if record["event"] == BEGUN:
            begun[row.number] = {**record, "at": row.at}
            last = LastRun(row.at, record["by"], record["reason"], INTERRUPTED, None)
        else:
            first = begun[record["begun"]]
            outcome, seconds = record["outcome"], record["seconds"]
            last = LastRun(first["at"], first["by"], first["reason"], outcome, seconds)
        found[record["procedure"]] = last
    return found
