"""What is done with files: look, verify, apply once, set aside; compose what is sent, once."""

from __future__ import annotations

import hashlib
import json
import select
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg2

from koseki_link.folders import Folders, abandoned, too_many
from koseki_link.layout import IN, OUT, Layout, Name, Refused, code6_holds
from koseki_link.ledger import APPLIED, COMPOSED, QUARANTINED, Entry, Ledger, State
from koseki_link.settings import Settings
from koseki_link.watching import Watch

# How long a file that was put under its own name may stand still before it counts as cut off.
SETTLE_SECONDS = 10.0
# How long to wait before the database is asked again, at first and at most.
AGAIN_SECONDS, AGAIN_MOST = 1.0, 30.0
# Less than its unit's own limit, so that the last word is a sentence.
LEADER_SECONDS = 480.0
# How often to look at what is still on its way: a file that grows tells nobody.
UPLOAD_SECONDS = 10.0
# The proxy ends a connection that rests for an hour.
REST_SECONDS = 45 * 60.0


class Engine:
    """One municipality's files, with a connection to its database."""

    def __init__(self, settings: Settings, layout: Layout, ledger: Ledger) -> None:
        """Work in the settings' folder."""
        self.settings, self.layout, self.ledger = settings, layout, ledger
        self.folders = Folders(settings.folder)

    def begin(self) -> None:
        """Find the way back after whatever ended the run before."""
        self.ledger.prepare(self.layout.flows.values())
        with self.folders.alone():
            self.folders.recover()

    def look(self) -> float | None:
        """Do all that can be done now; return in how many seconds to look again, None for never."""
        with self.folders.alone():
            again = self._make_room()
            states = self.ledger.states()
            for flow, files in self._by_flow().items():
                again += self._receive(states[flow], files)
            for state in states.values():
                if state.direction == OUT and state.flow in self.layout.flows:
                    self._send(state)
        return min(again) if again else None

    # What comes.

    def _make_room(self) -> list[float]:
        """Remove what nobody goes on sending, and what `in/` may not hold; it is sent again.

        Return when to look again.
        """
        hours, most = self.settings.part_hours, self.settings.folder_mb
        uploads = self.folders.uploads()
        for name in abandoned(uploads, time.time() - hours * 3600):
            self._drop(name, Refused("abandoned", f"it has not grown for {hours} hours"))
        for name in too_many(uploads, most << 20):
            self._drop(name, Refused("full", f"in/ may hold {most} MiB: send it again later"))
        for name in self.folders.within():
            self._clear(name, Refused("name", "a folder: files alone are read"))
        return [UPLOAD_SECONDS] if any(upload.unfinished for upload in uploads) else []

    def _drop(self, file: str, refused: Refused) -> None:
        """Remove a file of `in/`, and say why where its sender reads it."""
        try:
            kept = self.folders.drop(file, _reason(refused))
        except FileNotFoundError:
            return
        self._note_refused(refused)
        print(f"removed {kept}: {refused}", flush=True)

    def _clear(self, folder: str, refused: Refused) -> None:
        """Remove a folder of `in/`, or say once that it stays."""
        try:
            kept = self.folders.clear(folder, _reason(refused))
        except FileNotFoundError:
            return
        if kept:
            self._note_refused(refused)
            print(f"refused {kept}: {refused}", flush=True)

    def _note_refused(self, refused: Refused) -> None:
        """Write into the ledger what has no name of the layout."""
        entry = Entry("", IN, QUARANTINED, code=refused.code, reason=refused.detail)
        with self.ledger.transaction() as cursor:
            self.ledger.note(cursor, entry)

    def _by_flow(self) -> dict[str, dict[int, str]]:
        """Return the names that wait by flow and number; what has no right name is set aside."""
        found: dict[str, dict[int, str]] = {}
        for file in self.folders.waiting():
            try:
                name = self.name_of(file)
            except Refused as refused:
                self._set_aside(file, None, refused, taken=False)
                continue
            found.setdefault(name.flow, {})[name.sequence] = file
        return found

    def name_of(self, file: str) -> Name:
        """Return what a file's name says; Refused unless it may come into this exchange."""
        name = self.layout.name_of(file)
        if self.layout.flows[name.flow].direction != IN:
            raise Refused("name", f"{name.flow} is sent, not received")
        if not code6_holds(name.code6):
            raise Refused("check-digit", "the name's municipality")
        if name.code6 != self.settings.code6:
            raise Refused("wrong-municipality", f"this is the exchange of {self.settings.code6}")
        return name

    def _receive(self, state: State, files: Mapping[int, str]) -> list[float]:
        """Apply a flow's files in order as far as it goes; return when to look again."""
        comes = state.next
        for sequence, file in sorted(files.items()):
            name = Name(self.settings.code6, state.flow, sequence)
            if sequence < comes:
                self._settle(file, name)
                continue
            if sequence > comes:
                self._note_gap(state.flow, comes, sequence)
                return []
            if state.manual:
                return []
            try:
                age, tail = self.folders.tail(file)
            except FileNotFoundError:
                return []
            if age < SETTLE_SECONDS and not self.layout.ended(tail):
                return [SETTLE_SECONDS - age + 0.1]
            if not self.apply(file, name):
                return []
            comes += 1
        return []

    def apply(self, file: str, name: Name, *, by: str = "engine", reason: str = "") -> bool:
        """Apply the file whose turn it is, once; False when it was set aside or is not there."""
        mode = "manual" if reason else "automatic"
        begun = time.monotonic()
        try:
            copy = self.folders.take(file, self.settings.file_mb << 20)
            held = self.layout.verify(copy, name, self.settings.code6, self.settings.line_kb << 10)
            with self.ledger.transaction() as cursor:
                state = self.ledger.held(cursor, name.flow)
                if state.next != name.sequence or state.manual != bool(reason):
                    self.folders.give_back(file)
                    return False
                self.ledger.apply(cursor, name.flow, self.layout.records(copy))
                self.ledger.note(
                    cursor,
                    Entry(
                        name.flow,
                        IN,
                        APPLIED,
                        name.sequence,
                        file,
                        held.sha256,
                        held.records,
                        mode=mode,
                        by=by,
                        reason=reason,
                    ),
                )
                self.ledger.advance(cursor, name.flow)
        except FileNotFoundError:
            return False
        except Refused as refused:
            self._set_aside(file, name, refused, taken=True)
            return False
        self.folders.finish(file)
        self.folders.explained(_gap(file)).unlink(missing_ok=True)
        took = time.monotonic() - begun
        print(f"applied {file}: {held.records} records in {took:.2f} s", flush=True)
        return True

    def _settle(self, file: str, name: Name) -> None:
        """Finish what died between commit and `done/`; anything else is a duplicate."""
        try:
            copy = self.folders.take(file, self.settings.file_mb << 20)
            before = self.ledger.done(name.flow, name.sequence)
            known = before is not None and before.sha256 == hash_of(copy)
            refused = Refused("duplicate", f"number {name.sequence} was applied before")
            if known and not (self.folders.done / file).exists():
                self.folders.finish(file)
                return
        except FileNotFoundError:
            return
        except Refused as other:
            refused = other
        self._set_aside(file, name, refused, taken=True)

    def _set_aside(self, file: str, name: Name | None, refused: Refused, *, taken: bool) -> None:
        entry = Entry(
            name.flow if name else "",
            IN,
            QUARANTINED,
            name.sequence if name else None,
            code=refused.code,
            reason=refused.detail,
        )
        with self.ledger.transaction() as cursor:
            self.ledger.note(cursor, entry)
        keep = self.folders.quarantined() < self.settings.folder_mb << 20
        try:
            kept = self.folders.set_aside(file, _reason(refused), taken=taken, keep=keep)
        except FileNotFoundError:
            return
        print(f"quarantined {kept}: {refused}", flush=True)

    def _note_gap(self, flow: str, comes: int, waits: int) -> None:
        """Say once, where the registry reads it, which number is missing."""
        missing = self.layout.file_name(Name(self.settings.code6, flow, comes))
        if self.folders.explained(_gap(missing)).exists():
            return
        detail = f"{comes} is missing; {waits} and what follows wait for it in in/"
        with self.ledger.transaction() as cursor:
            self.ledger.note(
                cursor, Entry(flow, IN, QUARANTINED, comes, missing, code="gap", reason=detail)
            )
        self.folders.explain(
            _gap(missing), {"file": missing, "code": "gap", "detail": detail, "at": moment()}
        )
        print(f"{missing} is missing: {waits} waits", flush=True)

    # What is sent.

    def _send(self, state: State) -> None:
        """Put composed files where they belong, and compose what waits."""
        for sequence in range(state.published + 1, state.next):
            self.place(state.flow, sequence)
        while not state.manual and (sequence := self._compose(state.flow)):
            self.place(state.flow, sequence)

    def _compose(self, flow: str) -> int:
        """Give a number to what waits, in one transaction with the ledger; 0 when nothing does."""
        with self.ledger.transaction() as cursor:
            state = self.ledger.held(cursor, flow)
            rows = []
            for number, record in self.ledger.waiting_outbox(
                cursor, flow, self.settings.file_records
            ):
                try:
                    self.layout.check(self.layout.flows[flow], record, f"outbox row {number}")
                    rows.append(number)
                except Refused as refused:
                    self.ledger.refuse_outbox(cursor, number, refused.code)
                    entry = Entry(flow, OUT, QUARANTINED, code=refused.code, reason=refused.detail)
                    self.ledger.note(cursor, entry)
                    print(f"set aside in the outbox: {refused}", flush=True)
            if state.manual or not rows:
                return 0
            self.ledger.take_outbox(cursor, state.next, rows)
            name = Name(self.settings.code6, flow, state.next)
            digest = self._write(self.ledger.sent(cursor, flow, state.next), name)
            file = self.layout.file_name(name)
            entry = Entry(flow, OUT, COMPOSED, state.next, file, digest, len(rows))
            self.ledger.note(cursor, entry)
            self.ledger.advance(cursor, flow)
        return state.next

    def _write(self, records: list[dict[str, str]], name: Name) -> str:
        with self.folders.written(self.layout.file_name(name)) as file:
            return self.layout.compose(file, name, len(records), records)

    def place(self, flow: str, sequence: int) -> str:
        """Put a composed number into `out/`: the same bytes, however often; return its name."""
        known = self.ledger.done(flow, sequence)
        if known is None:
            raise Refused("name", f"number {sequence} of {flow} was never composed")
        with self.ledger.transaction() as cursor:
            records = self.ledger.sent(cursor, flow, sequence)
        digest = self._write(records, Name(self.settings.code6, flow, sequence))
        if digest != known.sha256:
            raise Refused("hash", f"{known.file} would not be what was composed")
        self.folders.new(known.file).rename(self.folders.outgoing / known.file)
        self.ledger.publish(flow, sequence)
        print(f"placed {known.file}: {known.records} records", flush=True)
        return known.file


def _gap(file: str) -> str:
    return f"{file}.missing"


def _reason(refused: Refused) -> dict[str, object]:
    return {"code": refused.code, "detail": refused.detail, "at": moment()}


def hash_of(path: Path) -> str:
    """Return the hash of a file's every byte."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def moment() -> str:
    """Return now, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def report_name(code6: str, statement: int) -> str:
    """Return how the report on a statement is called."""
    return f"{code6}-reconciliation-{statement:08d}.jsonl"


def reconcile(settings: Settings) -> int:
    """Hold the 附票 against the registry's last statement; 1 when they differ, or it is too old.

    The timer may fire while no server leads, or the leader be lost on the way: then all of it is
    begun again, for some minutes. Raises psycopg2.Error when the database did not serve in the end.
    """
    until, pause = time.monotonic() + LEADER_SECONDS, AGAIN_SECONDS
    while True:
        try:
            return compare(settings, Ledger(settings.database))
        except psycopg2.Error as error:
            if time.monotonic() > until:
                raise
            pause = begin_again(error, pause)


def compare(settings: Settings, ledger: Ledger) -> int:
    """Compare once, leave the report in out/ and a row in the ledger; return as reconcile does.

    The report names numbers, for the registry alone: none of them reaches the journal.
    """
    last = ledger.statement()
    if last is None:
        print("the registry has sent no statement yet: nothing to compare", flush=True)
        return 0
    number, hours = last
    found = ledger.differences()
    rows: list[dict[str, object]] = [{"statement": number, "differences": len(found)}]
    rows += [{"resident": resident, "how": how} for resident, how in found]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    folders = Folders(settings.folder)
    with folders.alone():
        folders.put(folders.outgoing, report_name(settings.code6, number), text.encode())
    old = hours > settings.statement_hours
    code = "differences" if found else "old-statement" if old else ""
    detail = f"{len(found)} differences from statement {number}, {hours:.0f} hours old"
    with ledger.transaction() as cursor:
        entry = Entry(
            "statement", IN, "reconciled", number, records=len(found), code=code, reason=detail
        )
        ledger.note(cursor, entry)
    print(detail, flush=True)
    return 1 if found or old else 0


def serve(settings: Settings, layout: Layout) -> None:
    """Work for ever, woken by the folder and by the database."""
    watch = Watch(Folders(settings.folder).incoming)
    pause = AGAIN_SECONDS
    while True:
        try:
            ledger = Ledger(settings.database)
            engine = Engine(settings, layout, ledger)
            engine.begin()
            while True:
                again = engine.look()
                pause = AGAIN_SECONDS
                # What was told while we looked is read already: nothing would wake us for it.
                if not ledger.was_notified():
                    waited = [watch.fileno(), ledger.connection.fileno()]
                    select.select(waited, [], [], again or REST_SECONDS)
                    watch.drain()
                    ledger.was_notified()
        except (psycopg2.Error, OSError) as error:
            # A leader that changed, a release without its half of the adapter, a full disk, a file
            # that its sender took away: what was begun is begun again from what the ledger says.
            pause = begin_again(error, pause)


def begin_again(error: psycopg2.Error | OSError, pause: float) -> float:
    """Say what was in the way and wait some seconds; return how many to wait the next time."""
    code = getattr(error, "pgcode", None) or getattr(error, "errno", None)
    print(f"begun again: {type(error).__name__} {code or ''}".rstrip(), flush=True)
    time.sleep(pause)
    return min(2 * pause, AGAIN_MOST)
