"""An office is open on the days on which it is; dates move the way that was agreed."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import holidays
import jpholiday
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koseki_ops.calendar.business_days import (
    FIRST_YEAR,
    LAST_YEAR,
    Office,
    closed_by_rule,
    written_out,
)
from koseki_ops.core.errors import KosekiError

OFFICE = Office()
DAYS = st.dates(date(FIRST_YEAR, 2, 1), date(LAST_YEAR, 11, 30))


@pytest.mark.uncounted
def test_two_packages_know_the_same_holidays() -> None:
    """Every year that is asked for."""
    other = holidays.country_holidays("JP", years=range(FIRST_YEAR, LAST_YEAR + 1))
    day, ours = date(FIRST_YEAR, 1, 1), set()
    while day.year <= LAST_YEAR:
        ours |= {day} if jpholiday.is_holiday(day) else set()
        day += timedelta(days=1)
    assert ours == set(other)


@pytest.mark.parametrize(
    ("day", "open_"),
    [
        (date(2015, 11, 1), False),  # the platform's first day was a Sunday
        (date(2015, 11, 2), True),
        (date(2015, 11, 3), False),  # 文化の日
        (date(2026, 12, 28), True),
        (date(2026, 12, 29), False),
        (date(2027, 1, 4), True),
        (date(2019, 5, 1), False),  # the day of the accession
        (date(2019, 4, 30), False),  # between two holidays
        (date(2020, 7, 24), False),  # moved by law for the games
        (date(2026, 5, 6), False),  # in the place of a Sunday's
        (date(2026, 11, 30), True),
    ],
)
def test_days_of_the_real_calendar(day: date, open_: bool) -> None:
    """Holidays in lieu, between two, of one year alone, and the days around New Year."""
    assert OFFICE.is_open(day) is open_


@given(DAYS)
def test_a_date_moves_to_the_nearest_open_day_of_its_way(day: date) -> None:
    """Nothing open lies between; an open day stays where it is."""
    later, earlier = OFFICE.moved(day, "next"), OFFICE.moved(day, "previous")
    assert OFFICE.is_open(later)
    assert OFFICE.is_open(earlier)
    assert earlier <= day <= later
    assert not list(OFFICE.business_days(earlier + timedelta(1), later - timedelta(1))) or (
        earlier == day == later
    )


@given(DAYS, st.integers(1, 15))
def test_business_days_are_counted_both_ways(day: date, count: int) -> None:
    """So many open days lie after the day, up to the one that is returned."""
    after = OFFICE.after(day, count) if day < date(LAST_YEAR, 11, 1) else day
    if after != day:
        assert len(list(OFFICE.business_days(day + timedelta(1), after))) == count
        assert OFFICE.after(after, -count) == OFFICE.moved(day, "previous") or OFFICE.is_open(day)


def test_a_municipality_opens_for_itself_alone() -> None:
    """An extra opening day, a closed day of its own, and not both."""
    sunday, monday = date(2026, 11, 29), date(2026, 11, 30)
    own = Office(opens=[sunday], closes=[monday])
    assert own.is_open(sunday)
    assert not OFFICE.is_open(sunday)
    assert not own.is_open(monday)
    with pytest.raises(KosekiError, match="2026-11-29"):
        Office(opens=[sunday], closes=[sunday])


def test_the_nth_business_day() -> None:
    """The fifth of January 2027 is the 8th; a month has no thirtieth."""
    assert OFFICE.nth(2027, 1, 5) == date(2027, 1, 8)
    assert OFFICE.nth(2026, 12, 1) == date(2026, 12, 1)
    for count in (0, 30):
        with pytest.raises(KosekiError, match="business days"):
            OFFICE.nth(2026, 12, count)


def test_a_deadline_is_a_moment_of_the_offices_clock() -> None:
    """Nine in the morning in Tokyo, wherever this runs."""
    due = OFFICE.due(date(2026, 11, 30), time(9))
    assert due == datetime(2026, 11, 30, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize("year", [FIRST_YEAR - 1, LAST_YEAR + 1, 2200])
def test_a_year_that_was_not_published_is_not_known(year: int) -> None:
    """It is no ordinary day either."""
    with pytest.raises(KosekiError, match="not known"):
        closed_by_rule(date(year, 6, 1))


def test_written_out_it_is_the_same_calendar() -> None:
    """A host has the list alone: every day of it is what the rule says."""
    plain = written_out(2024)
    first, last = (date.fromisoformat(str(plain[name])) for name in ("first", "last"))
    closed = plain["closed"]
    assert isinstance(closed, list)
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        assert closed_by_rule(day) == (day.weekday() >= 5 or str(day) in closed)
    assert (str(first), last.year) == ("2024-01-01", LAST_YEAR)
