"""What a host says, made fit for mail, XML, JSON and HTML; moments as the city writes them."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

# Control characters and lone surrogates break XML, JSON and terminals; of the format characters
# these turn the direction of what follows. Variation selectors and the private planes stay: names
# of people are written with them.
TURNS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Code points that XML forbids though they are no controls.
NO_CHARACTERS = frozenset({0xFFFE, 0xFFFF})


def printable(text: str) -> str:
    """Return text with everything that is no character for a reader as U+FFFD; lines stay."""
    return "".join(
        "\ufffd"
        if (unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\t")
        or c in TURNS
        or ord(c) & 0xFFFF in NO_CHARACTERS
        else c
        for c in text.replace("\r\n", "\n")
    )


def one_line(text: str) -> str:
    """Return text on one line."""
    return " ".join(printable(text).split())


def in_zone(at: float, timezone: str) -> str:
    """Return a moment (seconds since the epoch) on the wall clock of a time zone, to the minute."""
    return f"{datetime.fromtimestamp(at, ZoneInfo(timezone)):%Y-%m-%d %H:%M}"


def rfc3339(at: float) -> str:
    """Return a moment in UTC as RFC 3339 writes it, to the second."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
