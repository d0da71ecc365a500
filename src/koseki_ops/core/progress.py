"""Say what is being done, since when, and what is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from koseki_ops.core.formatting import in_short
from koseki_ops.core.language import _

# Takes one line about what is being done.
OnProgress = Callable[[str], None]


class Progress:
    """Lines on standard error, so that standard output stays the answer.

    steps: the names of all steps in order, so that each line says what is left.
    """

    def __init__(self, steps: Sequence[str]) -> None:
        """Start the clock."""
        self.steps = list(steps)
        self.started = time.monotonic()
        self.done: list[tuple[str, float]] = []

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def report(self, text: str) -> None:
        """Print one line with the time since the start."""
        click.echo(f"  {self.elapsed():6.1f} s  {in_short(text)}", err=True)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Announce a step and what comes after it; on the way out say how long it took."""
        number = len(self.done) + 1
        left = self.steps[number:]
        after = _(", then {left}").format(left=", ".join(left)) if left else ""
        click.echo(f"[{number}/{len(self.steps)}] {name}{after}", err=True)
        begun = time.monotonic()
        yield
        self.done.append((name, time.monotonic() - begun))
        seconds = self.done[-1][1]
        self.report(_("{name}: done in {seconds:.1f} s").format(name=name, seconds=seconds))
