"""What is typed at `koseki costs`, read strictly: nothing that two readers read as two."""

from __future__ import annotations

import re
from datetime import date
from typing import overload

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _

DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
YEAR = re.compile(r"[0-9]{4}")
# As many digits as the largest amount has.
WHOLE = re.compile(r"[1-9][0-9]{0,15}")


@overload
def day_of(given: str) -> date: ...
@overload
def day_of(given: str | None) -> date | None: ...
def day_of(given: str | None) -> date | None:
    """Return the day that is written, None for nothing; KosekiError for what is no day."""
    if given is None:
        return None
    try:
        if DAY.fullmatch(given):
            return date.fromisoformat(given)
    except ValueError as error:
        raise _no_day(given) from error
    raise _no_day(given)


def _no_day(given: str) -> KosekiError:
    return KosekiError(_("not a date"), given, _("write it as `2016-03-31`"))


@overload
def year_of(given: str) -> int: ...
@overload
def year_of(given: str | None) -> int | None: ...
def year_of(given: str | None) -> int | None:
    """Return the fiscal year that is written, None for nothing; KosekiError for what is none."""
    if given is None:
        return None
    if YEAR.fullmatch(given):
        return int(given)
    raise KosekiError(
        _("not a fiscal year"), given, _("write the year in which it began, as `2016`")
    )


def whole_of(given: str) -> int:
    """Return the whole number that is written, more than nothing; KosekiError for what is none."""
    if WHOLE.fullmatch(given):
        return int(given)
    raise KosekiError(_("not a whole number in plain digits"), given, _("write it as `1234567`"))
