"""koseki-backup-lag: what a vault lacks is counted, and queued again when it counts as archived."""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = (
    Path(__file__).resolve().parents[3] / "host_programs/koseki_backup_lag/sbin/koseki-backup-lag"
)
SIZE = 16 * 1024 * 1024
ARCHIVE = {"id": "17-1", "min": "000000010000000000000001", "max": "000000010000000000000009"}
# PostgreSQL and pgBackRest of a host: each answers from a folder what it was told to.
RUNUSER = """#!/bin/sh
shift 3
case $1 in
psql)
    [ -e {folder}/no-server ] && exit 2
    case $3 in
    *pg_is_in_recovery*) cat {folder}/leads ;;
    *wal_segment_size*) echo {size} ;;
    *pg_walfile_name*) cat {folder}/current ;;
    *data_directory*) echo {folder}/data ;;
    esac ;;
pgbackrest)
    case $* in
    *repo-ls*) [ -e {folder}/away ] && exit 1; cat {folder}/listed ;;
    *info*) cat {folder}/info ;;
    esac ;;
esac
"""


def segment(number: int, timeline: int = 1) -> str:
    """Return the name of a segment of the log."""
    return f"{timeline:08X}{0:08X}{number:08X}"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program on a host that leads, with segments 1 to 3 whole and 4 being written."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("koseki_backup_lag", str(PROGRAM))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "STATUS", tmp_path / "status.json")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/runuser").write_text(RUNUSER.format(folder=tmp_path, size=SIZE))
    (tmp_path / "bin/runuser").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    wal = tmp_path / "data/pg_wal"
    (wal / "archive_status").mkdir(parents=True)
    for number in range(1, 5):
        (wal / segment(number)).touch()
        (wal / "archive_status" / f"{segment(number)}.done").touch()
    (tmp_path / "leads").write_text("t\n")
    (tmp_path / "current").write_text(f"{segment(4)}\n")
    (tmp_path / "listed").write_text(whole(1, 2, 3))
    (tmp_path / "info").write_text(info(ARCHIVE))
    return module


def whole(*numbers: int) -> str:
    """Return what pgBackRest lists of segments that are whole in a vault."""
    return "".join(f"{segment(number)}-{'a' * 40}.zst\n" for number in numbers)


def info(*archives: dict[str, Any]) -> str:
    """Return what pgBackRest says of one vault with one backup."""
    database = {"id": 1, "repo-key": 1}
    rows = [{**row, "database": database} for row in archives]
    backup = {"database": database, "timestamp": {"stop": 1_800_000_000}}
    return json.dumps([{"repo": [{"key": 1}], "archive": rows, "backup": [backup]}])


def run(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> tuple[int, dict[str, Any]]:
    """Run the program with a limit of an hour; return its exit code and the figures it wrote."""
    monkeypatch.setattr(sys, "argv", ["koseki-backup-lag", "--alarm-minutes", "60"])
    code = program.main()
    return code, json.loads(program.STATUS.read_text(encoding="ascii"))


def test_a_vault_that_has_all_is_not_behind(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The segment that is being written is not waited for; the newest backup is named."""
    code, status = run(program, monkeypatch)
    assert (code, status["leads"]) == (0, True)
    assert status["repositories"] == {"1": {"lag_minutes": 0.0, "newest_backup": 1_800_000_000}}


def test_what_counts_as_archived_and_is_not_there_is_queued_again(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind since it was closed; above the limit it is an alarm. A half segment counts as none."""
    (tmp_path / "listed").write_text(whole(1, 3) + f"{segment(2)}.partial\n")
    wal = tmp_path / "data/pg_wal"
    two_hours_ago = time.time() - 7200
    os.utime(wal / segment(2), (two_hours_ago, two_hours_ago))
    code, status = run(program, monkeypatch)
    assert code == 1
    assert status["repositories"]["1"]["lag_minutes"] == pytest.approx(120, abs=1)
    marks = sorted(path.name for path in (wal / "archive_status").iterdir())
    assert [mark for mark in marks if mark.endswith(".ready")] == [f"{segment(2)}.ready"]


def test_what_was_let_go_with_its_backup_is_not_missed(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vault begins with the oldest segment that a backup there needs."""
    (tmp_path / "info").write_text(info({**ARCHIVE, "min": segment(3)}))
    (tmp_path / "listed").write_text(whole(3))
    assert run(program, monkeypatch)[1]["repositories"]["1"]["lag_minutes"] == 0.0


@pytest.mark.parametrize("case", ["empty", "no archive", "away"])
def test_a_vault_that_cannot_be_compared_queues_nothing(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """An empty vault waits for all of it; one that is away, for what is newer than it had."""
    wal = tmp_path / "data/pg_wal"
    for number in range(1, 4):
        os.utime(wal / segment(number), (time.time() - 600 * number,) * 2)
    archives = {"empty": [{**ARCHIVE, "min": None, "max": None}], "no archive": []}
    (tmp_path / "info").write_text(info(*archives.get(case, [{**ARCHIVE, "max": segment(2)}])))
    if case == "away":
        (tmp_path / "away").touch()
    lag = run(program, monkeypatch)[1]["repositories"]["1"]["lag_minutes"]
    # A vault that is away had segments 1 and 2; the oldest that it lacks is then the third.
    assert lag == pytest.approx(30, abs=1)
    assert not list((wal / "archive_status").glob("*.ready"))


def test_an_earlier_timeline_counts_up_to_where_it_was_left(
    program: ModuleType, tmp_path: Path
) -> None:
    """What another history wrote behind that place is none of this server's."""
    wal = tmp_path / "data/pg_wal"
    (tmp_path / "current").write_text(f"{segment(5, timeline=2)}\n")
    (wal / "00000002.history").write_text("1\t0/3000000\tno recovery target specified\n\n")
    for name in (segment(3, timeline=2), segment(4, timeline=2), segment(5, timeline=2)):
        (wal / name).touch()
    assert [path.name for path in program.closed_segments(wal)] == [
        segment(1),
        segment(2),
        segment(3, timeline=2),
        segment(4, timeline=2),
    ]


@pytest.mark.parametrize("state", ["no server", "follows"])
def test_a_host_that_does_not_lead_measures_nothing(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Its figures say so; neither is an alarm of this program."""
    if state == "no server":
        (tmp_path / "no-server").touch()
    (tmp_path / "leads").write_text("f\n")
    code, status = run(program, monkeypatch)
    assert (code, status["repositories"]) == (0, {})
    assert status["leads"] is (None if state == "no server" else False)
