"""Work that one process does at a time: whoever comes second is refused at once, or waits."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _


@contextmanager
def exclusive(path: Path, taken: str) -> Iterator[None]:
    """Hold a lock file while the block runs; the kernel lets go of it with the process.

    taken: what is said to whoever comes second, with the process that holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            pid = lock.read().strip()
            holder = _("process {pid}").format(pid=pid)
            raise KosekiError(
                taken,
                holder,
                _("wait until it has ended, or look at it with `ps -p {pid}`").format(pid=pid),
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Hold a lock file while the block runs, after whoever holds it now; its folder is private."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
