"""The exchange's folders: what a sender may put there, and what a crash leaves."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from koseki_link.folders import Folders, Upload, abandoned, shown, too_many
from koseki_link.layout import Refused
from koseki_link.watching import Watch

FILE = "202053-address-change-00000001.jsonl"
MOST = 1 << 20


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """One municipality's exchange, empty."""
    made = Folders(tmp_path)
    for folder in (made.incoming, made.outgoing, made.done, made.quarantine, made.work):
        folder.mkdir()
    return made


def names(folder: Path) -> list[str]:
    """Return what lies in a folder."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_what_is_still_on_its_way_is_not_seen(folders: Folders) -> None:
    """A temporary name is never read, nor is a folder."""
    for name in (f"{FILE}.part", ".hidden", FILE):
        (folders.incoming / name).touch()
    (folders.incoming / "folder").mkdir()
    assert folders.waiting() == [FILE]


def test_what_lies_there_takes_room(folders: Folders) -> None:
    """Each file at least a block, whatever its name; a time that its sender sets counts not."""
    begun = time.time() - 1
    for name, content in ((FILE, b"x"), (f"{FILE}.part", b"x" * 9000)):
        (folders.incoming / name).write_bytes(content)
        os.utime(folders.incoming / name, (0, 0))
    found = sorted((row.name, row.unfinished, row.bytes) for row in folders.uploads())
    assert found == [(FILE, False, 4096), (f"{FILE}.part", True, 12288)]
    assert all(row.since > begun for row in folders.uploads())


def test_who_sends_no_further_gives_up(folders: Folders) -> None:
    """An unfinished upload that was not changed since then; what waits its turn may wait."""
    for name in (FILE, f"{FILE}.part", ".hidden"):
        (folders.incoming / name).touch()
    assert abandoned(folders.uploads(), time.time() - 9) == []
    assert sorted(abandoned(folders.uploads(), time.time() + 9)) == [".hidden", f"{FILE}.part"]


def test_what_was_there_first_stays() -> None:
    """The latest goes until the others fit; one that is small enough may stay behind it."""
    told = [("third", 3.0, 60), ("first", 1.0, 60), ("second", 2.0, 40), ("fourth", 4.0, 1)]
    rows = [Upload(name, name == "first", since, size) for name, since, size in told]
    assert too_many(rows, 161) == []
    assert too_many(rows, 160) == ["fourth"]
    assert too_many(rows, 101) == ["third"]
    assert too_many(rows, 0) == ["first", "second", "third", "fourth"]


def test_what_is_removed_leaves_its_reason(folders: Folders) -> None:
    """Nothing of it is kept; who renamed it meanwhile has not lost it."""
    part = f"{FILE}.part"
    (folders.incoming / part).write_text("x")
    kept = folders.drop(part, {"code": "abandoned", "detail": "d"})
    assert names(folders.incoming) == names(folders.work) == []
    assert names(folders.quarantine) == [f"{kept}.reason.json"]
    (reason,) = folders.reasons()
    assert (reason["file"], reason["code"], reason["kept"]) == (part, "abandoned", False)
    with pytest.raises(FileNotFoundError):
        folders.drop(part, {"code": "abandoned", "detail": "d"})
    assert names(folders.quarantine) == [f"{kept}.reason.json"]


@pytest.mark.parametrize("taken", [True, False])
def test_a_full_quarantine_keeps_the_reason_alone(folders: Folders, taken: bool) -> None:
    """What is set aside then is named, and gone."""
    (folders.incoming / FILE).write_text("x")
    if taken:
        folders.take(FILE, MOST)
    kept = folders.set_aside(FILE, {"code": "hash", "detail": "d"}, taken=taken, keep=False)
    assert names(folders.incoming) == names(folders.work) == []
    assert names(folders.quarantine) == [f"{kept}.reason.json"]


def test_what_is_taken_is_out_of_its_senders_reach(folders: Folders) -> None:
    """What is verified is what is applied, though the sender still holds the file open."""
    with (folders.incoming / FILE).open("w") as still_open:
        still_open.write("before")
        still_open.flush()
        copy = folders.take(FILE, MOST)
        still_open.write(" and after")
    assert copy.read_text() == "before"
    folders.finish(FILE)
    assert (names(folders.done), names(folders.work), names(folders.incoming)) == ([FILE], [], [])


@pytest.mark.parametrize("kind", ["link", "pipe", "unreadable"])
def test_what_is_no_file_is_refused(folders: Folders, kind: str) -> None:
    """A link is not followed out of the exchange; nobody waits for a pipe."""
    path = folders.incoming / FILE
    if kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/nowhere")
    assert folders.tail(FILE)[1] == b""
    with pytest.raises(Refused, match="no ordinary file"):
        folders.take(FILE, MOST)
    kept = folders.set_aside(FILE, {"code": "name"}, taken=True)
    assert names(folders.work) == []
    assert names(folders.quarantine) == [kept, f"{kept}.reason.json"]


def test_what_is_too_large_is_not_copied(folders: Folders) -> None:
    """One byte more than the limit is refused, the limit itself is not."""
    (folders.incoming / FILE).write_bytes(b"x" * MOST)
    folders.take(FILE, MOST)
    folders.give_back(FILE)
    (folders.incoming / FILE).write_bytes(b"x" * (MOST + 1))
    with pytest.raises(Refused, match="larger than 1 MiB"):
        folders.take(FILE, MOST)
    folders.set_aside(FILE, {"code": "oversize"}, taken=True)
    assert names(folders.work) == []


def test_a_crash_before_the_commit_puts_the_file_back(folders: Folders) -> None:
    """Copied, not applied: it comes again."""
    (folders.incoming / FILE).write_text("x")
    folders.take(FILE, MOST)
    folders.recover()
    assert (names(folders.incoming), names(folders.work)) == ([FILE], [])


def test_a_crash_at_the_end_finishes(folders: Folders) -> None:
    """Applied, its original gone: its place is done/, and it does not come again."""
    (folders.incoming / FILE).write_text("x")
    folders.take(FILE, MOST)
    (folders.work / f"{FILE}.taken").unlink()
    (folders.work / "half.new").touch()
    folders.recover()
    assert (names(folders.done), names(folders.incoming), names(folders.work)) == ([FILE], [], [])


def test_a_newer_upload_is_not_lost(folders: Folders) -> None:
    """What was sent again while the engine was dead is the one that counts."""
    (folders.incoming / FILE).write_text("old")
    folders.take(FILE, MOST)
    (folders.incoming / FILE).write_text("new")
    folders.recover()
    assert (folders.incoming / FILE).read_text() == "new"


def test_a_reason_lies_beside_what_was_set_aside(folders: Folders) -> None:
    """Under a name that harms nobody, whatever the sender chose."""
    strange = "../x\n\x1b[31m日本"
    assert shown(strange) == ".._x___31m__"
    name = "x\n日本"
    (folders.incoming / name).touch()
    folders.set_aside(name, {"code": "name", "detail": "d"}, taken=False)
    (reason,) = folders.reasons()
    assert (reason["file"], reason["code"], reason["detail"]) == ("x___", "name", "d")
    for path in folders.quarantine.glob("*.reason.json"):
        json.loads(path.read_text(encoding="utf-8"))


def test_the_kernel_tells_of_what_comes(folders: Folders) -> None:
    """A file that is made, closed, renamed into the folder; nothing before, nothing twice."""
    watch = Watch(folders.incoming)
    with pytest.raises(BlockingIOError):
        os.read(watch.fileno(), 4096)
    (folders.incoming / "a.part").touch()
    watch.drain()
    (folders.incoming / "a.part").rename(folders.incoming / "a")
    assert os.read(watch.fileno(), 4096)
    watch.drain()
    with (folders.incoming / "b").open("w") as file:
        watch.drain()
        file.write("x")
        file.flush()
        with pytest.raises(BlockingIOError):
            os.read(watch.fileno(), 4096)
    assert os.read(watch.fileno(), 4096)
    os.close(watch.fileno())


def test_a_folder_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    """It says so, instead of waiting for ever."""
    with pytest.raises(FileNotFoundError):
        Watch(tmp_path / "nowhere")
