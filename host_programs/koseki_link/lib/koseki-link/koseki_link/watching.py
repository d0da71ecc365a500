"""The kernel tells when something was put into a folder; nobody asks it again and again."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CLOSED_AFTER_WRITING, MOVED_HERE, MADE = 0x8, 0x80, 0x100
NOT_BLOCKING = os.O_NONBLOCK | os.O_CLOEXEC
BUFFER = 65536


class Watch:
    """One folder; `fileno` becomes readable when a file was made, closed or renamed into it."""

    def __init__(self, folder: Path) -> None:
        """Begin to watch; OSError when the folder cannot be."""
        # Debian's packages for inotify call the same two functions, and keep the descriptor to
        # themselves, which has to be waited for beside the database's.
        library = ctypes.CDLL(None, use_errno=True)
        self._handle = library.inotify_init1(NOT_BLOCKING)
        events = CLOSED_AFTER_WRITING | MOVED_HERE | MADE
        if library.inotify_add_watch(self._handle, os.fsencode(folder), events) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))

    def fileno(self) -> int:
        """Return the descriptor, for select."""
        return int(self._handle)

    def drain(self) -> None:
        """Take all that was told: what matters is that something came, not what."""
        try:
            while os.read(self._handle, BUFFER):
                pass
        except BlockingIOError:
            return
