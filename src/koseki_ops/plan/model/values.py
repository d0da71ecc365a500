"""The forms of values that several tables of the plan share."""

from __future__ import annotations

import re
from datetime import date, datetime, time
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from koseki_ops.core.language import _


def _iso_date(value: object) -> date:
    if isinstance(value, date):
        return value
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError as error:
            raise ValueError(_('a date is written "YYYY-MM-DD"')) from error
    raise ValueError(_('a date is written "YYYY-MM-DD"'))


def _clock_time(value: object) -> time:
    """Take a time of the day in quotes; YAML makes a number of one without."""
    if not isinstance(value, str) or not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        raise ValueError(_('a time is written in quotes, as "17:15"'))
    return time.fromisoformat(value)


def _network(value: object) -> IPv4Network:
    try:
        return IPv4Network(str(value))
    except ValueError as error:
        raise ValueError(
            _("{error}; write a network as 10.20.101.0/24").format(error=error)
        ) from error


def _address(value: object) -> IPv4Address:
    try:
        return IPv4Address(str(value))
    except ValueError as error:
        raise ValueError(_("write an IPv4 address as 10.20.10.11")) from error


def _utc(value: object) -> datetime:
    # Only quoted text: YAML's own timestamps lose their zone, and JSON knows none.
    if isinstance(value, datetime):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value):
        try:
            return datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(_("{error}; correct the moment").format(error=error)) from error
    raise ValueError(_('a moment is written in UTC and in quotes, as "2026-11-30T15:00:00Z"'))


def _slug(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9]{1,15}", value):
        raise ValueError(_("a slug has 2 to 16 of a-z and 0-9, starting with a letter"))
    return value


IsoDate = Annotated[date, BeforeValidator(_iso_date)]
ClockTime = Annotated[time, BeforeValidator(_clock_time)]
Moment = Annotated[datetime, BeforeValidator(_utc)]
Network = Annotated[IPv4Network, BeforeValidator(_network)]
Address = Annotated[IPv4Address, BeforeValidator(_address)]
Slug = Annotated[str, AfterValidator(_slug)]
Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(gt=0)]
DocumentText = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f'\\]{1,200}$")]


class Table(BaseModel):
    """A row or table of the plan: immutable, no unknown keys, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
