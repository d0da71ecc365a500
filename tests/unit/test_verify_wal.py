"""Gaps in the archived log are found, across changes of leader too."""

from __future__ import annotations

import itertools

import pytest

from koseki_ops.verify.wal import Segment, findable, gaps

# PostgreSQL's log: bytes of a page, and of the header of each (XLogShortPHD) and of a segment's
# first (XLogLongPHD).
PAGE, HEADER, FIRST = 8192, 24, 40


def segments(*names: tuple[int, int]) -> list[Segment]:
    """Return segments from pairs of timeline and number."""
    return [Segment(*name) for name in names]


def test_a_name_is_read_by_its_parts() -> None:
    """The last part counts to 256 with segments of 16 MiB, then the middle one goes up."""
    assert Segment.of("000000020000000100000003", 256) == Segment(2, 259)


@pytest.mark.parametrize(
    "known",
    [
        segments((1, 5)),
        segments((1, 7), (1, 5), (1, 6)),
        # The new leader goes on in the segment in which the old one was left, or in the next.
        segments((1, 5), (1, 6), (2, 6), (2, 7)),
        segments((1, 5), (1, 6), (2, 7)),
        # The old leader archived a little more than the new one had received.
        segments((1, 5), (1, 6), (1, 7), (2, 6), (2, 7)),
        # What lies before the first segment of interest may have expired.
        segments((1, 2), (1, 5), (1, 6)),
    ],
)
def test_an_unbroken_log_has_no_gap(known: list[Segment]) -> None:
    """An unbroken log has no gap."""
    assert gaps(known, Segment(1, 5)) == []


@pytest.mark.parametrize(
    "known",
    [
        [],
        segments((1, 6), (1, 7)),
        segments((1, 5), (1, 7)),
        segments((1, 5), (1, 6), (2, 8)),
        segments((1, 5), (2, 6), (2, 8)),
    ],
)
def test_an_interrupted_log_has_one(known: list[Segment]) -> None:
    """An interrupted log has one, and an empty archive is no whole one."""
    assert len(gaps(known, Segment(1, 5))) == 1


def paged(content: bytes, place: int) -> bytes:
    """Return a segment with a text in it whose first byte is the `place`th of its first page."""
    stream = bytes(place - FIRST) + content + bytes(2 * PAGE)
    first, rest = stream[: PAGE - FIRST], stream[PAGE - FIRST :]
    pages = itertools.batched(rest, PAGE - HEADER)
    return b"\xd1" * FIRST + first + b"".join(b"\xd1" * HEADER + bytes(page) for page in pages)


def test_no_page_of_the_log_hides_what_is_looked_for() -> None:
    """Wherever its row lies, it is whole at least once; written once, in some places it is not.

    All of a page's places are tried, so the chance to miss it is none.
    """
    wanted = ["canary-0123456789abcdef01234567", "葛\U000e0102𠮷﨑\ufa2a\U0010de92〜～−－髙"]
    written, once = findable(*wanted).encode(), " ".join(wanted).encode()
    hidden = 0
    # A page and what follows it: the row's first byte is never within a header.
    for place in range(FIRST, PAGE + HEADER):
        assert all(text.encode() in paged(written, place) for text in wanted), place
        hidden += any(text.encode() not in paged(once, place) for text in wanted)
    assert hidden
