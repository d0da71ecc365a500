"""The verification report: one HTML file that opens without a network and prints well."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined

from koseki_ops.inventory import WORKSTATION
from koseki_ops.verify.plan import Plan
from koseki_ops.verify.results import FAILED, PASSED, SKIPPED, HostState, Results, TestResult

# The plan's names of the servers, by group.
SERVER_NAMES = {
    "primary": ("正サーバ", "primary server"),
    "secondary": ("副サーバ", "secondary server"),
    "application": ("アプリケーションサーバ", "application server"),
    "registry_link": ("住基連携サーバ", "resident-registry link"),
    "remote_backup": ("第二バックアップ", "second backup"),
}
SHOWN_INSTANCES = 8
REIWA_BEGAN = 2019

# The picture's measures, in its own units.
CARD_WIDTH, CARD_HEIGHT, GAP, MARGIN = 228, 104, 28, 24
HEADING = 46
COUNTERS_WIDTH, LINE_WIDTH = 132, 116


@dataclass(frozen=True)
class Card:
    """One host in the picture: its place, its names, how it stands in words and colour."""

    x: float
    y: float
    host: str
    title: str
    subtitle: str
    address: str
    role: str
    state: str
    words: str
    symbol: str


@dataclass(frozen=True)
class Box:
    """A room in the picture."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Picture:
    """The hosts as a picture: rooms, cards, and the lines between them."""

    width: float
    height: float
    city: Box
    datacenter: Box
    counters: Box
    cards: list[Card]
    towns: int
    recording: str

    @property
    def middle(self) -> float:
        """The height at which the lines leave the city."""
        return self.city.y + self.city.height / 2


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
        return "unknown", "not asked", "–"
    if state.silence:
        return "failed", "did not answer", "✕"
    outcomes = [test.outcome for test in tests]
    failed = outcomes.count(FAILED)
    if failed:
        return "failed", f"{failed} of {len(outcomes)} do not hold", "✕"
    passed = outcomes.count(PASSED)
    if not passed:
        return "unknown", "nothing verified here", "–"
    return "passed", f"{passed} checks hold", "✓"


def draw(plan: Plan, results: Results) -> Picture:
    """Lay out the picture from the inventory: as many hosts in a group as there are."""
    rows = [
        [(h, "primary") for h in plan.hosts_in("primary")]
        + [(h, "secondary") for h in plan.hosts_in("secondary")],
        [(h, "application") for h in plan.hosts_in("application")]
        + [(h, "registry_link") for h in plan.hosts_in("registry_link")],
    ]
    columns = max(len(row) for row in rows)
    city = Box(
        MARGIN + COUNTERS_WIDTH + LINE_WIDTH,
        MARGIN,
        columns * (CARD_WIDTH + GAP) + GAP,
        HEADING + len(rows) * (CARD_HEIGHT + GAP) + GAP / 2,
        "飯田市 Iida City",
    )
    remote = plan.hosts_in("remote_backup")
    datacenter = Box(
        city.x + city.width + LINE_WIDTH,
        MARGIN,
        CARD_WIDTH + 2 * GAP,
        city.height,
        "民間データセンター private datacenter",
    )
    counters = Box(MARGIN, MARGIN, COUNTERS_WIDTH, city.height, "市町村窓口")
    cards = []
    for level, row in enumerate(rows):
        for column, (host, group) in enumerate(row):
            x = city.x + GAP + column * (CARD_WIDTH + GAP)
            y = city.y + HEADING + level * (CARD_HEIGHT + GAP)
            cards.append(_card(plan, results, host, group, (x, y)))
    stack = len(remote) * (CARD_HEIGHT + GAP) - GAP
    top = datacenter.y + HEADING + (datacenter.height - HEADING - stack) / 2 - GAP / 4
    for number, host in enumerate(remote):
        place = (datacenter.x + GAP, top + number * (CARD_HEIGHT + GAP))
        cards.append(_card(plan, results, host, "remote_backup", place))
    return Picture(
        datacenter.x + datacenter.width + MARGIN,
        city.y + city.height + MARGIN,
        city,
        datacenter,
        counters,
        cards,
        len(plan.towns),
        plan.platform.double_recording,
    )


def _card(plan: Plan, results: Results, host: str, group: str, place: tuple[float, float]) -> Card:
    state = results.hosts.get(host, HostState(plan.address(host, WORKSTATION) or "", asked=False))
    tests = [test for test in results.tests if test.host == host]
    colour, words, symbol = host_words(state, tests)
    title, subtitle = SERVER_NAMES[group]
    x, y = place
    return Card(x, y, host, title, subtitle, state.address, state.role, colour, words, symbol)


def in_era(moment: datetime) -> str:
    """Return a day in the Japanese era, as the books write it."""
    year = moment.year - REIWA_BEGAN + 1
    return f"令和{'元' if year == 1 else year}年{moment.month}月{moment.day}日"


def render(plan: Plan, results: Results) -> str:
    """Return the report as one HTML text without any outside reference."""
    environment = Environment(
        loader=PackageLoader("koseki_ops.verify"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    moment = datetime.fromtimestamp(results.finished_at, ZoneInfo(plan.platform.timezone))
    groups = grouped(results.tests)
    suites = {suite: grouped(tests) for suite, tests in results.suites.items()}
    values: dict[str, Any] = {
        "plan": plan,
        "results": results,
        "day": in_era(moment),
        "moment": moment,
        "picture": draw(plan, results),
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
    return environment.get_template("report.html.j2").render(values)


def _reasons(tests: Iterable[TestResult]) -> dict[str, list[Group]]:
    """Return what was not verified, by reason."""
    by_reason: dict[str, list[TestResult]] = {}
    for test in tests:
        by_reason.setdefault(test.reason, []).append(test)
    return {reason: grouped(rows) for reason, rows in by_reason.items()}


def write_report(plan: Plan, results: Results, path: Path) -> None:
    """Write the report in one step, so that a reader never meets half of it."""
    aside = path.with_suffix(".new")
    aside.write_text(render(plan, results), encoding="utf-8")
    aside.rename(path)
