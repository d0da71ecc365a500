"""The arithmetic of shares: exact fractions, cut below one yen, what is left to the named bearer.

For an item that is paid once: C · S · M / Σ(S · M), with C its cost, S what a municipality would
have paid alone, M its months of use (1 for each where the item does not go by months). A fee is
divided fiscal year by fiscal year, by one of two readings that the agreement names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from itertools import groupby

from koseki_ops.calendar.business_days import NotPublishedError, Office
from koseki_ops.calendar.months import MONTHS, Month, day_in, fiscal_years, months
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import N_, _
from koseki_ops.costs.model import Agreement, Amount, Estimate, Item, TaxRate, known
from koseki_ops.plan.model import Municipality

HUNDRED = 100


@dataclass(frozen=True)
class Share:
    """What one municipality pays of an item.

    alone: S in yen; months: M; exact: its part before it is cut; yen: what it pays, the rest
    included where it is the bearer; instalments: yen of each, the first one with the fraction.
    """

    code6: str
    name: str
    alone: int
    months: int
    exact: Fraction
    yen: int
    instalments: tuple[int, ...]

    @property
    def rest(self) -> int:
        """What it pays beyond its own part, because it bears what is left below one yen."""
        return self.yen - self.exact.__floor__()


@dataclass(frozen=True)
class Run:
    """Months of a fee, one after the other, that cost the same and in which the same took part.

    percent: of the tax on top, None where the amount has it; monthly: what each costs, with tax;
    whole: ΣS of those who took part, codes.
    """

    first: Month
    last: Month
    count: int
    percent: int | None
    monthly: Fraction
    whole: int
    codes: frozenset[str]


@dataclass(frozen=True)
class Division:
    """How one item, or one fiscal year of a fee, is divided.

    cost: C in yen, with tax; reading: how it was divided, in words; whole: Σ(S·M), 0 where there is
    one for each month; amount, estimate: the rows that it rests on; percent: of the tax on top of
    what is paid once, None where the amount has it; runs: of a fee.
    """

    item: Item
    fiscal_year: int | None
    cost: int
    reading: str
    whole: int
    amount: Amount
    estimate: Estimate
    percent: int | None = None
    runs: tuple[Run, ...] = ()
    shares: list[Share] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The item's id, with the fiscal year of a fee."""
        return self.item.id if self.fiscal_year is None else f"{self.item.id} {self.fiscal_year}"


def instalments(yen: int, count: int) -> tuple[int, ...]:
    """Return an amount in equal instalments; what does not divide is in the first one."""
    each = yen // count
    return (yen - each * (count - 1), *([each] * (count - 1)))


@dataclass(frozen=True)
class Due:
    """When an instalment is due.

    agreed: as the agreement names it; day: the business day that this is, None while the holidays
    of that year are not published.
    """

    agreed: date
    day: date | None


def due_days(item: Item, office: Office, fiscal_year: int | None = None) -> list[Due]:
    """Return when each instalment is due; nothing where the agreement names no days.

    fiscal_year: of a fee, which has its days in each.
    """
    named = item.due
    if fiscal_year is not None:
        named = sorted(day_in(fiscal_year, written) for written in item.due_in_year)
    return [Due(agreed, _moved(agreed, item, office)) for agreed in named]


def _moved(agreed: date, item: Item, office: Office) -> date | None:
    try:
        return item.moved and office.moved(agreed, item.moved)
    except NotPublishedError:
        return None


def divide(
    agreement: Agreement,
    municipalities: Sequence[Municipality],
    item: Item,
    fiscal_year: int | None = None,
    as_of: date | None = None,
) -> list[Division]:
    """Divide an item: one division, or one for each fiscal year of a fee.

    municipalities: all of the plan, in its order; fiscal_year: that one alone; as_of: with what was
    known on that day (None: with everything). Raises KosekiError where the agreement leaves
    something open.
    """
    day = as_of or date.max
    amount = max(known(item.amounts, day), key=lambda row: row.known_on, default=None)
    if amount is None:
        raise KosekiError(
            _("no amount of {id} was known on that day").format(id=item.id),
            str(as_of),
            _("choose a later --as-of"),
        )
    if item.kind == "once":
        if fiscal_year is not None:
            raise KosekiError(
                _("{id} is paid once and belongs to no fiscal year").format(id=item.id),
                str(fiscal_year),
                _("leave --fiscal-year out"),
            )
        return [_once(agreement, municipalities, item, amount, day)]
    years = fiscal_years(item.first_day, item.last_day)
    if fiscal_year is not None and fiscal_year not in years:
        raise KosekiError(
            _("{id} is not paid in this fiscal year").format(id=item.id),
            str(fiscal_year),
            _("give --fiscal-year {years} to {last_years}").format(
                years=years[0], last_years=years[-1]
            ),
        )
    wanted = years if fiscal_year is None else [fiscal_year]
    return [_fee(agreement, municipalities, item, amount, day, year) for year in wanted]


def _once(
    agreement: Agreement,
    municipalities: Sequence[Municipality],
    item: Item,
    amount: Amount,
    day: date,
) -> Division:
    cost, percent = amount.yen, None
    if item.taxed_on is not None:
        percent = _rate(agreement.tax_rates, item.taxed_on)
        cost = _taxed(Fraction(cost), percent).__floor__()
    estimate = _estimate(agreement, item.first_day, day)
    span = list(months(item.first_day, item.last_day))
    if item.by_months:
        counts = {
            municipality.code6: _months(agreement, item, municipality, span)
            for municipality in municipalities
        }
    else:
        counts = {
            municipality.code6: int(municipality.takes_part(item.first_day, item.last_day))
            for municipality in municipalities
        }
    alone = _alone(estimate, municipalities, counts)
    exact, whole = _weighted(Fraction(cost), alone, counts, item, _span(item))
    reading = "C·S·M/Σ(S·M)" if item.by_months else "C·S/ΣS"
    division = Division(item, None, cost, reading, whole, amount, estimate, percent)
    return _filled(division, agreement, municipalities, exact, counts)


def _fee(
    agreement: Agreement,
    municipalities: Sequence[Municipality],
    item: Item,
    amount: Amount,
    day: date,
    year: int,
) -> Division:
    span = [m for m in months(item.first_day, item.last_day) if m.fiscal_year == year]
    estimate = _estimate(agreement, max(item.first_day, span[0].first_day), day)
    present = {
        month: {row.code6 for row in municipalities if _months(agreement, item, row, [month])}
        for month in span
    }
    counts = {
        row.code6: sum(row.code6 in there for there in present.values()) for row in municipalities
    }
    alone = _alone(estimate, municipalities, counts)
    runs = _runs(agreement, item, amount, present, alone)
    cost = sum((run.monthly * run.count for run in runs), Fraction()).__floor__()
    if agreement.fee_by == "year":
        exact, whole = _weighted(Fraction(cost), alone, counts, item, str(year))
        reading = N_("C·S·M/Σ(S·M), M of the fiscal year")
    else:
        exact, whole = dict.fromkeys(counts, Fraction()), 0
        for run in runs:
            there = {code: int(code in run.codes) for code in counts}
            paid = run.monthly * run.count
            parts, _whole = _weighted(paid, alone, there, item, str(run.first))
            exact = {code: exact[code] + parts[code] for code in exact}
        reading = N_("for each month C/12·S/ΣS of those who took part in it")
    division = Division(item, year, cost, reading, whole, amount, estimate, runs=runs)
    return _filled(division, agreement, municipalities, exact, counts)


def _runs(
    agreement: Agreement,
    item: Item,
    amount: Amount,
    present: Mapping[Month, AbstractSet[str]],
    alone: Mapping[str, int],
) -> tuple[Run, ...]:
    """Put months together that cost the same and in which the same took part."""

    def alike(month: Month) -> tuple[int | None, AbstractSet[str]]:
        taxed = item.tax == "excluded"
        percent = _rate(agreement.tax_rates, month.first_day) if taxed else None
        return percent, present[month]

    found = []
    for (percent, codes), group in groupby(present, alike):
        same, monthly = list(group), Fraction(amount.yen, MONTHS)
        if percent is not None:
            monthly = _taxed(monthly, percent)
        whole = sum(alone[code] for code in codes)
        found.append(Run(same[0], same[-1], len(same), percent, monthly, whole, frozenset(codes)))
    return tuple(found)


def _weighted(
    cost: Fraction, alone: Mapping[str, int], counts: Mapping[str, int], item: Item, when: str
) -> tuple[dict[str, Fraction], int]:
    """Divide a cost by S·M; return each one's part, and Σ(S·M)."""
    whole = sum(alone[code] * count for code, count in counts.items())
    if not whole:
        raise KosekiError(
            _("nobody took part in {id}").format(id=item.id),
            when,
            _("correct its `first_day` and `last_day` in the agreement"),
        )
    return {code: Fraction(cost * alone[code] * n, whole) for code, n in counts.items()}, whole


def _filled(
    division: Division,
    agreement: Agreement,
    municipalities: Sequence[Municipality],
    exact: Mapping[str, Fraction],
    counts: Mapping[str, int],
) -> Division:
    """Cut each part below one yen, and let the bearer pay what is left."""
    alone = {row.code6: row.yen for row in division.estimate.alone}
    cut = {code: part.__floor__() for code, part in exact.items()}
    left = division.cost - sum(cut.values())
    for municipality in municipalities:
        code = municipality.code6
        yen = cut[code] + (left if code == agreement.host else 0)
        if counts[code] or yen:
            division.shares.append(
                Share(
                    code,
                    municipality.name,
                    alone.get(code, 0),
                    counts[code],
                    exact[code],
                    yen,
                    instalments(yen, division.item.instalments),
                )
            )
    return division


def _months(
    agreement: Agreement, item: Item, municipality: Municipality, span: Sequence[Month]
) -> int:
    """Return in how many months of a span a municipality used an item."""
    count = 0
    for month in span:
        begins = max(month.first_day, item.first_day)
        ends = min(month.last_day, item.last_day)
        if not municipality.takes_part(begins, ends):
            continue
        if municipality.is_active(begins) and municipality.is_active(ends):
            count += 1
        elif agreement.part_months is None:
            raise KosekiError(
                _("{municipality} takes part in {id} on some days of a month only").format(
                    municipality=municipality.name, id=item.id
                ),
                str(month),
                _("the agreement needs a rule: part_months: counted or left_out"),
            )
        else:
            count += agreement.part_months == "counted"
    return count


def _estimate(agreement: Agreement, basis: date, day: date) -> Estimate:
    """Return what each would have paid alone, valid on a first day, as known on another."""
    valid = [row for row in known(agreement.estimates, day) if row.valid_from <= basis]
    if not valid:
        raise KosekiError(
            _("no estimate of {id} is valid on the day").format(id=agreement.id),
            str(basis),
            _("add one whose valid_from is that day or before it"),
        )
    return max(valid, key=lambda row: (row.valid_from, row.known_on))


def _alone(
    estimate: Estimate, municipalities: Sequence[Municipality], counts: Mapping[str, int]
) -> dict[str, int]:
    found = {row.code6: row.yen for row in estimate.alone}
    for municipality in municipalities:
        if counts[municipality.code6] and municipality.code6 not in found:
            raise KosekiError(
                _("the estimate {source} has no row for a municipality that takes part").format(
                    source=estimate.source
                ),
                f"{municipality.code6} {municipality.name}",
                _("add what it would have paid alone to `alone` of the estimate"),
            )
    return {municipality.code6: found.get(municipality.code6, 0) for municipality in municipalities}


def _taxed(yen: Fraction, percent: int) -> Fraction:
    return Fraction(yen * (HUNDRED + percent), HUNDRED)


def _rate(rates: Sequence[TaxRate], day: date) -> int:
    valid = [rate for rate in rates if rate.valid_from <= day]
    if not valid:
        raise KosekiError(_("no tax rate is known for the day"), str(day), _("add it to tax_rates"))
    return max(valid, key=lambda rate: rate.valid_from).percent


def _span(item: Item) -> str:
    return f"{item.first_day} to {item.last_day}"
