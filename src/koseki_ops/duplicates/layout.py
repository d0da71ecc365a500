"""The port towards the ministry's layout, and a stand-in layout of our own behind it (K-13).

How the duplicate's files and the relay server's answers really look is not ours to invent and was
not seen. `Layout` is what this room asks of a layout; `StandIn` is a plain one of our own that the
simulated relay server speaks as well. The real one is another class with the same methods.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Protocol

from koseki_ops.core.foreign import loads
from koseki_ops.duplicates.model import TOTALS, Key, Kind

# 異体字セレクタ: what is written behind a character to name one of its forms belongs to it.
SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
# What marks a character that was lost on its way here.
LOST = "〓\ufffd"
# As much of an answer that cannot be read is kept.
EXCERPT_LENGTH = 2000


@dataclass(frozen=True)
class Record:
    """One record of a duplicate. number: the register's; text: what it holds, as registered."""

    number: str
    text: str


@dataclass(frozen=True)
class Unconvertible:
    """A character that the receiver's layout cannot carry: in which register, and which one.

    points: its code points, a selector behind its base, as U+845B U+E0102. Never the text around
    it, which is a person's name as a rule.
    """

    number: str
    points: str


@dataclass(frozen=True)
class Answer:
    """One thing that the relay server said of a row.

    id: no two answers of a municipality have the same one; what: `sent`, `received`, `failed`,
    `refused` or `resend`; count, sha256, receipt: of what was received; error: a code, else.
    """

    id: str
    key: Key
    what: str
    count: int = 0
    sha256: str = ""
    receipt: str = ""
    error: str = ""


@dataclass(frozen=True)
class Unreadable:
    """Something that the relay server said and that is no answer of this layout.

    excerpt: its beginning, as it was.
    """

    id: str
    excerpt: str


@dataclass(frozen=True)
class Status:
    """What a status file says: the answers in their order, and the totals by month (2026-11)."""

    answers: Sequence[Answer | Unreadable]
    totals: Mapping[str, Mapping[str, int]]


class Layout(Protocol):
    """What is asked of the ministry's layout."""

    version: str

    def file_name(self, key: Key) -> str:
        """Return how a row's file is called."""

    def key_of(self, name: str) -> Key | None:
        """Return which row a file is, None for what is no name of this layout."""

    def compose(self, key: Key, records: Iterable[Record]) -> bytes:
        """Return a row's file; the same records are the same bytes."""

    def carries(self, character: str) -> bool:
        """Say whether a character (with its selector) can be written in this layout."""

    def status(self, content: bytes) -> Status | None:
        """Return what a status file says, None while it cannot be read as a whole."""


def unconvertible(layout: Layout, records: Iterable[Record]) -> list[Unconvertible]:
    """Return every character that cannot be converted, by register and code point, in order."""
    return [
        Unconvertible(record.number, points_of(character))
        for record in records
        for character in characters(record.text)
        if not layout.carries(character)
    ]


def characters(text: str) -> list[str]:
    """Return a text's characters; what names a form stays with the character it is for."""
    found: list[str] = []
    for letter in text:
        if found and SELECTORS.fullmatch(letter):
            found[-1] += letter
        else:
            found.append(letter)
    return found


def points_of(character: str) -> str:
    """Return a character's code points, as U+845B U+E0102."""
    return " ".join(f"U+{ord(letter):04X}" for letter in character)


class StandIn:
    """A stand-in layout: UTF-8, a JSON object a line; a header, the records, an end with a hash.

    header   {"layout":"stand-in-1","municipality":"204196","day":"2026-11-16",…,"count":1}
    record   {"number":"…","text":"…"}
    end      {"sha256":"…"}: of every byte before this line

    The status file is one JSON object: {"layout":"stand-in-1","answers":[…],"totals":{…}}.
    It carries what is no control, no private character of the first plane, and no mark of a loss.
    """

    version = "stand-in-1"
    _name = re.compile(
        r"([0-9]{6})-([0-9]{4}-[0-9]{2}-[0-9]{2})-(difference|full)-([0-9]{2,4})\.jsonl"
    )
    _error = re.compile(r"[A-Z0-9-]{1,20}")
    _id = re.compile(r"[A-Za-z0-9-]{1,60}")
    _whats = frozenset({"sent", "received", "failed", "refused", "resend"})

    def file_name(self, key: Key) -> str:
        """Return how a row's file is called: municipality, day, kind, attempt."""
        return f"{key}.jsonl"

    def key_of(self, name: str) -> Key | None:
        """Return which row a file is, None for what is no name of this layout."""
        found = self._name.fullmatch(name)
        try:
            return found and Key(
                found[1], date.fromisoformat(found[2]), Kind(found[3]), int(found[4])
            )
        except ValueError:
            return None

    def compose(self, key: Key, records: Iterable[Record]) -> bytes:
        """Return a row's file; the same records are the same bytes."""
        rows = [{"number": record.number, "text": record.text} for record in records]
        header = {
            "layout": self.version,
            "municipality": key.code6,
            "day": key.day.isoformat(),
            "kind": key.kind,
            "attempt": key.attempt,
            "count": len(rows),
        }
        body = b"".join(_line(row) for row in (header, *rows))
        return body + _line({"sha256": hashlib.sha256(body).hexdigest()})

    def carries(self, character: str) -> bool:
        """Say whether a character can be written in this layout."""
        first = character[0]
        if first in LOST or SELECTORS.fullmatch(first):
            return False
        if unicodedata.category(first) == "Co":
            return ord(first) > 0xFFFF  # noqa: PLR2004 - the platform's own 外字 are in plane 16
        # What has no meaning for ever; a letter that is too young for this Python has one.
        point = ord(first)
        nobodys = 0xFDD0 <= point <= 0xFDEF or point & 0xFFFE == 0xFFFE  # noqa: PLR2004 - Unicode 23.7
        return unicodedata.category(first) not in {"Cc", "Cs"} and not nobodys

    def count(self, content: bytes) -> int | None:
        """Return how many records a file holds, None for one that is not whole (the receiver's)."""
        lines = content.splitlines(keepends=True)
        try:
            header, end = loads(lines[0]), loads(lines[-1])
            body = content[: -len(lines[-1])]
            whole = end["sha256"] == hashlib.sha256(body).hexdigest()
            records = len(lines) - 2
            return records if whole and header["count"] == records else None
        except (ValueError, KeyError, TypeError, IndexError):
            return None

    def status(self, content: bytes) -> Status | None:
        """Return what a status file says, None while it cannot be read as a whole."""
        try:
            status = loads(content)
            rows, totals = status["answers"], status.get("totals", {})
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        if status.get("layout") != self.version or not isinstance(rows, list):
            return None
        return Status([self._answer(row) for row in rows], _totals(totals))

    def _answer(self, row: Any) -> Answer | Unreadable:  # noqa: ANN401 - whatever JSON holds
        """Return an answer; its id names its content, too: one number may be said with two."""
        text = _line(row)
        digest = hashlib.sha256(text).hexdigest()
        try:
            answer = Answer(**{**row, "key": self.key_of(f"{row['key']}.jsonl")})
        except (TypeError, KeyError):
            answer = None
        if answer is None or not self._is_answer(answer):
            return Unreadable(
                f"unreadable-{digest[:32]}", text[:EXCERPT_LENGTH].decode(errors="replace")
            )
        return replace(answer, id=f"{answer.id}-{digest[:8]}")

    def _is_answer(self, answer: Answer) -> bool:
        texts = (answer.id, answer.what, answer.sha256, answer.receipt, answer.error)
        # A truth is a number to Python, and none here.
        if not all(isinstance(text, str) for text in texts) or type(answer.count) is not int:
            return False
        receipt = answer.receipt if answer.what == "received" else "-"
        error = "-" if answer.what in {"sent", "received"} else answer.error
        return (
            isinstance(answer.key, Key)
            and answer.what in self._whats
            and bool(self._id.fullmatch(answer.id) and self._id.fullmatch(receipt))
            and bool(self._error.fullmatch(error))
            and answer.count >= 0
        )


def _line(row: object) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _totals(totals: object) -> dict[str, dict[str, int]]:
    """Return the totals by month; a month that is not whole was not said."""
    if not isinstance(totals, dict):
        return {}
    return {
        month: {kind: row[kind] for kind in TOTALS}
        for month, row in totals.items()
        if isinstance(row, dict)
        and set(row) == set(TOTALS)
        and all(type(number) is int and number >= 0 for number in row.values())
    }
