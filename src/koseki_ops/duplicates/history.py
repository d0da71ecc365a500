"""What was recorded of a site's duplicates: the ledger is the one truth, all else follows (K-13).

The events are the rows of the site's ledger `duplicates`. Who changes something holds the lock, has
read all of it and found it whole, and appends: the row is written or it is not, so a process that
is killed at any moment has recorded an event or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from koseki_ops.calendar.business_days import Office
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.core.locks import in_turn
from koseki_ops.duplicates import effects, rules
from koseki_ops.duplicates.events import Event, from_record, to_record
from koseki_ops.duplicates.journal import End, Line
from koseki_ops.duplicates.model import Key, MunicipalityState, Policy, Row
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.plan.site import Site

LEDGER = "duplicates"
LOCK = ".lock"
# What the row of an event that was collected has beside it: its line's number and hash.
JOURNAL = "journal"


@dataclass
class History:
    """What was recorded, and what it comes to.

    events: in the order in which they were recorded; municipalities: by code, as they are
    after the last; collected: where the journals on the hosts ended that were collected, by code.
    """

    site: Site
    policy: Policy = field(default_factory=lambda: Policy(Office()))
    events: list[Event] = field(default_factory=list)
    municipalities: dict[str, MunicipalityState] = field(default_factory=dict)
    collected: dict[str, End] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where a site's duplicates are."""
        return self.site.main.state / "duplicates"

    def municipality(self, code6: str) -> MunicipalityState:
        """Return a municipality, which may have nothing recorded."""
        return self.municipalities.get(code6, MunicipalityState(code6))

    def of_row(self, key: Key) -> list[tuple[Event, Row]]:
        """Return what changed a row, oldest first, and the row as it was then.

        Also what was about another one: the attempt before it, or all registers that contain it.
        """
        municipality, before, found = MunicipalityState(key.code6), None, []
        for event in self.events:
            if event.code6 == key.code6:
                municipality = effects.follow(municipality, event)
                row = municipality.rows.get(key)
                if row is not None and row != before:
                    found.append((event, row))
                before = row
        return found

    def read(self) -> None:
        """Read all of it anew. KosekiError when it is not what was recorded."""
        ledger = Ledger(self.site, LEDGER)
        try:
            read = [_event(row.record) for row in ledger.held()]
        except (ValueError, KeyError, TypeError) as error:
            raise KosekiError(
                _("a row of {path} is not an event of a duplicate").format(path=ledger.path),
                str(error),
                _("run `koseki evidence verify`, and find out who wrote there"),
            ) from error
        self.events = [event for event, _end in read]
        self.collected = {event.code6: end for event, end in read if end}
        self.municipalities = effects.replayed(self.events)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Read all of it, and be the only one who records until the end."""
        with in_turn(self.folder / LOCK):
            self.read()
            yield

    def record(self, event: Event) -> None:
        """Record an event, in `alone`. Refusal, and nothing written, when it may not happen."""
        self._append(event, {})

    def take(self, line: Line) -> None:
        """Record a line of a host's journal, in `alone`, as `record` does."""
        self._append(line.event, {JOURNAL: [line.number, line.digest]})
        self.collected[line.event.code6] = End(line.number, line.digest)

    def _append(self, event: Event, more: Mapping[str, object]) -> None:
        municipality = rules.apply(self.municipality(event.code6), event, self.policy)
        Ledger(self.site, LEDGER).append({**to_record(event), **more})
        self.events.append(event)
        self.municipalities[event.code6] = municipality


def _event(record: Mapping[str, Any]) -> tuple[Event, End | None]:
    """Return the event of a ledger's row, and which line of a journal it was, if it was one."""
    plain = dict(record)
    end = plain.pop(JOURNAL, None)
    return from_record(plain), End(*end) if end else None
