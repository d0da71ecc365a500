"""The one place that writes a file whole: whoever reads it sees what was before or what is now.

Written aside in the same folder, synced, moved into place, and the folder synced: a process that is
killed or a machine that loses its power at any moment leaves the old content or the new one.
"""

from __future__ import annotations

import os
from pathlib import Path

PRIVATE, READABLE = 0o600, 0o644
# Written aside under a name that no reader of the folder takes for anything.
ASIDE = ".{name}.{pid}.new"


def write_atomic(path: Path, content: str | bytes, mode: int = READABLE) -> None:
    """Write a file whole, with these rights from the first moment on.

    Folders that are missing are made. What an earlier write of this file left aside is removed, if
    its process has ended.
    """
    _written_aside(path, content, mode).rename(path)
    _sync(path.parent)


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file whole that its owner alone may read."""
    write_atomic(path, content, PRIVATE)


def create_private(path: Path, content: bytes) -> None:
    """Write a file whole that its owner alone may read, unless there is one: the first one counts.

    Safe against another process that makes it at the same time.
    """
    aside = _written_aside(path, content, PRIVATE)
    try:
        os.link(aside, path)
    except FileExistsError:
        return
    finally:
        aside.unlink()
    _sync(path.parent)


def write_changed(path: Path, content: str) -> None:
    """Write a file whole only when its content would be another: a reader may be at work."""
    if not path.exists() or path.read_text(encoding="utf-8") != content:
        write_atomic(path, content)


def move(path: Path, target: Path) -> None:
    """Move a file to another folder of the same file system: it is there or here, never twice.

    Folders that are missing are made. FileNotFoundError when somebody else has taken it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    _sync(target.parent)
    _sync(path.parent)


def _written_aside(path: Path, content: str | bytes, mode: int) -> Path:
    """Write a file beside the place that it is for, synced; return where."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(path)
    aside = path.with_name(ASIDE.format(name=path.name, pid=os.getpid()))
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        # The rights that were asked for, whatever the caller's umask says.
        os.fchmod(handle, mode)
        left = memoryview(data)
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    except BaseException:
        os.close(handle)
        aside.unlink()
        raise
    os.close(handle)
    return aside


def _remove_left(path: Path) -> None:
    prefix, _, suffix = ASIDE.format(name=path.name, pid="|").partition("|")
    for left in path.parent.glob(f"{_literal(prefix)}*{suffix}"):
        pid = left.name.removeprefix(prefix).removesuffix(suffix)
        if pid.isdigit() and not Path("/proc", pid).exists():
            left.unlink(missing_ok=True)


def _literal(text: str) -> str:
    """Return a text as a pattern that means itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
