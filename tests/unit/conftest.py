"""The unit tests ask nothing of whoever called them: his settings are not theirs."""

from __future__ import annotations

import os
from collections.abc import Generator

import coverage
import pytest
from hypothesis import HealthCheck, settings

from koseki_ops.core.language import CHOSEN_BY

# What whoever runs the tests tells the tests themselves; see test_golden.py.
FOR_TESTS = "KOSEKI_WRITE_GOLDEN"
# With this in its environment any Python that starts here has its branches counted.
COUNTED = "COVERAGE_PROCESS_CONFIG"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Count no branches in a test that takes the same few many thousand times, and would last."""
    counter = coverage.Coverage.current() if item.get_closest_marker("uncounted") else None
    if counter is None:
        return (yield)
    counter.stop()
    try:
        return (yield)
    finally:
        counter.start()
        # Beginning anew it would count in all that is started from here on.
        os.environ.pop(COUNTED, None)


def pytest_configure() -> None:
    """Forget the toolkit's settings before any test, or what it starts, can inherit them.

    `.ci/run` says since when it runs, an administrator names his lab: either changed what a test
    of the very same setting saw. Sentences are English, whoever calls.
    """
    # A busy machine is no counterexample.
    settings.register_profile(
        "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("any machine")
    for name in [name for name in os.environ if name.startswith("KOSEKI_") or name in CHOSEN_BY]:
        if name != FOR_TESTS:
            del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def counting() -> str | None:
    """What counts branches; kept from Ansible and pip, which it would make three times slower."""
    return os.environ.pop(COUNTED, None)


@pytest.fixture
def counted_programs(counting: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the branches of the programs, too, that a test starts: they are ours."""
    if counting is not None:
        monkeypatch.setenv(COUNTED, counting)
