"""What a drill costs: counted while it runs, one row each, held against what its file declares.

`costs.yml` declares, `tests/costs.py` reads and sums.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import costs


@dataclass
class Ledger:
    """The costs of the drill that runs in this process now.

    counts: how often each heavy thing was begun; waited: seconds that it waited for the machine's
    cores; row_begun, busy_begun: the monotonic clock and the machine's busy core-seconds when the
    drill began.
    """

    counts: Counter[str] = field(default_factory=Counter)
    waited: float = 0.0
    _asked_before: set[str] | None = None
    _begun: float = 0.0
    _busy: float = 0.0

    def begin(self) -> None:
        """Begin the row of a drill."""
        self.counts.clear()
        self.waited, self._begun, self._busy = 0.0, time.monotonic(), costs.busy_seconds()

    def count(self, what: str) -> None:
        """Count something heavy; what a wait asks over and over counts once."""
        if self._asked_before is not None:
            if what in self._asked_before:
                return
            self._asked_before.add(what)
        self.counts[what] += 1

    @contextmanager
    def polling(self) -> Iterator[None]:
        """Count what is asked repeatedly meanwhile as one question."""
        outer, self._asked_before = self._asked_before, self._asked_before or set()
        try:
            yield
        finally:
            self._asked_before = outer

    def end(self, drill: str, outcome: str) -> costs.Row:
        """Return the drill's row. drill: its id, `test_lab.py::test_two_labs`."""
        return {
            "drill": drill,
            "file": drill.partition("::")[0],
            "outcome": outcome,
            "lab": os.environ.get("PYTEST_XDIST_WORKER", ""),
            "wall": round(time.monotonic() - self._begun, 2),
            "waited": round(self.waited, 2),
            "cores": round(costs.busy_seconds() - self._busy, 2),
            "counts": dict(self.counts),
        }


LEDGER = Ledger()
