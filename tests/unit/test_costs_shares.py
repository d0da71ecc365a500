"""Shares sum to the cost, for any agreement; what a clerk computes by hand is what we compute."""

from __future__ import annotations

import json
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from koseki_ops.calendar.business_days import Office
from koseki_ops.calendar.months import Month, fiscal_years, months
from koseki_ops.cli import cli
from koseki_ops.core.errors import KosekiError
from koseki_ops.costs.model import MOST_YEN, Agreement, load_agreement
from koseki_ops.costs.shares import Division, divide, due_days, instalments
from koseki_ops.plan.model import Municipality, check_digit

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "agreements/iida.yml"
BEGAN, ENDS = date(2015, 11, 1), date(2020, 10, 31)
DEADLINES = {"planned": "02-10", "notice": "11-05", "final": "02-15", "moved": "previous"}


def code_of(number: int) -> str:
    """Return a code with its check digit."""
    code5 = f"{20000 + number:05}"
    return code5 + check_digit(code5)


def municipality(number: int, joined: date | None, gone: date | None = None) -> Municipality:
    """Return an invented municipality."""
    return Municipality(
        code6=code_of(number),
        name=f"第{number}村",
        kana="むら",
        slug=f"mura{number}",
        romaji="Mura",
        kind="村",
        phase=1,
        joined_on=joined,
        left_on=gone,
        terminals=[f"mura{number}-01"],
    )


def agreement(alone: dict[str, int], item: dict[str, Any], **more: Any) -> Agreement:  # noqa: ANN401 - the file's own
    """Return an agreement with one estimate and one item."""
    said = {
        "id": "規約",
        "title": "負担",
        "host": next(iter(alone)),
        "part_months": "counted",
        "fee_by": "year",
        "deadlines": DEADLINES,
        "terms": [{"first_day": str(BEGAN), "last_day": str(ENDS), "source": "規約"}],
        "tax_rates": [
            {"valid_from": "2014-04-01", "percent": 8},
            {"valid_from": "2019-10-01", "percent": 10},
        ],
        "estimates": [
            {
                "valid_from": "2015-01-01",
                "known_on": "2015-01-01",
                "source": "見積書",
                "alone": [{"code6": code, "yen": yen} for code, yen in alone.items()],
            }
        ],
        "items": [{"first_day": str(BEGAN), "last_day": str(ENDS), "title": "物", **item}],
        **more,
    }
    return Agreement.model_validate(said)


def item(yen: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - the file's own
    """Return an item that is paid once."""
    amounts = [{"known_on": "2015-01-01", "source": "契約書", "yen": yen}]
    return {"id": "it", "kind": "once", "tax": "included", "amounts": amounts, **more}


def paid(division: Division) -> dict[str, int]:
    """Return what each pays."""
    return {share.code6: share.yen for share in division.shares}


# Any agreement.


@st.composite
def cases(draw: st.DrawFn) -> tuple[Agreement, list[Municipality]]:
    """Draw parties that come and go within five years, and an item or a fee."""
    count = draw(st.integers(1, 60))
    span = (ENDS - BEGAN).days
    municipalities = [municipality(0, BEGAN)]
    for number in range(1, count):
        joined = draw(st.integers(-400, span + 40))
        stays = draw(st.none() | st.integers(1, 2 * span))
        day = BEGAN + timedelta(joined)
        municipalities.append(municipality(number, day, day + timedelta(stays) if stays else None))
    alone = {row.code6: draw(st.integers(1, 10**9)) for row in municipalities}
    kind = draw(st.sampled_from(["once", "fee"]))
    said = item(draw(st.integers(1, 10**12)), kind=kind)
    if kind == "once":
        said["by_months"] = draw(st.booleans())
        said["instalments"] = draw(st.integers(1, 60))
    if draw(st.booleans()):
        said["tax"] = "excluded"
        if kind == "once":
            said["taxed_on"] = "2015-10-30"
    made = agreement(
        alone,
        said,
        fee_by=draw(st.sampled_from(["year", "month"])),
        part_months=draw(st.sampled_from(["counted", "left_out"])),
    )
    return made, municipalities


@pytest.mark.uncounted
@settings(max_examples=300, deadline=None)
@given(cases())
def test_shares_sum_to_the_cost_and_the_order_of_rows_changes_nothing(
    case: tuple[Agreement, list[Municipality]],
) -> None:
    """Nobody but the bearer pays more than the own part; the bearer, less than a yen a party."""
    made, municipalities = case
    divisions = divide(made, municipalities, made.items[0])
    again = divide(made, municipalities[::-1], made.items[0])
    for division, other in zip(divisions, again, strict=True):
        assert sum(share.yen for share in division.shares) == division.cost
        assert paid(division) == paid(other)
        for share in division.shares:
            assert sum(share.instalments) == share.yen
            assert len(set(share.instalments[1:])) <= 1
            assert share.yen >= 0
            if share.code6 != made.host:
                assert share.yen == share.exact.__floor__()
            else:
                assert 0 <= share.rest <= len(division.shares)
        cost = sum(share.exact for share in division.shares)
        assert division.cost <= cost < division.cost + 1


@settings(max_examples=200, deadline=None)
@given(st.integers(0, MOST_YEN), st.integers(1, 120))
def test_instalments_are_equal_but_for_the_first(yen: int, count: int) -> None:
    """The first one has what does not divide, and that is less than one yen an instalment."""
    first, *others = instalments(yen, count)
    assert first + sum(others) == yen
    assert set(others) <= {yen // count}
    assert 0 <= first - yen // count < count


# By hand.


def test_a_sum_that_can_be_checked_by_hand() -> None:
    """100 yen among 3 equal ones: 33 each, and the yen that is left is the bearer's."""
    municipalities = [municipality(n, BEGAN) for n in range(3)]
    made = agreement({row.code6: 5 for row in municipalities}, item(100))
    (division,) = divide(made, municipalities, made.items[0])
    assert list(paid(division).values()) == [34, 33, 33]
    assert division.shares[1].exact == Fraction(100, 3)


def test_who_joins_later_pays_for_fewer_months_unless_the_item_says_otherwise() -> None:
    """60 and 36 months at equal estimates are 5:3; without months it is 1:1."""
    municipalities = [municipality(0, BEGAN), municipality(1, date(2017, 11, 1))]
    alone = {row.code6: 7 for row in municipalities}
    made = agreement(alone, item(96))
    (division,) = divide(made, municipalities, made.items[0])
    assert list(paid(division).values()) == [60, 36]
    made = agreement(alone, item(96, by_months=False))
    (division,) = divide(made, municipalities, made.items[0])
    assert list(paid(division).values()) == [48, 48]


def test_a_fee_has_two_readings_of_a_year_in_which_somebody_joins() -> None:
    """120 a year, one of two comes for half of it: 2:1 by the year, 3:1 by the month."""
    municipalities = [municipality(0, BEGAN), municipality(1, date(2016, 10, 1))]
    alone = {row.code6: 7 for row in municipalities}
    for reading, wanted in (("year", [80, 40]), ("month", [90, 30])):
        made = agreement(alone, item(120, kind="fee"), fee_by=reading)
        (division,) = divide(made, municipalities, made.items[0], 2016)
        assert list(paid(division).values()) == wanted
    first, *others = divide(made, municipalities, made.items[0])
    assert (first.fiscal_year, first.cost) == (2015, 50)
    assert [division.fiscal_year for division in others] == [2016, 2017, 2018, 2019, 2020]


def test_tax_that_changes_within_a_year_is_each_months_own() -> None:
    """Six months at 8 and six at 10 per cent."""
    municipalities = [municipality(0, BEGAN)]
    made = agreement({municipalities[0].code6: 1}, item(1200, kind="fee", tax="excluded"))
    (division,) = divide(made, municipalities, made.items[0], 2019)
    assert division.cost == 600 * 108 // 100 + 600 * 110 // 100
    once = agreement({municipalities[0].code6: 1}, item(999, tax="excluded", taxed_on="2019-09-30"))
    (division,) = divide(once, municipalities, once.items[0])
    assert division.cost == 999 * 108 // 100


@pytest.mark.parametrize(("rule", "count"), [("counted", 60), ("left_out", 59)])
def test_a_part_of_a_month_needs_a_rule(rule: str, count: int) -> None:
    """One day late is a month more or less; without a rule it is a question to the agreement."""
    municipalities = [municipality(0, BEGAN), municipality(1, BEGAN + timedelta(1))]
    alone = {row.code6: 7 for row in municipalities}
    made = agreement(alone, item(96), part_months=rule)
    (division,) = divide(made, municipalities, made.items[0])
    assert [share.months for share in division.shares] == [60, count]
    made = agreement(alone, item(96), part_months=None)
    with pytest.raises(KosekiError, match="part_months"):
        divide(made, municipalities, made.items[0])


def test_who_leaves_pays_until_then() -> None:
    """The first day without it is no day of use."""
    municipalities = [municipality(0, BEGAN), municipality(1, BEGAN, date(2016, 11, 1))]
    made = agreement({row.code6: 7 for row in municipalities}, item(72))
    (division,) = divide(made, municipalities, made.items[0])
    assert [share.months for share in division.shares] == [60, 12]


def test_what_was_known_then_gives_what_was_computed_then() -> None:
    """A correction is one more row; the figures of before are still those of before."""
    municipalities = [municipality(0, BEGAN), municipality(1, BEGAN)]
    said = item(100)
    said["amounts"].append({"known_on": "2016-02-01", "source": "契約書-変更", "yen": 300})
    made = agreement({row.code6: 7 for row in municipalities}, said)
    (before,) = divide(made, municipalities, made.items[0], as_of=date(2016, 1, 31))
    (after,) = divide(made, municipalities, made.items[0])
    assert (before.cost, after.cost) == (100, 300)
    with pytest.raises(KosekiError, match="no amount of"):
        divide(made, municipalities, made.items[0], as_of=date(2014, 1, 1))


def test_a_day_on_which_the_office_is_closed_moves_as_agreed() -> None:
    """Saturday 2016-04-30 moves to Monday the 2nd of May or back over 昭和の日 to Thursday."""
    municipalities = [municipality(0, BEGAN)]
    for moved, day in (("next", date(2016, 5, 2)), ("previous", date(2016, 4, 28))):
        said = item(100, instalments=2, due=["2016-04-30", "2033-04-30"], moved=moved)
        made = agreement({municipalities[0].code6: 1}, said)
        first, second = due_days(made.items[0], Office())
        assert (first.agreed, first.day) == (date(2016, 4, 30), day)
        assert second.day is None


@pytest.mark.parametrize(
    ("more", "remedy"),
    [
        ({"instalments": 2, "due": ["2016-04-30"], "moved": "next"}, "one for each"),
        ({"due": ["2016-04-30"]}, "go together"),
        ({"moved": "next"}, "go together"),
        (
            {"instalments": 2, "due": ["2017-04-30", "2016-04-30"], "moved": "next"},
            "not in its order",
        ),
    ],
)
def test_due_days_that_do_not_hold(more: dict[str, Any], remedy: str) -> None:
    """As many as instalments, in their order, with the way that they move."""
    with pytest.raises(ValueError, match=remedy):
        agreement({code_of(0): 1}, item(100, **more))


def test_months_and_fiscal_years() -> None:
    """A year begins in April; February ends where it ends."""
    assert [str(month) for month in months(date(2015, 12, 31), date(2016, 2, 1))] == [
        *("2015-12", "2016-01", "2016-02")
    ]
    assert Month(2016, 2).last_day == date(2016, 2, 29)
    assert fiscal_years(date(2016, 3, 31), date(2017, 4, 1)) == [2015, 2016, 2017]


# The file and the command.


def run(*arguments: str) -> tuple[int, str, str]:
    """Run the command as an official would; return exit code, output and the sentence."""
    done = CliRunner().invoke(cli, ["costs", *arguments])
    said = str(done.exception) if isinstance(done.exception, KosekiError) else ""
    return done.exit_code, done.output, said


def test_the_sample_is_computed_explained_and_compared() -> None:
    """Each command on the sample; the explanation's numbers give the share by themselves."""
    code, output, _ = run("compute", "-i", "iida", "--json")
    assert code == 0
    rows = json.loads(output.splitlines()[-1])["divisions"]
    assert [row["item"] for row in rows] == ["servers-2015", "migration-2015", *["management"] * 6]
    assert all(sum(share["yen"] for share in row["shares"]) == row["cost"] for row in rows)
    code, output, _ = run("explain", "servers-2015", "大鹿村", "--json")
    (share,) = json.loads(output.splitlines()[-1])["shares"]
    (row,) = [row for row in rows if row["item"] == "servers-2015"]
    by_hand = row["cost"] * share["alone"] * share["months"] // row["whole"]
    assert share["yen"] == by_hand == share["exact"][0] // share["exact"][1]
    assert f"{by_hand:,} yen" in output
    code, output, _ = run("compare", "--before", "2015-03-01")
    assert (code, output) == (0, "nobody pays more or less\n")


BAD = [
    ("amounts", 0, "yen", None, "whole number"),
    ("amounts", 0, "yen", 0, "more than nothing"),
    ("amounts", 0, "yen", -5, "more than nothing"),
    ("amounts", 0, "yen", "17.5", "whole number"),
    ("amounts", 0, "yen", 17.5, "whole number"),
    ("amounts", 0, "yen", "1e7", "whole number"),
    ("amounts", 0, "yen", "８３００", "whole number"),
    ("amounts", 0, "yen", True, "whole number"),
    ("amounts", 0, "yen", MOST_YEN + 1, "at most"),
    ("amounts", 0, "known_on", "2015-02-31", "YYYY-MM-DD"),
    ("amounts", 0, "source", "", "at least 1 character"),
]


@pytest.mark.parametrize(("table", "row", "key", "value", "remedy"), BAD)
def test_a_bad_value_is_one_sentence(
    tmp_path: Path, table: str, row: int, key: str, value: object, remedy: str
) -> None:
    """Place, value and remedy; nothing is computed."""
    said = yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))
    said["items"][0][table][row][key] = value
    path = tmp_path / "agreement.yml"
    path.write_text(yaml.safe_dump(said, allow_unicode=True), encoding="utf-8")
    code, _, sentence = run("compute", "--agreement", str(path))
    assert code
    assert f"items.0.{table}.{row}.{key}" in sentence
    assert remedy in sentence


@pytest.mark.parametrize(
    ("before", "after", "remedy"),
    [
        ('code6: "204021"', 'code6: "204820"', "wrong check digit|not in the plan"),
        ('code6: "204021"', 'code6: "204200"', "check digit|not in the plan"),
        ('code6: "204021"', 'code6: "202053"', "twice"),
        ('last_day: "2020-10-31"', 'last_day: "2015-10-31"', "before first_day"),
        ('known_on: "2014-12-01"', 'unknown_on: "2014-12-01"', "unknown_on|required"),
        ("fee_by: year", "fee_by: week", "'year' or 'month'"),
        ("title: 管理運営費", "title: 管理運営費\n    title: 二度", "stands twice"),
        ("items:", "items: [", "not valid YAML"),
        ("id: migration-2015", "id: servers-2015", "twice"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, before: str, after: str, remedy: str) -> None:
    """An unknown town, one that stands twice, dates the wrong way round, a key given twice."""
    text = SAMPLE.read_text(encoding="utf-8")
    assert before in text
    path = tmp_path / "agreement.yml"
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(KosekiError, match=remedy):
        load_agreement(path, [code_of(0), *_codes()])


def _codes() -> list[str]:
    rows = yaml.safe_load(
        (ROOT / "inventories/iida/group_vars/all/municipalities.yml").read_text(encoding="utf-8")
    )["municipalities"]
    return [row["code6"] for row in rows]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("compute", "nothing"), "name one of its `items`: servers-2015"),
        (("compute", "management", "--fiscal-year", "2014"), "2015 to 2020"),
        (("compute", "servers-2015", "--fiscal-year", "2016"), "leave --fiscal-year out"),
        (("compute", "--as-of", "31.3.2016"), "2016-03-31"),
        (("compute", "--agreement", "/nowhere.yml"), "--agreement"),
        (("explain", "servers-2015", "松川村"), "koseki municipalities"),
        (("explain", "management", "松川町", "--fiscal-year", "2015"), "another item or year"),
    ],
)
def test_a_bad_question_is_one_sentence(arguments: tuple[str, ...], remedy: str) -> None:
    """What is not there is named with what is."""
    code, _, sentence = run(*arguments)
    assert code
    assert remedy in sentence
