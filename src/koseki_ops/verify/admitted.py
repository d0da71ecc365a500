"""What the watch may ask a host in a verification: the questions of all suites, by their hashes.

The suites make their questions from the plan; an apply leaves the hashes of those of each host on
it (`pyinfra_deploys/baseline/inspection.py`), and `koseki-inspect` there asks no other. What
differs from run to run is no part of a question's text (`Question.argument`).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType

from koseki_ops.plan.site import WatchHost
from koseki_ops.verify.batch import Question, digest
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import JOURNAL, Everywhere, base_questions, suite_of
from koseki_ops.verify.runner import SUITE_FOLDER
from koseki_ops.verify.transport import HostResults

# When the first questions were asked is an argument of those that follow: any gives their text.
SOME_MOMENT = 1_000_000_000.0


def admitted_questions(plan: Plan, host: str, watch_host: str) -> list[str]:
    """Return the hashes of all that a watch host may ask a host, sorted.

    As the watch itself sees the plan: it plays no terminals, and is no lab's workstation.
    """
    site = plan.site
    there = replace(site, watch_host=WatchHost(watch_host, site.inventory_name, site.name, ""))
    seen = replace(plan, site=there)
    asked: list[str | Question] = [JOURNAL, *base_questions(seen, host).values()]
    replies = {name: HostResults(name, asked_at=SOME_MOMENT) for name in plan.inventory.hosts}
    everywhere = Everywhere(seen, replies)
    for module in _suites(site.root / SUITE_FOLDER):
        asked += module.questions(seen, host).values()
        if later := getattr(module, "later_questions", None):
            more: Mapping[str, str | Question] = later(
                seen, host, everywhere.for_suite(suite_of(module))
            )
            asked += more.values()
    texts = {question if isinstance(question, str) else question.command for question in asked}
    return sorted(map(digest, texts))


@cache
def _suites(folder: Path) -> tuple[ModuleType, ...]:
    return tuple(map(_loaded, sorted(folder.glob("test_*.py"))))


def _loaded(path: Path) -> ModuleType:
    """Return a suite as a module of a name of its own: pytest has loaded none here."""
    name = f"koseki_suites.{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification  # noqa: S101 - a Python file always has one
    assert specification.loader  # noqa: S101 - as above
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
