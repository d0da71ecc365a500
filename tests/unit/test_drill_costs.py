"""The drills' own instruments: the lock on this machine's cores, and what a row counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drills import corelock
from drills.ledger import Ledger

TESTS = Path(__file__).parents[1]
# Holds cores, says so, and goes on until somebody closes its input.
HOLDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from drills import corelock
corelock.FOLDER, corelock.CORES = Path(sys.argv[2]), 2
with corelock.cores(int(sys.argv[3])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path, cores: int) -> subprocess.Popen[str]:
    """Start a process that holds cores once it gets them."""
    argv = [sys.executable, "-c", HOLDER, str(TESTS), str(folder), str(cores)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def holds(process: subprocess.Popen[str]) -> bool:
    """Wait until a process says that it holds its cores."""
    assert process.stdout is not None
    return process.stdout.readline() == "held\n"


def waits(process: subprocess.Popen[str]) -> bool:
    """Say whether a process still has nothing to say after some time."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    time.sleep(1)
    said = process.stdout.readline()
    os.set_blocking(process.stdout.fileno(), True)
    return said == ""


def test_light_ones_fit_beside_each_other_and_a_heavy_one_waits(tmp_path: Path) -> None:
    """Two of one core hold both at once; who wants both waits for the last of them."""
    one, other = holder(tmp_path, 1), holder(tmp_path, 1)
    assert holds(one)
    assert holds(other)
    heavy = holder(tmp_path, 2)
    assert waits(heavy)
    one.communicate("")
    assert waits(heavy)
    other.communicate("")
    assert holds(heavy)
    heavy.communicate("")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_whoever_is_ended_holds_nothing_any_more(tmp_path: Path, end: signal.Signals) -> None:
    """However a holder ends, the next one gets its cores; so does a waiter that overtakes it."""
    gone = holder(tmp_path, 2)
    assert holds(gone)
    waiting = holder(tmp_path, 2)
    assert waits(waiting)
    gone.send_signal(end)
    gone.wait()
    assert holds(waiting)
    waiting.communicate("")


def test_who_holds_some_asks_for_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would wait for another one that does the same; what it holds already is its own."""
    monkeypatch.setattr(corelock, "FOLDER", tmp_path)
    monkeypatch.setattr(corelock, "CORES", 2)
    with corelock.cores(1):
        with corelock.cores(1):
            pass
        with pytest.raises(AssertionError, match="at the beginning"), corelock.cores(2):
            pass
    with corelock.cores(9):
        pass


def test_a_poll_counts_once_and_a_row_begins_with_nothing() -> None:
    """What a wait asks over and over is one question; what the drill before did is not its own."""
    ledger = Ledger()
    ledger.begin()
    for _ in range(2):
        with ledger.polling():
            for _ in range(3):
                ledger.count("verify")
                ledger.count("sweep")
    ledger.count("verify")
    row = ledger.end("test_x.py::test_y", "passed")
    assert row["counts"] == {"verify": 3, "sweep": 2}
    assert (row["file"], row["waited"]) == ("test_x.py", 0.0)
    ledger.begin()
    assert ledger.end("test_x.py::test_z", "failed")["counts"] == {}
