"""The one place that writes a file whole: whoever reads it sees what was before or what is now.

Written aside in the same folder, synced, moved into place, and the folder synced: a process that is
killed or a machine that loses its power at any moment leaves the old content or the new one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

PRIVATE, READABLE = 0o600, 0o644
# Written aside under a name that no reader of the folder takes for anything.
ASIDE = ".{name}.{pid}.new"
# renameat2(2): of two names each becomes the other's, in one step; paths are below no open folder.
AT_FDCWD, RENAME_EXCHANGE = -100, 2


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


@contextmanager
def created(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that its owner alone may read, to write what is too long to be held in memory.

    It is there, whole, when the block has ended well; FileExistsError when there is one by then.
    """
    with _aside(path, PRIVATE) as (aside, handle):
        with os.fdopen(handle, "wb", closefd=False) as file:
            yield file
        os.fsync(handle)
        os.link(aside, path)
        aside.unlink()
    _sync(path.parent)


def put_file(aside: Path, path: Path) -> None:
    """Put a file in its place that another program wrote aside, on the same file system."""
    _sync(aside)
    aside.replace(path)
    _sync(path.parent)


def put_folder(aside: Path, folder: Path) -> None:
    """Put a folder in its place that was built aside on the same file system; the old one goes.

    All that is in it is synced before; a reader finds the old one or the new one, whole. Where the
    file system cannot exchange two names (NFS) there is a moment without any.
    """
    handle = os.open(aside, os.O_RDONLY)
    try:
        c_library("syncfs", handle)
    finally:
        os.close(handle)
    if folder.exists():
        names = AT_FDCWD, os.fsencode(aside), AT_FDCWD, os.fsencode(folder)
        try:
            c_library("renameat2", *names, RENAME_EXCHANGE)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            before = aside.with_name(f"{aside.name}.before")
            folder.rename(before)
            aside.rename(folder)
            shutil.rmtree(before)
        else:
            shutil.rmtree(aside)
    else:
        aside.rename(folder)
    _sync(folder.parent)


def c_library(name: str, *arguments: int | bytes) -> None:
    """Call what the C library has and Python has not; OSError when the system refuses."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments):
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


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
    with _aside(path, mode) as (aside, handle):
        left = memoryview(data)
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    return aside


@contextmanager
def _aside(path: Path, mode: int) -> Iterator[tuple[Path, int]]:
    """Yield the place beside a file, and its open file; both are gone when the block fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(path)
    aside = path.with_name(ASIDE.format(name=path.name, pid=os.getpid()))
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        # The rights that were asked for, whatever the caller's umask says.
        os.fchmod(handle, mode)
        yield aside, handle
    except BaseException:
        os.close(handle)
        aside.unlink()
        raise
    os.close(handle)


def _remove_left(path: Path) -> None:
    prefix, _, suffix = ASIDE.format(name=path.name, pid="|").partition("|")
    for left in path.parent.glob(f"{_literal(prefix)}*{suffix}"):
        pid = left.name.removeprefix(prefix).removesuffix(suffix)
        if pid.isdigit() and not Path("/proc", pid).exists():
            left.unlink(missing_ok=True)


def _literal(text: str) -> str:
    """Return a text as a pattern that means itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
