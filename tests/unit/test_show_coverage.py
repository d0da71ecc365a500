"""`tools/show-coverage`: branches, not lines; red below the least share; nothing is no share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "tools/show-coverage"
SETTINGS = """[tool.coverage.run]
branch = true
source = ["src/koseki_ops"]
data_file = "var/reports/coverage"
parallel = true
"""
# Two branches in each; every line runs in the first call already.
BRANCHING = """
def half(value):
    if value:
        value += 1
    return value


half(1)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A toolkit of three rooms: one is tried by half, one wholly, one has no branch."""
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    for name, text in {
        "near/one.py": BRANCHING,
        "far/two.py": f"{BRANCHING}half(0)\n",
        "flat/three.py": "x = 1\n",
    }.items():
        path = tmp_path / "src/koseki_ops" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path


def measure(checkout: Path, *names: str) -> None:
    """Run some files of a checkout as the unit stage runs its tests: each in a process."""
    for name in names:
        argv = [sys.executable, "-m", "coverage", "run", f"src/koseki_ops/{name}"]
        subprocess.run(argv, cwd=checkout, check=True)


def shown(checkout: Path) -> tuple[int, list[str], str]:
    """Return the program's exit code, its lines and what it complains of."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], cwd=checkout, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_branches_count_and_not_lines(checkout: Path) -> None:
    """Every line ran, one way of four was never taken: red, by room, with the file that lacks."""
    measure(checkout, "near/one.py", "far/two.py", "flat/three.py")
    code, lines, complaint = shown(checkout)
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:-1]}
    assert rows["near"] == ["1", "of", "2", "50.0", "%"]
    assert rows["far"] == ["2", "of", "2", "100.0", "%"]
    assert rows["all"] == ["3", "of", "4", "75.0", "%"]
    assert "flat" not in rows
    assert lines[-1] == "  1 missing in src/koseki_ops/near/one.py"
    assert code == 1
    assert complaint.startswith("show-coverage: too few branches are tested (75.0 % of 85 %): ")


def test_what_is_tested_enough_is_silent(checkout: Path) -> None:
    """A file that nobody ran would count as missing, so there is none."""
    (checkout / "src/koseki_ops/near/one.py").unlink()
    measure(checkout, "far/two.py")
    code, lines, complaint = shown(checkout)
    assert (code, complaint) == (0, "")
    assert lines[-1].split() == ["all", "2", "of", "2", "100.0", "%"]


def test_nothing_measured_is_not_enough(checkout: Path) -> None:
    """A stage that counted nothing must not be green."""
    code, lines, complaint = shown(checkout)
    assert (code, lines) == (2, [])
    assert complaint.startswith("show-coverage: nothing was measured (")
