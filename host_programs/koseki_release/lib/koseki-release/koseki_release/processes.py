"""Other programs, and what they answer."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from koseki_release.errors import Refused

# Longer than an instance may take to start or to end (systemd: 90 s).
SECONDS = 200


def run(argv: Sequence[str], stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a program and return how it ended; Refused when it cannot be run, or does not end."""
    try:
        return subprocess.run(  # noqa: TID251 - the toolkit is not on hosts
            argv, input=stdin, capture_output=True, check=False, timeout=SECONDS
        )
    except OSError as error:
        raise Refused(
            f"{argv[0]} cannot be run ({error.strerror}): install its package again"
        ) from None
    except subprocess.TimeoutExpired:
        raise Refused(
            f"`{' '.join(argv[:3])}` does not end within {SECONDS} s: see the host's journal"
        ) from None


def answer(argv: Sequence[str], codes: Sequence[int] = (0,)) -> str:
    """Return what a program says; Refused with its own last line when it could not say it.

    codes: the exit codes that are an answer.
    """
    done = run(argv)
    if done.returncode not in codes:
        words = done.stderr.decode(errors="backslashreplace").strip().splitlines()
        reason = (words or [f"exit {done.returncode}"])[-1]
        shown = " ".join(word for word in argv if word != "--quiet")
        raise Refused(f"`{shown[:80]}` failed ({reason}): see the host's journal")
    return done.stdout.decode(errors="backslashreplace")


def systemctl(*words: str) -> None:
    """Tell systemd; Refused with its own last line when it does not."""
    answer(["systemctl", "--quiet", *words])
