"""The book of bills: what was drafted, issued and paid, as rows of the site's ledger (K-16).

Nothing in it is ever changed. A draft becomes a bill when another person than its maker approves
it; of a bill that was issued there is no other version: a corrected cost makes a settlement, and a
payment that was noted by mistake is taken back by a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.core.locks import in_turn
from koseki_ops.costs.bills import Bill, Stage
from koseki_ops.evidence.ledger import Ledger, Row
from koseki_ops.plan.site import Site

LEDGER = "costs"
LOCK = ".lock"
DRAFTED, ISSUED, PAID, TAKEN_BACK = "drafted", "issued", "paid", "payment taken back"


@dataclass(frozen=True)
class Payment:
    """Money that went as a bill asks: to the host, or back from it. number: of the ledger's row."""

    number: int
    bill: str
    code6: str
    yen: int
    on: date
    by: str


@dataclass
class Entry:
    """A bill and what became of it. digest: of the row that it was drafted by."""

    bill: Bill
    digest: str
    issued_on: date | None = None
    approved_by: str | None = None
    payments: list[Payment] = field(default_factory=list)

    def paid(self, code6: str) -> int:
        """Return what a municipality has paid of it, or was paid back."""
        return sum(payment.yen for payment in self.payments if payment.code6 == code6)

    def open(self, code6: str) -> int:
        """Return what has still to be paid of it, whichever way."""
        return abs(self.bill.balance(code6)) - self.paid(code6)


@dataclass
class Book:
    """What was recorded of a site's bills, by number."""

    site: Site
    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the lock of whoever writes is."""
        return self.site.main.state / "costs"

    def read(self) -> None:
        """Read all of it anew. KosekiError when it is not what was recorded."""
        ledger = Ledger(self.site, LEDGER)
        self.entries = {}
        for row in ledger.held():
            try:
                self._follow(row)
            except (ValidationError, ValueError, LookupError, TypeError) as error:
                raise KosekiError(
                    _("a row of {path} is no event of a bill").format(path=ledger.path),
                    _("row {number}: {error!r}").format(number=row.number, error=error),
                    _("run `koseki evidence verify`, and find out who wrote there"),
                ) from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Read all of it, and be the only one who records until the end."""
        with in_turn(self.folder / LOCK):
            self.read()
            yield

    def draft(self, bill: Bill) -> None:
        """Record a draft, in `alone`."""
        self._record({"event": DRAFTED, "bill": bill.model_dump(mode="json")})

    def issue(self, entry: Entry, by: str, on: date) -> None:
        """Record that a draft was approved and went out, in `alone`."""
        self._record(
            {
                "event": ISSUED,
                "number": entry.bill.number,
                "draft": entry.digest,
                "by": by,
                "on": on.isoformat(),
            }
        )

    def pay(self, entry: Entry, code6: str, yen: int, on: date, by: str) -> int:
        """Record a payment, in `alone`; return its number."""
        return self._record(
            {
                "event": PAID,
                "number": entry.bill.number,
                "code6": code6,
                "yen": yen,
                "on": on.isoformat(),
                "by": by,
            }
        )

    def take_back(self, payment: Payment, reason: str, by: str) -> None:
        """Record that a payment was noted by mistake, in `alone`."""
        self._record({"event": TAKEN_BACK, "payment": payment.number, "reason": reason, "by": by})

    def entry(self, number: str) -> Entry:
        """Return a bill by its number; KosekiError when there is none."""
        if number not in self.entries:
            raise KosekiError(
                _("there is no bill of this number"),
                number,
                _("see which there are: `koseki costs status`"),
            )
        return self.entries[number]

    def issued(self, fiscal_year: int, *stages: Stage) -> list[Entry]:
        """Return what was issued of a fiscal year, oldest first."""
        return [
            entry
            for entry in self.entries.values()
            if entry.bill.fiscal_year == fiscal_year
            and entry.bill.stage in stages
            and entry.issued_on
        ]

    def next_number(self, fiscal_year: int, stage: Stage) -> str:
        """Return the number of the next draft."""
        alike = [
            entry
            for entry in self.entries.values()
            if (entry.bill.fiscal_year, entry.bill.stage) == (fiscal_year, stage)
        ]
        return f"{fiscal_year}-{stage}-{len(alike) + 1}"

    def payment(self, number: int) -> Payment:
        """Return a payment by the number of its row; KosekiError when there is none."""
        for entry in self.entries.values():
            for payment in entry.payments:
                if payment.number == number:
                    return payment
        raise KosekiError(
            _("there is no payment of this number"),
            str(number),
            _("see which there are: `koseki costs status`"),
        )

    def _record(self, record: Mapping[str, Any]) -> int:
        row = Ledger(self.site, LEDGER).append(record)
        self._follow(row)
        return row.number

    def _follow(self, row: Row) -> None:
        record = row.record
        event = record["event"]
        if event == DRAFTED:
            bill = Bill.model_validate(record["bill"])
            self.entries[bill.number] = Entry(bill, row.digest)
        elif event == ISSUED:
            entry = self.entries[record["number"]]
            if entry.digest != record["draft"]:
                raise LookupError(record["draft"])
            entry.issued_on = date.fromisoformat(record["on"])
            entry.approved_by = record["by"]
        elif event == PAID:
            self.entries[record["number"]].payments.append(
                Payment(
                    row.number,
                    record["number"],
                    record["code6"],
                    record["yen"],
                    date.fromisoformat(record["on"]),
                    record["by"],
                )
            )
        elif event == TAKEN_BACK:
            payment = self.payment(record["payment"])
            self.entries[payment.bill].payments.remove(payment)
        else:
            raise LookupError(event)
