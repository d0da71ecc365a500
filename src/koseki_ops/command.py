"""Run another program; its failure becomes one sentence."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from koseki_ops.errors import KosekiError


def run(argv: Sequence[str], stdin: str | None = None) -> str:
    """Run a program, return what it printed; raise KosekiError with its last line on failure."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise KosekiError("a program is missing", argv[0], "run `make set-up`") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        raise KosekiError(f"`{' '.join(argv[:6])}` failed", lines[-1], "see the line it printed")
    return done.stdout
