"""The stand-in layout: what a file must be, and with what each is answered that is not."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from koseki_link.layout import Name, Refused, StandIn, code6_holds, resident_number
from koseki_ops.plan.model import check_digit
from koseki_sample.invented import SURVIVORS

LAYOUT = StandIn()
NAME = Name("202053", "address-change", 7)
LINE_BYTES = 4096


def record(number: int = 1, **fields: str) -> dict[str, str]:
    """Return an invented record."""
    return {
        "resident": resident_number(f"{number:010d}"),
        "name": "見本　一例",
        "kana": "みほん　いちれい",
        "address": "架空郡見本村1番地",
        "moved_on": "2026-04-01",
        **fields,
    }


def composed(*records: dict[str, str], name: Name = NAME, count: int | None = None) -> bytes:
    """Return a file."""
    file = io.BytesIO()
    LAYOUT.compose(file, name, len(records) if count is None else count, records)
    return file.getvalue()


def sealed(body: bytes) -> bytes:
    """Return lines with a right end."""
    return body + b'{"sha256":"%s"}\n' % hashlib.sha256(body).hexdigest().encode()


def body_of(content: bytes) -> bytes:
    """Return a file without its end."""
    return content[: content.rindex(b'{"sha256"')]


def verified(tmp_path: Path, content: bytes) -> list[dict[str, str]]:
    """Verify a file as the one whose turn it is, and return its records."""
    path = tmp_path / "file"
    path.write_bytes(content)
    held = LAYOUT.verify(path, NAME, "202053", LINE_BYTES)
    assert held.sha256 == hashlib.sha256(content).hexdigest()
    found = list(LAYOUT.records(path))
    assert held.records == len(found)
    return found


def test_what_is_composed_comes_back(tmp_path: Path) -> None:
    """Text that must survive goes through a file byte-identical (K-19)."""
    sent = [record(n, name=name, kana=kana) for n, (name, kana) in enumerate(SURVIVORS)]
    assert verified(tmp_path, composed(*sent)) == sent
    assert composed(*sent) == composed(*sent)
    for name, _ in SURVIVORS:
        assert name.encode() in composed(*sent)


def test_a_file_may_hold_no_record(tmp_path: Path) -> None:
    """A day without a change is a number all the same."""
    assert verified(tmp_path, composed()) == []


def altered(change: Callable[[bytes], bytes]) -> bytes:
    """Return a file whose lines were changed before it got its end."""
    return sealed(change(body_of(composed(record(), record(2)))))


def header(**fields: object) -> bytes:
    """Return a file of one record with other values in its header."""
    first, rest = body_of(composed(record())).split(b"\n", 1)
    return sealed(json.dumps({**json.loads(first), **fields}).encode() + b"\n" + rest)


REFUSALS = {
    "cut off": ("incomplete", composed(record())[:-20]),
    "cut off at a line": ("incomplete", body_of(composed(record()))),
    "empty": ("incomplete", b""),
    "more after the end": ("incomplete", composed(record()) + b"x"),
    "one byte changed": ("hash", composed(record()).replace("見本村".encode(), "見木村".encode())),
    "cut and altered": ("incomplete", composed(record()).replace(b"2026", b"2025")[:-9]),
    "a record too few": ("count", composed(record(), count=2)),
    "not UTF-8": ("encoding", altered(lambda body: body.replace("架空".encode(), b"\x89\xcb"))),
    "Shift_JIS": ("encoding", altered(lambda body: body.decode().encode("cp932"))),
    "not JSON": ("malformed", altered(lambda body: body.replace(b'"name"', b"name"))),
    "deep": ("malformed", altered(lambda body: body + b"[" * 3000 + b"\n")),
    "a field twice": (
        "malformed",
        altered(lambda body: body.replace(b'{"resident"', b'{"name":"x","resident"')),
    ),
    "a field too many": (
        "malformed",
        altered(lambda body: body.replace(b'{"resident"', b'{"more":"x","resident"')),
    ),
    "a number for text": ("malformed", altered(lambda b: b.replace(b'"2026-04-01"', b"20260401"))),
    "no day": ("malformed", altered(lambda body: body.replace(b"04-01", b"04-31"))),
    "another layout": ("malformed", altered(lambda body: body.replace(b"stand-in-1", b"x"))),
    "wrong check digit": ("check-digit", composed(record(resident="12345678900"))),
    "wrong municipality": (
        "wrong-municipality",
        composed(record(), name=replace(NAME, code6="204170")),
    ),
    "municipality's check digit": ("check-digit", composed(name=replace(NAME, code6="202054"))),
    "municipality's code as a number": ("malformed", header(municipality=202053)),
    "municipality's code as a list": ("malformed", header(municipality=["202053"])),
    "count that is no number": ("malformed", header(count="2")),
    "another number": ("name", composed(name=replace(NAME, sequence=8))),
    "long line": ("oversize", composed(record(name="見" * LINE_BYTES))),
    "long name": ("malformed", composed(record(name="見" * 301))),
    "a vendor's character": ("character", composed(record(name="見\ue000本"))),
    "a lost character": ("character", composed(record(name="見\ufffd本"))),
    "geta": ("character", composed(record(name="見〓本"))),
    "a control": ("character", composed(record(name="見\x00本"))),
    "half a pair": (
        "character",
        altered(lambda body: body.replace("一例".encode(), b"\\ud842")),
    ),
    "a selector alone": ("character", composed(record(name="\U000e0102葛"))),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_file_that_does_not_hold_is_refused(tmp_path: Path, kind: str) -> None:
    """Each kind with its code; the detail names a place and nothing of a person (K-17)."""
    code, content = REFUSALS[kind]
    with pytest.raises(Refused) as caught:
        verified(tmp_path, content)
    assert caught.value.code == code
    assert "見" not in caught.value.detail
    assert "1234567890" not in caught.value.detail


@pytest.mark.parametrize(
    "name",
    [
        "202053-address-change-7.jsonl",
        "202053-address-change-00000000.jsonl",
        "202053-unknown-00000007.jsonl",
        "202053-address-change-00000007.jsonl\n",
        "../202053-address-change-00000007.jsonl",
        "２０２０５３-address-change-00000007.jsonl",
    ],
)
def test_a_strange_name_says_nothing(name: str) -> None:
    """A name is exactly the layout's, or no name."""
    with pytest.raises(Refused):
        LAYOUT.name_of(name)


def test_names_go_both_ways() -> None:
    """What a name says is what it was made from."""
    assert LAYOUT.name_of(LAYOUT.file_name(NAME)) == NAME


@pytest.mark.parametrize("code5", ["20205", "20417", "20402", "20482"])
def test_the_engine_and_the_plan_agree_on_check_digits(code5: str) -> None:
    """The engine has no package but Debian's, so it knows the sum by itself: the same one."""
    right = check_digit(code5)
    assert [d for d in "0123456789" if code6_holds(code5 + d)] == [right]
