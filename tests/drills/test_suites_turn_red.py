"""Each suite is seen red once: one thing is broken, and exactly the test that guards it fails.

A test that cannot fail is a defect. The breaks are a table, `breaks.yml`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from koseki_ops.verify.runner import Reports, known_suites

BREAKS: list[dict[str, str]] = yaml.safe_load(
    Path(__file__).with_name("breaks.yml").read_text(encoding="utf-8")
)


def failures(platform: Any) -> list[str]:  # noqa: ANN401 - the drills' conftest has its type
    """Return the ids of the tests that failed in the last verification."""
    results = json.loads(Reports.of(platform.site).results.read_text(encoding="utf-8"))
    return [test["id"] for test in results["tests"] if test["outcome"] == "failed"]


def test_there_is_a_break_for_every_suite(converged: Any):  # noqa: ANN401
    """A new suite brings its own proof that it can fail."""
    assert sorted(row["suite"] for row in BREAKS) == known_suites(converged.site)


@pytest.mark.drill
@pytest.mark.parametrize("row", BREAKS, ids=[row["suite"] for row in BREAKS])
def test_exactly_the_right_test_fails(converged: Any, row: dict[str, str]):  # noqa: ANN401
    """The suite is green, then red in one place with a remedy, then green again."""
    converged.koseki("verify", row["suite"])
    converged.sh(row["host"], row["break"])
    try:
        report = converged.report("verify", row["suite"], check=False)
        assert (report["failed"], failures(converged)) == (1, [row["fails"]])
    finally:
        converged.sh(row["host"], row["mend"])
    converged.koseki("verify", row["suite"])
