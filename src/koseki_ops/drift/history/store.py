"""The history of sweeps: kept compactly, each chained to the one before, the newest signed.

One append-only table. A row holds what changed since the row before (findings that began, changed
or ended) and, every so often, everything, so that any sweep can be told again by reading a few
rows. Each row's hash covers the hash before it; the newest is signed in the database and once more
in a file beside it, so that neither a changed row nor an older copy of the database goes unseen.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sqlite3
import struct
import time
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_private
from koseki_ops.core.language import N_, _
from koseki_ops.drift.history.seals import Expected, Sealing, applied, changes, compare_seals
from koseki_ops.drift.history.waivers import (
    Terms,
    WaiverStatus,
    apply_waivers,
    committed_waivers,
    terms_of,
)
from koseki_ops.drift.model import Cause, Finding, HostSweep, Sweep, Verdict
from koseki_ops.evidence.site_key import make_key, sign, verify
from koseki_ops.plan.inventory import WORKSTATION, Inventory
from koseki_ops.plan.site import Site

if TYPE_CHECKING:
    from koseki_ops.plan.model import Waiver

DATABASE_FILE, HEAD_FILE, LOCK_FILE = "history.db", "head.json", "history.lock"
# A whole copy of what is known every two days of sweeps: telling one again reads at most so many.
WHOLE_EVERY = 192
# Another sweep's row is written in milliseconds; a writer that waits longer met something broken.
BUSY_SECONDS = 10.0
BUSY_PAUSE = 0.02
GENESIS = bytes(32)
SCHEMA = """
BEGIN;
CREATE TABLE IF NOT EXISTS sweeps (
  number INTEGER PRIMARY KEY, at REAL NOT NULL, holds INTEGER NOT NULL, drifted INTEGER NOT NULL,
  not_verified INTEGER NOT NULL, waived INTEGER NOT NULL, body BLOB NOT NULL, hash BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS head (
  one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL, hash BLOB NOT NULL,
  signature BLOB NOT NULL
) STRICT;
COMMIT;
"""
TABLES = 2
NO_VAULTS = Sealing({}, 1, 1)
# The name of a finding that says that no item of its kind could be asked.
EVERY = "*"
COLUMNS = "number, at, holds, drifted, not_verified, waived, body, hash"
ASIDE = N_(
    "keep the folder as evidence, move it aside and run `koseki drift`: a new history begins"
)


@dataclass(frozen=True)
class Known:
    """What the history knows after a row.

    findings: by id, also those of hosts that did not answer since; unseen: the ids of these; terms:
    with which terms each waiver first stood; seals: what is owed of each vault, by its name.
    """

    findings: dict[str, Finding] = field(default_factory=dict)
    unseen: frozenset[str] = frozenset()
    terms: dict[str, Terms] = field(default_factory=dict)
    seals: dict[str, Expected] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One sweep in the history.

    changed: findings that began or are different now; ended: findings that hold again, as they last
    were; notices: sentences about waivers that cover nothing.
    """

    number: int
    at: float
    seconds: float
    commit: str
    holds: int
    drifted: int
    not_verified: int
    waived: int
    hosts: tuple[HostSweep, ...]
    changed: tuple[Finding, ...]
    ended: tuple[Finding, ...]
    notices: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain data, with each finding's id."""
        return asdict(self) | {
            name: [{"id": f.id, **asdict(f)} for f in getattr(self, name)]
            for name in ("changed", "ended")
        }


@dataclass(frozen=True)
class Point:
    """The counts of one sweep, for a trend."""

    at: float
    holds: int
    drifted: int
    not_verified: int
    waived: int


@dataclass(frozen=True)
class HistoryCheck:
    """What a check of the whole history found: its length, its head, and the first fault.

    fault: a sentence, empty when everything holds.
    """

    sweeps: int
    head: str
    fault: str


@dataclass(frozen=True)
class _Row:
    number: int
    at: float
    holds: int
    drifted: int
    not_verified: int
    waived: int
    body: bytes
    hash: bytes

    def chained(self, before: bytes) -> bytes:
        """Return the hash that belongs to this row after the hash before it."""
        counts = (self.holds, self.drifted, self.not_verified, self.waived)
        # Lengths are fixed or last, so no two rows share their bytes.
        fixed = struct.pack(">qd4q", self.number, self.at, *counts)
        return hashlib.sha256(before + fixed + self.body).digest()

    @property
    def content(self) -> dict[str, Any]:
        """The body as plain data; a body that cannot be read raises KosekiError."""
        try:
            plain: dict[str, Any] = json.loads(zlib.decompress(self.body))
        except (zlib.error, ValueError) as error:
            raise KosekiError(
                _("sweep {number} of the history is damaged").format(number=self.number),
                "",
                _(ASIDE),
            ) from error
        return plain


class Store:
    """The history of one site, in `var/<site>/drift/`.

    `waiver_statuses` tells how each waiver stood, and `known` what is known, after the last append.
    """

    def __init__(
        self,
        folder: Path,
        site: str,
        hosts: Collection[str],
        waivers: Sequence[Waiver] = (),
        committed: Sequence[Terms] = (),
        sealing: Sealing = NO_VAULTS,
    ) -> None:
        """Use a folder; nothing is made before the first append.

        hosts: those of the plan; what was found on any other is over. committed: the terms of the
        waivers in the inventory's commit; sealing: where vaults are, and what they keep.
        """
        self.folder = folder
        self.site = site
        self.hosts = frozenset(hosts)
        self.waivers = tuple(waivers)
        self.committed = tuple(committed)
        self.sealing = sealing
        self.waiver_statuses: list[WaiverStatus] = []
        self.known = Known()

    @classmethod
    def open(cls, site: Site, waivers: Sequence[Waiver] | None = None) -> Self:
        """Return a site's history; waivers are read from its inventory unless they are given."""
        inventory = Inventory(site.inventory)
        if waivers is None:
            waivers = _granted(inventory)
        hosts = [*inventory.hosts, WORKSTATION]
        committed = committed_waivers(site) if waivers else ()
        return cls(site.drift, site.name, hosts, waivers, committed, _sealing(inventory))

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / DATABASE_FILE

    @property
    def head_file(self) -> Path:
        """The signed head beside it."""
        return self.folder / HEAD_FILE

    def append(self, sweep: Sweep) -> Sweep:
        """Keep a sweep; return it with `first_seen` from the history and its waivers.

        A finding of a host that was not asked or did not answer is not over: it stays known, and
        keeps its beginning. Raises KosekiError when the history was tampered with or is damaged.
        """
        self._prepare()
        with self._alone(), self._session() as (connection, outside):
            connection.executescript(SCHEMA)
            # From here to the commit no other sweep writes; a kill leaves the row before.
            connection.execute("BEGIN IMMEDIATE")
            last = self._checked_head(connection, outside)
            if outside is None:
                self._write_head_file(0, GENESIS, self._signature(0, GENESIS))
            before = self._known_at(connection, last.number if last else 0)
            found, seals = compare_seals(sweep, before.seals, self.sealing)
            sweep = replace(sweep, findings=(*sweep.findings, *found))
            sweep, self.waiver_statuses = apply_waivers(
                _with_beginnings(sweep, before), self.waivers, self.committed, before.terms
            )
            self.known = replace(_after(before, sweep, self.hosts, self._terms()), seals=seals)
            row = self._row(sweep, before, last)
            connection.execute(
                f"INSERT INTO sweeps ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?)",  # noqa: S608 - our own constant
                tuple(vars(row).values()),
            )
            signature = self._signature(row.number, row.hash)
            connection.execute(
                "INSERT INTO head VALUES (1, ?, ?, ?) ON CONFLICT (one) DO UPDATE SET "
                "number = excluded.number, hash = excluded.hash, signature = excluded.signature",
                (row.number, row.hash, signature),
            )
            connection.execute("COMMIT")
            self._write_head_file(row.number, row.hash, signature)
        return sweep

    def latest(self) -> Sweep | None:
        """Return the newest sweep as it was kept, or None when there is none.

        Sets `known` and `waiver_statuses` as they are at that sweep.
        """
        with self._reading() as connection:
            last = next(self._rows(connection, self._length(connection)), None)
            if last is None:
                return None
            self.known = self._known_at(connection, last.number)
        content = last.content
        findings = tuple(f for i, f in self.known.findings.items() if i not in self.known.unseen)
        sweep = Sweep(
            self.site, last.at, content["seconds"], content["commit"], _hosts(content), findings
        )
        _, self.waiver_statuses = apply_waivers(
            sweep, self.waivers, self.committed, self.known.terms
        )
        return sweep

    def head(self) -> str:
        """Return the number and hash of the newest sweep, for a print outside of this machine."""
        with self._reading() as connection:
            last = next(self._rows(connection, self._length(connection)), None)
        return f"{last.number} {last.hash.hex()}" if last else ""

    def history(self, since: float = 0.0) -> Iterator[Entry]:
        """Yield the sweeps since a moment, oldest first."""
        with self._reading() as connection:
            first = connection.execute(
                "SELECT min(number) FROM sweeps WHERE at >= ?", (since,)
            ).fetchone()[0]
            if first is None:
                return
            known = self._known_at(connection, first - 1)
            for row in self._rows(connection, first):
                content = row.content
                after = _applied(known, content)
                changed = (f for i, f in after.findings.items() if known.findings.get(i) != f)
                ended = (f for i, f in known.findings.items() if i not in after.findings)
                yield Entry(
                    row.number,
                    row.at,
                    content["seconds"],
                    content["commit"],
                    row.holds,
                    row.drifted,
                    row.not_verified,
                    row.waived,
                    _hosts(content),
                    tuple(changed),
                    tuple(ended),
                    tuple(content["said"]),
                )
                known = after

    def trend(self, since: float = 0.0) -> list[Point]:
        """Return the counts of every sweep since a moment, without reading what was found."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT at, holds, drifted, not_verified, waived FROM sweeps WHERE at >= ? "
                "ORDER BY number",
                (since,),
            )
            return [Point(*row) for row in rows]

    def verify(self) -> HistoryCheck:
        """Hold every row, the head and the head file against the chain and the key."""
        number, chain = 0, GENESIS
        try:
            with self._reading(checked=False) as connection:
                for held in self._chain(connection):
                    number, chain = held
            self.head()
        except KosekiError as error:
            return HistoryCheck(number, chain.hex(), str(error))
        return HistoryCheck(number, chain.hex(), "")

    def _chain(self, connection: sqlite3.Connection) -> Iterator[tuple[int, bytes]]:
        """Yield each row's number and hash; KosekiError where the chain breaks."""
        before = GENESIS
        for expected, row in enumerate(self._rows(connection, 0), 1):
            if row.number != expected:
                raise KosekiError(
                    _("sweep {expected} is missing from the history of drift").format(
                        expected=expected
                    ),
                    "",
                    _(ASIDE),
                )
            if row.chained(before) != row.hash:
                raise KosekiError(
                    _("sweep {expected} of the history of drift was tampered with").format(
                        expected=expected
                    ),
                    "",
                    _(ASIDE),
                )
            before = row.hash
            yield expected, before

    # What is on the disk.

    def _prepare(self) -> None:
        """Make the key and an empty database, unless there is, or was, a history."""
        if self.database.exists() or self.head_file.exists():
            return
        make_key(self.folder)
        # 0600 from the first moment: SQLite gives its other files the same mode.
        os.close(os.open(self.database, os.O_WRONLY | os.O_CREAT, 0o600))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other writers out; the kernel lets go of the lock of a process that was killed."""
        lock = self.folder / LOCK_FILE
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + BUSY_SECONDS
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise KosekiError(
                            _("another sweep has been writing the history of drift for too long"),
                            f"{BUSY_SECONDS:.0f} s, {lock}",
                            _("end what `fuser {lock}` shows, then run `koseki drift`").format(
                                lock=lock
                            ),
                        ) from error
                    time.sleep(BUSY_PAUSE)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _session(self) -> Iterator[tuple[sqlite3.Connection, tuple[int, bytes] | None]]:
        """Open the database; hand out what the head file told before; all errors are a sentence.

        The file is read first: a sweep that is written meanwhile makes the database newer than the
        file, which is as it should be, and never the file newer than the database.
        """
        outside = self._read_head_file()
        if not self.database.exists():
            raise KosekiError(
                _("the history of drift is gone, but its head is still here"),
                str(self.database),
                _("restore it from the backup, or {aside}").format(aside=_(ASIDE)),
            )
        try:
            with closing(
                sqlite3.connect(self.database, timeout=BUSY_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                yield connection, outside
        except sqlite3.DatabaseError as error:
            busy = "locked" in str(error)
            remedy = (
                _("wait until that sweep has ended, then run `koseki drift` again")
                if busy
                else _(ASIDE)
            )
            raise KosekiError(
                _("the history of drift cannot be read"), f"{self.database}: {error}", remedy
            ) from error

    @contextmanager
    def _reading(self, *, checked: bool = True) -> Iterator[sqlite3.Connection]:
        """Read the history as it is at one moment; an empty one when there is none yet."""
        if not self.database.exists() and not self.head_file.exists():
            with closing(sqlite3.connect(":memory:")) as connection:
                connection.executescript(SCHEMA)
                yield connection
            return
        with self._session() as (connection, outside):
            connection.execute("BEGIN")
            names = "SELECT count(*) FROM sqlite_schema WHERE name IN ('sweeps', 'head')"
            if connection.execute(names).fetchone()[0] != TABLES:
                # A kill before the first row, unless the head file tells of rows.
                connection.execute("ROLLBACK")
                connection.executescript(SCHEMA)
                connection.execute("BEGIN")
            if checked:
                self._checked_head(connection, outside)
            yield connection

    @staticmethod
    def _length(connection: sqlite3.Connection) -> int:
        length: int = connection.execute("SELECT coalesce(max(number), 0) FROM sweeps").fetchone()[
            0
        ]
        return length

    @staticmethod
    def _rows(connection: sqlite3.Connection, first: int, last: int = 1 << 62) -> Iterator[_Row]:
        query = f"SELECT {COLUMNS} FROM sweeps WHERE number BETWEEN ? AND ? ORDER BY number"  # noqa: S608 - our own constant
        for row in connection.execute(query, (first, last)):
            yield _Row(*row)

    def _head_content(self, number: int, chain: bytes) -> bytes:
        return f"koseki drift history\n{self.site}\n{number}\n{chain.hex()}\n".encode()

    def _signature(self, number: int, chain: bytes) -> bytes:
        return sign(self.folder, self._head_content(number, chain))

    def _checked_head(
        self, connection: sqlite3.Connection, outside: tuple[int, bytes] | None
    ) -> _Row | None:
        """Return the last row, or None for a new history; KosekiError when they do not agree."""
        head = connection.execute("SELECT number, hash, signature FROM head").fetchone()
        length = self._length(connection)
        if head is None and not length and (outside is None or not outside[0]):
            return None
        number, chain, signature = head or (0, GENESIS, b"")
        if not self._signed(number, chain, signature):
            raise KosekiError(
                _("the head of the history of drift is not signed by this site's key"),
                _("sweep {number}").format(number=number),
                _(ASIDE),
            )
        pair = list(self._rows(connection, number - 1, number))
        before = pair[0].hash if number > 1 and pair else GENESIS
        if length != number or not pair or pair[-1].chained(before) != chain:
            raise KosekiError(
                _("the history of drift was tampered with"),
                _("its head is sweep {number}, its last row sweep {length}").format(
                    number=number, length=length
                ),
                _(ASIDE),
            )
        if outside is None:
            raise KosekiError(
                _("the head file of the history of drift is missing"), str(self.head_file), _(ASIDE)
            )
        # A kill between the commit and the file leaves a file that is older, never a newer one.
        noted, noted_chain = outside
        row = next(self._rows(connection, noted, noted), None)
        if noted and (row is None or row.hash != noted_chain):
            raise KosekiError(
                _("the history of drift does not match its head file"),
                _("{head_file} has sweep {noted}, the database ends with {number}").format(
                    head_file=self.head_file.name, noted=noted, number=number
                ),
                _(ASIDE),
            )
        return pair[-1]

    def _signed(self, number: int, chain: bytes, signature: bytes) -> bool:
        return verify(self.folder, self._head_content(number, chain), signature)

    def _read_head_file(self) -> tuple[int, bytes] | None:
        try:
            text = self.head_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise KosekiError(
                _("the head file of the history of drift cannot be read"), str(error), _(ASIDE)
            ) from error
        try:
            plain = json.loads(text)
            number, chain = int(plain["number"]), bytes.fromhex(plain["hash"])
            signature = bytes.fromhex(plain["signature"])
        except (ValueError, KeyError, TypeError) as error:
            raise KosekiError(
                _("the head file of the history of drift is damaged"), str(self.head_file), _(ASIDE)
            ) from error
        if not self._signed(number, chain, signature):
            raise KosekiError(
                _("the head file of the history of drift is not signed by this site's key"),
                str(self.head_file),
                _(ASIDE),
            )
        return number, chain

    def _write_head_file(self, number: int, chain: bytes, signature: bytes) -> None:
        plain = {"number": number, "hash": chain.hex(), "signature": signature.hex()}
        write_private(self.head_file, json.dumps(plain) + "\n")

    # What a row says.

    def _terms(self) -> dict[str, Terms]:
        rows = ((waiver.id, terms_of(waiver)) for waiver in self.waivers)
        return {name: terms for name, terms in rows if terms in self.committed}

    def _row(self, sweep: Sweep, before: Known, last: _Row | None) -> _Row:
        number = last.number + 1 if last else 1
        after, whole = self.known, number % WHOLE_EVERY == 1
        start = Known() if whole else before
        changed = [asdict(f) for i, f in after.findings.items() if start.findings.get(i) != f]
        content = {
            "seconds": round(sweep.seconds, 3),
            "commit": sweep.commit,
            "hosts": [host.as_json() for host in sweep.hosts],
            "whole": whole,
            "changed": changed,
            "ended": [i for i in start.findings if i not in after.findings],
            "unseen": sorted(after.unseen),
            "terms": {i: t for i, t in after.terms.items() if start.terms.get(i) != t},
            "seals": changes(start.seals, after.seals),
            "said": [status.fault for status in self.waiver_statuses if status.fault],
        }
        body = zlib.compress(json.dumps(content).encode(), 9)
        waived = sum(bool(finding.waiver) for finding in sweep.findings)
        row = _Row(
            number,
            sweep.at,
            sweep.count(Verdict.HOLDS),
            sweep.count(Verdict.DRIFTED),
            sweep.count(Verdict.NOT_VERIFIED),
            waived,
            body,
            b"",
        )
        return replace(row, hash=row.chained(last.hash if last else GENESIS))

    def _known_at(self, connection: sqlite3.Connection, number: int) -> Known:
        """Return what was known after a sweep, from the whole copy before it."""
        known = Known()
        first = max(1, (number - 1) // WHOLE_EVERY * WHOLE_EVERY + 1)
        for row in self._rows(connection, first, number):
            known = _applied(known, row.content)
        return known


def _granted(inventory: Inventory) -> Sequence[Waiver]:
    """Return the waivers of an inventory; one without any is not held against the model for it."""
    if not inventory.platform.waivers:
        return ()
    from koseki_ops.plan.rules import load_platform  # noqa: PLC0415 - the model is slow to import

    return load_platform(inventory).waivers


def _sealing(inventory: Inventory) -> Sealing:
    """Return where an inventory's vaults are and what they keep."""
    plan = inventory.platform
    hosts = {vault.name: inventory.hosts_in(vault.group)[0] for vault in plan.vaults}
    return Sealing(hosts, plan.vault_seal.keep_generations, plan.vault_seal.keep_days)


def _hosts(content: dict[str, Any]) -> tuple[HostSweep, ...]:
    return tuple(HostSweep.from_json(row) for row in content["hosts"])


def finding_from(row: dict[str, Any]) -> Finding:
    """Return a finding from plain data (`asdict`)."""
    typed = {
        "answer": Verdict(row["answer"]),
        "cause": Cause(row["cause"]),
        "logged_in": tuple(row["logged_in"]),
    }
    return Finding(**row | typed)


def _applied(known: Known, content: dict[str, Any]) -> Known:
    start = Known() if content["whole"] else known
    findings = dict(start.findings)
    for identifier in content["ended"]:
        del findings[identifier]
    for row in content["changed"]:
        finding = finding_from(row)
        findings[finding.id] = finding
    # A row may be older than the witnesses.
    seals = applied(start.seals, content.get("seals", {}))
    return Known(findings, frozenset(content["unseen"]), start.terms | content["terms"], seals)


def _with_beginnings(sweep: Sweep, before: Known) -> Sweep:
    """Fill in since when each finding stands, and who was logged in when it began."""
    findings = []
    for finding in sweep.findings:
        old = before.findings.get(finding.id)
        first = old.first_seen if old else finding.first_seen or sweep.at
        logged_in = old.logged_in if old and old.logged_in else finding.logged_in
        findings.append(replace(finding, first_seen=first, logged_in=logged_in))
    return replace(sweep, findings=tuple(findings))


def _after(before: Known, sweep: Sweep, hosts: Collection[str], terms: dict[str, Terms]) -> Known:
    found = {finding.id: finding for finding in sweep.findings}
    answered = {host.host for host in sweep.hosts if host.answered}
    blind = {(f.host, f.kind, f.name) for f in sweep.findings if f.answer is Verdict.NOT_VERIFIED}
    unseen = {
        identifier: finding
        for identifier, finding in before.findings.items()
        if identifier not in found
        and finding.host in hosts
        and (
            finding.host not in answered
            or (finding.host, finding.kind, finding.name) in blind
            or (finding.host, finding.kind, EVERY) in blind
        )
    }
    # The terms with which a waiver first stood count for ever.
    return Known(unseen | found, frozenset(unseen), terms | before.terms)
