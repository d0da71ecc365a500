"""Invented municipalities, days and events of duplicates, for the tests of that room."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from koseki_ops.calendar.business_days import Office
from koseki_ops.duplicates import events
from koseki_ops.duplicates.layout import Record
from koseki_ops.duplicates.model import Key, Kind, MunicipalityState, Policy, Row
from koseki_ops.duplicates.rules import apply

ZONE = ZoneInfo("Asia/Tokyo")
POLICY = Policy(Office())
# 売木村 of the plan.
URUGI = "204129"
# A Monday, after which nine business days follow without a gap but the week's end.
MONDAY = date(2026, 11, 9)


def at(day: date, clock: str = "18:00:00") -> datetime:
    """Return a moment in Japan."""
    return datetime.combine(day, datetime.strptime(clock, "%H:%M:%S").time(), ZONE)  # noqa: DTZ007 - a clock time alone


def days(count: int, first: date = MONDAY) -> list[date]:
    """Return so many business days."""
    found = [first]
    while len(found) < count:
        found.append(POLICY.office.after(found[-1]))
    return found


def digest(key: Key) -> str:
    """Return the hash that a row's file has in these tests."""
    return sha256(str(key).encode()).hexdigest()


def on(key: Key, moment: datetime | None = None, by: str = "sousa01") -> dict[str, Any]:
    """Return what each event says of its row."""
    return {
        "code6": key.code6,
        "at": moment or at(key.day),
        "by": by,
        "day": key.day,
        "kind": key.kind,
        "attempt": key.attempt,
    }


def difference(day: date, attempt: int = 1, code6: str = URUGI) -> Key:
    """Return the key of a day's difference."""
    return Key(code6, day, Kind.DIFFERENCE, attempt)


def full(day: date, attempt: int = 1, code6: str = URUGI) -> Key:
    """Return the key of all registers as of a day."""
    return Key(code6, day, Kind.FULL, attempt)


def closed(key: Key, count: int = 3, moment: datetime | None = None) -> events.Closed:
    """Return the event that opens a row."""
    return events.Closed(approved=count, **on(key, moment))


def extracted(key: Key, count: int = 3, **more: Any) -> events.Extracted:  # noqa: ANN401 - the event's own
    """Return the event that its records were had."""
    return events.Extracted(count=count, **({"sha256": digest(key)} | more), **on(key))


def handed_over(key: Key) -> events.HandedOver:
    """Return the event that its file was put into the outbox."""
    return events.HandedOver(box="primary", **on(key))


def received(key: Key, count: int = 3, **more: Any) -> events.Received:  # noqa: ANN401 - the event's own
    """Return the event that it was received."""
    said = {"sha256": digest(key), "receipt": "R-1", "answer": f"{key}-received"} | more
    return events.Received(count=count, **said, **on(key))


def whole(key: Key, count: int = 3) -> list[events.Event]:
    """Return all that happens to a row with which nothing is wrong."""
    return [
        closed(key, count),
        extracted(key, count),
        handed_over(key),
        events.Sent(answer=f"{key}-sent", **on(key)),
        received(key, count),
    ]


def municipality_after(*happened: events.Event, code6: str = URUGI) -> MunicipalityState:
    """Return a municipality after these events, each held to the rules."""
    municipality = MunicipalityState(code6)
    for event in happened:
        municipality = apply(municipality, event, POLICY)
    return municipality


def row(municipality: MunicipalityState, key: Key) -> Row:
    """Return a row."""
    return municipality.rows[key]


def records(count: int, first: int = 1) -> Sequence[Record]:
    """Return invented records; what is hard to carry is in them."""
    return [Record(f"{first + n:08}", f"葛󠄂城 𠮷 﨑 第{n}号 〜～−－髙") for n in range(count)]
