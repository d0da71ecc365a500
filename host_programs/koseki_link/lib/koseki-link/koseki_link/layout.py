"""What stands in a link file: the half of the adapter that knows the registry's side.

The national layout is not ours to invent. `StandIn` is a plainly documented layout of our own
(docs/link.md); another one is another class with the same methods.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import BinaryIO, Protocol

IN, OUT = "in", "out"
STATEMENT = "statement"
Record = dict[str, str]


class Refused(Exception):  # noqa: N818 - what a file is answered with
    """Why a file is not applied: a code of docs/link.md, and a place, never a person's data."""

    def __init__(self, code: str, detail: str) -> None:
        """Keep both."""
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


@dataclass(frozen=True)
class Flow:
    """One flow: its name, what the field calls it, its direction, its fields with their kinds."""

    name: str
    term: str
    direction: str
    fields: Mapping[str, str]


@dataclass(frozen=True)
class Name:
    """What a file's name says."""

    code6: str
    flow: str
    sequence: int


@dataclass(frozen=True)
class Verified:
    """A file that holds: how many records, and the hash of its every byte."""

    records: int
    sha256: str


class Layout(Protocol):
    """What the engine asks of a layout."""

    flows: Mapping[str, Flow]

    def file_name(self, name: Name) -> str:
        """Return how a file is called."""

    def name_of(self, file_name: str) -> Name:
        """Return what a name says; Refused when it says nothing."""

    def ended(self, tail: bytes) -> bool:
        """Say whether a file's last bytes are an end."""

    def verify(self, path: Path, name: Name, code6: str, line_bytes: int) -> Verified:
        """Read a file whole, line by line; Refused for the first thing that does not hold."""

    def records(self, path: Path) -> Iterator[Record]:
        """Yield the records of a verified file, in order."""

    def compose(self, file: BinaryIO, name: Name, count: int, records: Iterable[Record]) -> str:
        """Write a file and return the hash of its every byte: same records, same bytes."""

    def check(self, flow: Flow, record: object, where: str) -> Record:
        """Return a record that this flow can carry; Refused otherwise."""


# Controls, what marks a lost character (U+FFFD, 〓), lone surrogates, noncharacters, what cannot
# be seen, and the private area of the first plane, where each vendor means another character.
# Planes 15 and 16 are the platform's own 外字. A selector needs a character before it.
UNMAPPABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3013\ud800-\udfff\ue000-\uf8ff"
    "\ufdd0-\ufdef\ufeff\ufff9-\uffff"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(1, 17))
    + "]|^[\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
CODE_WEIGHTS = (6, 5, 4, 3, 2)
RESIDENT_WEIGHTS = (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)
TEXT_LENGTH = 300


def _check_digit(digits: str, weights: tuple[int, ...]) -> str:
    total = sum(weight * int(digit) for weight, digit in zip(weights, digits, strict=True))
    return str(11 - total % 11)[-1]


def code6_holds(text: str) -> bool:
    """Say whether the last digit of a 全国地方公共団体コード is right (JIS X 0402)."""
    return text[5] == _check_digit(text[:5], CODE_WEIGHTS)


def resident_number(ten: str) -> str:
    """Return a resident's number of the stand-in: ten digits and their check digit, modulus 11.

    The check is the stand-in's own; it stands for whatever the real layout asks for.
    """
    return ten + _check_digit(ten, RESIDENT_WEIGHTS)


PERSON = {"resident": "resident", "name": "text", "kana": "text", "address": "text"}


class StandIn:
    """A stand-in layout: UTF-8, a JSON object a line; a header, records, and an end with a hash.

    header   {"layout":"stand-in-1","municipality":"202053","flow":"…","sequence":1,"count":2}
    record   {"resident":"…","name":"…",…}: the flow's fields, all of them, text alone
    end      {"sha256":"…"}: of every byte before this line
    """

    version = "stand-in-1"
    flows: Mapping[str, Flow] = {
        flow.name: flow
        for flow in (
            Flow("address-change", "附票記載事項通知", IN, {**PERSON, "moved_on": "date"}),
            Flow(
                "transfer-in",
                "本籍転属通知(受)",
                IN,
                {**PERSON, "moved_on": "date", "honseki": "text"},
            ),
            Flow(STATEMENT, "照合用一覧", IN, {"resident": "resident", "digest": "digest"}),
            Flow("collation", "戸籍照合通知", OUT, {**PERSON, "item": "text", "recorded": "text"}),
            Flow("transfer-out", "本籍転属通知(発)", OUT, {**PERSON, "honseki": "text"}),
            Flow(
                "resident-record",
                "住民票記載事項通知",
                OUT,
                {"event": "text", "honseki": "text", "name": "text", "kana": "text"},
            ),
        )
    }
    _name = re.compile(r"([0-9]{6})-([a-z][a-z-]{1,30})-([0-9]{8})\.jsonl")
    _end = re.compile(rb'(?:\A|(?<=\n))\{"sha256": ?"([0-9a-f]{64})"\}\n\Z')
    _kinds: Mapping[str, re.Pattern[str]] = {
        "resident": re.compile("[0-9]{11}"),
        "date": re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}"),
        "digest": re.compile("[0-9a-f]{64}"),
    }

    def file_name(self, name: Name) -> str:
        """Return how a file is called: municipality, flow, number."""
        return f"{name.code6}-{name.flow}-{name.sequence:08d}.jsonl"

    def name_of(self, file_name: str) -> Name:
        """Return what a name says; Refused when it says nothing."""
        found = self._name.fullmatch(file_name)
        if found is None or found[2] not in self.flows or int(found[3]) < 1:
            raise Refused("name", "no name of this layout")
        return Name(found[1], found[2], int(found[3]))

    def ended(self, tail: bytes) -> bool:
        """Say whether a file's last bytes are an end."""
        return self._end.search(tail) is not None

    def verify(self, path: Path, name: Name, code6: str, line_bytes: int) -> Verified:
        """Read a file once, line by line; Refused for the first thing that does not hold.

        A file that was cut off or altered on its way is said to be that, whatever else it holds.
        """
        digest, last, count = hashlib.sha256(), b"", -1
        problem: Refused | None = None
        with path.open("rb") as file:
            while line := file.readline(line_bytes + 1):
                if len(line) > line_bytes:
                    raise Refused("oversize", f"line {count + 3} is longer than {line_bytes} bytes")
                if last:
                    digest.update(last)
                    count += 1
                    problem = problem or self._problem(last, count, name, code6)
                last = line
        end = self._end.search(last)
        if end is None or end.start():
            raise Refused("incomplete", "there is no end: the upload was cut off")
        if end[1].decode() != digest.hexdigest():
            raise Refused("hash", "the end names another hash than that of the file")
        if problem is not None:
            raise problem
        if count < 0:
            raise Refused("malformed", "there is no header")
        digest.update(last)
        announced = self._announced_count(path)
        if announced != count:
            raise Refused("count", f"the header says {announced} records, there are {count}")
        return Verified(count, digest.hexdigest())

    def records(self, path: Path) -> Iterator[Record]:
        """Yield the records of a verified file, in order."""
        with path.open("rb") as file:
            file.readline()
            before = file.readline()
            for line in file:
                yield json.loads(before)
                before = line

    def compose(self, file: BinaryIO, name: Name, count: int, records: Iterable[Record]) -> str:
        """Write a file and return the hash of its every byte: same records, same bytes."""
        digest, fields = hashlib.sha256(), self.flows[name.flow].fields
        header = {
            "layout": self.version,
            "municipality": name.code6,
            "flow": name.flow,
            "sequence": name.sequence,
            "count": count,
        }

        def write(row: Mapping[str, object]) -> None:
            line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            file.write(line)
            digest.update(line)

        write(header)
        for record in records:
            write({field: record[field] for field in fields})
        write({"sha256": digest.hexdigest()})
        return digest.hexdigest()

    def check(self, flow: Flow, record: object, where: str) -> Record:
        """Return a record that this flow can carry; Refused otherwise."""
        if not isinstance(record, dict) or set(record) != set(flow.fields):
            raise Refused("malformed", f"{where} has not the fields of {flow.name}")
        for field, kind in flow.fields.items():
            value = record[field]
            if not isinstance(value, str):
                raise Refused("malformed", f"{where}, {field}: no text")
            if UNMAPPABLE.search(value):
                raise Refused("character", f"{where}, {field}")
            if not self._is_of(kind, value):
                raise Refused("malformed", f"{where}, {field}: no {kind}")
            if kind == "resident" and resident_number(value[:10]) != value:
                raise Refused("check-digit", f"{where}, {field}")
        return record

    def _is_of(self, kind: str, value: str) -> bool:
        if kind == "text":
            return 0 < len(value) <= TEXT_LENGTH
        if not self._kinds[kind].fullmatch(value):
            return False
        if kind == "date":
            try:
                date.fromisoformat(value)
            except ValueError:
                return False
        return True

    def _problem(self, line: bytes, number: int, name: Name, code6: str) -> Refused | None:
        """Return what ails a line: 0 is the header, the others are records."""
        try:
            row = _parsed(line, number)
            if number:
                self.check(self.flows[name.flow], row, f"record {number}")
            else:
                self._check_header(row, name, code6)
        except Refused as refused:
            return refused
        return None

    def _check_header(self, row: Mapping[str, object], name: Name, code6: str) -> None:
        if set(row) != {"layout", "municipality", "flow", "sequence", "count"}:
            raise Refused("malformed", "the header has not the layout's fields")
        if row["layout"] != self.version:
            raise Refused("malformed", f"the header names another layout than {self.version}")
        municipality = row["municipality"]
        if not isinstance(municipality, str) or not re.fullmatch("[0-9]{6}", municipality):
            raise Refused("malformed", "the header's municipality is no code")
        if not code6_holds(municipality):
            raise Refused("check-digit", "the header's municipality")
        if {municipality, name.code6} != {code6}:
            raise Refused("wrong-municipality", f"this is the exchange of {code6}")
        # Of JSON's values 1, 1.0 and true are equal.
        if type(row["sequence"]) is not int:
            raise Refused("malformed", "the header's sequence is no number")
        if (row["flow"], row["sequence"]) != (name.flow, name.sequence):
            raise Refused("name", "name and header differ")
        count = row["count"]
        if type(count) is not int or count < 0:
            raise Refused("malformed", "the header's count is no number")

    def _announced_count(self, path: Path) -> int:
        with path.open("rb") as file:
            return int(json.loads(file.readline())["count"])


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a field stands twice")
    return row


def _parsed(line: bytes, number: int) -> dict[str, object]:
    where = f"record {number}" if number else "the header"
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("encoding", f"{where} is not UTF-8") from None
    try:
        row = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise Refused("malformed", f"{where} is no JSON") from None
    if not isinstance(row, dict):
        raise Refused("malformed", f"{where} is no object")
    return row
