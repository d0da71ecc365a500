"""Whatever ends a write, the file is whole: as it was, or as it is now."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from faults import KILLED, dying
from koseki_ops.core.files import PRIVATE, create_private, move, write_atomic, write_private
from koseki_ops.plan.site import project_root

BEFORE, NOW = "what was there\n" * 50, "今ここにあるもの\n" * 5000
MOST_CALLS = 30


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_moment_leaves_one_of_both(tmp_path: Path, after: bool) -> None:
    """At each call to the system; the next write finds its way, and nothing is left beside it."""
    path = tmp_path / "file"
    seen = set()
    for at in range(1, MOST_CALLS):
        path.write_text(BEFORE, encoding="utf-8")
        code = dying(at, after, lambda: write_atomic(path, NOW))
        assert code in {0, KILLED}
        content = path.read_text(encoding="utf-8")
        assert content in {BEFORE, NOW}
        seen.add((code, content == NOW))
        write_atomic(path, NOW)
        assert [left.name for left in tmp_path.iterdir()] == ["file"]
    # It died with the old content in place, with the new one, and it ended.
    assert seen == {(KILLED, False), (KILLED, True), (0, True)}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_rights_are_those_that_were_asked_for(tmp_path: Path, umask: int) -> None:
    """Whatever the caller's umask is, and whatever the file's rights were."""
    path = tmp_path / "made" / "secret"
    before = os.umask(umask)
    try:
        write_private(path, b"\0\1")
        write_atomic(path.with_name("shown"), "", 0o644)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == PRIVATE
    assert stat.S_IMODE(path.with_name("shown").stat().st_mode) == 0o644
    path.chmod(0o644)
    write_private(path, "again")
    assert stat.S_IMODE(path.stat().st_mode) == PRIVATE


def test_a_write_that_fails_leaves_the_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the disk is full."""
    path = tmp_path / "file"
    write_atomic(path, BEFORE)

    def full(_handle: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, NOW)
    assert path.read_text(encoding="utf-8") == BEFORE
    assert [left.name for left in tmp_path.iterdir()] == ["file"]


def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    """Only what somebody left who has ended is removed; a name may hold any letter."""
    path = tmp_path / "a[b]*.json"
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                           capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    left = tmp_path / f".a[b]*.json.{ended}.new"
    other = tmp_path / ".ab.json.1.new"
    running = tmp_path / ".a[b]*.json.1.new"
    for file in (left, other, running):
        file.touch()
    write_atomic(path, "{}")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        [path.name, other.name, running.name]
    )


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_the_first_one_counts_whatever_kills_the_second(tmp_path: Path, after: bool) -> None:
    """Nothing or the whole of it; then what is there stays, and nothing is left beside it."""
    path = tmp_path / "key"
    codes = set()
    for at in range(1, MOST_CALLS):
        path.unlink(missing_ok=True)
        codes.add(dying(at, after, lambda: create_private(path, NOW.encode())))
        assert not path.exists() or path.read_text(encoding="utf-8") == NOW
        made = path.exists()
        create_private(path, BEFORE.encode())
        assert path.read_text(encoding="utf-8") == (NOW if made else BEFORE)
        assert [left.name for left in tmp_path.iterdir()] == ["key"]
        assert stat.S_IMODE(path.stat().st_mode) == PRIVATE
    assert codes == {0, KILLED}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_moved_file_is_there_or_here(tmp_path: Path, after: bool) -> None:
    """Whatever kills it; whom somebody else forestalled is told."""
    path, target = tmp_path / "from" / "file", tmp_path / "to" / "file"
    path.parent.mkdir()
    codes = set()
    for at in range(1, MOST_CALLS):
        target.unlink(missing_ok=True)
        path.write_text(NOW, encoding="utf-8")
        codes.add(dying(at, after, lambda: move(path, target)))
        assert path.exists() != target.exists()
        if path.exists():
            move(path, target)
        assert target.read_text(encoding="utf-8") == NOW
    assert codes == {0, KILLED}
    with pytest.raises(FileNotFoundError):
        move(path, target)


def test_files_are_put_in_place_here_alone() -> None:
    """What is renamed elsewhere is a folder, or what another program wrote; each is known."""
    known = {
        "core/files.py",
        "evidence/ledger.py",  # an old ledger that was taken over, out of the way
        "image/build.py",  # a disk that is built for minutes
        "lab/lab.py",  # a snapshot's folders
        "supply/base_tree.py",
        "supply/mirror.py",
        "supply/toolkit.py",  # as the two above: a folder that was built aside
    }
    sources = project_root() / "src/koseki_ops"
    renaming = {
        str(path.relative_to(sources))
        for path in sources.rglob("*.py")
        if re.search(r"\.rename\(|os\.replace\(", path.read_text(encoding="utf-8"))
    }
    # What bench/link.py does there, a town's program does on its host.
    assert renaming - {"bench/link.py"} == known
