"""The one place that starts ssh: over a site's one configuration, and never for ever."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from koseki_ops.core.subprocesses import TIMED_OUT, reason_of
from koseki_ops.plan.site import Site

# Longer than any question takes; whoever moves a municipality's data says so.
SECONDS = 300


@dataclass(frozen=True)
class Result:
    """What came of a command on a host. code: its exit code, 255 when ssh itself failed."""

    code: int
    stdout: str
    stderr: str

    @property
    def reason(self) -> str:
        """The last line it printed to standard error, or its exit code."""
        return reason_of(self.stderr, self.code)


def argv(
    site: Site, host: str, *command: str, options: Sequence[str] = (), config: Path | None = None
) -> list[str]:
    """Return the arguments that run a shell command on a host.

    options: ssh's own; config: another configuration than the site's.
    """
    return ["ssh", "-F", str(config or site.ssh_config), *options, host, *command]


def run(
    site: Site,
    host: str,
    command: str,
    stdin: str | bytes = b"",
    *,
    seconds: float | None = SECONDS,
    out: IO[bytes] | None = None,
) -> Result:
    """Run a shell command on a host; return what came of it, whatever that is.

    seconds: how long it may take (None: as long as it likes); out: a file for its output.
    """
    data = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        done = subprocess.run(
            argv(site, host, command),
            input=data,
            stdout=out or subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Result(TIMED_OUT, "", f"no answer within {seconds:.0f} s")
    stdout = (done.stdout or b"").decode(errors="replace")
    return Result(done.returncode, stdout, done.stderr.decode(errors="replace"))
