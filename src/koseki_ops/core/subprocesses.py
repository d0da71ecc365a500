"""Run another program; its failure becomes one sentence."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from koseki_ops.core.errors import KosekiError

# What `timeout` exits with: the exit code of whatever was ended because it took too long.
TIMED_OUT = 124


def reason_of(stderr: str | bytes, code: int) -> str:
    """Return why a program failed: the last line it printed, or its exit code."""
    text = stderr if isinstance(stderr, str) else stderr.decode(errors="replace")
    return (text.strip().splitlines() or [f"exit {code}"])[-1]


def run(argv: Sequence[str], stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program, return what it printed; raise KosekiError with its last line on failure.

    env: another environment than this process's.
    """
    try:
        done = subprocess.run(
            argv, input=stdin, env=env, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise KosekiError("a program is missing", argv[0], "run `make set-up`") from error
    if done.returncode:
        reason = reason_of(done.stderr or done.stdout, done.returncode)
        raise KosekiError(
            f"`{' '.join(argv[:6])}` failed",
            reason,
            f"remove the cause that it names, or run `{argv[0]}` by itself to see more",
        )
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
