"""A row of 副本データ送信管理簿, and all rows of a municipality (K-13).

Everything here is immutable: what happens to a municipality makes another value of it (`rules`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from zoneinfo import ZoneInfo

from koseki_ops.calendar.months import Month
from koseki_ops.calendar.open_days import OpenDays

# What is compared as a whole, once a month: the registers in force, the closed and the revised.
TOTALS = ("戸籍", "除籍", "改製原")


class Kind(StrEnum):
    """What a duplicate holds: the changes of a business day, or all registers as they stand."""

    DIFFERENCE = "difference"
    FULL = "full"

    @property
    def term(self) -> str:
        """What the field calls it."""
        return "差分" if self is Kind.DIFFERENCE else "全件"


class State(StrEnum):
    """Where a row stands."""

    NOT_EXTRACTED = "not_extracted"
    EXTRACTED = "extracted"
    HANDED_OVER = "handed_over"
    SENT = "sent"
    RECEIVED = "received"
    EMPTY_CONFIRMED = "empty_confirmed"
    CONTAINED_IN_FULL = "contained_in_full"
    COUNT_DIFFERS = "count_differs"
    NOT_CONVERTIBLE = "not_convertible"
    SENDING_FAILED = "sending_failed"
    REFUSED = "refused"
    RECEIPT_LATE = "receipt_late"
    RESEND_ASKED = "resend_asked"
    CANCELLED = "cancelled"

    @property
    def term(self) -> str:
        """What the book calls it."""
        return TERMS[self]


TERMS = {
    State.NOT_EXTRACTED: "未抽出",
    State.EXTRACTED: "抽出済",
    State.HANDED_OVER: "引渡済",
    State.SENT: "送信済",
    State.RECEIVED: "受領済",
    State.EMPTY_CONFIRMED: "零件確認済",
    State.CONTAINED_IN_FULL: "全件に包含",
    State.COUNT_DIFFERS: "件数不一致",
    State.NOT_CONVERTIBLE: "変換不能",
    State.SENDING_FAILED: "送信失敗",
    State.REFUSED: "却下",
    State.RECEIPT_LATE: "受領遅延",
    State.RESEND_ASKED: "再送要求",
    State.CANCELLED: "取消",
}
# Nothing more is to come of these.
FINAL = frozenset({State.RECEIVED, State.EMPTY_CONFIRMED, State.CONTAINED_IN_FULL})
# A person has to decide: nothing goes on by itself. A late receipt may still come.
FAULTS = frozenset(
    {
        State.COUNT_DIFFERS,
        State.NOT_CONVERTIBLE,
        State.SENDING_FAILED,
        State.REFUSED,
        State.RECEIPT_LATE,
        State.RESEND_ASKED,
    }
)
# With the relay server, as far as anybody here knows. Of a municipality there is one at a time.
UNDER_WAY = frozenset({State.HANDED_OVER, State.SENT, State.RECEIPT_LATE})


class Cause(StrEnum):
    """Why a municipality's registers have to be sent as a whole."""

    VENDOR = "vendor"
    RESTORE = "restore"
    DRIFT = "drift"
    ASKED = "asked"

    @property
    def term(self) -> str:
        """What the field calls it."""
        return CAUSES[self]


CAUSES = {
    Cause.VENDOR: "ベンダ変更",
    Cause.RESTORE: "復元",
    Cause.DRIFT: "総数相違",
    Cause.ASKED: "法務省の求め",
}


@dataclass(frozen=True, order=True)
class Key:
    """Which row: code6 of the municipality, the business day, the kind, the attempt from 1 on."""

    code6: str
    day: date
    kind: Kind
    attempt: int = 1

    @property
    def again(self) -> Key:
        """The attempt after this one."""
        return Key(self.code6, self.day, self.kind, self.attempt + 1)

    def __str__(self) -> str:
        """Write it as file names do: 204196-2026-11-16-difference-01."""
        return f"{self.code6}-{self.day}-{self.kind}-{self.attempt:02}"


@dataclass(frozen=True)
class Forced:
    """All registers have to be sent: why, and since when no difference may be."""

    cause: Cause
    reason: str
    at: datetime


@dataclass(frozen=True)
class Row:
    """One attempt to send one day's duplicate.

    approved, extracted, received: the counts of 決裁, 抽出 and 受領, None while nobody has said;
    sha256, received_sha256: of the file's every byte, as it was extracted and as it was received;
    receipt: the number that the receiver gave; error: the code of what went wrong; reason: why a
    person asked for this attempt, or ended it; other: the row that contains this one, or replaces
    it; unconvertible: how many characters could not be converted; serves: the demand for all
    registers that stood when it was extracted; ended_at: when it became final or was cancelled.
    """

    key: Key
    opened_at: datetime
    approved: int
    state: State = State.NOT_EXTRACTED
    extracted: int | None = None
    received: int | None = None
    sha256: str = ""
    received_sha256: str = ""
    receipt: str = ""
    error: str = ""
    reason: str = ""
    unconvertible: int = 0
    other: Key | None = None
    serves: Forced | None = None
    extracted_at: datetime | None = None
    handed_over_at: datetime | None = None
    sent_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing more is to come of it, and nothing is owed."""
        return self.state in FINAL

    @property
    def is_finished(self) -> bool:
        """Whether it holds nobody up: final, or another row stands in for it."""
        return self.is_final or self.state is State.CANCELLED


@dataclass(frozen=True)
class Hold:
    """Somebody keeps back what would go next."""

    by: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """The totals of a month's last day: in our registers, and as the receiver holds them.

    theirs: None when the receiver said nothing; silence is no agreement.
    """

    ours: Mapping[str, int]
    theirs: Mapping[str, int] | None

    @property
    def differing(self) -> list[str]:
        """The kinds of register whose totals differ; all of them when nothing was said."""
        return [
            kind
            for kind in TOTALS
            if self.theirs is None or self.ours[kind] != self.theirs.get(kind)
        ]


NO_ROWS: Mapping[Key, Row] = MappingProxyType({})
NO_COMPARISONS: Mapping[Month, Comparison] = MappingProxyType({})


@dataclass(frozen=True)
class MunicipalityState:
    """Everything that was recorded of one municipality's duplicates.

    rows: in the order in which they were opened; answers: the ids of the relay server's answers
    that were dealt with; quarantined: reasons of those that were set aside and that nobody has
    closed, by id.
    """

    code6: str
    rows: Mapping[Key, Row] = field(default=NO_ROWS)
    forced: Forced | None = None
    hold: Hold | None = None
    comparisons: Mapping[Month, Comparison] = field(default=NO_COMPARISONS)
    answers: frozenset[str] = frozenset()
    quarantined: Mapping[str, str] = field(default=MappingProxyType({}))

    def attempts(self, day: date, kind: Kind) -> list[Row]:
        """Return the attempts of a day and kind, the first one first."""
        key, found = Key(self.code6, day, kind), []
        while row := self.rows.get(key):
            found.append(row)
            key = key.again
        return found

    @property
    def last_day(self) -> date | None:
        """The last business day that was closed."""
        days = (key.day for key in self.rows if key.kind is Kind.DIFFERENCE)
        return max(days, default=None)

    def unfinished(self, kind: Kind | None = None) -> Iterator[Row]:
        """Yield the rows of a kind, or of both, that hold others up."""
        for row in self.rows.values():
            if not row.is_finished and kind in {None, row.key.kind}:
                yield row


@dataclass(frozen=True)
class Policy:
    """The hours that decide which day something belongs to, and when it is late [D].

    closes: until then a day is not over, and what is done belongs to the day before; due: when, on
    the business day after, each row has to be final; totals_due: by which business day of the next
    month the totals have to be compared.
    """

    office: OpenDays
    closes: time = time(17, 15)
    due: time = time(9, 0)
    totals_due: int = 5

    def date_of(self, moment: datetime) -> date:
        """Return the date that a moment has on the office's wall calendar."""
        return moment.astimezone(ZoneInfo(self.office.time_zone)).date()

    def closed_day(self, moment: datetime) -> date:
        """Return the business day that was closed last: a job after midnight belongs to it.

        moment: with its zone. KosekiError for a year whose holidays are not known.
        """
        today = self.date_of(moment)
        if self.office.is_open(today) and moment >= self.office.due(today, self.closes):
            return today
        return self.office.after(today, -1)

    def span(self, day: date) -> tuple[datetime, datetime]:
        """Return from when until when what is approved belongs to a business day: half open."""
        before = self.office.after(day, -1)
        return self.office.due(before, self.closes), self.office.due(day, self.closes)

    def deadline(self, row: Row) -> datetime:
        """Return when a row has to be final: 09:00 of the next business day, of the office's zone.

        All registers are asked for on any day: they have until the business day after that one.
        """
        day = row.key.day
        if row.key.kind is Kind.FULL:
            day = max(day, self.date_of(row.opened_at))
        return self.day_deadline(day)

    def day_deadline(self, day: date) -> datetime:
        """Return when a business day's duplicate has to be final."""
        return self.office.due(_next_open(self.office, day), self.due)

    def totals_deadline(self, month: Month) -> datetime:
        """Return when a month's totals have to be compared."""
        after = month.next
        return self.office.due(self.office.nth(after.year, after.month, self.totals_due), self.due)

    def is_late(self, row: Row, now: datetime) -> bool:
        """Say whether a row should be final and is not: from 09:00:00 on, not a second earlier."""
        return not row.is_finished and now >= self.deadline(row)


@cache
def _next_open(office: OpenDays, day: date) -> date:
    """Return the business day after a day; a year of rows asks for the same days again."""
    return office.after(day)
