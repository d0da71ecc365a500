"""Inputs that are nearly right: what a reader takes, changed in a few places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# What readers stumble over: other types, ends of text, numbers without an end, steering characters.
TOKENS: Sequence[bytes] = (
    b"", b"\0", b"\xff\xfe", b"\n", b"\r\n", b"\t", b" ", b"'", b'"', b"\\", b"{", b"}", b"[", b"]",
    b"[" * 200, b'{"a":' * 100, b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"9" * 5000,
    b"-1", b"0", b"1.5", b"99999999999999999999.0", b'"\\ud800"', b'"x"', b"{}", b"[]",
    b"\x1b[31m", "\u202e".encode(), "\u200b".encode(), "\u2028".encode(), "葛󠄂".encode(),
    b"../", b"/", b"@0123", b"@0123 begin host\n", b"@0123 whole\n", b"!!python/object:os.system",
    b"*h", b"&h", b"<<: *h", b": ", b"- ", b"---", b"2026-99-99", b"0000-00-00", b"0x", b"0b",
)  # fmt: skip


@dataclass(frozen=True)
class Edit:
    """One change. place: where, as a share of the whole (0 to 1); length: what goes; new: comes."""

    place: float
    length: int
    new: bytes


def edited(seed: bytes, edits: Sequence[Edit]) -> bytes:
    """Return a seed after its edits."""
    for edit in edits:
        place = int(edit.place * len(seed))
        seed = seed[:place] + edit.new + seed[place + edit.length :]
    return seed
