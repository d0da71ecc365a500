"""The unit tests ask nothing of whoever called them: his settings are not theirs."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# What whoever runs the tests tells the tests themselves; see test_golden.py.
FOR_TESTS = "KOSEKI_WRITE_GOLDEN"


def pytest_configure() -> None:
    """Forget the toolkit's settings before any test, or what it starts, can inherit them.

    `.ci/run` says since when it runs, an administrator names his lab: either changed what a test
    of the very same setting saw.
    """
    # A busy machine is no counterexample.
    settings.register_profile(
        "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("any machine")
    for name in [name for name in os.environ if name.startswith("KOSEKI_")]:
        if name != FOR_TESTS:
            del os.environ[name]
