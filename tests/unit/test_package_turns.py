"""Who manages packages on a host waits for whoever does so already, with the kernel's own locks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pyinfra_deploys.baseline.packages import FINISH, LOCKS, in_turn

# As apt and dpkg hold theirs: a record lock, for as long as the process lives.
HOLD = (
    "import fcntl, sys, time; file = open(sys.argv[1], 'a'); fcntl.lockf(file, fcntl.LOCK_EX); "
    "print('held', flush=True); sys.stdin.read()"
)


@pytest.mark.parametrize("held", ["lists", "frontend"])
def test_it_waits_and_then_holds_the_frontends_lock(tmp_path: Path, held: str) -> None:
    """It does nothing while another works, then runs as dpkg asks its frontends to."""
    lists, frontend = tmp_path / "lists", tmp_path / "frontend"
    asked = (
        "import fcntl, os, sys\n"
        "try: fcntl.lockf(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: print('ran', os.environ['DPKG_FRONTEND_LOCKED'])"
    )
    command = in_turn([sys.executable, "-c", asked, str(frontend)], (str(lists), str(frontend)))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / held)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, text=True) as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(0.5)
            other.communicate("")
            assert waiting.communicate(timeout=10)[0] == "ran 1\n"
    assert waiting.returncode == 0


def test_a_failure_of_the_command_is_its_own(tmp_path: Path) -> None:
    """A dpkg that fails is not taken for one that had nothing to do."""
    locks = (str(tmp_path / "lists"), str(tmp_path / "frontend"))
    done = subprocess.run(["sh", "-c", in_turn(["false"], locks)], check=False)
    assert done.returncode == 1


def test_the_locks_are_those_of_debian() -> None:
    """What is left half is finished under the very locks that apt and dpkg use."""
    assert LOCKS == ("/var/lib/apt/lists/lock", "/var/lib/dpkg/lock-frontend")
    assert FINISH.endswith(f"{' '.join(LOCKS)} dpkg --configure -a")
