"""Run another program; its failure becomes one sentence."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from koseki_ops.core.errors import KosekiError

# What `timeout` exits with: the exit code of whatever was ended because it took too long.
TIMED_OUT = 124


# What a program says after its reason, because of it: it is never the reason.
CONSEQUENCE = re.compile(
    r"(Shared )?[Cc]onnection to \S+ closed( by remote host)?\.?"
    r"|.*terminating, \d+ bad configuration options?"
    r"|lost connection|client_loop: .*"
    r"|tar: (Error is not recoverable: exiting now|Child returned status .*"
    r"|Exiting with failure status due to previous errors)"
    r"|E: Sub-process \S+ returned an error code .*"
    r"|Try .* for more information\.?"
    r"|make(\[\d+\])?: \*\*\* .*"
    r"|non-zero return code|MODULE FAILURE.*|See stdout/stderr for the exact error.*"
    r"|(ExecStart|Main) process exited.*"
)


def cause_in(text: str) -> str:
    """Return the last line that is a reason, not what followed from one; empty without any."""
    lines = [line.strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if line and not CONSEQUENCE.fullmatch(line)), "")


def reason_of(stderr: str | bytes, code: int) -> str:
    """Return why a program failed: its last line that is a reason, or how it ended."""
    text = stderr if isinstance(stderr, str) else stderr.decode(errors="replace")
    return cause_in(text) or (text.strip().splitlines() or [f"exit {code}"])[-1]


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
        raise KosekiError(f"`{' '.join(argv[:6])}` failed", reason, "see the line it printed")
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
