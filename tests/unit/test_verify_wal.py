"""Gaps in the archived log are found, across changes of leader too."""

from __future__ import annotations

import pytest

from koseki_ops.verify.wal import Segment, gaps


def segments(*names: tuple[int, int]) -> list[Segment]:
    """Return segments from pairs of timeline and number."""
    return [Segment(*name) for name in names]


def test_a_name_is_read_by_its_parts():
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
def test_an_unbroken_log_has_no_gap(known: list[Segment]):
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
def test_an_interrupted_log_has_one(known: list[Segment]):
    """An interrupted log has one, and an empty archive is no whole one."""
    assert len(gaps(known, Segment(1, 5))) == 1
