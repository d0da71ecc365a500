"""Whatever ends a write, the file is whole: as it was, or as it is now."""

from __future__ import annotations

import ast
import errno
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults import KILLED, dying
from koseki_ops.core import files
from koseki_ops.core.files import (
    PRIVATE,
    create_private,
    created,
    move,
    put_folder,
    write_atomic,
    write_private,
)
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


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_long_file_is_there_whole_or_not_at_all(tmp_path: Path, after: bool) -> None:
    """Whatever kills its writer; what is there already is not written over."""
    path = tmp_path / "export"

    def write() -> None:
        with created(path) as file:
            file.write(NOW.encode())

    codes = set()
    for at in range(1, MOST_CALLS):
        path.unlink(missing_ok=True)
        codes.add(dying(at, after, write))
        assert not path.exists() or path.read_text(encoding="utf-8") == NOW
        path.unlink(missing_ok=True)
        write()
        assert [left.name for left in tmp_path.iterdir()] == ["export"]
        assert stat.S_IMODE(path.stat().st_mode) == PRIVATE
    assert codes == {0, KILLED}
    with pytest.raises(FileExistsError), created(path) as file:
        file.write(b"another")
    assert path.read_text(encoding="utf-8") == NOW
    assert [left.name for left in tmp_path.iterdir()] == ["export"]


def test_a_long_file_whose_writer_fails_is_not_there(tmp_path: Path) -> None:
    """Half of it would be taken for all of it."""

    def half() -> None:
        with created(tmp_path / "export") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", [False, True], ids=["first", "again"])
def test_a_folder_is_put_in_its_place_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """By one call to the system: whoever looks before and after it finds one of both, whole."""
    folder, aside = tmp_path / "mirror", tmp_path / ".mirror.1"
    for place, content in ((folder, BEFORE), (aside, NOW)):
        if place == aside or there:
            place.mkdir()
            (place / "file").write_text(content, encoding="utf-8")
    seen = []
    real = files.c_library

    def looked(name: str, *arguments: int | bytes) -> None:
        seen.append((name, (folder / "file").exists()))
        real(name, *arguments)
        seen.append((name, (folder / "file").exists()))

    monkeypatch.setattr(files, "c_library", looked)
    put_folder(aside, folder)
    assert (folder / "file").read_text(encoding="utf-8") == NOW
    assert [left.name for left in tmp_path.iterdir()] == ["mirror"]
    assert [name for name, _whole in seen[::2]] == ["syncfs", *(["renameat2"] if there else [])]
    assert {whole for _name, whole in seen} == {there}


def test_a_file_system_that_cannot_exchange_gets_the_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS answers EINVAL: none is at hand here, so its answer is given in its place."""
    real = files.c_library

    def refusing(name: str, *arguments: int | bytes) -> None:
        if name == "renameat2":
            raise OSError(errno.EINVAL, name)
        real(name, *arguments)

    monkeypatch.setattr(files, "c_library", refusing)
    aside, folder = tmp_path / ".mirror", tmp_path / "mirror"
    for path, content in ((aside, NOW), (folder, BEFORE)):
        path.mkdir()
        (path / "file").write_text(content, encoding="utf-8")
    put_folder(aside, folder)
    assert (folder / "file").read_text(encoding="utf-8") == NOW
    assert [left.name for left in tmp_path.iterdir()] == ["mirror"]


def test_a_system_that_refuses_is_heard(tmp_path: Path) -> None:
    """A folder that is not there, and two file systems, are errors of the system."""
    with pytest.raises(OSError, match="renameat2: No such file"):
        files.c_library("renameat2", -100, b"/nowhere", -100, os.fsencode(tmp_path), 2)


# Who else writes, moves or copies files, by the start of its place, and why that is no file which
# has to be whole after a crash. A call of a new kind of place is made through core/files instead.
WRITERS = {
    "bench/": "what is measured is thrown away",
    "core/files.py": "the one that writes",
    "core/locks.py": "the file of a lock has no content",
    "drift/history/store.py": "SQLite writes it; an empty file with its rights, and a lock's file",
    "duplicates/journal.py::_append": "rows are added at the end, each synced",
    "engines/ansible_run.py::_logged": "a log, written while the engine runs",
    "evidence/ledger.py": "rows are added at the end, each synced",
    "image/build.py::_place": "into the tree of an image, which is made anew after a crash",
    "image/build.py::_write": "below .building-…, which is removed after a crash",
    "image/disk.py": "a disk that is being put together below .building-…",
    "image/loader.py": "a partition that is being put together below .building-…",
    "image/lynis.py": "a copy in the build lab",
    "image/sanitize.py": "the tree of an image",
    "lab/": "a lab does not outlive the power of its machine: it is made anew",
    "supply/mirror.py::_fill_pool": "the mirror that is built aside, which put_folder syncs",
    "supply/mirror.py::_private_apt": "a temporary folder of apt",
    "supply/mirror.py::build_mirror": "the mirror that is built aside, which put_folder syncs",
    "supply/mirror.py::write_suite": "the mirror that is built aside, which put_folder syncs",
    "supply/toolkit.py::toolkit_bundle": "a copy in a temporary folder, to make a wheel of",
    "verify/cli.py::format_epilog": "a paragraph of a help text, which click calls so",
    "verify/runner.py::_pytest": "a log, written while the suites run",
}
WRITING = frozenset({"write_text", "write_bytes", "hardlink_to"})
COPYING = frozenset({"copy", "copy2", "copyfile", "copyfileobj", "copytree", "move"})
OF_THE_SYSTEM = frozenset({"rename", "replace", "renames", "link"})


def writes(node: ast.AST) -> bool:
    """Say whether a call writes, moves or copies a file, by how it is written."""
    if not isinstance(node, ast.Call):
        return False
    text = ast.unparse(node)
    found = False
    match node.func:
        case ast.Attribute(value=ast.Name(id="os"), attr="open"):
            found = bool(re.search(r"O_(WRONLY|RDWR|CREAT)", text))
        case ast.Attribute(value=ast.Name(id="os"), attr=attr):
            found = attr in OF_THE_SYSTEM
        case ast.Attribute(value=ast.Name(id="shutil"), attr=attr):
            found = attr in COPYING
        # A text's replace has two arguments, a path's one.
        case ast.Attribute(attr="replace" | "rename"):
            found = len(node.args) == 1 and not node.keywords
        case ast.Attribute(attr=attr) if attr in WRITING:
            found = True
        case ast.Attribute(attr="open") | ast.Name(id="open"):
            given = [*node.args, *(word.value for word in node.keywords if word.arg == "mode")]
            modes = [one.value for one in given if isinstance(one, ast.Constant)]
            # An archive that is written into an open file, or into memory, makes no file itself.
            found = "fileobj=" not in text and any(
                re.fullmatch(r"[rwaxbt+]*[wax+][rwaxbt+]*", str(mode)) for mode in modes
            )
    return found


def writers(place: str, tree: ast.AST, inside: str = "") -> Iterator[str]:
    """Yield each place that writes: the module, and the function within it."""
    for node in ast.iter_child_nodes(tree):
        if writes(node):
            yield f"{place}::{inside}"
        within = node.name if isinstance(node, ast.FunctionDef) and not inside else inside
        yield from writers(place, node, within)


def test_files_are_written_here_alone() -> None:
    """Whoever writes by himself is known with his reason, and is still there."""
    sources = project_root() / "src/koseki_ops"
    found = {
        place
        for path in sorted(sources.rglob("*.py"))
        for place in writers(
            str(path.relative_to(sources)), ast.parse(path.read_text(encoding="utf-8"))
        )
    }
    assert [place for place in found if not place.startswith(tuple(WRITERS))] == []
    assert [known for known in WRITERS if not any(p.startswith(known) for p in found)] == []


@pytest.mark.parametrize(
    "call",
    [
        "path.write_text(x, encoding='utf-8')",
        "(folder / 'x').write_bytes(x)",
        "path.open('w')",
        "open(path, mode='ab')",
        "path.rename(other)",
        "aside.replace(place)",
        "os.replace(a, b)",
        "shutil.copyfile(a, b)",
        "os.open(path, os.O_WRONLY | os.O_CREAT)",
    ],
)
def test_a_writer_would_be_seen(call: str) -> None:
    """Each form that stood in the tree before."""
    assert list(writers("x.py", ast.parse(f"def made():\n    with a:\n        {call}")))


@pytest.mark.parametrize(
    "call",
    [
        "text.replace('a', 'b')",
        "path.open('rb')",
        "open(path)",
        "os.open(x, os.O_RDONLY)",
        "tarfile.open(fileobj=x, mode='w')",
    ],
)
def test_a_reader_is_none(call: str) -> None:
    """What reads a file, and a text in which something is replaced."""
    assert not list(writers("x.py", ast.parse(call)))
