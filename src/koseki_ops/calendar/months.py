"""Months and fiscal years, and how many months of them a municipality took part in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

MONTHS = 12
# A municipality's fiscal year begins on the first day of April.
FIRST_MONTH = 4
# A day of every year, as 11-05.
MONTH_DAY = re.compile(r"(?P<month>[0-9]{2})-(?P<day>[0-9]{2})")


@dataclass(frozen=True, order=True)
class Month:
    """A month of a year."""

    year: int
    month: int

    @classmethod
    def of(cls, day: date) -> Month:
        """Return the month that a day is in."""
        return cls(day.year, day.month)

    @property
    def first_day(self) -> date:
        """The first day of the month."""
        return date(self.year, self.month, 1)

    @property
    def next(self) -> Month:
        """The month after it."""
        return Month(self.year + self.month // MONTHS, self.month % MONTHS + 1)

    @property
    def last_day(self) -> date:
        """The last day of the month."""
        return self.next.first_day - timedelta(days=1)

    @property
    def fiscal_year(self) -> int:
        """The calendar year in which this month's fiscal year began."""
        return self.year - (self.month < FIRST_MONTH)

    def __str__(self) -> str:
        """Write it as 2015-11."""
        return f"{self.year}-{self.month:02}"


def months(first: date, last: date) -> Iterator[Month]:
    """Yield every month that a span of days touches, both days in it."""
    month = Month.of(first)
    while month.first_day <= last:
        yield month
        month = month.next


def fiscal_years(first: date, last: date) -> list[int]:
    """Return the fiscal years that a span of days touches."""
    return sorted({month.fiscal_year for month in months(first, last)})


def day_in(fiscal_year: int, written: str) -> date:
    """Return a day of every year (`MM-DD`) in a fiscal year; ValueError where it has none."""
    month, day = map(int, written.split("-"))
    return date(fiscal_year + (month < FIRST_MONTH), month, day)
