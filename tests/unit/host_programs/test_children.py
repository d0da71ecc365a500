"""A Python program of a host whose child is missing, fails, hangs or answers garbage: one sentence.

Each runs as the process that it is on a host, with stand-ins for what it asks.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).resolve().parents[3] / "host_programs"
LAG = PROGRAMS / "koseki_backup_lag/sbin/koseki-backup-lag"
COMPACT = PROGRAMS / "koseki_etcd_compact/sbin/koseki-etcd-compact"
RELEASE = PROGRAMS / "koseki_release/sbin/koseki-release"
WAYS: Mapping[str, str | None] = {
    "is missing": None,
    "fails": "echo its own reason >&2; exit 1",
    "hangs": "exec /bin/sleep 60",
    "garbles": "printf '%%{[\\377 no answer\\n'",
}


@dataclass(frozen=True)
class Asked:
    """A program, what it asks, and the text that shortens its patience and moves its places."""

    program: Path
    child: str
    words: tuple[str, ...]
    patience: str


ASKED = (
    Asked(LAG, "runuser", ("--alarm-minutes", "60"), "SECONDS = 120"),
    Asked(COMPACT, "etcdctl", ("settings",), "timeout=SECONDS + 10"),
)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.program.name)
def test_one_sentence_and_no_trace(tmp_path: Path, asked: Asked, way: str) -> None:
    """It ends soon, with its own sentence: no traceback, and nothing for an answer."""
    text = asked.program.read_text(encoding="utf-8")
    assert asked.patience in text
    quick = asked.patience.split("=")[0] + "= 0.5"
    text = text.replace(asked.patience, quick.replace(" = ", "=") if "timeout" in quick else quick)
    # Whoever may read the key is another test's matter.
    text = text.replace("os.geteuid() != 0", "False")
    (tmp_path / asked.program.name).write_text(text, encoding="utf-8")
    (tmp_path / "settings").write_text(
        "ETCD_ADVERTISE_CLIENT_URLS=https://one:2379\n"
        "ETCDCTL_CACERT=a\nETCDCTL_CERT=b\nETCDCTL_KEY=c\n",
        encoding="ascii",
    )
    if script := WAYS[way]:
        (tmp_path / asked.child).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tmp_path / asked.child).chmod(0o755)
    done = subprocess.run(
        [sys.executable, str(tmp_path / asked.program.name), *asked.words],
        env={"PATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode in {1, 2}
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{asked.program.name}: ")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("child", ["systemctl", "logger", "dpkg-query", "ssh-keygen"])
def test_a_release_is_refused(tmp_path: Path, child: str, way: str) -> None:
    """What it asks through one place: Refused, which the program prints as one sentence."""
    calls = {
        "systemctl": "instances.instances(['iida'])",
        "logger": "record.record(pathlib.Path('log'), {'action': 'x'})",
        "dpkg-query": "print(convergence.installed('git'))",
        "ssh-keygen": "log = pathlib.Path('log'); archive.signing_key('vendor', b'', log, log)",
    }
    (tmp_path / "log").touch()
    if script := WAYS[way]:
        (tmp_path / child).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tmp_path / child).chmod(0o755)
    program = (
        "import pathlib, sys\n"
        "from koseki_release import archive, convergence, errors, instances, processes, record\n"
        "processes.SECONDS = 0.5\n"
        f"try:\n    {calls[child]}\n"
        "except errors.Refused as refused:\n    sys.exit(f'refused: {refused}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        env={
            "PATH": str(tmp_path),
            "PYTHONPATH": str(RELEASE.parents[1] / "lib/koseki-release"),
            "HOME": os.environ.get("HOME", "/"),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    said = (done.returncode, done.stderr.partition(":")[0], done.stdout)
    if child == "logger" and way == "garbles":
        assert said == (0, "", ""), "none of its words is read"
    elif child == "logger":
        # What is being switched goes on: the row is in the file, and it is told where it is not.
        assert said == (0, "koseki-release", "")
        assert (tmp_path / "log").read_text(encoding="utf-8")
    elif child == "dpkg-query" and way in {"fails", "garbles"}:
        # A package that it does not know, and one that is in no state that is `installed`.
        assert said == (0, "", "False\n")
    else:
        assert said == (1, "refused", "")
