"""What a verification found, in one form for the terminal, JSON and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


@dataclass
class TestResult:
    """One test's outcome.

    why: the first sentence of its docstring; requirements: the K-ids it cites; expected, seen,
    remedy, unit and journal belong to a failure, reason to a test that was not verified.
    """

    __test__ = False  # pytest, this is no test

    suite: str
    test: str
    id: str
    host: str
    parameters: str
    outcome: str
    seconds: float
    why: str
    docstring: str
    requirements: list[str]
    expected: str = ""
    seen: str = ""
    remedy: str = ""
    unit: str = ""
    reason: str = ""
    journal: list[str] = field(default_factory=list)


@dataclass
class HostState:
    """How a host stood: its address, whether it was asked and answered, its part now."""

    address: str
    asked: bool = True
    unreachable_reason: str = ""
    role: str = ""


@dataclass
class Results:
    """Everything a verification found.

    about: what each suite is about, one sentence; left_out: how many tests are about hosts that
    --limit leaves out; seconds: wall clock; finished_at: seconds since
    1970.
    """

    tests: list[TestResult] = field(default_factory=list)
    hosts: dict[str, HostState] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    finished_at: float = 0.0
    left_out: int = 0

    def count(self, outcome: str) -> int:
        """Return how many tests ended so."""
        return sum(test.outcome == outcome for test in self.tests)

    def with_outcome(self, outcome: str) -> list[TestResult]:
        """Return the tests that ended so."""
        return [test for test in self.tests if test.outcome == outcome]

    @property
    def suites(self) -> dict[str, list[TestResult]]:
        """The tests by suite, in the order in which they ran."""
        grouped: dict[str, list[TestResult]] = {}
        for test in self.tests:
            grouped.setdefault(test.suite, []).append(test)
        return grouped

    @property
    def unreachable(self) -> dict[str, str]:
        """The hosts that did not answer, and why."""
        return {
            name: host.unreachable_reason
            for name, host in self.hosts.items()
            if host.unreachable_reason
        }

    def as_json(self) -> dict[str, Any]:
        """Return plain values, as `from_json` takes them."""
        plain = asdict(self)
        # The key is a contract with whoever reads it.
        plain["hosts"] = {
            name: {("silence" if key == "unreachable_reason" else key): row[key] for key in row}
            for name, row in plain["hosts"].items()
        }
        return plain

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Results:
        """Return the results that `as_json` wrote."""
        return cls(
            tests=[TestResult(**test) for test in content["tests"]],
            hosts={
                name: HostState(
                    **{key: row[key] for key in row if key != "silence"},
                    unreachable_reason=row["silence"],
                )
                for name, row in content["hosts"].items()
            },
            about=dict(content["about"]),
            seconds=content["seconds"],
            finished_at=content["finished_at"],
            left_out=content["left_out"],
        )
