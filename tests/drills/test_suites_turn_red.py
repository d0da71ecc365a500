"""Each suite is seen red once: one thing is broken, and exactly the test that guards it fails.

A test that cannot fail is a defect. The breaks are a table, `breaks.yml`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from koseki_ops.site import Site
from koseki_ops.verify.runner import known_suites

BREAKS: list[dict[str, str]] = yaml.safe_load(
    Path(__file__).with_name("breaks.yml").read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def healthy(converged: Any) -> Any:  # noqa: ANN401 - the drills' conftest has its type
    """The provisioned lab as its provisioning left it, once for all breaks: each is mended."""
    converged.lab.restore("converged")
    converged.green()
    return converged


def test_there_is_a_break_for_every_suite():
    """A new suite brings its own proof that it can fail."""
    assert sorted(row["suite"] for row in BREAKS) == known_suites(Site.open())


@pytest.mark.drill
@pytest.mark.parametrize("row", BREAKS, ids=[row["suite"] for row in BREAKS])
def test_exactly_the_right_test_fails(healthy: Any, row: dict[str, str]):  # noqa: ANN401
    """The suite is green, then red in one place with a remedy, then green again."""
    healthy.sh(row["host"], row["break"])
    try:
        report = healthy.report("verify", row["suite"], check=False)
        assert (report["failed"], healthy.failures()) == (1, [row["fails"]])
    finally:
        healthy.sh(row["host"], row["mend"])
    healthy.koseki("verify", row["suite"])
