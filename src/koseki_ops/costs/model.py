"""An agreement on costs as its file says it: items, their amounts, what each would have paid alone.

Nothing is ever overwritten: an amount or an estimate that was corrected is one more row with the
day on which it became known, so that what was computed before can be computed again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from koseki_ops.calendar.months import MONTH_DAY, day_in
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.plan.inventory import LOADER, load_yaml
from koseki_ops.plan.model import Code6, IsoDate, Table
from koseki_ops.plan.pydantic_faults import fault_of

MOST_YEN = 10**15
# Neither octal nor hexadecimal, no underscores, no sixties: 0100 is not 64 here, it is refused.
INTEGER = "tag:yaml.org,2002:int"
PLAIN_DIGITS = re.compile(r"-?(?:0|[1-9][0-9]*)$")
# A fiscal year without a 29th of February.
COMMON_YEAR = 2001


def _yen(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(  # noqa: TRY004 - pydantic reports ValueError, TypeError escapes it
            _("an amount is a whole number of yen in plain digits, as 83000000")
        )
    if not 0 < value <= MOST_YEN:
        raise ValueError(
            _("an amount is more than nothing and at most {most_yen} yen").format(most_yen=MOST_YEN)
        )
    return value


def _month_day(value: str) -> str:
    try:
        if MONTH_DAY.fullmatch(value):
            day_in(COMMON_YEAR, value)
            return value
    except ValueError:
        pass
    raise ValueError(_('a day of every year is written "MM-DD"'))


Yen = Annotated[int, BeforeValidator(_yen)]
MonthDay = Annotated[str, AfterValidator(_month_day)]
Percent = Annotated[int, Field(ge=0, le=100, strict=True)]
Text = Annotated[str, Field(min_length=1)]


def _once(fault: str, keys: Iterable[object]) -> None:
    twice = [str(key) for key, count in Counter(keys).items() if count > 1]
    if twice:
        raise ValueError(fault.format(twice=", ".join(twice)))


class Amount(Table):
    """What an item costs, as it was known from a day on.

    yen: for a fee, of a whole year. source: the paper it stands in, as its number.
    """

    known_on: IsoDate
    source: Text
    yen: Yen


class Alone(Table):
    """What one municipality would have paid for a renewal of its own."""

    code6: Code6
    yen: Yen


class Estimate(Table):
    """What each would have paid alone, from a day on, as it was known from a day on."""

    valid_from: IsoDate
    known_on: IsoDate
    source: Text
    alone: Annotated[list[Alone], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        _once(
            _("a municipality stands here twice: {twice}; keep one of the rows"),
            (row.code6 for row in self.alone),
        )
        return self


class TaxRate(Table):
    """A rate of consumption tax and the first day on which it holds."""

    valid_from: IsoDate
    percent: Percent


class Term(Table):
    """A span for which the sharing was agreed; its renewal is one more. source: its paper."""

    first_day: IsoDate
    last_day: IsoDate
    source: Text

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.last_day < self.first_day:
            raise ValueError(_("last_day is before first_day; correct the dates"))
        return self

    def covers(self, first: date, last: date) -> bool:
        """Say whether a span lies within it."""
        return self.first_day <= first and last <= self.last_day


class Deadlines(Table):
    """Until when the papers of a fiscal year go out.

    planned: what it will be, before the year begins; notice: the bill, within it; final: the
    settlement, within it. moved: which way one moves that is no business day.
    """

    planned: MonthDay
    notice: MonthDay
    final: MonthDay
    moved: Literal["next", "previous"]


class Item(Table):
    """Something that is paid together.

    kind: `once`, an amount for the whole span; `fee`, an amount for each year of it. first_day,
    last_day: the span in which it is used. by_months: whether its shares go by months of use as
    well (a fee's always do). tax: whether its amounts have tax in them; when they have not, an
    amount that is paid once is taxed by the day `taxed_on`, a fee month by month. due: the day of
    each instalment as it was agreed; due_in_year: of a fee, in each fiscal year; moved: which way
    one moves that is no business day.
    """

    id: Text
    title: Text
    kind: Literal["once", "fee"]
    first_day: IsoDate
    last_day: IsoDate
    by_months: bool = True
    tax: Literal["included", "excluded"]
    taxed_on: IsoDate | None = None
    instalments: Annotated[int, Field(ge=1, le=120, strict=True)] = 1
    due: Annotated[list[IsoDate], Field(default_factory=list)]
    due_in_year: Annotated[list[MonthDay], Field(default_factory=list)]
    moved: Literal["next", "previous"] | None = None
    amounts: Annotated[list[Amount], Field(min_length=1)]

    @model_validator(mode="after")
    def _holds(self) -> Self:
        if self.last_day < self.first_day:
            raise ValueError(_("last_day is before first_day; correct the dates"))
        if self.kind == "fee" and not self.by_months:
            raise ValueError(_("a fee goes by months; remove by_months"))
        if (self.taxed_on is not None) != (self.kind == "once" and self.tax == "excluded"):
            raise ValueError(
                _("taxed_on is given for an amount that is paid once without its tax, for no other")
            )
        self._hold_due()
        _once(
            _("an amount becomes known on a day twice: {twice}; keep one of the rows"),
            (row.known_on for row in self.amounts),
        )
        return self

    def _hold_due(self) -> None:
        if self.due_in_year if self.kind == "once" else self.due:
            raise ValueError(
                _("`due` is of an amount that is paid once, `due_in_year` of a fee; give the other")
            )
        named = self.due or [day_in(COMMON_YEAR, written) for written in self.due_in_year]
        if named and len(named) != self.instalments:
            raise ValueError(
                _(
                    "due names {count} days, there are {instalments} instalments; give one for each"
                ).format(count=len(named), instalments=self.instalments)
            )
        if named != sorted(set(named)):
            raise ValueError(_("due is not in its order, or has a day twice; correct the days"))
        if bool(named) != (self.moved is not None):
            raise ValueError(
                _("due and moved go together: the agreement has to define which way a day moves")
            )


class Agreement(Table):
    """What was agreed on costs.

    host: who bears what is left below one yen. part_months: whether a month in which a
    municipality took part on some days only is `counted` or `left_out`; None: the agreement says
    nothing, and nothing is computed where that matters. fee_by: `year`, a year's fee is divided by
    months of use in that year; `month`, each month's twelfth by those who took part in it.
    """

    id: Text
    title: Text
    host: Code6
    part_months: Literal["counted", "left_out"] | None
    fee_by: Literal["year", "month"]
    deadlines: Deadlines
    terms: Annotated[list[Term], Field(min_length=1)]
    tax_rates: list[TaxRate]
    estimates: Annotated[list[Estimate], Field(min_length=1)]
    items: Annotated[list[Item], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        _once(
            _("an item's id stands twice: {twice}; keep one of the rows"),
            (item.id for item in self.items),
        )
        _once(
            _("a tax rate begins on a day twice: {twice}; keep one of the rows"),
            (rate.valid_from for rate in self.tax_rates),
        )
        _once(
            _(
                "estimates that are valid and known from the same days stand twice: "
                "{twice}; keep one of the rows"
            ),
            (f"{row.valid_from}, {row.known_on}" for row in self.estimates),
        )
        return self

    @model_validator(mode="after")
    def _within_terms(self) -> Self:
        for before, after in pairwise(self.terms):
            if after.first_day <= before.last_day:
                raise ValueError(
                    _("the term from {first} begins before the one before it ends").format(
                        first=after.first_day
                    )
                )
        for item in self.items:
            if not any(term.covers(item.first_day, item.last_day) for term in self.terms):
                raise ValueError(
                    _(
                        "{item} is used from {first} to {last}, which is beyond every term; "
                        "correct its days, or add the renewal to `terms`"
                    ).format(item=item.id, first=item.first_day, last=item.last_day)
                )
        return self

    def item(self, name: str) -> Item:
        """Return an item by its id; KosekiError when there is none."""
        for item in self.items:
            if item.id == name:
                return item
        known = ", ".join(item.id for item in self.items)
        raise KosekiError(
            _("no such item in the agreement"),
            name,
            _("name one of its `items`: {known}").format(known=known),
        )


class _Loader(LOADER):  # type: ignore[misc,valid-type] # chosen when PyYAML is imported
    """YAML in which a key stands once: the last one would win otherwise, and nobody is told."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ignored in node.value]
    for key, count in Counter(map(str, keys)).items():
        if count > 1:
            line = node.start_mark.line + 1
            raise KosekiError(
                _("a key stands twice"),
                _("{key}, line {line}").format(key=key, line=line),
                _("keep one `{key}:`").format(key=key),
            )
    found: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    return found


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rows if tag != INTEGER]
    for first, rows in LOADER.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(INTEGER, PLAIN_DIGITS, list("-0123456789"))
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_agreement(path: Path, codes: Sequence[str]) -> Agreement:
    """Return the agreement of a file. codes: of the municipalities that the inventory knows.

    Raises KosekiError with file, place, value and remedy of the first thing that cannot be right.
    """
    if not path.is_file():
        raise KosekiError(_("no such agreement"), str(path), _("name its file with --agreement"))
    try:
        agreement = Agreement.model_validate(load_yaml(path, _Loader))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        remedy = fault_of(first)
        raise KosekiError(
            _("the agreement is not valid: {place} in {path}").format(
                place=place or _("the whole"), path=path
            ),
            repr(first["input"])[:60],
            remedy,
        ) from error
    for place, code in _codes(agreement):
        if code not in codes:
            raise KosekiError(
                _(
                    "the agreement names a municipality that is not in the plan: {place} in {path}"
                ).format(place=place, path=path),
                code,
                _("write the code of one that `koseki municipalities` lists"),
            )
    return agreement


def _codes(agreement: Agreement) -> Iterable[tuple[str, str]]:
    yield "host", agreement.host
    for number, estimate in enumerate(agreement.estimates):
        for row in estimate.alone:
            yield f"estimates.{number}", row.code6


def known[Row: (Amount, Estimate)](rows: Iterable[Row], as_of: date) -> list[Row]:
    """Return the rows that were known on a day."""
    return [row for row in rows if row.known_on <= as_of]
