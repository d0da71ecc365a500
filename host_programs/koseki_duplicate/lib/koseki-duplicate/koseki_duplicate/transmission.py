"""A turn of one municipality: close what is over, count, extract, exchange, compare (K-13).

Whatever dies, the next turn goes on from the journal. What the register does not answer holds up
what needs it; what was handed over goes on all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

from koseki_duplicate.settings import Settings
from koseki_ops.calendar.months import Month
from koseki_ops.core.errors import KosekiError
from koseki_ops.duplicates import events
from koseki_ops.duplicates.adapter import PROGRAM, Adapter
from koseki_ops.duplicates.decisions import full_of
from koseki_ops.duplicates.journal import Journal
from koseki_ops.duplicates.layout import Layout, Record
from koseki_ops.duplicates.model import Kind, MunicipalityState, Row, State

# More at once is a clock that is wrong, or a case for a person.
MOST_DAYS = 15


class NotServedError(KosekiError):
    """The register did not answer."""

    @classmethod
    def of(cls, code: str) -> NotServedError:
        """Say it by the code of what was met."""
        return cls(
            "the municipality's register did not answer",
            code,
            "the next turn asks again; see `koseki verify databases`",
        )


class Register(Protocol):
    """What is asked of a municipality's register. NotServedError when it does not answer."""

    def approved(self, begins: datetime, ends: datetime) -> int:
        """Return how many records were approved from a moment until before another one."""

    def records(self, begins: datetime, ends: datetime) -> Sequence[Record]:
        """Return these records."""

    def register_count(self) -> int:
        """Return how many registers there are."""

    def registers(self) -> Sequence[Record]:
        """Return all registers."""

    def totals(self, as_of: datetime) -> Mapping[str, int]:
        """Return how many 戸籍, 除籍 and 改製原 there were at a moment."""


@dataclass
class Transmission:
    """One municipality's duplicates at a moment. now: with its zone, as the clock says it."""

    settings: Settings
    journal: Journal
    register: Register
    layout: Layout
    now: datetime
    notes: list[str] = field(default_factory=list)

    @property
    def municipality(self) -> MunicipalityState:
        """The municipality, as the journal has it now."""
        return self.journal.municipality(self.settings.code6)

    @property
    def adapter(self) -> Adapter:
        """The way to the relay server."""
        return Adapter(self.journal, self.layout, self.settings.box)

    @property
    def moment(self) -> datetime:
        """What is recorded as the moment: never before what was recorded last."""
        zone = ZoneInfo(self.settings.policy.office.time_zone)
        now = self.now.astimezone(zone).replace(microsecond=0)
        last = self.journal.last_at
        return now if last is None else max(now, last.astimezone(zone))

    def turn(self, most_days: int = MOST_DAYS) -> None:
        """Do all that can be done now; `notes` has a sentence for what could not."""
        with self.journal.alone():
            at = self.moment
            if at > self.now:
                self.notes.append(f"the clock is behind what was recorded last, {at:%F %T}")
            with self._noted():
                self._close_days(at, most_days)
                self._open_full(at)
                self._extract(at)
            done = self.adapter.exchange([self.settings.code6], at)
            self.notes += done.failed.values()
            with self._noted():
                self._compare(at)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Note what cannot be done now, and go on with what needs it not."""
        try:
            yield
        except KosekiError as error:
            self.notes.append(str(error))
        except OSError as error:
            self.notes.append(f"{error.filename or 'the disk'}: {error.strerror}")

    def _close_days(self, at: datetime, most: int) -> None:
        """Give each business day that is over its row, with what the register counts."""
        days = self._days_over(at)
        if len(days) > most:
            raise KosekiError(
                "so many days at once are not closed without a person",
                f"{len(days)} days, from {days[0]}",
                "look at the clock; then "
                f"`koseki-duplicate {self.settings.slug} turn --most {len(days)}`",
            )
        for day in days:
            approved = self.register.approved(*self.settings.policy.span(day))
            self.journal.record(
                events.Closed(
                    code6=self.settings.code6,
                    at=at,
                    by=PROGRAM,
                    day=day,
                    kind=Kind.DIFFERENCE,
                    approved=approved,
                )
            )

    def _days_over(self, at: datetime) -> list[date]:
        """Return the days that are over and have no row; the last one when none has any."""
        policy, last = self.settings.policy, self.municipality.last_day
        over = policy.closed_day(at)
        if last is None:
            return [policy.office.moved(over, "previous")]
        return list(policy.office.business_days(policy.office.after(last), over))

    def _open_full(self, at: datetime) -> None:
        """Open the sending of all registers that is demanded, when none is under way."""
        municipality = self.municipality
        if municipality.forced and not any(municipality.unfinished(Kind.FULL)):
            counted = self.register.register_count()
            self.journal.record(full_of(municipality, counted, at, PROGRAM))

    def _extract(self, at: datetime) -> None:
        """Make the file of each row that has none; of differences only while they may go."""
        for row in list(self.municipality.rows.values()):
            may = row.key.kind is Kind.FULL or not self.municipality.forced
            if row.state is State.NOT_EXTRACTED and may:
                self.adapter.extract(row.key, self._records(row), at)

    def _records(self, row: Row) -> Sequence[Record]:
        if row.key.kind is Kind.FULL:
            return self.register.registers()
        return self.register.records(*self.settings.policy.span(row.key.day))

    def _compare(self, at: datetime) -> None:
        """Compare the month before, when the receiver has said its totals, or they are due."""
        policy, code6 = self.settings.policy, self.settings.code6
        today = policy.date_of(at)
        month = Month(today.year - (today.month == 1), (today.month - 2) % 12 + 1)
        first = min((key.day for key in self.municipality.rows), default=None)
        if first is None or first > month.last_day:
            return
        before, theirs = (
            self.municipality.comparisons.get(month),
            self.adapter.totals(code6, month),
        )
        known = before is not None and (before.theirs is not None or theirs is None)
        if known or (theirs is None and at < policy.totals_deadline(month)):
            return
        _begins, ends = policy.span(policy.office.moved(month.last_day, "previous"))
        self.adapter.compare(code6, month, dict(self.register.totals(ends)), at)
