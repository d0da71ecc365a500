"""Dates in the Japanese eras, as books and documents write them.

An era begins on the day that its cabinet order names, and its first year is 元年. Before 1873 the
calendar itself was another one; such days are refused. Source: 元号を改める政令 of 1989 and 2019,
and the imperial edicts of 1912 and 1926.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _

# The newest first: name, first day.
ERAS = (
    ("令和", date(2019, 5, 1)),
    ("平成", date(1989, 1, 8)),
    ("昭和", date(1926, 12, 25)),
    ("大正", date(1912, 7, 30)),
    ("明治", date(1868, 1, 25)),
)
# Japan counts by the Gregorian calendar from this day on.
FIRST_DAY = date(1873, 1, 1)
WRITTEN = re.compile(
    r"(?P<era>令和|平成|昭和|大正|明治)(?P<year>元|\d{1,2})年(?P<month>\d{1,2})月(?P<day>\d{1,2})日"
)


def in_era(day: date) -> str:
    """Return a day in its era, as 令和元年5月1日."""
    return f"{year_in_era(day)}{day.month}月{day.day}日"


def year_in_era(day: date) -> str:
    """Return the era's year that a day is in, as 平成31年."""
    # A moment is a date as well, and the two cannot be compared.
    day = date(day.year, day.month, day.day)
    if day < FIRST_DAY:
        raise KosekiError(
            _("a day before the Gregorian calendar"),
            str(day),
            _("give a day from `{first_day}` on").format(first_day=FIRST_DAY),
        )
    for name, first in ERAS:
        if day >= first:
            year = day.year - first.year + 1
            return f"{name}{'元' if year == 1 else year}年"
    raise AssertionError(day)


def day_of(written: str) -> date:
    """Return the day that is written in an era; full-width digits are digits.

    Raises KosekiError for what is no day of that era: 平成31年5月1日 was in 令和.
    """
    match = WRITTEN.fullmatch(unicodedata.normalize("NFKC", written).replace(" ", ""))
    wrong = KosekiError(
        _("this is not a day in an era"), written, _("write it as `令和元年5月1日`")
    )
    if match is None:
        raise wrong
    first = next(began for name, began in ERAS if name == match["era"])
    year = 1 if match["year"] == "元" else int(match["year"])
    try:
        day = date(first.year + year - 1, int(match["month"]), int(match["day"]))
    except ValueError as error:
        raise wrong from error
    if year < 1 or day < FIRST_DAY or not in_era(day).startswith(match["era"]):
        raise wrong
    return day
