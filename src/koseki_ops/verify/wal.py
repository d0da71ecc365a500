"""The log of a database cluster as a sequence of segments, and where it is interrupted."""

from __future__ import annotations

import itertools
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Segment:
    """One segment of the log: its timeline and its number."""

    timeline: int
    number: int

    @classmethod
    def of(cls, name: str, per_file: int) -> Segment:
        """Read a segment's name; per_file: segments in 4 GiB."""
        parts = [int(name[start : start + 8], 16) for start in (0, 8, 16)]
        return cls(parts[0], parts[1] * per_file + parts[2])


def findable(*texts: str) -> str:
    """Return a row's text in which each of these is whole in the raw log, wherever the row lies.

    Where a page of the log ends, the next one's header stands between two bytes of whatever is
    there. Within some hundred bytes that happens once at most: it parts one of two copies.
    """
    return " ".join(texts * 2)


def gaps(segments: list[Segment], first: Segment) -> list[str]:
    """Return where the log is interrupted, from `first` on.

    Within a timeline numbers follow one another; a later timeline begins where an earlier one,
    which ended, was left: at its last segment or the next.
    """
    known = sorted({segment for segment in segments if segment >= first})
    if first not in known:
        return [f"{first} is not there"]
    missing = []
    for before, after in itertools.pairwise(known):
        fits = (
            after.number == before.number + 1
            if before.timeline == after.timeline
            else after.number <= before.number + 1
        )
        if not fits:
            missing.append(f"between {before} and {after}")
    return missing
