"""What a developer's git and a CI start is what is here."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest
import yaml

from koseki_ops.plan.site import project_root

ROOT = project_root()
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
HOOKS: list[dict[str, Any]] = [hook for repo in CONFIG["repos"] for hook in repo["hooks"]]


def test_nothing_is_fetched() -> None:
    """Every hook is a program of this machine, in no environment but the checkout's own."""
    assert [repo["repo"] for repo in CONFIG["repos"]] == ["local"]
    assert {hook["language"] for hook in HOOKS} == {"system"}


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_a_hook_starts_what_is_there(hook: dict[str, Any]) -> None:
    """A program that `make set-up` installs, and a test by the name that it has."""
    program, *words = hook["entry"].split()
    assert shutil.which(ROOT / program if "/" in program else program)
    assert [word for word in words if "/" in word and not (ROOT / word).exists()] == []


def test_the_example_for_a_ci_calls_what_ci_calls() -> None:
    """It has no steps of its own, so that it cannot say something else than `.ci/run`."""
    text = (ROOT / "docs/examples/gitlab-ci.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)
    assert [job["script"] for job in jobs.values()] == [[".ci/run"]]
    assert os.access(ROOT / ".ci/run", os.X_OK)
