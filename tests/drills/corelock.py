"""A lock on this machine's cores: labs never do heavy things at once, and waits cost nothing.

Applies, verifications and restores hold as many cores as they keep busy; whoever only waits for a
clock holds none. A drill that promises seconds holds one for that window, so that nothing heavy
begins in it. The kernel gives back what a process held when it ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from drills.ledger import LEDGER

# Of this machine, not of a checkout: they have the same cores.
FOLDER = Path("/run/koseki/cores")
CORES = os.cpu_count() or 1
SECONDS_BETWEEN_LOOKS = 0.1

_held = 0


@contextmanager
def cores(wanted: int) -> Iterator[None]:
    """Hold so many cores, at most all there are; what this process holds already counts.

    Not for threads: a process asks for one thing at a time. Nobody who holds some may ask for more:
    two who did would wait for each other.
    """
    global _held  # noqa: PLW0603 - a process has one account of what it holds
    wanted = min(wanted, CORES)
    if _held:
        assert wanted <= _held, f"{_held} held, {wanted} wanted: take all of them at the beginning"
        yield
        return
    with ExitStack() as stack:
        began = time.monotonic()
        _take(wanted, stack)
        LEDGER.waited += time.monotonic() - began
        _held = wanted
        try:
            yield
        finally:
            _held = 0


def _take(wanted: int, stack: ExitStack) -> None:
    """Lock a file a core. Whoever wants several keeps the others from overtaking meanwhile."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    taken: list[IO[bytes]] = []
    places = [stack.enter_context((FOLDER / str(n)).open("ab")) for n in range(CORES)]
    with (FOLDER / "gate").open("ab") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        while len(taken) < wanted:
            for place in places:
                if place not in taken and len(taken) < wanted and _lock(place):
                    taken.append(place)
            if len(taken) < wanted:
                time.sleep(SECONDS_BETWEEN_LOOKS)


def _lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
