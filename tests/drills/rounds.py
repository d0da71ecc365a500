"""Breaks by group testing: several things are broken at once, and each is known by its rounds.

Each break has a code of bits: round i applies those whose bit i is set and asks every suite once.
A test that a break reddens is red in that break's rounds and in no other; all other tests stay
green. Five verifications do for thirty-one breaks, and they watch every suite, not just the one
that a break is about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from koseki_ops.core.errors import KosekiError
from koseki_ops.verify.results import FAILED, PASSED

Outcomes = Mapping[str, str]
# What a test is that a verification does not mention at all.
ABSENT = "absent"


@dataclass(frozen=True)
class Break:
    """A row of `breaks.yml`; its comments say what the fields mean."""

    suite: str
    host: str
    damage: str
    mend: str
    fails: str
    also: tuple[str, ...] = ()

    @property
    def reddens(self) -> tuple[str, ...]:
        """The ids of all tests that must see it."""
        return (self.fails, *self.also)


def load(path: Path) -> list[Break]:
    """Return the breaks of a table; a row without a field, or with a strange one, is an error."""
    rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [Break(damage=row.pop("break"), also=tuple(row.pop("also", ())), **row) for row in rows]


def codes(hosts: Sequence[str]) -> list[int]:
    """Return a code for each break, given the host of each; as few bits as will do.

    No two are equal and none is 0. On one host none is part of another: whatever the one broke by
    the way would otherwise be hidden in the rounds in which the other is expected to be seen.
    """
    bits = len(hosts).bit_length()
    while (found := _codes(hosts, bits)) is None:
        bits += 1
    return found


def _codes(hosts: Sequence[str], bits: int) -> list[int] | None:
    """Return codes of so many bits, or None when that cannot be done."""
    # Codes of half of the bits: most of these are no part of one another.
    free = sorted(
        range(1, 1 << bits),
        key=lambda code: (abs(2 * code.bit_count() - bits), code.bit_count(), code),
    )
    found: dict[int, int] = {}
    # A host with many breaks is the hardest to serve, and chooses first.
    for place in sorted(range(len(hosts)), key=lambda place: -hosts.count(hosts[place])):
        beside = [code for other, code in found.items() if hosts[other] == hosts[place]]
        fitting = [code for code in free if all(code & one not in {code, one} for one in beside)]
        if not fitting:
            return None
        found[place] = fitting[0]
        free.remove(fitting[0])
    return [found[place] for place in range(len(hosts))]


def rounds_of(breaks: Sequence[Break]) -> list[list[Break]]:
    """Return which breaks are applied together, round by round, in the table's order."""
    given = codes([row.host for row in breaks])
    return [
        [row for row, code in zip(breaks, given, strict=True) if code >> bit & 1]
        for bit in range(max(given).bit_length())
    ]


def misjudged(
    rounds: Sequence[Sequence[Break]], seen: Sequence[Outcomes], healthy: Outcomes
) -> dict[str, str]:
    """Return a sentence for each test that was not in every round what it has to be.

    seen: each round's outcomes by test; healthy: those from before anything was broken. A test is
    red in the rounds of the breaks that redden it. In all others it passes, unless it could not be
    verified on the healthy platform either.
    """
    tests = {test for outcomes in (healthy, *seen) for test in outcomes}
    tests |= {test for breaks in rounds for row in breaks for test in row.reddens}
    wrong = {}
    for test in sorted(tests):
        wanted = {n for n, breaks in told(rounds) if any(test in row.reddens for row in breaks)}
        met = {n: outcomes.get(test, ABSENT) for n, outcomes in enumerate(seen, start=1)}
        green = {PASSED, healthy.get(test, PASSED)}
        right = {n: {FAILED} if n in wanted else green for n in met}
        off = {n: said for n, said in met.items() if said not in right[n]}
        if off:
            red = {n for n, said in met.items() if said == FAILED}
            words = ", ".join(f"{said} in round {n}" for n, said in off.items())
            wrong[test] = f"{test} is {words}{_as_if(rounds, red, red - wanted)}"
    return wrong


def told(rounds: Sequence[Sequence[Break]]) -> list[tuple[int, Sequence[Break]]]:
    """Return the rounds with the numbers that people are told, from 1 on."""
    return list(enumerate(rounds, start=1))


def _as_if(rounds: Sequence[Sequence[Break]], red: set[int], strange: set[int]) -> str:
    """Return which breaks would explain that a test was red where it should not have been."""
    rows = dict.fromkeys(row for breaks in rounds for row in breaks)
    suspects = [
        row.suite
        for row in rows
        if strange and strange <= {n for n, breaks in told(rounds) if row in breaks} <= red
    ]
    return f": as if by the break of {' or '.join(suspects)}" if suspects else ""


@contextmanager
def broken(breaks: Iterable[Break], run: Callable[[str, str], None]) -> Iterator[None]:
    """Break things for a while, then mend them in reverse order.

    run: runs a script on a host, or raises. A break that failed may have done half of its work, so
    it is mended as well; a mend that fails keeps no other from its turn. The first error is raised,
    with a note of each that came after.
    """
    begun: list[Break] = []
    try:
        for row in breaks:
            begun.append(row)
            run(row.host, row.damage)
        yield
    except BaseException as first:
        noted(first, mended(begun, run))
        raise
    if late := mended(begun, run):
        raise noted(late[0], late[1:])


def mended(begun: Sequence[Break], run: Callable[[str, str], None]) -> list[Exception]:
    """Mend in reverse order, each once; return what went wrong."""
    errors: list[Exception] = []
    for row in reversed(begun):
        try:
            run(row.host, row.mend)
        except (AssertionError, KosekiError, OSError) as error:
            errors.append(error)
    return errors


def noted[E: BaseException](first: E, others: Sequence[Exception]) -> E:
    """Return an error that also tells of those that came after it."""
    for error in others:
        first.add_note(f"and then: {error}")
    return first
