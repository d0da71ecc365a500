"""On which days an office is open, and which day a date moves to when it is not.

Closed are Saturdays, Sundays, national holidays and the days from 29 December to 3 January
(地方自治法4条の2). Holidays come from a maintained package; those of a year are published in
February of the year before: of later years nothing is known yet, and whoever asks is told so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta

import jpholiday

from koseki_ops.calendar.open_days import OpenDays
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _

FIRST_YEAR = 1989
# The last year whose holidays were published when the package was released.
LAST_YEAR = 2027
SATURDAY = 5
# Month and day of the first and the last closed day around New Year.
NEW_YEAR = ((12, 29), (1, 3))


class NotPublishedError(KosekiError):
    """A day of a year whose holidays nobody knows yet."""


@dataclass(frozen=True)
class Office(OpenDays):
    """An office's calendar.

    opens, closes: days on which it is open or closed beside the rule, as a municipality decides for
    itself alone; time_zone: whose clock its days and deadlines are.
    """

    opens: Collection[date] = ()
    closes: Collection[date] = ()
    time_zone: str = "Asia/Tokyo"

    def __post_init__(self) -> None:
        """Refuse a day that is said to be both."""
        both = sorted(set(self.opens) & set(self.closes))
        if both:
            raise KosekiError(
                _("a day is both in `opens` and in `closes`"),
                str(both[0]),
                _("keep it in one of them: `opens` or `closes`"),
            )

    def is_open(self, day: date) -> bool:
        """Say whether the office is open on a day. KosekiError for a year that is not known."""
        if day in self.opens:
            return True
        return day not in self.closes and not closed_by_rule(day)


def closed_by_rule(day: date) -> bool:
    """Say whether every office is closed on a day. KosekiError for a year that is not known."""
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        kind = NotPublishedError if day.year > LAST_YEAR else KosekiError
        raise kind(
            _("the holidays of {year} are not known").format(year=day.year),
            _("known are {first_year} to {last_year}").format(
                first_year=FIRST_YEAR, last_year=LAST_YEAR
            ),
            _("update the package jpholiday when they are published, and LAST_YEAR with it"),
        )
    begins, ends = NEW_YEAR
    around_new_year = (day.month, day.day) >= begins or (day.month, day.day) <= ends
    return day.weekday() >= SATURDAY or around_new_year or jpholiday.is_holiday(day)


def written_out(first_year: int = 2024) -> dict[str, object]:
    """Return first and last day that are known, and every weekday between them that is closed.

    first_year: since then duplicates are sent. For a host, which has no package of holidays.
    """
    first, last = date(first_year, 1, 1), date(LAST_YEAR, 12, 31)
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    closed = [str(day) for day in days if day.weekday() < SATURDAY and closed_by_rule(day)]
    return {"first": str(first), "last": str(last), "closed": closed}
