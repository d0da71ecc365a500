"""A search that finds nothing has read everything, and would have known what it looks for."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from koseki_ops.verify.raw import MARK, Searched, search, unmarked

WANTED = ("canary-0123456789abcdef01234567", "葛\U000e0102〜～−－髙")
SEALED = MARK.encode() + bytes(range(256)) * 40


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """Two files of ciphertext, one with a name of several words."""
    made = tmp_path / "vault"
    made.mkdir()
    for name in ("one", "two words\xe9"):
        (made / name).write_bytes(SEALED)
    return made


def searched(vault: Path, before: str = "") -> Searched:
    """Search a vault, as a host runs it."""
    find = f"find {shlex.quote(str(vault))} -type f -size +0"
    done = subprocess.run(
        ["sh", "-c", before + search(find, WANTED)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Searched.of(done.stdout)


def test_nothing_is_found_and_all_was_read(vault: Path) -> None:
    """Each file has its mark at its first byte, the control both texts."""
    (vault / "empty").touch()
    seen = searched(vault)
    assert (seen.found, seen.unread, seen.recognised) == ([], [], list(WANTED))
    assert sorted(Path(name).name for name in seen.read) == ["one", "two words\xe9"]


@pytest.mark.parametrize("text", WANTED)
@pytest.mark.parametrize("place", [len(MARK), 4000, len(SEALED)])
def test_what_must_not_be_there_is_found(vault: Path, text: str, place: int) -> None:
    """Amid bytes that are no UTF-8, at the end, behind the mark."""
    (vault / "one").write_bytes(SEALED[:place] + b"\xe8" + text.encode() + SEALED[place:])
    assert [row.partition(": ")[2] for row in searched(vault).found] == [text]


def test_a_file_without_the_mark_was_not_read(vault: Path) -> None:
    """Neither is one whose mark stands elsewhere: its beginning is not known."""
    (vault / "one").write_bytes(b"x" + SEALED)
    assert [Path(name).name for name in searched(vault).unread] == ["one"]


def test_a_file_that_goes_meanwhile_proves_nothing(vault: Path) -> None:
    """It was listed, and is gone when it is to be read: neither found nor missed."""
    (vault / "going").write_bytes(SEALED)
    gone = f'grep() {{ :; }}; cat() {{ rm -f {shlex.quote(str(vault))}/going; command cat "$@"; }};'
    seen = searched(vault, gone)
    assert sorted(Path(name).name for name in seen.read) == ["one", "two words\xe9"]
    assert seen.unread == []


def tools_without(missing: str, folder: Path) -> Path:
    """Return a folder with all the programs that a search uses, but one."""
    tools = folder / "tools"
    tools.mkdir()
    names = ("mktemp", "rm", "find", "cat", "ls", "grep", "xargs", "sort", "comm", "tr", "wc")
    for name in names:
        if name != missing:
            (tools / name).symlink_to(shutil.which(name) or "/nowhere")
    return tools


@pytest.mark.parametrize("missing", ["grep", "xargs"])
def test_a_search_that_could_not_be_made_recognises_nothing(
    vault: Path, missing: str, tmp_path: Path
) -> None:
    """A program that is missing, or fails, is no empty answer."""
    tools = tools_without(missing, tmp_path)
    find = f"find {shlex.quote(str(vault))} -type f"
    done = subprocess.run(
        ["/bin/sh", "-c", search(find, WANTED)],
        env={"PATH": str(tools)},
        capture_output=True,
        check=False,
    )
    seen = Searched.of(done.stdout)
    assert seen.recognised == []
    assert seen.read == []


def without_mark(vault: Path, before: str = "") -> list[str]:
    """Return what has no mark, by name, and the count of those that have it."""
    command = unmarked(f"find {shlex.quote(str(vault))} -type f -size +0")
    done = subprocess.run(["sh", "-c", before + command], capture_output=True, check=True)
    return [Path(os.fsdecode(line)).name for line in done.stdout.splitlines()]


def test_what_is_no_ciphertext_is_named(vault: Path) -> None:
    """With the others' count, the control's among them: without it nothing named says nothing."""
    assert without_mark(vault) == ["@@ 3"]
    (vault / "a name in the clear").write_bytes(b"x\0" + SEALED)
    (vault / "a b\xff").write_bytes(b"compressed")
    (vault / "empty").touch()
    assert without_mark(vault) == ["a b\xff", "a name in the clear", "@@ 3"]


def test_a_place_without_a_file_yet_is_no_search_that_did_not_end(tmp_path: Path) -> None:
    """A new vault is verified before its first generation is sealed."""
    assert without_mark(tmp_path) == ["@@ 1"]


def test_what_goes_between_two_looks_is_not_named(vault: Path) -> None:
    """A file is renamed as soon as it is whole: its first name is no error."""
    (vault / "going").write_bytes(b"plain")
    gone = f'xargs() {{ rm -f {shlex.quote(str(vault))}/going; command xargs "$@"; }};'
    assert without_mark(vault, gone) == ["@@ 3"]


@pytest.mark.parametrize("missing", ["grep", "find", "sort", "comm"])
def test_a_look_that_could_not_be_made_counts_nothing(
    vault: Path, missing: str, tmp_path: Path
) -> None:
    """A program that is missing is no proof that all is ciphertext."""
    done = subprocess.run(
        ["/bin/sh", "-c", unmarked(f"find {shlex.quote(str(vault))} -type f")],
        env={"PATH": str(tools_without(missing, tmp_path))},
        capture_output=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert lines[-1:] in ([], [b"@@ 0"])


def test_a_search_that_was_ended_recognises_nothing() -> None:
    """The control's name is the last word of all."""
    assert Searched.of(b"/tmp/x\0000:canary\n").recognised == []
    assert Searched.of(b"") == Searched([], [], [], [])


def test_a_place_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    """`find` refuses, and so does the search."""
    command = search(f"find {tmp_path}/nowhere -type f", WANTED)
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert done.returncode == 1
    assert Searched.of(done.stdout).recognised == []
    assert not os.listdir(tmp_path)  # noqa: PTH208
