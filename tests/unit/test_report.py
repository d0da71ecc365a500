"""The report says first what does not hold, opens without a network, and trusts no text."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from koseki_ops.calendar.eras import in_era
from koseki_ops.core.language import VARIABLE
from koseki_ops.plan.site import Site
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.report import coverage, grouped, host_words, render, worst
from koseki_ops.verify.results import FAILED, PASSED, SKIPPED, HostState, Results, TestResult

ROOT = Path(__file__).resolve().parents[2]
HOSTS = ("primary1", "secondary1", "application1", "registry-link1", "remote-backup1")


@pytest.fixture
def plan() -> Plan:
    """The lab's plan."""
    return Plan.of(Site(ROOT, "lab", "lab"), date(2026, 11, 1))


def result(outcome: str = PASSED, host: str = "primary1", **values: object) -> TestResult:
    """Return one test's result."""
    fields: dict[str, object] = {
        "suite": "accounts",
        "test": "test_root_is_locked",
        "id": f"test_accounts.py::test_root_is_locked[{host}]",
        "parameters": host,
        "seconds": 0.001,
        "why": "Nobody is root.",
        "docstring": "Nobody is root. (K-11)",
        "requirements": ["K-11"],
    }
    return TestResult(outcome=outcome, host=host, **{**fields, **values})  # type: ignore[arg-type]


def results(*tests: TestResult, **unreachable: str) -> Results:
    """Return results of all five hosts."""
    hosts = {host: HostState("10.158.10.11") for host in HOSTS}
    for host, unreachable_reason in unreachable.items():
        hosts[host].unreachable_reason = unreachable_reason
    hosts["primary1"].role = "leader"
    return Results(list(tests), hosts, {"accounts": "Accounts of people."}, 4.2, 1_790_000_000.0)


def test_what_fails_comes_before_what_holds(plan: Plan) -> None:
    """What fails comes before what holds."""
    page = render(
        plan,
        results(
            result(),
            result(
                FAILED,
                "secondary1",
                expected="L",
                seen="P",
                remedy="lock it",
                journal=["sshd said no"],
            ),
        ),
    )
    for text in ("secondary1", "lock it", "sshd said no", "What failed, and"):
        assert text in page
    assert page.index("lock it") < page.index("<h2>Suites</h2>")
    assert "1 of 2 checks failed" in re.sub(r"\s+", " ", page)


def test_a_green_report_says_so_and_has_no_failures(plan: Plan) -> None:
    """A green report says so and has no failures."""
    page = render(plan, results(result()))
    assert "Everything that was verified holds." in page
    assert "What failed, and" not in page


def test_what_was_not_verified_is_shown_with_its_reason(plan: Plan) -> None:
    """What was not verified is shown with its reason."""
    page = render(plan, results(result(), result(SKIPPED, reason="a container has no clock")))
    assert "a container has no clock" in page
    assert "Not verified, and why" in page


def test_an_unreachable_host_is_never_green(plan: Plan) -> None:
    """An unreachable host is never green."""
    page = render(plan, results(result(), secondary1="Connection refused"))
    assert "1 of 5 hosts did not answer" in re.sub(r"\s+", " ", page)
    assert "Everything that was verified holds." not in page
    assert "4/5" in page


def test_the_report_needs_no_network(plan: Plan) -> None:
    """The report needs no network."""
    page = render(plan, results(result()))
    assert not re.search(r"""(src|href)\s*=|url\(|@import|https?://""", page)


def test_text_from_hosts_cannot_become_markup(plan: Plan) -> None:
    """Text from hosts cannot become markup."""
    hostile = "<script>alert(1)</script>"
    failure = result(FAILED, expected=hostile, seen=hostile, remedy=hostile, journal=[hostile])
    page = render(plan, results(failure, result(SKIPPED, reason=hostile)))
    assert hostile not in page
    assert page.count("<script>") == 1


def test_a_report_is_in_the_language_of_who_asked(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headings, figures and what to do; what stands beside Japanese in every report may stay."""
    monkeypatch.setenv(VARIABLE, "ja")
    whole = render(plan, results(result(), result(FAILED), secondary1="timeout"))
    assert '<html lang="ja">' in whole
    page = re.sub(r"<(style|script)>.*?</\1>|<[^>]*>", " ", whole, flags=re.DOTALL)
    for text in (
        "不適合の項目と対処",
        "2 件中 1 件の検査が不適合です。",
        "secondary1 が応答しませんでした",
    ):
        assert text in page
    for text in ("What failed", "passed", "not verified", "remedy", "did not answer"):
        assert text not in page


def test_no_sentence_of_the_page_is_without_a_translation() -> None:
    """What stands in the template itself is symbols, styles and the bilingual head."""
    page = (ROOT / "src/koseki_ops/verify/templates/report.html.j2").read_text(encoding="utf-8")
    page = re.sub(r"<(style|script)>.*?</\1>", " ", page, flags=re.DOTALL)
    page = re.sub(r"\{%.*?%\}|\{\{.*?\}\}", " ", page, flags=re.DOTALL)
    bare = re.sub(r"<[^>]*>", " ", page)
    assert set(re.findall(r"[A-Za-z]{3,}", bare)) <= {
        *("shared", "family", "register", "platform", "Verification", "report")
    }


def test_the_picture_shows_each_host_with_its_name_and_part(plan: Plan) -> None:
    """The picture shows each host with its name and part."""
    page = render(plan, results(result()))
    for name in (
        "正サーバー",
        "副サーバー",
        "アプリケーションサーバー",
        "住基連携サーバー",
        "第二バックアップ",
    ):
        assert name in page
    assert ">leader</text>" in page


def test_results_survive_json() -> None:
    """Results survive json."""
    first = results(result(), result(FAILED, seen="x"), secondary1="away")
    plain = first.as_json()
    assert Results.from_json(plain) == first
    # Its key is read by others: the name here may change, the key does not.
    assert plain["hosts"]["secondary1"]["silence"] == "away"


@pytest.mark.parametrize(
    ("outcomes", "one"),
    [
        ((PASSED, FAILED, SKIPPED), FAILED),
        ((PASSED, SKIPPED), PASSED),
        ((SKIPPED,), SKIPPED),
    ],
)
def test_the_worst_outcome_stands_for_all(outcomes: tuple[str, ...], one: str) -> None:
    """The worst outcome stands for all."""
    assert worst(outcomes) == one


def test_runs_of_one_test_are_one_row() -> None:
    """Runs of one test are one row."""
    groups = grouped([result(), result(FAILED, "secondary1"), result(test="test_other")])
    assert [(group.test, len(group.runs), group.outcome) for group in groups] == [
        ("test_root_is_locked", 2, FAILED),
        ("test_other", 1, PASSED),
    ]


def test_requirements_are_counted_by_outcome() -> None:
    """Requirements are counted by outcome."""
    row = coverage([result(), result(FAILED), result(SKIPPED)])[0]
    assert (row.requirement, row.passed, row.failed, row.skipped) == ("K-11", 1, 1, 1)


def test_a_host_without_a_pass_is_not_called_good() -> None:
    """A host without a pass is not called good."""
    assert host_words(HostState(""), [])[0] == "unknown"
    assert host_words(HostState(""), [result(SKIPPED)])[0] == "unknown"
    assert host_words(HostState("", asked=False), [result()])[0] == "unknown"
    assert host_words(HostState(""), [result(), result(FAILED)])[0] == "failed"


def test_days_are_written_in_the_era() -> None:
    """Days are written in the era."""
    assert in_era(datetime(2026, 11, 23, tzinfo=UTC)) == "令和8年11月23日"
    assert in_era(datetime(2019, 5, 1, tzinfo=UTC)) == "令和元年5月1日"
