"""The verification report: one HTML file that opens without a network and prints well."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from koseki_ops.calendar.eras import in_era
from koseki_ops.core.files import write_atomic
from koseki_ops.core.language import _, language, ngettext
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.report.picture import Picture, Stand, draw, environment
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.results import FAILED, PASSED, SKIPPED, HostState, Results, TestResult

SHOWN_INSTANCES = 8


@dataclass(frozen=True)
class Group:
    """All runs of one test function, for one row of the report."""

    suite: str
    test: str
    why: str
    requirements: list[str]
    outcome: str
    runs: list[TestResult]

    def count(self, outcome: str) -> int:
        """Return how many runs ended so."""
        return sum(run.outcome == outcome for run in self.runs)

    @property
    def seconds(self) -> float:
        """Time of all runs together."""
        return sum(run.seconds for run in self.runs)

    def with_outcome(self, outcome: str) -> list[TestResult]:
        """Return the runs that ended so."""
        return [run for run in self.runs if run.outcome == outcome]


@dataclass(frozen=True)
class Coverage:
    """How many checks cite a requirement, by outcome."""

    requirement: str
    passed: int
    failed: int
    skipped: int


def worst(outcomes: Iterable[str]) -> str:
    """Return the outcome that stands for several: a failure, then a pass, then not verified."""
    seen = set(outcomes)
    return next(outcome for outcome in (FAILED, PASSED, SKIPPED) if outcome in seen)


def grouped(tests: Iterable[TestResult]) -> list[Group]:
    """Return one group for each test function, in the order in which they ran."""
    runs: dict[tuple[str, str], list[TestResult]] = {}
    for test in tests:
        runs.setdefault((test.suite, test.test), []).append(test)
    return [
        Group(
            suite,
            name,
            rows[0].why,
            rows[0].requirements,
            worst(row.outcome for row in rows),
            rows,
        )
        for (suite, name), rows in runs.items()
    ]


def coverage(tests: Iterable[TestResult]) -> list[Coverage]:
    """Return each cited requirement with its checks' outcomes."""
    counts: dict[str, dict[str, int]] = {}
    for test in tests:
        for requirement in test.requirements:
            row = counts.setdefault(requirement, {PASSED: 0, FAILED: 0, SKIPPED: 0})
            row[test.outcome] += 1
    return [
        Coverage(name, row[PASSED], row[FAILED], row[SKIPPED])
        for name, row in sorted(counts.items())
    ]


def host_words(state: HostState, tests: Iterable[TestResult]) -> tuple[str, str, str]:
    """Return how a host stands: a class for its colour, words, and a symbol beside the colour."""
    if not state.asked:
        return "unknown", _("not asked"), "–"
    if state.unreachable_reason:
        return "failed", _("did not answer"), "✕"
    outcomes = [test.outcome for test in tests]
    failed = outcomes.count(FAILED)
    if failed:
        words = _("{failed} of {count} failed").format(failed=failed, count=len(outcomes))
        return "failed", words, "✕"
    passed = outcomes.count(PASSED)
    if not passed:
        return "unknown", _("nothing verified here"), "–"
    return (
        "passed",
        ngettext("{count} check passed", "{count} checks passed", passed).format(count=passed),
        "✓",
    )


def picture_of(plan: Plan, stand: Callable[[str], Stand]) -> Picture:
    """Return the plan's hosts as a picture. stand: how a host stands, for whoever draws it."""
    return draw(plan.inventory, len(plan.joined), plan.platform.double_recording, stand)


def stand(plan: Plan, results: Results, host: str) -> Stand:
    """Return how a host is shown in the picture."""
    state = results.hosts.get(host, HostState(plan.address(host, WORKSTATION) or "", asked=False))
    tests = [test for test in results.tests if test.host == host]
    return Stand(*host_words(state, tests), state.address, state.role)


def render(plan: Plan, results: Results) -> str:
    """Return the report as one HTML text without any outside reference."""
    moment = datetime.fromtimestamp(results.finished_at, ZoneInfo(plan.platform.timezone))
    groups = grouped(results.tests)
    suites = {suite: grouped(tests) for suite, tests in results.suites.items()}
    values: dict[str, Any] = {
        "plan": plan,
        "results": results,
        "lang": language(),
        "day": in_era(moment),
        "moment": moment,
        "picture": picture_of(plan, lambda host: stand(plan, results, host)),
        "passed": results.count(PASSED),
        "failed": results.count(FAILED),
        "skipped": results.count(SKIPPED),
        "failures": [group for group in groups if group.count(FAILED)],
        "unverified": _reasons(results.with_outcome(SKIPPED)),
        "suites": suites,
        "coverage": coverage(results.tests),
        "shown_instances": SHOWN_INSTANCES,
        "worst": worst,
        "FAILED": FAILED,
        "SKIPPED": SKIPPED,
        "PASSED": PASSED,
    }
    return environment("koseki_ops.verify").get_template("report.html.j2").render(values)


def _reasons(tests: Iterable[TestResult]) -> dict[str, list[Group]]:
    """Return what was not verified, by reason."""
    by_reason: dict[str, list[TestResult]] = {}
    for test in tests:
        by_reason.setdefault(test.reason, []).append(test)
    return {reason: grouped(rows) for reason, rows in by_reason.items()}


def write_report(plan: Plan, results: Results, path: Path) -> None:
    """Write the report in one step, so that a reader never meets half of it."""
    write_atomic(path, render(plan, results))
