"""What may be recorded of duplicates: one class for each thing that happens (K-13).

An event is a fact, with who said it and when. Whether it may be recorded is asked of `rules.check`
before; what it means is `rules.follow`. Nothing in it is a person's data: no name, and no number of
a register.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime
from typing import Any

from koseki_ops.calendar.months import Month
from koseki_ops.duplicates.model import Cause, Key, Kind


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a municipality's duplicates.

    at: with its zone; by: an operator's id, or the name of the program.
    """

    code6: str
    at: datetime
    by: str


@dataclass(frozen=True, kw_only=True)
class RowEvent(Event):
    """Something that happened to one row."""

    day: date
    kind: Kind
    attempt: int = 1

    @property
    def key(self) -> Key:
        """Which row."""
        return Key(self.code6, self.day, self.kind, self.attempt)


@dataclass(frozen=True, kw_only=True)
class Closed(RowEvent):
    """A business day is over (差分), or all registers are to be sent as of it (全件).

    approved: how many records were approved on that day, or how many registers there are; from the
    register, never from the file.
    """

    approved: int


@dataclass(frozen=True, kw_only=True)
class Extracted(RowEvent):
    """The registers gave the records of a row.

    count: how many; sha256: of the file that was made of them, empty when none could be made;
    unconvertible: how many characters the receiver's layout cannot carry; points: which, as
    U+5516 or U+845B U+E0102.
    """

    count: int
    sha256: str
    unconvertible: int = 0
    points: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HandedOver(RowEvent):
    """The file is put into the outbox of one of the two boxes."""

    box: str


@dataclass(frozen=True, kw_only=True)
class Failed(RowEvent):
    """The file did not go: it is gone or changed in our own hands. error: a code."""

    error: str


@dataclass(frozen=True, kw_only=True)
class Answered(RowEvent):
    """The relay server answered. answer: the id of what it said."""

    answer: str


@dataclass(frozen=True, kw_only=True)
class Sent(Answered):
    """It took the file and sent it on."""


@dataclass(frozen=True, kw_only=True)
class Received(Answered):
    """The receiver has it: how many records, of which hash, under which receipt number."""

    count: int
    sha256: str
    receipt: str


@dataclass(frozen=True, kw_only=True)
class SendingFailed(Answered):
    """The relay server could not send it on. error: its code."""

    error: str


@dataclass(frozen=True, kw_only=True)
class Refused(Answered):
    """The receiver does not take it. error: its code."""

    error: str


@dataclass(frozen=True, kw_only=True)
class ResendAsked(Answered):
    """The receiver wants it again. error: its code."""

    error: str


@dataclass(frozen=True, kw_only=True)
class Overdue(RowEvent):
    """It was handed over, the deadline has come, and its receipt has not."""


@dataclass(frozen=True, kw_only=True)
class Resent(RowEvent):
    """A person wants another attempt; this one stays as it was.

    approved: what the register says now, None: as it said before.
    """

    reason: str
    approved: int | None = None


@dataclass(frozen=True, kw_only=True)
class GivenUp(RowEvent):
    """A person ends a difference, since all registers (as of day `full`) stand in for it."""

    reason: str
    full: date
    full_attempt: int


@dataclass(frozen=True, kw_only=True)
class FullForced(Event):
    """From now on no difference goes, until all registers were received."""

    cause: Cause
    reason: str


@dataclass(frozen=True, kw_only=True)
class Held(Event):
    """A person keeps back what would go next."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Released(Event):
    """A person lets it go again."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Quarantined(Event):
    """An answer was set aside, and changed nothing. reason: a code of `docs/duplicates.md`."""

    answer: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class AnswerClosed(Event):
    """A person has dealt with an answer that was set aside."""

    answer: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Compared(Event):
    """The totals of a month's last day were compared. theirs: None when nothing was said."""

    month: Month
    ours: Mapping[str, int]
    theirs: Mapping[str, int] | None


KINDS: Mapping[str, type[Event]] = {
    "closed": Closed,
    "extracted": Extracted,
    "handed over": HandedOver,
    "failed": Failed,
    "sent": Sent,
    "received": Received,
    "sending failed": SendingFailed,
    "refused": Refused,
    "resend asked": ResendAsked,
    "overdue": Overdue,
    "resent": Resent,
    "given up": GivenUp,
    "full forced": FullForced,
    "held": Held,
    "released": Released,
    "quarantined": Quarantined,
    "answer closed": AnswerClosed,
    "compared": Compared,
}
NAMES = {kind: name for name, kind in KINDS.items()}
FIELDS = {kind: {field.name for field in fields(kind)} for kind in KINDS.values()}


def to_record(event: Event) -> dict[str, Any]:
    """Return an event as the ledger keeps it: JSON alone, `event` says which."""
    record = {name: _plain(value) for name, value in asdict(event).items()}
    if isinstance(event, Compared):
        record["month"] = str(event.month)
    return {"event": NAMES[type(event)], **record}


def from_record(record: Mapping[str, Any]) -> Event:
    """Return the event of a record; ValueError, KeyError or TypeError for what is none."""
    kind = KINDS[record["event"]]
    fields = {name: value for name, value in record.items() if name != "event"}
    if fields.keys() != FIELDS[kind]:
        raise ValueError(f"{record['event']} has other fields: {', '.join(sorted(fields))}")
    for name, read in READ.items():
        if name in fields:
            fields[name] = read(fields[name])
    return kind(**fields)


def _plain(value: object) -> object:
    if isinstance(value, date):  # a moment is one, too
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


def _month(text: str) -> Month:
    first = date.fromisoformat(f"{text}-01")
    return Month.of(first)


READ = {
    "at": datetime.fromisoformat,
    "day": date.fromisoformat,
    "full": date.fromisoformat,
    "kind": Kind,
    "cause": Cause,
    "points": tuple,
    "month": _month,
}
