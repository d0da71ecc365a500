"""Which day it is for the platform's people, wherever this runs."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

TODAY = "today"


def today_in(timezone: str) -> date:
    """Return the day it is there now, wherever this runs: a day begins for all at one moment."""
    return datetime.now(ZoneInfo(timezone)).date()


def effective_day(effective_date: str, timezone: str) -> date:
    """Return the day that `effective_date` means: an ISO date, or `today` in the time zone."""
    return today_in(timezone) if effective_date == TODAY else date.fromisoformat(effective_date)
