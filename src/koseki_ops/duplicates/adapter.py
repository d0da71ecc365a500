"""The relay server (戸籍事務内連携サーバー) as files: what it takes, and what it says of it (K-13).

The server is a black box that the ministry placed here, twice: 正 and 副. For each box there is a
folder with an outbox for each municipality, out of which it takes files, and one status file for
each municipality, which it alone writes. What is on its way into the outbox lies in `staged/`.

Exactly once: a file is staged, its hand-over is recorded, and then it is moved. Whoever is killed
between the two finds it staged and moves it; whoever is killed after finds nothing to do. An answer
is recorded by its id, once. What an answer cannot be is set aside with a reason, and changes
nothing. What fails for one municipality is said, and no other waits for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from koseki_ops.calendar.months import Month
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import move, write_private
from koseki_ops.core.language import _
from koseki_ops.duplicates import events, rules
from koseki_ops.duplicates.events import Answered, Event
from koseki_ops.duplicates.layout import (
    Answer,
    Layout,
    Record,
    Status,
    Unconvertible,
    Unreadable,
    unconvertible,
)
from koseki_ops.duplicates.model import UNDER_WAY, Key, MunicipalityState, Policy, Row, State

# The two boxes that the ministry placed: 正 and 副.
BOXES = ("primary", "secondary")
PROGRAM = "koseki-duplicates"
# Why an answer is set aside, beside the codes of `rules`.
OTHER_MUNICIPALITY, UNREADABLE = "municipality", "unreadable"
# Why a file of our own does not go.
GONE, CHANGED = "FILE-GONE", "FILE-CHANGED"


@dataclass(frozen=True)
class Folders:
    """Where things lie; base: the site's folder of duplicates.

    relay/<box>/outbox/<code6>/    what the relay server takes
    relay/<box>/status/<code6>.json   what it says
    staged/<code6>/                what is to go into an outbox
    quarantine/<code6>/            answers that were set aside, each with its reason
    unconvertible/                 characters that cannot be converted, by register number
    """

    base: Path

    def outbox(self, box: str, code6: str) -> Path:
        """Return a municipality's outbox in a box."""
        return self.base / "relay" / box / "outbox" / code6

    def status(self, box: str, code6: str) -> Path:
        """Return what a box says of a municipality."""
        return self.base / "relay" / box / "status" / f"{code6}.json"

    def staged(self, code6: str) -> Path:
        """Return where a municipality's files wait."""
        return self.base / "staged" / code6

    def quarantine(self, code6: str) -> Path:
        """Return where a municipality's answers are that were set aside."""
        return self.base / "quarantine" / code6

    def unconvertible(self, key: Key) -> Path:
        """Return the list of the characters of a row that cannot be converted."""
        return self.base / "unconvertible" / f"{key}.json"

    def listed(self, key: Key) -> list[Unconvertible]:
        """Return the characters of a row that cannot be converted, as they were listed."""
        path = self.unconvertible(key)
        if not path.exists():
            return []
        return [Unconvertible(**row) for row in json.loads(path.read_bytes())]


class Records(Protocol):
    """Where what happens is recorded: the site's ledger, or a host's journal."""

    policy: Policy
    events: list[Event]

    @property
    def folder(self) -> Path:
        """Where the duplicates' files are."""

    def municipality(self, code6: str) -> MunicipalityState:
        """Return a municipality, which may have nothing recorded."""

    def alone(self) -> AbstractContextManager[None]:
        """Know what was recorded until now, and let nobody else record meanwhile."""

    def record(self, event: Event) -> None:
        """Record an event. Refusal, and nothing written, when it may not happen."""


@dataclass
class Turn:
    """What an exchange did: how many events it recorded, and what failed, by municipality."""

    recorded: int = 0
    failed: dict[str, str] = field(default_factory=dict)


@dataclass
class Adapter:
    """The way to the relay server. box: the one that files are handed to now.

    Every function records what it does, and is called within `history.alone`.
    """

    history: Records
    layout: Layout
    box: str = BOXES[0]

    @property
    def folders(self) -> Folders:
        """Where things lie."""
        return Folders(self.history.folder)

    def extract(self, key: Key, records: Sequence[Record], at: datetime) -> Row:
        """Make a row's file of its records and stage it; return the row.

        Where a count differs or a character cannot be converted, no file is staged.
        """
        found = unconvertible(self.layout, records)
        content = b"" if found else self.layout.compose(key, records)
        event = events.Extracted(
            **_of(key, at),
            count=len(records),
            sha256=sha256(content).hexdigest() if content else "",
            unconvertible=len(found),
            points=tuple(sorted({one.points for one in found})),
        )
        # Asked first, so that nothing is written for a row that takes nothing.
        after = rules.apply(self.history.municipality(key.code6), event, self.history.policy)
        if found:
            self._list(key, found)
        if after.rows[key].state is State.EXTRACTED:
            write_private(self.folders.staged(key.code6) / self.layout.file_name(key), content)
        self.history.record(event)
        return self.history.municipality(key.code6).rows[key]

    def exchange(self, codes: Iterable[str], at: datetime) -> Turn:
        """Take what was answered, say what is overdue, hand over what may go, for each of these."""
        turn, before = Turn(), len(self.history.events)
        for code6 in codes:
            try:
                self._one(code6, at)
            except KosekiError as error:
                turn.failed[code6] = str(error)
            except OSError as error:
                turn.failed[code6] = f"{error.filename or 'a file'}: {error.strerror}"
        turn.recorded = len(self.history.events) - before
        return turn

    def _one(self, code6: str, at: datetime) -> None:
        unread = self._take_answers(code6, at)
        self._record_overdue(code6, at)
        self._go_on(code6, at)
        self._withdraw(code6)
        self._hand_over(code6, at)
        if unread:
            raise KosekiError(
                _("a status file of the relay server cannot be read"),
                ", ".join(map(str, unread)),
                _('see `docs/duplicates.md`, "A status file that cannot be read"'),
            )

    def totals(self, code6: str, month: Month) -> Mapping[str, int] | None:
        """Return a month's totals as the receiver has them, None when it said nothing."""
        theirs = None
        for status in self._statuses(code6).values():
            theirs = status.totals.get(str(month), theirs) if status else theirs
        return theirs

    def compare(self, code6: str, month: Month, ours: dict[str, int], at: datetime) -> None:
        """Record a month's totals, ours and those that the relay server says."""
        theirs = self.totals(code6, month)
        self.history.record(
            events.Compared(
                code6=code6,
                at=at,
                by=PROGRAM,
                month=month,
                ours=ours,
                theirs=None if theirs is None else dict(theirs),
            )
        )

    def _list(self, key: Key, found: Iterable[Unconvertible]) -> None:
        rows = [asdict(one) for one in found]
        write_private(self.folders.unconvertible(key), json.dumps(rows, indent=1) + "\n")

    # What comes.

    def _statuses(self, code6: str) -> dict[Path, Status | None]:
        """Return what each box says of a municipality, None for what cannot be read."""
        paths = [self.folders.status(box, code6) for box in BOXES]
        return {path: self.layout.status(path.read_bytes()) for path in paths if path.exists()}

    def _take_answers(self, code6: str, at: datetime) -> list[Path]:
        """Record every new answer; return the status files that cannot be read."""
        statuses = self._statuses(code6)
        for status in filter(None, statuses.values()):
            for answer in status.answers:
                if answer.id not in self.history.municipality(code6).answers:
                    self._take(code6, answer, at)
        return [path for path, status in statuses.items() if status is None]

    def _take(self, code6: str, answer: Answer | Unreadable, at: datetime) -> None:
        """Record an answer, or set it aside for the first thing that cannot be right."""
        if isinstance(answer, Unreadable):
            self._set_aside(code6, answer, UNREADABLE, at)
        elif answer.key.code6 != code6:
            self._set_aside(code6, answer, OTHER_MUNICIPALITY, at)
        else:
            try:
                self.history.record(_event(answer, at))
            except rules.Refusal as refusal:
                self._set_aside(code6, answer, refusal.code, at)

    def _set_aside(
        self, code6: str, answer: Answer | Unreadable, reason: str, at: datetime
    ) -> None:
        record = {"reason": reason, "at": at.isoformat(), "answer": asdict(answer)}
        path = self.folders.quarantine(code6) / f"{answer.id}.json"
        write_private(path, json.dumps(record, ensure_ascii=False, default=str) + "\n")
        self.history.record(
            events.Quarantined(code6=code6, at=at, by=PROGRAM, answer=answer.id, reason=reason)
        )

    def _record_overdue(self, code6: str, at: datetime) -> None:
        for row in list(self.history.municipality(code6).rows.values()):
            waits = row.state in {State.HANDED_OVER, State.SENT}
            if waits and self.history.policy.is_late(row, at):
                self.history.record(events.Overdue(**_of(row.key, at)))

    # What goes.

    def _go_on(self, code6: str, at: datetime) -> None:
        """Move what was recorded as handed over and was not moved; follow the box of now."""
        for row in _in(self.history.municipality(code6), UNDER_WAY):
            if self._path(row).exists() and self._is_whole(row, at):
                self._move(row, self._path(row))
            for box in BOXES:
                path = self.folders.outbox(box, code6) / self.layout.file_name(row.key)
                if box != self.box and path.exists():
                    # The other box may take it at this very moment: then it is there.
                    with suppress(FileNotFoundError):
                        self._move(row, path)

    def _withdraw(self, code6: str) -> None:
        """Take back the files of rows that nobody waits for any more, as far as they are here."""
        municipality = self.history.municipality(code6)
        for box in BOXES:
            self._keep(self.folders.outbox(box, code6), _in(municipality, UNDER_WAY))
        self._keep(self.folders.staged(code6), _in(municipality, {State.EXTRACTED, *UNDER_WAY}))

    def _keep(self, folder: Path, rows: Iterable[Row]) -> None:
        wanted = {self.layout.file_name(row.key) for row in rows}
        for path in folder.iterdir() if folder.exists() else ():
            if self.layout.key_of(path.name) and path.name not in wanted:
                path.unlink(missing_ok=True)

    def _hand_over(self, code6: str, at: datetime) -> None:
        row = rules.next_row(self.history.municipality(code6))
        if row and self._is_whole(row, at):
            self.history.record(events.HandedOver(box=self.box, **_of(row.key, at)))
            self._move(row, self._path(row))

    def _path(self, row: Row) -> Path:
        return self.folders.staged(row.key.code6) / self.layout.file_name(row.key)

    def _is_whole(self, row: Row, at: datetime) -> bool:
        """Say whether a staged file is what was extracted; record it when it is not."""
        path = self._path(row)
        error = GONE
        if path.exists():
            if sha256(path.read_bytes()).hexdigest() == row.sha256:
                return True
            error = CHANGED
        self.history.record(events.Failed(error=error, **_of(row.key, at)))
        return False

    def _move(self, row: Row, path: Path) -> None:
        move(path, self.folders.outbox(self.box, row.key.code6) / path.name)


def _in(municipality: MunicipalityState, states: Collection[State]) -> list[Row]:
    return [row for row in municipality.rows.values() if row.state in states]


def _of(key: Key, at: datetime) -> dict[str, Any]:
    """Return what each event on a row says of it."""
    return {
        "code6": key.code6,
        "at": at,
        "by": PROGRAM,
        "day": key.day,
        "kind": key.kind,
        "attempt": key.attempt,
    }


def _event(answer: Answer, at: datetime) -> Event:
    """Return what an answer says as an event."""
    record = {**_of(answer.key, at), "answer": answer.id}
    if answer.what == "sent":
        return events.Sent(**record)
    if answer.what == "received":
        return events.Received(
            count=answer.count, sha256=answer.sha256, receipt=answer.receipt, **record
        )
    return PROBLEMS[answer.what](error=answer.error, **record)


PROBLEMS: dict[str, Callable[..., Answered]] = {
    "failed": events.SendingFailed,
    "refused": events.Refused,
    "resend": events.ResendAsked,
}
