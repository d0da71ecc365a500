"""Bills of a fiscal year: what is asked of each municipality, and what a correction changes (K-16).

A bill carries everything that stands on its papers: each division with its sources, each line with
its day. So it is printed from what was recorded, and a later correction of the agreement finds
nothing in it to change. What was corrected becomes a settlement: what is owed now, what was billed
before, and the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer

from koseki_ops.calendar.business_days import NotPublishedError, Office
from koseki_ops.calendar.months import Month, day_in, fiscal_years
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.costs.model import Agreement, Item
from koseki_ops.costs.shares import Division, Run, Share, divide, due_days
from koseki_ops.plan.model import IsoDate, Municipality, Table

Stage = Literal["planned", "notice", "settlement"]
# A reader of records takes no number of more than twenty digits, so longer ones are texts.
Exact = Annotated[
    Fraction,
    BeforeValidator(Fraction),
    PlainSerializer(lambda part: f"{part.numerator}/{part.denominator}", return_type=str),
]
Long = Annotated[int, BeforeValidator(int), PlainSerializer(str, return_type=str)]


class Source(Table):
    """A version that figures rest on: its paper, and since when it is known or valid."""

    source: str
    known_on: IsoDate
    valid_from: IsoDate | None = None
    yen: int | None = None


class Months(Table):
    """Months of a fee that cost the same and in which the same took part; see `shares.Run`."""

    first: str
    last: str
    count: int
    percent: int | None
    monthly: Exact
    whole: Long
    codes: list[str]


class Portion(Table):
    """What one municipality pays of a division; see `shares.Share`."""

    code6: str
    name: str
    alone: int
    months: int
    exact: Exact
    yen: int
    rest: int
    instalments: list[int]


class Part(Table):
    """A division as it was computed. method: by which rule; see `shares.Division`."""

    item: str
    title: str
    fiscal_year: int | None
    method: Literal["months", "alone", "year", "month"]
    first_day: IsoDate
    last_day: IsoDate
    cost: int
    percent: int | None
    amount: Source
    estimate: Source
    whole: Long
    runs: list[Months]
    shares: list[Portion]


Key = tuple[str, int | None, int, str]


class Line(Table):
    """One instalment of one municipality.

    yen: what it owes; billed: what earlier bills asked for of it; agreed: the day that the
    agreement names; due: the day by which it is paid, None while the holidays are not published.
    """

    item: str
    title: str
    fiscal_year: int | None
    instalment: int
    of: int
    code6: str
    yen: int
    billed: int = 0
    agreed: IsoDate
    due: IsoDate | None

    @property
    def key(self) -> Key:
        """What it is about, in whichever bill."""
        return self.item, self.fiscal_year, self.instalment, self.code6

    @property
    def balance(self) -> int:
        """What is still to be paid of it; negative: to be paid back."""
        return self.yen - self.billed


class Bill(Table):
    """A paper of a fiscal year as it was made.

    number: fiscal year, stage and which one of them; settles: the number of the bill before that a
    settlement corrects; names: of each municipality, by code; heads: who receives or signs for it.
    """

    number: str
    fiscal_year: int
    stage: Stage
    made_on: IsoDate
    made_by: str
    settles: str | None
    agreement: str
    title: str
    host: str
    names: dict[str, str]
    heads: dict[str, str]
    parts: list[Part]
    lines: list[Line]

    def balance(self, code6: str) -> int:
        """Return what a municipality pays by it; negative: what it is paid back."""
        return sum(line.balance for line in self.lines if line.code6 == code6)

    def payers(self) -> list[str]:
        """Return the codes of those to whom it goes: all but the host, which pays itself."""
        codes = dict.fromkeys(line.code6 for line in self.lines)
        return [code for code in codes if code != self.host]

    def same_figures(self, other: Bill) -> bool:
        """Say whether another bill asks for the same, by the same parts."""
        return (self.parts, self.lines, self.settles) == (other.parts, other.lines, other.settles)


def dates(agreement: Agreement, fiscal_year: int, office: Office) -> dict[Stage, date]:
    """Return until when each paper of a fiscal year goes out; unmoved while that is not known."""
    deadlines = agreement.deadlines
    agreed: dict[Stage, date] = {
        "planned": day_in(fiscal_year - 1, deadlines.planned),
        "notice": day_in(fiscal_year, deadlines.notice),
        "settlement": day_in(fiscal_year, deadlines.final),
    }
    found: dict[Stage, date] = {}
    for stage, day in agreed.items():
        try:
            found[stage] = office.moved(day, deadlines.moved)
        except NotPublishedError:
            found[stage] = day
    return found


def due_years(agreement: Agreement) -> list[int]:
    """Return the fiscal years in which something of an agreement is due."""
    years: set[int] = set()
    for item in agreement.items:
        years |= {Month.of(day).fiscal_year for day in item.due}
        if item.kind == "fee":
            years |= set(fiscal_years(item.first_day, item.last_day))
    return sorted(years)


def owed(
    agreement: Agreement,
    municipalities: Sequence[Municipality],
    fiscal_year: int,
    as_of: date,
    office: Office,
) -> tuple[list[Division], list[Line]]:
    """Return what is owed in a fiscal year, with what is known on a day.

    Raises KosekiError where an item does not say when it is due.
    """
    divisions, lines = [], []
    for item in agreement.items:
        if not _is_due(item, fiscal_year):
            continue
        year = fiscal_year if item.kind == "fee" else None
        for division in divide(agreement, municipalities, item, year, as_of):
            divisions.append(division)
            lines += _lines(division, fiscal_year, office)
    return divisions, lines


def nothing_due(agreement: Agreement, fiscal_year: int) -> KosekiError:
    """Return what is said where nothing of an agreement is due in a fiscal year."""
    years = due_years(agreement)
    return KosekiError(
        _("nothing is due in this fiscal year"),
        str(fiscal_year),
        _("give a year from {first} to {last}, or add `due` to the agreement's items").format(
            first=years[0] if years else "-", last=years[-1] if years else "-"
        ),
    )


def _is_due(item: Item, fiscal_year: int) -> bool:
    if not item.due and not item.due_in_year:
        raise KosekiError(
            _("the agreement names no day on which an item is due"),
            item.id,
            _("add `due` (a fee: `due_in_year`) and `moved` to it"),
        )
    if item.kind == "fee":
        return fiscal_year in fiscal_years(item.first_day, item.last_day)
    return any(Month.of(day).fiscal_year == fiscal_year for day in item.due)


def _lines(division: Division, fiscal_year: int, office: Office) -> list[Line]:
    item, found = division.item, []
    for place, due in enumerate(due_days(item, office, division.fiscal_year)):
        if Month.of(due.agreed).fiscal_year != fiscal_year:
            continue
        for share in division.shares:
            yen = share.instalments[place]
            if yen:
                found.append(
                    Line(
                        item=item.id,
                        title=item.title,
                        fiscal_year=division.fiscal_year,
                        instalment=place + 1,
                        of=item.instalments,
                        code6=share.code6,
                        yen=yen,
                        agreed=due.agreed,
                        due=due.day,
                    )
                )
    return found


def settled(lines: Iterable[Line], earlier: Sequence[Bill], due: date | None) -> list[Line]:
    """Return lines with what earlier bills asked for; what they asked for in vain is owed no more.

    due: by when the difference is paid.
    """
    billed: dict[Key, int] = {}
    last_lines: dict[Key, Line] = {}
    for bill in earlier:
        for line in bill.lines:
            billed[line.key] = billed.get(line.key, 0) + line.balance
            last_lines[line.key] = line
    found = {}
    for line in lines:
        found[line.key] = line.model_copy(update={"billed": billed.get(line.key, 0), "due": due})
    for key, line in last_lines.items():
        if key not in found and billed[key]:
            update = {"yen": 0, "billed": billed[key], "due": due}
            found[key] = line.model_copy(update=update)
    return list(found.values())


def part_of(division: Division) -> Part:
    """Return a division as a bill carries it."""
    item, amount, estimate = division.item, division.amount, division.estimate
    method: Any = "months" if item.by_months else "alone"
    if item.kind == "fee":
        method = "year" if division.whole else "month"
    return Part(
        item=item.id,
        title=item.title,
        fiscal_year=division.fiscal_year,
        method=method,
        first_day=item.first_day,
        last_day=item.last_day,
        cost=division.cost,
        percent=division.percent,
        amount=Source(source=amount.source, known_on=amount.known_on, yen=amount.yen),
        estimate=Source(
            source=estimate.source, known_on=estimate.known_on, valid_from=estimate.valid_from
        ),
        whole=division.whole,
        runs=[_months(run) for run in division.runs],
        shares=[_portion(share) for share in division.shares],
    )


def _months(run: Run) -> Months:
    return Months(
        first=str(run.first),
        last=str(run.last),
        count=run.count,
        percent=run.percent,
        monthly=run.monthly,
        whole=run.whole,
        codes=sorted(run.codes),
    )


def _portion(share: Share) -> Portion:
    return Portion(
        code6=share.code6,
        name=share.name,
        alone=share.alone,
        months=share.months,
        exact=share.exact,
        yen=share.yen,
        rest=share.rest,
        instalments=list(share.instalments),
    )
