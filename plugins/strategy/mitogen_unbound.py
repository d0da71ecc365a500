"""Mitogen's linear strategy, whose processes run on any processor and share what all of them need.

Mitogen binds each process of a run to one processor, and what its tasks start there inherits that:
on a machine with two, everything but Mitogen's own multiplexer shares the second one, the work on
the hosts' ssh too. That a round trip is quicker so is lost many times over.

Each task runs in a process of its own, a copy of this one. What this one has not loaded, each of
them loads anew: filters and tests, and the toolkit's modules behind them. What one of them has
compiled, the others take from a folder of this run.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from pathlib import Path
from typing import Any

import ansible_mitogen.affinity
import ansible_mitogen.loaders
import ansible_mitogen.strategy
from ansible import constants
from ansible.plugins.loader import filter_loader, test_loader

from koseki_ops.engines.template_cache import share_templates

# Before the strategy's first process: each asks this policy where it belongs.
ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()

Base = ansible_mitogen.loaders.strategy_loader.get("linear", class_only=True)


@cache
def prepare_processes() -> None:
    """Load every filter and test in this process, and so for all that are copied from it.

    What they compile goes to the run's own temporary folder, which Ansible makes and removes.
    """
    for loader in (filter_loader, test_loader):
        deque(loader.all(), maxlen=0)
    compiled = Path(constants.DEFAULT_LOCAL_TMP) / "templates"
    compiled.mkdir(mode=0o700)
    share_templates(compiled)


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, Base):  # type: ignore[misc,valid-type] # Ansible's classes are untyped here
    """The linear strategy over Mitogen."""

    def run(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - Ansible's own
        """Run a play."""
        prepare_processes()
        return super().run(*arguments, **options)
