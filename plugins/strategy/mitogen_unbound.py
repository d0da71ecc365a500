"""Mitogen's linear strategy, whose processes run on any processor and load their plugins once.

Mitogen binds each process of a run to one processor, and what its tasks start there inherits that:
on a machine with two, everything but Mitogen's own multiplexer shares the second one, the work on
the hosts' ssh too. That a round trip is quicker so is lost many times over.

Each task runs in a process of its own, a copy of this one. What this one has not loaded, each of
them loads anew: filters and tests, and the toolkit's modules behind them.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import Any

import ansible_mitogen.affinity
import ansible_mitogen.loaders
import ansible_mitogen.strategy
from ansible.plugins.loader import filter_loader, test_loader

# Before the strategy's first process: each asks this policy where it belongs.
ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()

Base = ansible_mitogen.loaders.strategy_loader.get("linear", class_only=True)


@cache
def load_plugins() -> None:
    """Load every filter and test, once in this process and so for all that are copied from it."""
    for loader in (filter_loader, test_loader):
        deque(loader.all(), maxlen=0)


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, Base):  # type: ignore[misc,valid-type] # Ansible's classes are untyped here
    """The linear strategy over Mitogen."""

    def run(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - Ansible's own
        """Run a play."""
        load_plugins()
        return super().run(*arguments, **options)
