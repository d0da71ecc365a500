"""What follows from the days on which an office is open, wherever these are known from.

Who has the toolkit knows them by the rule and its package of holidays (`business_days`); a host is
told a list of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from koseki_ops.calendar.months import Month
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _

DAY = timedelta(days=1)

Direction = Literal["next", "previous"]


class OpenDays(ABC):
    """A calendar of open days. time_zone: whose clock its days and deadlines are."""

    time_zone: str

    @abstractmethod
    def is_open(self, day: date) -> bool:
        """Say whether the office is open on a day. KosekiError for a day that is not known."""

    def moved(self, day: date, direction: Direction) -> date:
        """Return the day itself when the office is open, or the nearest open one that way."""
        step = DAY if direction == "next" else -DAY
        while not self.is_open(day):
            day += step
        return day

    def after(self, day: date, count: int = 1) -> date:
        """Return the business day that is so many of them after a day; before it, when negative."""
        step = DAY if count > 0 else -DAY
        direction: Direction = "next" if count > 0 else "previous"
        for _ignored in range(abs(count)):
            day = self.moved(day + step, direction)
        return day

    def business_days(self, first: date, last: date) -> Iterator[date]:
        """Yield the open days from a first to a last one, both in it."""
        for number in range((last - first).days + 1):
            day = first + timedelta(days=number)
            if self.is_open(day):
                yield day

    def nth(self, year: int, month: int, count: int) -> date:
        """Return the n-th business day of a month. KosekiError when it has fewer."""
        wanted = Month(year, month)
        days = list(self.business_days(wanted.first_day, wanted.last_day))
        if not 1 <= count <= len(days):
            raise KosekiError(
                _("{wanted} has {count} business days").format(wanted=wanted, count=len(days)),
                str(count),
                _("give a number from 1 to {count} (`count`)").format(count=len(days)),
            )
        return days[count - 1]

    def due(self, day: date, clock: time) -> datetime:
        """Return the moment of a deadline: that clock time of the day, in the office's time zone.

        Something is late from the first second after it.
        """
        return datetime.combine(day, clock, ZoneInfo(self.time_zone))
