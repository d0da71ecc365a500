"""What `koseki verify` says and how it ends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import VARIABLE
from koseki_ops.plan.site import Site
from koseki_ops.verify.cli import exit_code, print_results, verify_command
from koseki_ops.verify.results import FAILED, PASSED, SKIPPED, HostState, Results, TestResult
from koseki_ops.verify.runner import known_suites, suite_files

ROOT = Path(__file__).resolve().parents[2]


def results(*outcomes: str, unreachable_reason: str = "") -> Results:
    """Return results with these outcomes, of one host."""
    tests = [
        TestResult(
            suite="time",
            test="test_clock",
            id=f"test_time.py::test_clock[{number}]",
            host="primary1",
            parameters="primary1",
            outcome=outcome,
            seconds=0.1,
            why="One clock.",
            docstring="One clock.",
            requirements=["K-20"],
            expected="12:00" if outcome == FAILED else "",
            seen="12:07" if outcome == FAILED else "",
            remedy="set it" if outcome == FAILED else "",
            reason="a container" if outcome == SKIPPED else "",
            journal=["chronyd: no source"] if outcome == FAILED else [],
        )
        for number, outcome in enumerate(outcomes)
    ]
    return Results(
        tests, {"primary1": HostState("10.0.0.1", unreachable_reason=unreachable_reason)}
    )


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (results(PASSED, SKIPPED), 0),
        (results(PASSED, FAILED), 1),
        (results(PASSED, unreachable_reason="away"), 2),
        (results(FAILED, unreachable_reason="away"), 2),
        (results(SKIPPED), 2),
        (results(), 2),
    ],
)
def test_the_exit_code_says_how_it_ended(found: Results, code: int) -> None:
    """0 holds, 1 does not, 2 could not be asked; what verified nothing is never 0."""
    assert exit_code(found) == code


def test_a_failure_is_printed_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Expected, seen, remedy and the journal stand under the test's name."""
    print_results(results(PASSED, FAILED, SKIPPED))
    said = capsys.readouterr().out
    for words in (
        "1 passed, 1 failed, 1 not verified",
        "test_time.py::test_clock[1]",
        "expected: 12:00",
        "seen:     12:07",
        "remedy:   set it",
        "chronyd: no source",
        "not verified (1): a container",
    ):
        assert words in said


def test_a_failure_is_printed_in_japanese(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same lines, whose names stay as they are."""
    monkeypatch.setenv(VARIABLE, "ja")
    print_results(results(PASSED, FAILED, SKIPPED))
    said = capsys.readouterr().out
    for words in ("適合 1 件", "不適合 test_time.py::test_clock[1]", "chronyd: no source"):
        assert words in said
    assert not re.search(r"passed|failed|expected|remedy", said)


def test_an_unreachable_host_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence goes to standard error."""
    print_results(results(PASSED, unreachable_reason="no route"))
    assert "primary1 did not answer: no route" in capsys.readouterr().err


def test_an_unknown_suite_is_named_with_the_known_ones() -> None:
    """Bad input gets one sentence."""
    with pytest.raises(KosekiError, match="unknown suite \\(nonsense\\): name one of accounts"):
        suite_files(Site(ROOT, "lab", "lab"), ["nonsense"])


def test_the_help_names_every_suite() -> None:
    """A suite that is added shows up in the help."""
    suites = known_suites(Site(ROOT, "lab", "lab"))
    assert len(suites) > 20
    said = CliRunner().invoke(verify_command, ["--help"], prog_name="koseki verify").output
    words = said.replace(",", " ").replace(".", " ").split()
    assert set(suites) <= set(words)
