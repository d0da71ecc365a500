"""The exchange's folders: what comes is taken out of its sender's reach before it is read.

in/          the registry puts files here; what is called `.…` or `….part` is still on its way
out/         what is sent; the registry may take it away
done/        what was applied, as it was read
quarantine/  what was not, each with a reason beside it
work/        the engine's alone
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from koseki_link.layout import Refused

CHUNK = 1 << 18
TAIL = 128
READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
TAKEN, NEW = ".taken", ".new"
REASON = ".reason.json"
MODE = 0o640
# What an entry does to whoever opens it by being what it is; any other error is the host's.
OF_ITS_OWN = {errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENXIO, errno.ENODEV}
# Why a folder of a sender's is not gone after it was removed.
HELD = {errno.ENOTEMPTY, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EBUSY}
# What a file takes at least, whatever it holds; and the unit of `st_blocks`.
LEAST, BLOCK = 4096, 512


@dataclass(frozen=True)
class Upload:
    """What lies in `in/`: whether it is still on its way, since when it is as it is, its bytes.

    since: its inode's last change in seconds of the epoch, which no sender can set; bytes: on disk.
    """

    name: str
    unfinished: bool
    since: float
    bytes: int


@dataclass(frozen=True)
class Folders:
    """One municipality's exchange."""

    base: Path

    @property
    def incoming(self) -> Path:
        """Where the registry puts files."""
        return self.base / "in"

    @property
    def outgoing(self) -> Path:
        """Where the registry finds files."""
        return self.base / "out"

    @property
    def done(self) -> Path:
        """What was applied."""
        return self.base / "done"

    @property
    def quarantine(self) -> Path:
        """What was not."""
        return self.base / "quarantine"

    @property
    def work(self) -> Path:
        """The engine's own."""
        return self.base / "work"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Work on the files while nobody else does: engine, or an operator's command."""
        handle = os.open(self.work / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def waiting(self) -> list[str]:
        """Return the names of what lies in `in/`, without what is still on its way."""
        return sorted(upload.name for upload in self.uploads() if not upload.unfinished)

    def uploads(self) -> list[Upload]:
        """Return what lies in `in/`, but for folders; see `within`."""
        with os.scandir(self.incoming) as entries:
            return [
                Upload(
                    entry.name,
                    entry.name.startswith(".") or entry.name.endswith(".part"),
                    state.st_ctime,
                    max(LEAST, state.st_blocks * BLOCK),
                )
                for entry in entries
                if (state := _state(entry)) and not stat.S_ISDIR(state.st_mode)
            ]

    def within(self) -> list[str]:
        """Return the names of folders in `in/`: the exchange lets nobody make one there."""
        with os.scandir(self.incoming) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))

    def quarantined(self) -> int:
        """Return the bytes that quarantine takes on disk."""
        with os.scandir(self.quarantine) as entries:
            return sum(
                max(LEAST, state.st_blocks * BLOCK) for entry in entries if (state := _state(entry))
            )

    def tail(self, name: str) -> tuple[float, bytes]:
        """Return the seconds since a waiting file was last changed, and its last bytes.

        What is no ordinary file, or may not be read, has none; one that is gone meanwhile is
        FileNotFoundError.
        """
        path = self.incoming / name
        state = path.lstat()
        # Its inode's own time, which no sender sets; of a clock that was set back, the distance.
        age = abs(time.time() - state.st_ctime)
        if not stat.S_ISREG(state.st_mode):
            return age, b""
        try:
            handle = os.open(path, READING)
        except OSError as error:
            if error.errno not in OF_ITS_OWN:
                raise
            return age, b""
        with os.fdopen(handle, "rb") as file:
            # Its sender may have put something else there meanwhile.
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return age, b""
            file.seek(max(0, state.st_size - TAIL))
            return age, file.read(TAIL)

    def take(self, name: str, most: int) -> Path:
        """Copy a file to `work/`, where its sender cannot reach it; Refused when it is too large.

        most: in bytes. A link, a pipe or a folder is no file, wherever it leads.
        """
        taken, copy = self.work / (name + TAKEN), self.work / name
        (self.incoming / name).rename(taken)
        # A pipe would make whoever opens it wait, a device would do something; a link would lead
        # out of the exchange.
        if not stat.S_ISREG(taken.lstat().st_mode):
            raise Refused("name", "this is no ordinary file")
        try:
            handle = os.open(taken, READING)
        except PermissionError:
            raise Refused("name", "its rights let nobody read it") from None
        with os.fdopen(handle, "rb") as source, written(copy) as target:
            left = most
            while part := source.read(min(CHUNK, left + 1)):
                left -= len(part)
                if left < 0:
                    raise Refused("oversize", f"larger than {most >> 20} MiB")
                target.write(part)
        return copy

    def give_back(self, name: str) -> None:
        """Put a taken file back, as if it had not been looked at."""
        (self.work / name).unlink(missing_ok=True)
        taken = self.work / (name + TAKEN)
        if taken.exists() or taken.is_symlink():
            if (self.incoming / name).exists():
                # The sender has put a newer one there meanwhile: that is the one that counts.
                taken.unlink()
            else:
                taken.rename(self.incoming / name)

    def finish(self, name: str) -> None:
        """Put a taken file that was applied into `done/`."""
        (self.work / (name + TAKEN)).unlink(missing_ok=True)
        (self.work / name).rename(self.done / name)

    def recover(self) -> None:
        """Put back what lay in `work/` when the engine died; the ledger says what it was."""
        for path in self.work.iterdir():
            if path.name.endswith(TAKEN):
                self.give_back(path.name.removesuffix(TAKEN))
        for path in self.work.iterdir():
            if path.name.endswith(NEW):
                path.unlink()
            elif not path.name.startswith("."):
                # Its taken original is gone: it was applied, and only its place is missing.
                path.rename(self.done / path.name)

    def set_aside(
        self, name: str, reason: Mapping[str, object], *, taken: bool, keep: bool = True
    ) -> str:
        """Put a file into quarantine with its reason beside it; return its name there.

        taken: whether it lies in `work/`, or still in `in/`; keep: whether there is room for the
        file itself. FileNotFoundError, and no reason left, when its sender took it away meanwhile.
        """
        kept = _kept(name)
        self.explain(kept, {"file": shown(name), "kept": keep, **reason})
        place = self.incoming / name
        if taken:
            (self.work / name).unlink(missing_ok=True)
            place = self.work / (name + TAKEN)
        try:
            if keep:
                place.rename(self.quarantine / kept)
            else:
                place.unlink()
        except FileNotFoundError:
            self.explained(kept).unlink()
            raise
        return kept

    def drop(self, name: str, reason: Mapping[str, object]) -> str:
        """Remove what lies in `in/` and leave its reason in quarantine; return the name there.

        FileNotFoundError when its sender has renamed it or taken it away meanwhile.
        """
        kept = _kept(name)
        # Out of its sender's reach first, under a name of our own: there is no room behind its own.
        # Where we die then, `recover` removes it.
        gone = self.new(kept)
        (self.incoming / name).rename(gone)
        self.explain(kept, {"file": shown(name), "kept": False, **reason})
        gone.unlink()
        return kept

    def clear(self, name: str, reason: Mapping[str, object]) -> str:
        """Remove a folder of `in/` and leave its reason; return the name of the reason.

        One that is not empty, or not ours to remove, stays, and is told once: then nothing.
        FileNotFoundError when it is gone.
        """
        kept, held = _kept(name), ""
        try:
            (self.incoming / name).rmdir()
        except OSError as error:
            if error.errno not in HELD:
                raise
            kept, held = f"{shown(name)}.stays", f": it stays ({error.strerror})"
            if self.explained(kept).exists():
                return ""
        row = {"file": shown(name), "kept": bool(held), **reason}
        self.explain(kept, {**row, "detail": f"{reason['detail']}{held}"})
        return kept

    def explain(self, name: str, reason: Mapping[str, object]) -> None:
        """Write a reason file into quarantine, whole or not at all."""
        self.put(self.quarantine, name + REASON, json.dumps(reason, indent=1).encode() + b"\n")

    def put(self, folder: Path, name: str, content: bytes) -> None:
        """Write a file, whole or not at all."""
        with self.written(name) as file:
            file.write(content)
        self.new(name).rename(folder / name)

    def written(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Give a new file to write, in `work/`; it is on disk when this ends."""
        return written(self.new(name))

    def new(self, name: str) -> Path:
        """Return where a file is written before it gets its place."""
        return self.work / (name + NEW)

    def explained(self, name: str) -> Path:
        """Return where a reason lies."""
        return self.quarantine / (name + REASON)

    def reasons(self) -> list[dict[str, object]]:
        """Return what lies in quarantine, by its reason files."""
        return [
            {"name": path.name.removesuffix(REASON), **json.loads(path.read_text("utf-8"))}
            for path in sorted(self.quarantine.glob(f"*{REASON}"))
        ]


def abandoned(uploads: Iterable[Upload], since: float) -> list[str]:
    """Return the names of uploads that are unfinished and have not changed after a moment."""
    return [upload.name for upload in uploads if upload.unfinished and upload.since < since]


def too_many(uploads: Iterable[Upload], most: int) -> list[str]:
    """Return the names of the latest uploads that must go, so that the others take at most so much.

    most: in bytes.
    """
    gone, held = [], 0
    for upload in sorted(uploads, key=lambda upload: (upload.since, upload.name)):
        if held + upload.bytes > most:
            gone.append(upload.name)
        else:
            held += upload.bytes
    return gone


def _state(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Return an entry's state, None when it went meanwhile."""
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _kept(name: str) -> str:
    """Return a name in quarantine that nothing there has, and that is none of a reason."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    harmless = shown(name).replace(REASON, "_reason_json")
    return f"{moment}-{time.monotonic_ns()}-{harmless}"


def shown(name: str) -> str:
    """Return a name that its sender chose, without what could harm whoever reads it."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:100]


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Give a new file to write; it is on disk when this ends."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    with os.fdopen(handle, "wb") as file:
        yield file
        file.flush()
        os.fsync(handle)
