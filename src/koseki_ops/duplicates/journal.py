"""A municipality's journal on the host that sends its duplicates: the events, in order (K-13).

A line for each event, as JSON: its number from 1 on, the hash of the line before, and the event.
Who records holds the lock and has read all of it; a line is written and synced, or it is not there:
half a line at the end is none, and whoever records next writes over it. Whether the lines are what
they were is known to whoever keeps the last hash.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.foreign import loads
from koseki_ops.core.language import _
from koseki_ops.core.locks import in_turn
from koseki_ops.duplicates import effects, rules
from koseki_ops.duplicates.events import Event, from_record, to_record
from koseki_ops.duplicates.model import MunicipalityState, Policy

FIRST = "0" * 64
NAME, LOCK = "journal.jsonl", ".lock"


@dataclass(frozen=True)
class Line:
    """A line of a journal: its number, its event, the hash of its bytes."""

    number: int
    event: Event
    digest: str


@dataclass(frozen=True)
class End:
    """Where a journal ends: how many lines, and the hash of the last one."""

    number: int = 0
    digest: str = FIRST


def lines_of(content: Iterable[bytes], end: End) -> Iterator[Line]:
    """Yield the lines that follow an end; ValueError for the first one that does not.

    content: each line with its end, as it was written.
    """
    for text in content:
        plain = loads(text)
        if not isinstance(plain, dict) or plain.keys() != {"number", "before", "event"}:
            raise ValueError(f"line {end.number + 1} is no line of a journal")
        if (plain["number"], plain["before"]) != (end.number + 1, end.digest):
            raise ValueError(f"line {end.number + 1} does not follow the one before it")
        end = End(end.number + 1, sha256(text).hexdigest())
        yield Line(end.number, from_record(plain["event"]), end.digest)


@dataclass
class Journal:
    """What was recorded in a folder, and what it comes to."""

    folder: Path
    policy: Policy
    events: list[Event] = field(default_factory=list)
    municipalities: dict[str, MunicipalityState] = field(default_factory=dict)
    end: End = field(default_factory=End)
    # How long the journal is, in bytes: what stands behind it was never recorded.
    length: int = 0

    @property
    def path(self) -> Path:
        """Where the lines are."""
        return self.folder / NAME

    @property
    def last_at(self) -> datetime | None:
        """The moment of what was recorded last."""
        return self.events[-1].at if self.events else None

    def municipality(self, code6: str) -> MunicipalityState:
        """Return a municipality, which may have nothing recorded."""
        return self.municipalities.get(code6, MunicipalityState(code6))

    def text(self) -> list[bytes]:
        """Return every whole line as it was written."""
        content = self.path.read_bytes() if self.path.exists() else b""
        return [line + b"\n" for line in content.split(b"\n")[:-1]]

    def read(self) -> None:
        """Read all of it anew. KosekiError when it is not what was recorded."""
        text, end = self.text(), End()
        try:
            lines = list(lines_of(text, end))
        except (ValueError, KeyError, TypeError) as error:
            raise KosekiError(
                _("{path} is not what was recorded").format(path=self.path),
                str(error),
                _('keep a copy and find out who wrote there: docs/duplicates.md, "On the host"'),
            ) from error
        self.events = [line.event for line in lines]
        self.end = End(lines[-1].number, lines[-1].digest) if lines else end
        self.length = sum(map(len, text))
        self.municipalities = effects.replayed(self.events)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Read all of it, and be the only one who records until the end."""
        with in_turn(self.folder / LOCK):
            self.read()
            yield

    def record(self, event: Event) -> None:
        """Record an event, in `alone`. Refusal, and nothing written, when it may not happen."""
        municipality = rules.apply(self.municipality(event.code6), event, self.policy)
        number = self.end.number + 1
        plain = {"number": number, "before": self.end.digest, "event": to_record(event)}
        text = json.dumps(plain, separators=(",", ":")).encode() + b"\n"
        self._append(text)
        self.length += len(text)
        self.end = End(number, sha256(text).hexdigest())
        self.events.append(event)
        self.municipalities[event.code6] = municipality

    def _append(self, text: bytes) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            # Over what a writer that was killed left of a line.
            os.lseek(handle, self.length, os.SEEK_SET)
            left = memoryview(text)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        except OSError:
            # A line that nobody can say is on the disk was not recorded.
            os.ftruncate(handle, self.length)
            raise
        finally:
            os.close(handle)
