"""The persons who have accounts, and what holds for accounts and for requests."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from koseki_ops.core.language import _
from koseki_ops.plan.model.values import IsoDate, Positive, Table


class Operator(Table):
    """One person's account."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{2,15}$")]
    """The account's name; never given to somebody else."""
    name: str
    """The person, or in samples the part."""
    department: str
    """Where the person works."""
    status: Literal["active", "ended"]
    """`ended` locks the account and keeps it."""
    valid_from: IsoDate
    """First day of the account."""
    valid_until: IsoDate
    """Last day of the account; `koseki check` names one that is over and still `active`."""
    sudo: bool
    """Whether the person may become root, with a password of their own."""
    hosts: Annotated[list[str], Field(min_length=1)]
    """Groups on whose hosts the account is."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.valid_from > self.valid_until:
            raise ValueError(_("valid_from is after valid_until; correct the dates"))
        return self

    def covers(self, day: date) -> bool:
        """Say whether a day is one of the account's, whatever became of it since."""
        return self.valid_from <= day <= self.valid_until

    def is_over(self, day: date) -> bool:
        """Say whether its last day was before a day."""
        return self.valid_until < day

    def is_valid(self, day: date) -> bool:
        """Say whether the person may work on a day."""
        return self.status == "active" and self.covers(day)


class AccountPolicy(Table):
    """Passwords, lockout and idle time."""

    password_min_length: Annotated[int, Field(ge=8)]
    """Fewest characters of a password."""
    password_min_classes: Annotated[int, Field(ge=1, le=4)]
    """Fewest kinds of characters (lower, upper, digit, other)."""
    password_max_days: Positive
    """After how many days a password must be changed."""
    lockout_attempts: Positive
    """Wrong passwords until an account is locked."""
    lockout_seconds: Positive
    """For how long it is locked."""
    console_idle_seconds: Positive
    """After how long an idle shell is ended."""


class RequestPolicy(Table):
    """What a request for a session on a municipality's database may ask for."""

    longest_hours: Annotated[int, Field(gt=0, le=720)]
    """Longest time between opening and expiry, in hours."""
