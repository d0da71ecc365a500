"""Other programs, and what they answer."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from koseki_release.errors import Refused


def run(argv: Sequence[str], stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a program and return how it ended."""
    return subprocess.run(argv, input=stdin, capture_output=True, check=False)  # noqa: TID251 - as it says


def systemctl(*words: str) -> None:
    """Tell systemd; Refused with its own last line when it does not."""
    done = run(["systemctl", "--quiet", *words])
    if done.returncode:
        reason = (done.stderr.decode().strip().splitlines() or ["no reason given"])[-1]
        raise Refused(
            f"`systemctl {' '.join(words[:3])}` failed ({reason}): see the unit's journal"
        )
