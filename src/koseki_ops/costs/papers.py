"""The papers of a bill as PDF and CSV: 算定書, 予定額通知書, 負担金通知書, 納入書, 精算書 (K-16).

They are made of what the book recorded, of nothing else, so whoever prints a bill again gets the
same bytes. Official papers are Japanese in every language of the command. A share stands there as a
fraction with its quotient and remainder: quotient × denominator + remainder = numerator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from math import gcd
from pathlib import Path
from typing import Any

from koseki_ops.calendar.eras import in_era, year_in_era
from koseki_ops.calendar.months import FIRST_MONTH
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.costs.bills import Bill, Line, Months, Part, Portion
from koseki_ops.costs.book import Book, Entry
from koseki_ops.report.papers import pdf, table, write
from koseki_ops.report.picture import environment

CALCULATION, PAYMENT = "算定書", "納入書"
LETTERS: Mapping[str, str] = {
    "planned": "予定額通知書",
    "notice": "負担金通知書",
    "settlement": "精算書",
}
METHODS = {
    "months": "C × S × M ÷ Σ(S × M)　S：単独で更新した場合の費用　M：利用月数",
    "alone": "C × S ÷ ΣS　S：単独で更新した場合の費用（利用月数によらない）",
    "year": "C × S × M ÷ Σ(S × M)　M：当該年度の利用月数（年度の月数により按分する方法）",
    "month": "各月の費用 × S ÷ ΣS の合計　ΣS：その月に利用した団体の計（月ごとに按分する方法）",
}


@dataclass(frozen=True)
class Quotient:
    """A fraction as it is checked by hand: numerator ÷ denominator = whole, rest remaining."""

    numerator: int
    denominator: int

    @property
    def whole(self) -> int:
        """The quotient, cut."""
        return self.numerator // self.denominator

    @property
    def rest(self) -> int:
        """The remainder."""
        return self.numerator % self.denominator


@dataclass(frozen=True)
class Weighted:
    """A division with the same factor for all: weights are S·M divided by what divides them all."""

    divisor: int
    whole: int
    rows: list[tuple[Portion, int, Quotient]]


@dataclass(frozen=True)
class Monthly:
    """Some months of a fee that is divided month by month. cost: of all of them, with tax."""

    months: Months
    cost: Fraction
    divisor: int
    whole: int
    rows: list[tuple[Portion, int, Quotient]]


def weighted(part: Part) -> Weighted:
    """Return how a clerk computes the shares of a division that has one denominator."""
    weights = {share.code6: _weight(part, share) for share in part.shares}
    divisor = gcd(*weights.values())
    whole = part.whole // divisor
    rows = [
        (
            share,
            weights[share.code6] // divisor,
            Quotient(part.cost * (weights[share.code6] // divisor), whole),
        )
        for share in part.shares
    ]
    return Weighted(divisor, whole, rows)


def _weight(part: Part, share: Portion) -> int:
    return share.alone * (1 if part.method == "alone" and share.months else share.months)


def monthly(part: Part) -> list[Monthly]:
    """Return how a clerk computes the shares of a fee that is divided month by month."""
    found = []
    for run in part.runs:
        there = [share for share in part.shares if share.code6 in run.codes]
        divisor = gcd(*(share.alone for share in there))
        cost, whole = run.monthly * run.count, run.whole // divisor
        rows = [
            (
                share,
                share.alone // divisor,
                Quotient(cost.numerator * (share.alone // divisor), cost.denominator * whole),
            )
            for share in there
        ]
        found.append(Monthly(run, cost, divisor, whole, rows))
    return found


def printed(book: Book, entry: Entry, codes: Sequence[str], folder: Path) -> list[Path]:
    """Write the papers of a bill into a folder; return their paths.

    codes: to whom letters go, all when empty. A file that is there with another content is kept,
    and that is a KosekiError; so is a municipality that the bill does not go to.
    """
    bill = entry.bill
    for code6 in codes:
        if code6 not in bill.payers():
            raise KosekiError(
                _("this paper does not go to the municipality"),
                f"{bill.number} {bill.names.get(code6, code6)}",
                _("name one of those that `koseki costs status {year} --json` lists").format(
                    year=bill.fiscal_year
                ),
            )
    values = _values(book, entry, codes or bill.payers())
    contents: dict[str, bytes] = {}
    for name, template in _wanted(bill):
        html = environment("koseki_ops.costs").get_template(template).render(values)
        contents[f"{bill.number}-{name}.pdf"] = pdf(html)
    contents[f"{bill.number}-{CALCULATION}.csv"] = table(_calculation_rows(bill))
    contents[f"{bill.number}-明細.csv"] = table(_line_rows(entry))
    return write(contents, folder)


def _wanted(bill: Bill) -> Iterator[tuple[str, str]]:
    yield CALCULATION, "calculation.html.j2"
    yield LETTERS[bill.stage], "letter.html.j2"
    if bill.stage != "planned" and any(bill.balance(code) > 0 for code in bill.payers()):
        yield PAYMENT, "payment.html.j2"


def _values(book: Book, entry: Entry, codes: Sequence[str]) -> dict[str, Any]:
    bill = entry.bill
    return {
        "bill": bill,
        "entry": entry,
        "letter": LETTERS[bill.stage],
        "codes": codes,
        "day": entry.issued_on or bill.made_on,
        "before": book.entry(bill.settles) if bill.settles else None,
        "methods": METHODS,
        "footer": bill.number if entry.issued_on else f"{bill.number}　案（未決裁）",
        "by_code": [
            (code, [line for line in bill.lines if line.code6 == code])
            for code in dict.fromkeys(line.code6 for line in bill.lines)
        ],
        "owed": lambda lines, part: sum(
            line.yen
            for line in lines
            if (line.item, line.fiscal_year) == (part.item, part.fiscal_year)
        ),
        "weighted": weighted,
        "monthly": monthly,
        "sum_of": lambda part, place: sum(share.instalments[place] for share in part.shares),
        "era": in_era,
        "fiscal_year": fiscal_year_in_era,
        "month": _month_in_era,
        "lines_of": lambda code6: [line for line in bill.lines if line.code6 == code6],
        "slips": lambda code6: slips(bill, code6),
        "shares_of": lambda code6: _shares_of(bill, code6),
    }


def slips(bill: Bill, code6: str) -> list[tuple[date, list[Line]]]:
    """Return what a municipality pays by a bill, the lines of each day; a settlement's are net."""
    if bill.balance(code6) <= 0:
        return []
    days: dict[date, list[Line]] = {}
    for line in bill.lines:
        if line.code6 == code6 and line.balance and line.due:
            days.setdefault(line.due, []).append(line)
    return sorted(days.items())


def _shares_of(bill: Bill, code6: str) -> list[tuple[Part, Portion]]:
    return [(part, share) for part in bill.parts for share in part.shares if share.code6 == code6]


def fiscal_year_in_era(year: int) -> str:
    """Return a fiscal year as papers name it: by the era of its first day, as 平成28年度."""
    return f"{year_in_era(date(year, FIRST_MONTH, 1))}度"


def _month_in_era(written: str) -> str:
    day = date.fromisoformat(f"{written}-01")
    return f"{year_in_era(day)}{day.month}月"


def _calculation_rows(bill: Bill) -> Iterator[Sequence[object]]:
    yield (
        *("通知番号", "経費", "経費名", "年度", "方法", "費用C", "費用の根拠", "単独費用の根拠"),
        *("団体コード", "団体", "単独費用S", "利用月数M", "分子", "分母", "円未満切捨て"),
        *("端数負担", "負担額", "初回", "2回目以降", "回数"),
    )
    for part in bill.parts:
        for share in part.shares:
            yield (
                *(bill.number, part.item, part.title, part.fiscal_year or "", part.method),
                *(part.cost, part.amount.source, part.estimate.source),
                *(share.code6, share.name, share.alone, share.months),
                *(share.exact.numerator, share.exact.denominator, share.yen - share.rest),
                *(share.rest, share.yen, share.instalments[0]),
                *(share.instalments[1] if share.instalments[1:] else "", len(share.instalments)),
            )


def _line_rows(entry: Entry) -> Iterator[Sequence[object]]:
    bill = entry.bill
    yield (
        *("通知番号", "状態", "年度", "経費", "経費名", "経費の年度", "回", "回数", "団体コード"),
        *("団体", "負担額", "既通知額", "差引額", "約定日", "納期限"),
    )
    state = entry.issued_on.isoformat() if entry.issued_on else "案"
    for line in bill.lines:
        yield (
            *(bill.number, state, bill.fiscal_year, line.item, line.title),
            *(line.fiscal_year or "", line.instalment, line.of, line.code6),
            *(bill.names[line.code6], line.yen, line.billed, line.balance),
            *(line.agreed.isoformat(), line.due.isoformat() if line.due else ""),
        )
