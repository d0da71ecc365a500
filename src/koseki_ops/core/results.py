"""What an engine did, in one form for all engines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class HostResult:
    """What an engine did on one host.

    changed: changes made, or under check: changes that an apply would make; failed: operations
    that failed; refused: those of them that were refused before anything was changed;
    unreachable: the host did not answer; bare: it was met as its installer left it, now or by an
    apply that was broken off; changes: names of what changed; errors: one sentence each; output:
    lines that a procedure's programs printed; declared: what the engine owns there, by kind and
    name, with the fields that it decides.
    """

    changed: int = 0
    failed: int = 0
    refused: int = 0
    unreachable: bool = False
    bare: bool = False
    changes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    declared: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)


@dataclass
class EngineResult:
    """What an engine did on all hosts, and how long it took (seconds)."""

    engine: str
    hosts: dict[str, HostResult] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def changed(self) -> int:
        """How many changes on all hosts."""
        return sum(host.changed for host in self.hosts.values())

    @property
    def failed(self) -> int:
        """How many failures on all hosts; an unreachable host is one."""
        return sum(host.failed + host.unreachable for host in self.hosts.values())

    @property
    def refused(self) -> int:
        """How many questions could not be asked: bad input, or an unhealthy cluster."""
        return sum(host.refused for host in self.hosts.values())

    @property
    def errors(self) -> list[str]:
        """Every failure on all hosts, a sentence each."""
        return [error for host in self.hosts.values() for error in host.errors]

    @property
    def unreachable(self) -> list[str]:
        """The hosts that did not answer."""
        return [name for name, host in self.hosts.items() if host.unreachable]


def merge(results: Iterable[EngineResult]) -> EngineResult:
    """Return the sum of several engines' results, host by host."""
    total = EngineResult("all")
    for result in results:
        total.seconds += result.seconds
        for name, host in result.hosts.items():
            into = total.hosts.setdefault(name, HostResult())
            into.changed += host.changed
            into.failed += host.failed
            into.refused += host.refused
            into.unreachable |= host.unreachable
            into.bare |= host.bare
            into.changes += host.changes
            into.errors += host.errors
            into.output += host.output
    return total
