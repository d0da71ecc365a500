"""Run another program; its failure becomes one sentence."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from koseki_ops.core.errors import KosekiError


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


@contextmanager
def engine(argv: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:  # noqa: ANN401 - Popen's own
    """Run a program beside us, in text; when we are interrupted, it ends before we do."""
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, text=True, **options) as process:
        try:
            yield process
        except BaseException:
            process.terminate()
            raise
