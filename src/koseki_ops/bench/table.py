"""A line of the bench's table, and the two kinds of figures that can be reached."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table: what, what it should reach, what was measured, does it."""

    what: str
    reach: str
    measured: str
    reached: bool | None = None

    def __str__(self) -> str:
        """Give the line in Markdown."""
        mark = {True: "yes", False: "**no**", None: ""}[self.reached]
        return f"| {self.what} | {self.reach} | {self.measured} | {mark} |"


def at_most(what: str, limit: float, times: list[float], unit: str = "s") -> Row:
    """Return a row whose median must not be above a limit."""
    median = statistics.median(times)
    shown = spread(times, unit) if len(times) > 1 else f"{median:.1f} {unit}"
    return Row(what, f"≤ {limit:g} {unit}", shown, median <= limit)


def at_least(what: str, limit: float, ratio: float, detail: str) -> Row:
    """Return a row whose ratio must not be below a limit."""
    return Row(what, f"≥ {limit:g}×", f"{ratio:.1f}× ({detail})", ratio >= limit)


def spread(times: list[float], unit: str = "s") -> str:
    """Return median and range of some measurements."""
    median = statistics.median(times)
    return f"{median:.1f} {unit} ({min(times):.1f}–{max(times):.1f}, n={len(times)})"
