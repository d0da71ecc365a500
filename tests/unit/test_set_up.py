"""An administrator's machine as it is: what set-up cannot work with, it refuses by name at once."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.site import PLAIN_PATH, project_root

SET_UP = Path(__file__).resolve().parents[2] / "tools" / "set-up"
SECONDS = 10


def set_up(folder: Path) -> subprocess.CompletedProcess[str]:
    """Start a checkout's set-up, which finds nothing in this folder but itself."""
    (folder / "tools").mkdir(parents=True, exist_ok=True)
    shutil.copy(SET_UP, folder / "tools" / "set-up")
    return subprocess.run(
        [str(folder / "tools" / "set-up")],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    "name", ["戸籍 基盤", "a%h", "a:b", "a b", "a'b", 'a"b', "a$b", "a\\b", "a#b"]
)
def test_a_path_that_others_misread_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """By set-up and by every command, in one sentence with the path in it."""
    refused = set_up(tmp_path / name)
    assert refused.returncode == 2
    assert str(tmp_path / name) in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    monkeypatch.setenv("KOSEKI_ROOT", str(tmp_path / name))
    with pytest.raises(KosekiError) as error:
        project_root()
    assert error.value.seen == str(tmp_path / name)


def test_both_refuse_the_same_characters() -> None:
    """Every one of ASCII that can stand in a path's name."""
    (line,) = (
        line.strip()
        for line in SET_UP.read_text(encoding="utf-8").splitlines()
        if line.startswith("*[!")
    )
    pattern = line.partition(")")[0]
    characters = [chr(code) for code in range(1, 128) if chr(code) not in "/\n"]
    script = f'for name in "$@"; do case $name in {pattern}) echo no ;; *) echo yes ;; esac; done'
    told = subprocess.run(
        ["sh", "-c", script, "sh", *characters], capture_output=True, text=True, check=True
    ).stdout.split()
    by_us = ["yes" if PLAIN_PATH.fullmatch(character) else "no" for character in characters]
    assert told == by_us
    assert {"yes", "no"} == set(told)


@pytest.mark.parametrize(
    ("option", "reason"),
    [("ro", "nothing can be written"), ("noexec", "no program may be started")],
)
def test_a_disk_that_does_not_serve_is_refused(tmp_path: Path, option: str, reason: str) -> None:
    """A mount of its own, in a mount namespace of its own."""
    (tmp_path / "tools").mkdir()
    script = (
        f"mount -t tmpfs none {tmp_path} && mkdir {tmp_path}/tools && cp {SET_UP} {tmp_path}/tools"
        f" && mount -o remount,{option} {tmp_path} && exec sh {tmp_path}/tools/set-up"
    )
    refused = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert (refused.returncode, reason in refused.stderr) == (2, True), refused.stderr
