"""K-16: a bill that was issued is never changed; what was corrected becomes a settlement."""

from __future__ import annotations

import ast
import csv
import functools
import io
import json
from collections.abc import Callable
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from koseki_ops.calendar.business_days import Office
from koseki_ops.cli import cli
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.foreign import loads
from koseki_ops.costs import bills, papers
from koseki_ops.costs.bills import Bill
from koseki_ops.costs.book import Book
from koseki_ops.costs.model import load_agreement
from koseki_ops.costs.service import CostService, open_agreement
from koseki_ops.costs.shares import divide
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.plan.site import Site, project_root

PURE = ("model.py", "shares.py", "bills.py")
TODAY, MAKER, CHECKER = date(2026, 11, 2), "sousa01", "sousa02"
DUE = date(2026, 12, 25)
SAMPLE = project_root() / "agreements/iida.yml"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site of the real plan with the sample of an agreement, and nothing recorded."""
    (tmp_path / "inventories").symlink_to(project_root() / "inventories")
    (tmp_path / "agreements").mkdir()
    text = SAMPLE.read_text(encoding="utf-8")
    (tmp_path / "agreements/lab.yml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("KOSEKI_ROOT", str(tmp_path))
    return Site(tmp_path, "lab", "lab")


def corrected(site: Site, change: Callable[[dict[str, Any]], object]) -> None:
    """Write the agreement anew, after a change."""
    path = site.root / "agreements/lab.yml"
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(said)
    path.write_text(yaml.safe_dump(said, allow_unicode=True), encoding="utf-8")


def cheaper(said: dict[str, Any]) -> None:
    """Lower what the servers cost, known later."""
    row = {"known_on": "2026-10-01", "source": "変更契約書", "yen": 79_500_000}
    said["items"][0]["amounts"].append(row)


def service(site: Site, today: date = TODAY) -> CostService:
    """Return what a command works with on a day."""
    agreement, platform = open_agreement(site, None)
    return CostService(agreement, platform, Book(site), today)


def billed(site: Site, year: int = 2016) -> Bill:
    """Let a year be billed: drafted by one, approved by another."""
    draft = service(site).draft(year, "notice", MAKER)
    return service(site).approve(draft.number, CHECKER).bill


def rows(site: Site) -> int:
    """Count what was recorded."""
    return Ledger(site, "costs").verify().rows


def run(*argv: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(cli, ["costs", *argv])


# Nothing is a float.


@pytest.mark.parametrize(
    "path",
    sorted((project_root() / "src/koseki_ops/costs").glob("*.py")),
    ids=lambda path: path.name,
)
def test_nothing_is_a_float(path: Path) -> None:
    """No number with a point, none of the names that lead to one, and no `/` between numbers.

    `/` joins paths elsewhere; what computes says `Fraction(a, b)`, which two integers make exact.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float | complex))
        assert not (
            isinstance(node, ast.Name | ast.Attribute)
            and (node.id if isinstance(node, ast.Name) else node.attr)
            in {"float", "round", "Decimal", "truediv", "fsum"}
        )
        assert not (isinstance(node, ast.BinOp | ast.AugAssign)
                    and isinstance(node.op, ast.Div) and path.name in PURE)  # fmt: skip


# The way of a bill.


def test_another_person_than_its_maker_approves_a_bill(site: Site) -> None:
    """Its maker cannot, nor somebody who is no operator; an issued one is not issued again."""
    draft = service(site).draft(2016, "notice", MAKER)
    for by, why in ((MAKER, "another person than its maker"), ("nobody", "not a valid operator")):
        with pytest.raises(KosekiError, match=why):
            service(site).approve(draft.number, by)
    assert rows(site) == 1
    entry = service(site).approve(draft.number, CHECKER)
    assert (entry.issued_on, entry.approved_by) == (TODAY, CHECKER)
    with pytest.raises(KosekiError, match=r"stays as it is.*costs settle 2016"):
        service(site).approve(draft.number, CHECKER)
    with pytest.raises(KosekiError, match="costs settle 2016"):
        service(site).draft(2016, "notice", MAKER)
    assert rows(site) == 2


def test_a_bill_asks_for_what_the_shares_are(site: Site) -> None:
    """In 2016 the first of five instalments of the servers, and the fee of that year."""
    bill = billed(site)
    agreement, platform = open_agreement(site, None)
    (servers,) = divide(agreement, platform.municipalities, agreement.item("servers-2015"))
    (fee,) = divide(agreement, platform.municipalities, agreement.item("management"), 2016)
    first = sum(share.instalments[0] for share in servers.shares)
    assert sum(line.yen for line in bill.lines) == first + fee.cost
    assert {line.due for line in bill.lines} == {date(2016, 5, 2), date(2016, 11, 30)}
    assert bill.host not in bill.payers()
    assert len(bill.payers()) == 13


def test_each_instalment_is_billed_once(site: Site) -> None:
    """All years together ask for exactly what everything costs."""
    agreement, platform = open_agreement(site, None)
    years = bills.due_years(agreement)
    asked = sum(
        line.yen
        for year in years
        for line in bills.owed(agreement, platform.municipalities, year, TODAY, Office())[1]
    )
    costs = [divide(agreement, platform.municipalities, item) for item in agreement.items]
    assert years == list(range(2015, 2021))
    assert asked == sum(division.cost for divisions in costs for division in divisions)


def test_a_correction_changes_no_bill_and_makes_a_settlement(site: Site) -> None:
    """What was billed and the differences come to what is owed; a second one finds nothing left."""
    bill = billed(site)
    said = Ledger(site, "costs").path.read_bytes()
    corrected(site, cheaper)
    assert any("differs" in finding.what for finding in service(site).findings([2016]))
    draft = service(site).draft(2016, "settlement", MAKER, DUE)
    settlement = service(site).approve(draft.number, CHECKER).bill
    assert Ledger(site, "costs").path.read_bytes().startswith(said)
    agreement, platform = open_agreement(site, None)
    now = bills.owed(agreement, platform.municipalities, 2016, TODAY, Office())[1]
    owed = {line.key: line.yen for line in now}
    asked = {line.key: line.yen for line in bill.lines}
    assert {line.key: asked[line.key] + line.balance for line in settlement.lines} == owed
    assert settlement.settles == bill.number
    assert sum(settlement.balance(code) for code in bill.names) < 0
    assert not any("differs" in finding.what for finding in service(site).findings([2016]))
    again = service(site).draft(2016, "settlement", MAKER, DUE)
    assert {line.balance for line in again.lines} == {0}
    assert again.settles == settlement.number


def test_what_is_owed_no_more_is_paid_back(site: Site) -> None:
    """An item that the agreement does not have any more, or that is due in another year."""
    bill = billed(site)
    corrected(site, lambda said: said["items"].pop(0))
    draft = service(site).draft(2016, "settlement", MAKER, DUE)
    gone = [line for line in draft.lines if line.item == "servers-2015"]
    assert {line.yen for line in gone} == {0}
    assert sum(line.balance for line in gone) == -sum(
        line.yen for line in bill.lines if line.item == "servers-2015"
    )
    corrected(site, lambda said: said["items"].pop(1))
    corrected(site, lambda said: said["items"][0].update(due=["2017-11-30"]))
    everything = service(site).draft(2016, "settlement", MAKER, DUE)
    assert sum(line.balance for line in everything.lines) == -sum(line.yen for line in bill.lines)


def test_a_draft_that_does_not_hold_any_more_is_not_issued(site: Site) -> None:
    """Neither an older one, nor one of figures that were corrected since."""
    first = service(site).draft(2016, "notice", MAKER)
    second = service(site).draft(2016, "notice", CHECKER)
    with pytest.raises(KosekiError, match=r"approve that one: .*2016-notice-2"):
        service(site).approve(first.number, CHECKER)
    corrected(site, cheaper)
    with pytest.raises(KosekiError, match="differs from the draft"):
        service(site).approve(second.number, MAKER)
    assert rows(site) == 2


def test_nothing_is_settled_that_was_not_billed(site: Site) -> None:
    """And a difference is paid on a business day to come."""
    with pytest.raises(KosekiError, match=r"koseki costs bill 2016"):
        service(site).draft(2016, "settlement", MAKER, DUE)
    billed(site)
    for due in (date(2026, 11, 1), date(2026, 12, 26)):
        with pytest.raises(KosekiError, match="business day to come"):
            service(site).draft(2016, "settlement", MAKER, due)
    assert rows(site) == 2


def test_planned_amounts_are_told_before_the_bill(site: Site) -> None:
    """They may be told again; once the bill is out, there is nothing to plan."""
    draft = service(site).draft(2016, "planned", MAKER)
    service(site).approve(draft.number, CHECKER)
    again = service(site).draft(2016, "planned", MAKER)
    assert again.number == "2016-planned-2"
    billed(site)
    with pytest.raises(KosekiError, match="was billed"):
        service(site).draft(2016, "planned", MAKER)
    with pytest.raises(KosekiError, match="nothing is to be paid"):
        service(site).pay(draft.number, "高森町", 1, TODAY, MAKER)


def test_a_bill_waits_for_the_holidays_of_its_days(site: Site) -> None:
    """The planned amounts do not: they name the day that was agreed."""
    corrected(site, lambda said: said["items"][0]["due"].__setitem__(4, "2033-04-30"))
    planned = service(site).draft(2033, "planned", MAKER)
    assert {(line.agreed, line.due) for line in planned.lines} == {(date(2033, 4, 30), None)}
    with pytest.raises(KosekiError, match="holidays are not out"):
        service(site).draft(2033, "notice", MAKER)


def test_deadlines_are_data_and_move_as_agreed(site: Site) -> None:
    """2/10 before the year, 11/5 and 2/15 in it; a Sunday moves to the business day before."""
    agreement, _platform = open_agreement(site, None)
    assert bills.dates(agreement, 2017, Office()) == {
        "planned": date(2017, 2, 10),
        "notice": date(2017, 11, 2),
        "settlement": date(2018, 2, 15),
    }
    assert bills.dates(agreement, 2040, Office())["notice"] == date(2040, 11, 5)
    late = [finding.what for finding in service(site).findings([2017])]
    assert late == [
        "not out by 2017-02-10: the planned amounts",
        "not out by 2017-11-02: the bill",
        "not out by 2018-02-15: the settlement",
    ]
    assert service(site, date(2017, 2, 10)).findings([2017]) == []


# Payments.


def test_payments_are_noted_until_nothing_is_open(site: Site) -> None:
    """Late is what is due and not there; more than is open is refused."""
    bill = billed(site)
    (code, *_others) = bill.payers()
    whole = bill.balance(code)
    name = bill.names[code]
    assert f"{bill.number}: {name}: {whole:,} yen are overdue" in {
        finding.what for finding in service(site).findings([2016])
    }
    first = service(site).pay(bill.number, name, 1000, TODAY, MAKER)
    with pytest.raises(KosekiError, match=f"{whole - 1000:,} are open"):
        service(site).pay(bill.number, code, whole, TODAY, MAKER)
    service(site).pay(bill.number, code, whole - 1000, TODAY, MAKER)
    assert not any(name in finding.what for finding in service(site).findings([2016]))
    service(site).take_back(first, "別の団体の入金", CHECKER)
    assert f"{bill.number}: {name}: 1,000 yen are overdue" in {
        finding.what for finding in service(site).findings([2016])
    }
    with pytest.raises(KosekiError, match="no payment of this number"):
        service(site).take_back(first, "二度", CHECKER)
    assert rows(site) == 5


@pytest.mark.parametrize("on", [date(2026, 11, 1), date(2026, 11, 3)])
def test_a_payment_is_neither_before_its_bill_nor_to_come(site: Site, on: date) -> None:
    """Between the day of issue and today."""
    bill = billed(site)
    with pytest.raises(KosekiError, match="on a day to come"):
        service(site).pay(bill.number, "高森町", 1, on, MAKER)


# What is typed.

REFUSED = {
    "a year in full-width digits": (("bill", "２０１６", "--by", MAKER), "fiscal year"),
    "a year that is a number": (("bill", "1e3", "--by", MAKER), "fiscal year"),
    "a year of which nothing is due": (("bill", "2030", "--by", MAKER), "2015 to 2020"),
    "nobody": (("bill", "2016", "--by", "sousa99"), "not a valid operator"),
    "no such bill": (("approve", "2016-notice-9", "--by", CHECKER), "costs status"),
    "no such day": (("settle", "2016", "--due", "2026-02-31", "--by", MAKER), "2016-03-31"),
    "another way to write a day": (
        ("settle", "2016", "--due", "20261225", "--by", MAKER),
        "a date",
    ),
    "an agreement that is not there": (
        ("bill", "2016", "--by", MAKER, "--agreement", "/nowhere.yml"),
        "--agreement",
    ),
    "a folder of nothing": (("print", "2016-notice-1", "--to", "/nowhere"), "costs status"),
    "no such payment": (("unpay", "7", "--reason", "x", "--by", MAKER), "costs status"),
    "a payment that is no number": (("unpay", "x", "--reason", "x", "--by", MAKER), "plain digits"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_one_sentence_and_nothing_written(site: Site, case: str) -> None:
    """Exit 2, and the ledger is not even made."""
    arguments, remedy = REFUSED[case]
    done = run(*arguments)
    assert isinstance(done.exception, KosekiError)
    assert remedy in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not Ledger(site, "costs").path.exists()


@pytest.mark.parametrize(
    "yen", ["", "0", "-5", "17.5", "1e7", "８３００", "1_000", "+5", " 5", "9" * 16, "9" * 5000]
)
def test_an_amount_is_plain_digits(site: Site, yen: str) -> None:
    """Missing, zero, negative, with a point, in another notation, of another width, too large."""
    bill = billed(site)
    done = run("pay", bill.number, "高森町", "--yen", yen, "--on", "2026-11-02", "--by", MAKER)
    assert isinstance(done.exception, KosekiError), done.output
    assert rows(site) == 2


@pytest.mark.parametrize("municipality", ["松川村", "204820", "20403", "202053"])
def test_a_payer_is_one_of_the_bill(site: Site, municipality: str) -> None:
    """松川村 is not 松川町, a code has six digits, and the host pays itself nothing."""
    bill = billed(site)
    done = run("pay", bill.number, municipality, "--yen", "5", "--on", "2026-11-02", "--by", MAKER)
    assert isinstance(done.exception, KosekiError), done.output
    assert rows(site) == 2


@pytest.mark.parametrize("yen", ["0100", "0x64", "1_000", "+100", "1:40", "1e2", "1.0e+2", "~"])
def test_a_file_says_an_amount_in_plain_digits(site: Site, yen: str) -> None:
    """YAML would read 0100 as 64 and 1:40 as 100; who wrote it meant something, and is asked."""
    text = SAMPLE.read_text(encoding="utf-8").replace("yen: 83000000", f"yen: {yen}")
    path = site.root / "agreements/lab.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(KosekiError, match=r"items\.0\.amounts\.0\.yen"):
        load_agreement(path, list(service_codes()))
    done = run("bill", "2016", "--by", MAKER)
    assert isinstance(done.exception, KosekiError)
    assert not Ledger(site, "costs").path.exists()


def service_codes() -> list[str]:
    """Return the codes of the plan."""
    path = project_root() / "inventories/iida/group_vars/all/municipalities.yml"
    return [row["code6"] for row in yaml.safe_load(path.read_text("utf-8"))["municipalities"]]


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "months beyond the term": (
        lambda said: said["items"][0].update(last_day="2020-11-01"),
        "beyond every term",
    ),
    "terms that overlap": (
        lambda said: said["terms"].append(
            {"first_day": "2020-10-31", "last_day": "2025-10-31", "source": "更新"}
        ),
        "before the one before it ends",
    ),
    "two versions valid on one day": (
        lambda said: said["estimates"].append(said["estimates"][0]),
        "keep one of the rows",
    ),
    "two amounts known on one day": (
        lambda said: said["items"][0]["amounts"].append(said["items"][0]["amounts"][0]),
        "known on a day twice",
    ),
    "a deadline on no day of every year": (
        lambda said: said["deadlines"].update(final="02-29"),
        "MM-DD",
    ),
    "a deadline in another notation": (
        lambda said: said["deadlines"].update(notice="11/5"),
        "MM-DD",
    ),
    "a fee that is due once": (
        lambda said: said["items"][2].update(due=["2016-11-30"]),
        "give the other",
    ),
    "a once that is due each year": (
        lambda said: said["items"][0].update(due=[], due_in_year=["11-30"]),
        "give the other",
    ),
    "no terms": (lambda said: said.pop("terms"), "terms"),
    "no deadlines": (lambda said: said.pop("deadlines"), "deadlines"),
    "a municipality that takes part and has no estimate": (
        lambda said: said["estimates"][0]["alone"].pop(3),
        "what it would have paid alone",
    ),
    "an item that is never due": (
        lambda said: said["items"][0].update(due=[], moved=None),
        "on which an item is due",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_agreement_that_does_not_hold_bills_nothing(site: Site, case: str) -> None:
    """One sentence with the remedy, and nothing written."""
    change, remedy = BROKEN[case]
    corrected(site, change)
    done = run("bill", "2016", "--by", MAKER)
    assert isinstance(done.exception, KosekiError), done.output
    assert remedy in str(done.exception)
    assert not Ledger(site, "costs").path.exists()


def test_a_renewal_is_one_more_term(site: Site) -> None:
    """With items of its own, from estimates of its own; the old one's figures stay."""

    def renewed(said: dict[str, Any]) -> None:
        said["terms"].append(
            {"first_day": "2020-11-01", "last_day": "2025-10-31", "source": "規約-更新"}
        )
        alone = [{**row, "yen": row["yen"] * 2} for row in said["estimates"][0]["alone"]]
        alone[0]["yen"] = 1
        said["estimates"].append(
            {"valid_from": "2020-11-01", "known_on": "2020-01-01", "source": "更新", "alone": alone}
        )
        fee = said["items"][2]
        days = {"first_day": "2020-11-01", "last_day": "2025-10-31"}
        said["items"].append({**fee, "id": "management-2020", **days})

    before = service(site).draft(2019, "planned", MAKER)
    corrected(site, renewed)
    after = service(site).draft(2019, "planned", MAKER)
    assert before.same_figures(after)
    both = service(site).draft(2020, "planned", MAKER)
    fees = {part.item: part for part in both.parts if part.fiscal_year == 2020}
    assert {name: part.shares[1].months for name, part in fees.items()} == {
        "management": 7,
        "management-2020": 5,
    }
    assert fees["management-2020"].estimate.source == "更新"


# What is recorded and printed.


def test_the_book_is_whole_or_nothing_is_shown(site: Site) -> None:
    """A row that was changed is named, and no figure is shown from it."""
    bill = billed(site)
    path = Ledger(site, "costs").path
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"yen":1329307', '"yen":1329306', 1), encoding="utf-8")
    assert text != path.read_text(encoding="utf-8"), bill.number
    assert isinstance(run("status", "2016").exception, KosekiError)
    assert CliRunner().invoke(cli, ["evidence", "verify"]).exit_code == 1


def test_status_says_what_is_there_and_what_is_late(site: Site) -> None:
    """Exit 1 while something is; the JSON has every municipality."""
    bill = billed(site)
    done = run("status", "2016", "--json")
    assert done.exit_code == 1
    said = json.loads(done.stdout.splitlines()[-1])
    assert [row["number"] for row in said["bills"]] == [bill.number]
    assert len(said["bills"][0]["municipalities"]) == 14
    assert any("overdue" in row["what"] for row in said["wrong"])


def test_a_share_is_checked_by_quotient_and_remainder(site: Site) -> None:
    """Both readings of the year in which six join: what a calculator gives is what is billed."""
    for reading in ("year", "month"):
        corrected(site, functools.partial(dict.update, fee_by=reading))
        (part,) = [
            part
            for part in service(site).draft(2017, "planned", MAKER).parts
            if part.item == "management"
        ]
        assert part.method == reading
        sums = dict.fromkeys((share.code6 for share in part.shares), Fraction())
        tables = papers.monthly(part) if reading == "month" else [papers.weighted(part)]
        assert len(tables) == (2 if reading == "month" else 1)
        for table in tables:
            for share, _weight, quotient in table.rows:
                product = quotient.whole * quotient.denominator + quotient.rest
                assert product == quotient.numerator
                assert 0 <= quotient.rest < quotient.denominator
                sums[share.code6] += Fraction(quotient.numerator, quotient.denominator)
        for share in part.shares:
            assert sums[share.code6] == share.exact
            assert share.exact.__floor__() == share.yen - share.rest
        assert sum(share.yen for share in part.shares) == part.cost


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 10**15), min_size=1, max_size=8), st.integers(1, 10**15))
def test_what_is_recorded_is_read_back_digit_by_digit(alone: list[int], cost: int) -> None:
    """Also fractions of more digits than a reader of records takes as a number."""
    whole = sum(alone)
    portion = bills.Portion(
        code6="202053",
        name="飯田市",
        alone=alone[0],
        months=1200,
        exact=Fraction(cost * alone[0], whole),
        yen=1,
        rest=0,
        instalments=[1],
    )
    again = bills.Portion.model_validate(loads(portion.model_dump_json()))
    assert again == portion
    run = bills.Months(
        first="2016-04",
        last="2017-03",
        count=12,
        percent=8,
        monthly=Fraction(cost, 12),
        whole=whole * 10**25,
        codes=["202053"],
    )
    assert bills.Months.model_validate(loads(run.model_dump_json())) == run
    assert again.exact == Fraction(cost * alone[0], whole)


def test_a_bill_with_the_largest_figures_is_recorded(site: Site) -> None:
    """Amounts of fifteen digits make fractions of twice as many, and the ledger stays readable."""

    def large(said: dict[str, Any]) -> None:
        said["items"][0]["amounts"][0]["yen"] = 10**15 - 1
        for place, row in enumerate(said["estimates"][0]["alone"]):
            row["yen"] = 10**15 - 37 * place

    corrected(site, large)
    bill = billed(site)
    book = Book(site)
    book.read()
    assert book.entry(bill.number).bill == bill


def read(content: bytes) -> list[list[str]]:
    """Return a CSV as an office's spreadsheet reads it."""
    assert content.startswith(b"\xef\xbb\xbf")
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))


def test_papers_are_the_same_whenever_they_are_printed(site: Site, tmp_path: Path) -> None:
    """PDF and CSV, from the record alone: the agreement may be another one by then."""
    bill = billed(site)
    assert run("print", bill.number, "高森町", "--to", str(tmp_path / "one")).exit_code == 0
    corrected(site, cheaper)
    assert run("print", bill.number, "高森町", "--to", str(tmp_path / "two")).exit_code == 0
    one, two = (
        {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())}
        for name in ("one", "two")
    )
    assert one == two
    names = {name.removeprefix(f"{bill.number}-") for name in one}
    assert names == {"算定書.pdf", "負担金通知書.pdf", "納入書.pdf", "算定書.csv", "明細.csv"}
    assert all(content.startswith(b"%PDF-") for name, content in one.items() if ".pdf" in name)
    head, *lines = read(one[f"{bill.number}-明細.csv"])
    yen = head.index("負担額")
    assert sum(int(line[yen]) for line in lines) == sum(line.yen for line in bill.lines)
    head, *lines = read(one[f"{bill.number}-算定書.csv"])
    places = [head.index(name) for name in ("分子", "分母", "円未満切捨て", "端数負担", "負担額")]
    for line in lines:
        above, below, cut, rest, yen = (int(line[place]) for place in places)
        assert above // below == cut == yen - rest


def test_a_file_of_somebody_else_is_not_overwritten(site: Site, tmp_path: Path) -> None:
    """Nor is anything written beside it."""
    bill = billed(site)
    there = tmp_path / f"{bill.number}-明細.csv"
    there.write_text("mine", encoding="utf-8")
    done = run("print", bill.number, "高森町", "--to", str(tmp_path))
    assert isinstance(done.exception, KosekiError)
    assert there.read_text(encoding="utf-8") == "mine"
    assert not list(tmp_path.glob("*.pdf"))
    done = run("print", bill.number, "飯田市", "--to", str(tmp_path))
    assert "does not go to the municipality" in str(done.exception)


def test_a_settlement_is_printed_with_what_was_billed(site: Site, tmp_path: Path) -> None:
    """As a draft it says so; who is paid back gets no slip to pay by."""
    billed(site)
    corrected(site, cheaper)
    draft = service(site).draft(2016, "settlement", MAKER, DUE)
    assert run("print", draft.number, "大鹿村", "--to", str(tmp_path)).exit_code == 0
    names = {
        path.name.removeprefix(f"{draft.number}-") for path in tmp_path.glob(f"{draft.number}*")
    }
    assert names == {"算定書.pdf", "精算書.pdf", "算定書.csv", "明細.csv"}
    head, *lines = read((tmp_path / f"{draft.number}-明細.csv").read_bytes())
    assert {line[head.index("状態")] for line in lines} == {"案"}
    for line in lines:
        owed, before, left = (int(line[head.index(k)]) for k in ("負担額", "既通知額", "差引額"))
        assert owed - before == left
