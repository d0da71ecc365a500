"""Every date from 1873 on is written in its era, and read back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koseki_ops.calendar.eras import ERAS, FIRST_DAY, day_of, in_era
from koseki_ops.core.errors import KosekiError


@pytest.mark.parametrize(
    ("day", "written"),
    [
        (date(2026, 11, 29), "令和8年11月29日"),
        (date(2019, 5, 1), "令和元年5月1日"),
        (date(2019, 4, 30), "平成31年4月30日"),
        (date(2015, 11, 1), "平成27年11月1日"),
        (date(1989, 1, 8), "平成元年1月8日"),
        (date(1989, 1, 7), "昭和64年1月7日"),
        (date(1926, 12, 25), "昭和元年12月25日"),
        (date(1926, 12, 24), "大正15年12月24日"),
        (date(1912, 7, 30), "大正元年7月30日"),
        (date(1912, 7, 29), "明治45年7月29日"),
        (date(1873, 1, 1), "明治6年1月1日"),
    ],
)
def test_the_borders(day: date, written: str) -> None:
    """The last day of each era and the first of the next."""
    assert in_era(day) == written
    assert day_of(written) == day


@given(st.dates(FIRST_DAY, date(2117, 12, 31)))
def test_what_is_written_is_read_back(day: date) -> None:
    """Any day."""
    assert day_of(in_era(day)) == day


def test_a_moment_is_a_day_too() -> None:
    """Reports have the moment at hand."""
    assert in_era(datetime(2026, 11, 23, 12, tzinfo=UTC)) == "令和8年11月23日"


def test_eras_follow_one_another() -> None:
    """The newest first, each before the one above."""
    begins = [first for _, first in ERAS]
    assert begins == sorted(begins, reverse=True)


@pytest.mark.parametrize(
    "written",
    [
        *("平成31年5月1日", "昭和64年1月8日", "令和元年4月30日", "大正15年12月25日"),
        *("令和0年1月1日", "平成27年2月29日", "令和8年13月1日", "明治5年1月1日", "H27.11.1", ""),
        *("2015-11-01", "平成 年11月1日", "平成27年11月1日土"),
    ],
)
def test_what_is_no_day_of_an_era_is_refused(written: str) -> None:
    """A day of the next era, one that the month does not have, another form."""
    with pytest.raises(KosekiError, match="令和元年5月1日"):
        day_of(written)


def test_full_width_digits_are_digits() -> None:
    """As they come from forms."""
    assert day_of("平成２７年 １１月１日") == date(2015, 11, 1)


def test_before_the_calendar() -> None:
    """明治5年 had another calendar."""
    with pytest.raises(KosekiError, match="Gregorian"):
        in_era(FIRST_DAY - timedelta(1))
