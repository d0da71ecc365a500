"""The one place that starts ssh: over a site's one configuration, and never for ever."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from koseki_ops.core.subprocesses import Bounds, hear, reason_of
from koseki_ops.plan.site import Site

# Longer than any question takes; whoever moves a municipality's data says so.
SECONDS = 300
# A municipality's data takes as long as it takes, and this at the very most.
A_DAY = 86_400
# What an answer that is kept in a file leaves free, and after how many bytes it is looked.
ROOM_BYTES = 512 << 20
ROOM_LOOKED_AFTER = 64 << 20


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
    seconds: float = SECONDS,
    out: IO[bytes] | None = None,
) -> Result:
    """Run a shell command on a host; return what came of it, whatever that is.

    seconds: how long it may take; out: a file for its output, which may be of any length there.
    Without one more than `ANSWER_BYTES` is no answer.
    """
    data = stdin.encode() if isinstance(stdin, str) else stdin
    keep = _into(out) if out else None
    heard = hear(argv(site, host, command), data, Bounds(seconds), keep)
    if heard.cut:
        return Result(heard.code, "", heard.cut)
    return Result(
        heard.code, heard.out.decode(errors="replace"), heard.err.decode(errors="replace")
    )


def _into(out: IO[bytes]) -> Callable[[bytes], str]:
    """Return what keeps an answer of any length in a file, while other room is left."""
    since_looked = ROOM_LOOKED_AFTER

    def keep(chunk: bytes) -> str:
        nonlocal since_looked
        since_looked += len(chunk)
        if since_looked >= ROOM_LOOKED_AFTER:
            since_looked = 0
            left = os.fstatvfs(out.fileno())
            if left.f_bavail * left.f_frsize < ROOM_BYTES:
                return f"its answer leaves less than {ROOM_BYTES >> 20} MiB on the disk: cut off"
        out.write(chunk)
        return ""

    return keep
