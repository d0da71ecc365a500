"""Mitogen's linear strategy, whose processes run on any processor.

Mitogen binds each process of a run to one processor, and what its tasks start there inherits that:
on a machine with two, everything but Mitogen's own multiplexer shares the second one, the work on
the hosts' ssh too. That a round trip is quicker so is lost many times over.
"""

from __future__ import annotations

import ansible_mitogen.affinity
import ansible_mitogen.loaders
import ansible_mitogen.strategy

# Before the strategy's first process: each asks this policy where it belongs.
ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()

Base = ansible_mitogen.loaders.strategy_loader.get("linear", class_only=True)


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, Base):  # type: ignore[misc,valid-type] # Ansible's classes are untyped here
    """The linear strategy over Mitogen."""
