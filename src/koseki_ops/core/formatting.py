"""What a host says, made fit for mail, XML, JSON and HTML; moments as the city writes them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

# What is no character for a reader: controls and lone surrogates break XML, JSON and terminals;
# format characters turn the direction of what follows or cannot be seen; the separators of lines
# and paragraphs end a line for some readers and for others not; noncharacters mean nothing.
# Variation selectors and the private planes stay: names of people are written with them.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufdd0-\ufdef\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e007f"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
    + "]"
)
LOST = "\ufffd"
# As much of what somebody else said is shown in a sentence.
SHOWN_LENGTH = 2000


def printable(text: str) -> str:
    """Return text with everything that is no character for a reader as U+FFFD; lines stay."""
    if text.isascii() and text.isprintable():
        return text
    return UNSEEN.sub(LOST, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Return text on one line."""
    return " ".join(printable(text).split())


def unbroken(text: str) -> str:
    """Return text without an end of a line, its spaces as they are."""
    return printable(text).replace("\n", " ").replace("\t", " ").strip()


def in_short(text: str, length: int = SHOWN_LENGTH) -> str:
    """Return text without an end of a line, and no more of it than a sentence takes."""
    # What is far beyond it is not even looked at: a host may have sent megabytes.
    line = unbroken(text[: 4 * length])
    return line if len(line) <= length else f"{line[: length - 1]}…"


def json_line(value: object) -> str:
    """Return a value as JSON on one line; what is no character for a reader is escaped there."""
    text = json.dumps(value, ensure_ascii=False)
    return UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def in_zone(at: float, timezone: str) -> str:
    """Return a moment (seconds since the epoch) on the wall clock of a time zone, to the minute."""
    return f"{datetime.fromtimestamp(at, ZoneInfo(timezone)):%Y-%m-%d %H:%M}"


def rfc3339(at: float) -> str:
    """Return a moment in UTC as RFC 3339 writes it, to the second."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
