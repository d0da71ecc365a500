"""`make fuzz`: each reader of foreign input for a while, with inputs that nobody wrote down.

FUZZ_SECONDS: how long each (default: ten minutes); arguments: names of targets, all without one.
Where atheris is installed (`.venv/bin/pip install atheris`) it looks for inputs that take new
branches; without it they are drawn from the seeds. Exit 1: a reader neither answered nor refused;
the input lies in var/reports/fuzz.
"""

from __future__ import annotations

import importlib.util
import os
import random
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzz.mutations import TOKENS, Edit, edited
from fuzz.targets import TARGETS, Target

SECONDS = "FUZZ_SECONDS"
FOUND = Path("var/reports/fuzz")
RUNS = re.compile(r"Done (\d+) runs|#(\d+)\s")
# A reader that takes longer for one input has another cost than its input's length.
SLOW_SECONDS = 10


@dataclass(frozen=True)
class Outcome:
    """How many inputs a target was given, and what was wrong, empty when nothing was."""

    inputs: int
    wrong: str = ""


def by_atheris(name: str, seconds: float) -> Outcome:
    """Run a target in a process of its own, which libFuzzer ends."""
    child = [sys.executable, "-m", "fuzz.guided", name, str(int(seconds)), str(FOUND)]
    done = subprocess.run(child, capture_output=True, check=False)
    said = done.stderr.decode(errors="replace")
    counts = [int(a or b) for a, b in RUNS.findall(said)]
    inputs = max(counts, default=0)
    if done.returncode:
        # Python's own words are on standard output, the place of the input in libFuzzer's.
        kept_at = [line for line in said.splitlines() if "Test unit written" in line]
        return Outcome(inputs, "\n".join([done.stdout.decode(errors="replace")[-3000:], *kept_at]))
    return Outcome(inputs)


def by_chance(name: str, seconds: float) -> Outcome:
    """Draw inputs from a target's seeds until the time is up."""
    draw, target = random.Random(time.time_ns()), TARGETS[name]  # noqa: S311 - no secret
    end, inputs = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = drawn(draw, target)
        inputs += 1
        begun = time.monotonic()
        try:
            target(data)
        except Exception:  # noqa: BLE001 - that is what is looked for
            return Outcome(inputs, f"{kept(name, data)}\n{traceback.format_exc()}")
        if time.monotonic() - begun > SLOW_SECONDS:
            return Outcome(inputs, f"{kept(name, data)} takes longer than {SLOW_SECONDS} s")
    return Outcome(inputs)


def drawn(draw: random.Random, target: Target) -> bytes:
    """Return an input that is nearly right."""
    edits = [
        Edit(
            draw.random(),
            draw.choice((0, 1, draw.randint(0, 8), draw.randint(0, 4000))),
            draw.choice((draw.choice(TOKENS), draw.randbytes(draw.randint(0, 8)))),
        )
        for _ in range(draw.randint(1, 5))
    ]
    return edited(draw.choice(target.seeds), edits)


def kept(name: str, data: bytes) -> Path:
    """Keep an input that a reader fell over; return where."""
    FOUND.mkdir(parents=True, exist_ok=True)
    path = FOUND / f"{name.replace(' ', '-')}-{time.time_ns()}"
    path.write_bytes(data)
    return path


def main(names: list[str]) -> int:
    """Run the targets one after the other; print a line for each and the sum."""
    seconds = float(os.environ.get(SECONDS, "600"))
    guided = importlib.util.find_spec("atheris") is not None
    run: Callable[[str, float], Outcome] = by_atheris if guided else by_chance
    print(f"{seconds:.0f} s each, {'guided by atheris' if guided else 'drawn from the seeds'}")
    total, wrong = 0, 0
    for name in names or TARGETS:
        outcome = run(name, seconds)
        total += outcome.inputs
        wrong += bool(outcome.wrong)
        print(f"{name:16} {outcome.inputs:12,} inputs", flush=True)
        if outcome.wrong:
            print(f"NEITHER ANSWERED NOR REFUSED: {outcome.wrong}", flush=True)
    print(f"{'all':16} {total:12,} inputs, {wrong} readers fell")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
