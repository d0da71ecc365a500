"""Kill a process at any of its calls to the system: what it leaves is what a crash leaves."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import cast

# What of the system a write asks for, in whatever order: the process dies at one of these.
CALLS = ("open", "fchmod", "write", "fsync", "close", "rename", "link", "unlink")
KILLED = 9


def dying(at: int, after: bool, work: Callable[[], object]) -> int:
    """Run work in a process that is killed before or after its n-th call; return its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    count = 0

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count == at and not after:
                os._exit(KILLED)
            if call is write:
                data = memoryview(cast("bytes", arguments[1]))
                # The kernel may take a part of what it was given.
                arguments = (arguments[0], data[: len(data) // 2] if len(data) > 100 else data)
            done = call(*arguments, **options)
            if count == at:
                os._exit(KILLED)
            return done

        return wrapped

    write = os.write
    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    try:
        work()
    except BaseException:  # noqa: BLE001 - this process ends here, whatever it was
        os._exit(1)
    os._exit(0)
