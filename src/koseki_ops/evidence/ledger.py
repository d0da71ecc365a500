"""Append-only records of a site: each row names the hash of the row before and is signed.

A ledger is a file of one JSON object a line. `before` is the SHA-256 of the line before (zeros for
the first), `signature` the site's Ed25519 signature of the row without it. Beside it lies its head,
signed too: how many rows there are and the hash of the last one, so that rows that were cut off are
seen. Whoever has the site's key can write another history: what must hold against them is a head
that somebody else keeps.

A process that is killed while it appends leaves a row or none: half a line is no row, and whoever
appends next removes it.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import move, write_atomic
from koseki_ops.core.foreign import loads
from koseki_ops.core.language import _
from koseki_ops.evidence import site_key
from koseki_ops.plan.site import Site

FIRST = "0" * 64
HEAD_SUFFIX = ".head.json"
TAKEN_OVER = ".taken-over"
# What is recorded, by ledger, and where it lay before there were ledgers.
LEDGERS: Mapping[str, str | None] = {
    "certificates": "ssh/certificates.jsonl",
    "costs": None,
    "duplicates": None,
    "joinings": "joinings.jsonl",
    "procedures": None,
    "rehearsals": "reports/rehearsals.jsonl",
}


@dataclass(frozen=True)
class Row:
    """A row: its number from 1 on, when it was written (UTC), what it records, its line's hash."""

    number: int
    at: str
    record: Mapping[str, Any]
    digest: str


@dataclass(frozen=True)
class Verdict:
    """What a verification found: how many rows verified, and what is wrong with the next one."""

    rows: int
    wrong: str = ""


class Ledger:
    """One ledger of a site."""

    def __init__(self, site: Site, name: str) -> None:
        """Choose it. name: a key of `LEDGERS`; any other is a mistake of the caller."""
        site = site.main
        old = LEDGERS[name]
        self.name, self.old = name, site.state / old if old else None
        self.path = site.state / "evidence" / f"{name}.jsonl"
        self.keys, self.published = site.drift, site.watch_host is not None

    @property
    def head(self) -> Path:
        """Where the signed head lies."""
        return self.path.with_name(self.path.name + HEAD_SUFFIX)

    def append(self, record: Mapping[str, Any], at: datetime | None = None) -> Row:
        """Write a row and sync it; return it. at: when it happened (default: now).

        Raises KosekiError, and leaves no row, where it cannot be written.
        """
        site_key.make_key(self.keys)
        try:
            with self._alone() as file:
                last = self._take_over(file, self._last(file))
                return self._write(file, last, record, at or datetime.now(UTC))
        except OSError as error:
            raise KosekiError(
                _("this was not recorded in {path}").format(path=self.path),
                str(error),
                _(
                    "remove that cause, then run the same command again; see `koseki "
                    "evidence verify`"
                ),
            ) from error

    def rows(self) -> Iterator[Row]:
        """Yield every row, oldest first, without verifying any; KosekiError for what is no row."""
        for number, line in enumerate(self._lines(), 1):
            try:
                yield _row(line)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise KosekiError(
                    _("{path} is not what was recorded").format(path=self.path),
                    _("row {number}: {error!r}").format(number=number, error=error),
                    _("run `koseki evidence verify`, and find out who wrote there"),
                ) from error

    def held(self) -> list[Row]:
        """Return every row, oldest first. KosekiError when this is not what was recorded.

        For who reads a whole history often: the hashes lead to the last row, and its signature and
        the head's hold all of them. `verify` holds each one to its own signature.
        """
        with self._unchanged():
            rows, wrong = self._chained()
        if wrong:
            raise KosekiError(
                _("{path} is not what was recorded").format(path=self.path),
                wrong,
                _("run `koseki evidence verify`, and find out who wrote there"),
            )
        return rows

    def _chained(self) -> tuple[list[Row], str]:
        """Return the rows, and what is wrong with the first one that does not hold."""
        lines, rows, before = self._lines(), list[Row](), FIRST
        for number, line in enumerate(lines, 1):
            try:
                plain = loads(line)
                rows.append(Row(number, plain["at"], plain["record"], sha256(line).hexdigest()))
                follows = (plain["number"], plain["before"]) == (number, before)
            except (ValueError, KeyError, TypeError):
                follows = False
            if not follows:
                return rows, _("row {number} does not follow the one before it").format(
                    number=number
                )
            before = rows[-1].digest
        if rows:
            last = rows[-2].digest if rows[1:] else FIRST
            if wrong := self._wrong(lines[-1], len(rows), last):
                return rows, wrong
        return rows, self._wrong_head(len(rows), before)

    def verify(self) -> Verdict:
        """Hold each row against the one before and its signature, and the last one to the head."""
        with self._unchanged():
            return self._verdict()

    def _verdict(self) -> Verdict:
        before, count = FIRST, 0
        for line in self._lines():
            count += 1
            if wrong := self._wrong(line, count, before):
                return Verdict(count - 1, wrong)
            before = sha256(line).hexdigest()
        return Verdict(count, self._wrong_head(count, before))

    def _lines(self) -> list[bytes]:
        return _whole_lines(self.path.read_bytes()) if self.path.exists() else []

    def _wrong(self, line: bytes, number: int, before: str) -> str:
        try:
            plain = loads(line)
            signature = base64.b64decode(plain.pop("signature"), validate=True)
            found = (int(plain["number"]), str(plain["before"]))
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
            return _("row {number} is no row").format(number=number)
        if not self._is_ours(plain, signature):
            return _("row {number} is not what was signed").format(number=number)
        if found != (number, before):
            return _(
                "row {number} does not follow the one before it (it was written as row {found})"
            ).format(number=number, found=found[0])
        return ""

    def _wrong_head(self, count: int, digest: str) -> str:
        if not self.head.exists():
            # The first row's writer may have been killed before it wrote the head.
            return "" if count <= 1 else _("the head is missing")
        try:
            plain = loads(self.head.read_bytes())
            signature = base64.b64decode(plain.pop("signature"), validate=True)
            rows, last = int(plain["rows"]), str(plain["digest"])
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
            return _("the head is no head")
        if not self._is_ours(plain, signature):
            return _("the head is not what was signed")
        if rows > count:
            return _("{rows} rows at the end are missing").format(rows=rows - count)
        # One row more than the head knows: its writer was killed between the two.
        if count - rows > 1 or (rows == count and last != digest):
            return _("the head is of another history")
        return ""

    def _is_ours(self, plain: Mapping[str, Any], signature: bytes) -> bool:
        return site_key.verify(self.keys, _signed(plain), signature, published=self.published)

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Let nobody append meanwhile: the rows and the head that are read belong together."""
        if not self.path.exists():
            yield
            return
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    @contextmanager
    def _alone(self) -> Iterator[IO[bytes]]:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _last(self, file: IO[bytes]) -> Row | None:
        """Return the last whole row; cut off what is behind it."""
        file.seek(0)
        lines = _whole_lines(file.read())
        file.truncate(sum(map(len, lines)))
        if not lines:
            return None
        try:
            return _row(lines[-1])
        except (ValueError, KeyError, TypeError) as error:
            raise KosekiError(
                _("the last row of {path} is not a row").format(path=self.path),
                str(error),
                _(
                    "nothing was recorded; run `koseki evidence verify`, and find out who "
                    "wrote there"
                ),
            ) from error

    def _take_over(self, file: IO[bytes], last: Row | None) -> Row | None:
        """Bring in what was recorded before there were ledgers; return the last row then.

        These are the ledger's first rows, so whoever was killed meanwhile goes on behind his last.
        """
        if self.old and self.old.exists():
            lines = self.old.read_text(encoding="utf-8").splitlines()
            for line in lines[last.number if last else 0 :]:
                record = {"taken_over_from": self.old.name, **loads(line)}
                last = self._write(file, last, record, datetime.now(UTC))
            move(self.old, self.old.with_name(self.old.name + TAKEN_OVER))
        return last

    def _write(
        self, file: IO[bytes], last: Row | None, record: Mapping[str, Any], at: datetime
    ) -> Row:
        plain = {
            "number": last.number + 1 if last else 1,
            "at": at.astimezone(UTC).isoformat(timespec="seconds"),
            "before": last.digest if last else FIRST,
            "record": dict(record),
        }
        line = self._sign(plain) + b"\n"
        left = memoryview(line)
        while left:
            left = left[os.write(file.fileno(), left) :]
        os.fsync(file.fileno())
        row = _row(line)
        write_atomic(self.head, self._sign({"rows": row.number, "digest": row.digest}))
        return row

    def _sign(self, plain: dict[str, Any]) -> bytes:
        signature = base64.b64encode(site_key.sign(self.keys, _signed(plain))).decode()
        return _signed({**plain, "signature": signature})


def _signed(plain: Mapping[str, Any]) -> bytes:
    """Return an object as the bytes that are signed: keys in their order, no blanks."""
    return json.dumps(
        plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode()


def _whole_lines(content: bytes) -> list[bytes]:
    """Return the lines that have their end; behind them, a writer that was killed left no row."""
    return [line + b"\n" for line in content.split(b"\n")[:-1]]


def _row(line: bytes) -> Row:
    plain = loads(line)
    return Row(plain["number"], plain["at"], plain["record"], sha256(line).hexdigest())
