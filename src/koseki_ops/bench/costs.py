"""Shares of cost for agreements that nobody wrote down, and a fiscal year of the sample's (K-16).

Pure arithmetic: no lab, no host. What does not hold is a KosekiError, not a figure.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from koseki_ops.bench.table import Row, at_most
from koseki_ops.calendar.business_days import Office
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.formatting import json_line
from koseki_ops.costs import bills
from koseki_ops.costs.model import Agreement
from koseki_ops.costs.service import open_agreement
from koseki_ops.costs.shares import Division, divide
from koseki_ops.plan.model import Municipality, check_digit
from koseki_ops.plan.site import Site

AGREEMENTS, MOST_PARTIES, MOST_YEN = 10_000, 60, 10**12
FIRST, LAST = date(2015, 11, 1), date(2020, 10, 31)
SPAN = (LAST - FIRST).days
LONGEST_MS = 1000
KNOWN = "2015-01-01"


def measure(site: Site, count: int = AGREEMENTS) -> list[Row]:
    """Divide random agreements, each one twice and in two orders; bill a fiscal year."""
    longest, parties = 0.0, 0
    for seed in range(count):
        drawn = random.Random(seed)  # noqa: S311 - the same agreements in every run
        agreement, municipalities = agreement_of(drawn)
        begun = time.monotonic()
        divisions = _divided(agreement, municipalities)
        longest = max(longest, time.monotonic() - begun)
        _hold(seed, agreement, municipalities, divisions)
        parties += len(municipalities)
    what = (
        f"{count:,} random agreements of 1 to {MOST_PARTIES} parties ({parties:,} in all), costs "
        "up to 10¹² yen: shares sum to the cost, the order of rows changes nothing, the same bytes "
        "again; the longest"
    )
    return [at_most(what, LONGEST_MS, [longest * 1000], "ms"), _fiscal_year(site)]


def _fiscal_year(site: Site) -> Row:
    agreement, platform = open_agreement(site, None)
    times = []
    for year in bills.due_years(agreement):
        begun = time.monotonic()
        divisions, _lines = bills.owed(
            agreement, platform.municipalities, year, date.max, Office(time_zone=platform.timezone)
        )
        for division in divisions:
            bills.part_of(division)
        times.append((time.monotonic() - begun) * 1000)
    count = len(platform.municipalities)
    what = f"a fiscal year of {count} municipalities, all items and due days"
    return at_most(what, LONGEST_MS, times, "ms")


def agreement_of(drawn: random.Random) -> tuple[Agreement, list[Municipality]]:
    """Return an agreement of parties that come and go within five years, and these."""
    municipalities = [_party(drawn, number) for number in range(drawn.randint(1, MOST_PARTIES))]
    alone = [{"code6": row.code6, "yen": drawn.randint(1, 10**9)} for row in municipalities]
    fee = drawn.random() < 1 / 2
    excluded = drawn.random() < 1 / 2
    item: dict[str, Any] = {
        "id": "item",
        "title": "負担",
        "kind": "fee" if fee else "once",
        "first_day": FIRST,
        "last_day": LAST,
        "by_months": fee or drawn.random() < 1 / 2,
        "tax": "excluded" if excluded else "included",
        "taxed_on": FIRST if excluded and not fee else None,
        "instalments": drawn.randint(1, 60),
        "amounts": [{"known_on": KNOWN, "source": "契約", "yen": drawn.randint(1, MOST_YEN)}],
    }
    agreed = {
        "id": "規約",
        "title": "負担",
        "host": municipalities[0].code6,
        "part_months": drawn.choice(["counted", "left_out"]),
        "fee_by": drawn.choice(["year", "month"]),
        "deadlines": {"planned": "02-10", "notice": "11-05", "final": "02-15", "moved": "next"},
        "terms": [{"first_day": FIRST, "last_day": LAST, "source": "規約"}],
        "tax_rates": [
            {"valid_from": "2014-04-01", "percent": 8},
            {"valid_from": "2019-10-01", "percent": 10},
        ],
        "estimates": [{"valid_from": KNOWN, "known_on": KNOWN, "source": "見積", "alone": alone}],
        "items": [item],
    }
    return Agreement.model_validate(agreed), municipalities


def _party(drawn: random.Random, number: int) -> Municipality:
    """Return an invented municipality; the first one is there all the time."""
    code5 = f"{20000 + number:05}"
    joined = FIRST + timedelta(drawn.randint(-400, SPAN + 40) if number else 0)
    stays = drawn.choice([0, drawn.randint(1, 2 * SPAN)]) if number else 0
    return Municipality(
        code6=code5 + check_digit(code5),
        name=f"第{number}村",
        kana="むら",
        slug=f"mura{number}",
        romaji="Mura",
        kind="村",
        phase=1,
        joined_on=joined,
        left_on=joined + timedelta(stays) if stays else None,
        terminals=[f"mura{number}-01"],
    )


def _divided(agreement: Agreement, municipalities: Sequence[Municipality]) -> list[Division]:
    return divide(agreement, municipalities, agreement.items[0])


def _bytes(divisions: Sequence[Division]) -> str:
    return json_line([bills.part_of(division).model_dump(mode="json") for division in divisions])


def _hold(
    seed: int,
    agreement: Agreement,
    municipalities: Sequence[Municipality],
    divisions: Sequence[Division],
) -> None:
    """Refuse to measure what is wrong."""
    sums = all(
        sum(share.yen for share in division.shares) == division.cost for division in divisions
    )
    again = _divided(agreement, municipalities)
    turned = _divided(agreement, municipalities[::-1])
    paid = [{s.code6: (s.yen, s.instalments) for s in division.shares} for division in divisions]
    same = paid == [{s.code6: (s.yen, s.instalments) for s in one.shares} for one in turned]
    if not (sums and same and _bytes(divisions) == _bytes(again)):
        raise KosekiError(
            "shares of a random agreement do not hold",
            f"seed {seed}",
            "see it by `agreement_of` in `src/koseki_ops/bench/costs.py`",
        )
