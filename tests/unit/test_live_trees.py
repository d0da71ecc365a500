"""What walks a host's files while others write them is not shaken by a file that goes meanwhile."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Everything that walks the trees of a running host: the probe, the suites, the roles' questions.
WALKING = [
    ROOT / "src/koseki_ops/drift/observe/probe.sh",
    *sorted(ROOT.glob("tests/testinfra/test_*.py")),
    *sorted(ROOT.glob("roles/*/files/*-state.sh")),
]
# find(1), its starting points, its first option.
WALK = re.compile(r"\bfind (?:[$\"{/]\S* )+(-\w+|!)")


def test_every_walk_forgives_a_file_that_goes_meanwhile() -> None:
    """PostgreSQL writes and removes files all the time; a walk that met one was a red suite."""
    walks = [(path, found[1]) for path in WALKING for found in WALK.finditer(path.read_text())]
    assert len(walks) > 15
    assert {path.name for path, first in walks if first != "-ignore_readdir_race"} == set()


@pytest.mark.parametrize(("option", "complains"), [("-ignore_readdir_race", 0), ("-nowarn", 1)])
def test_what_the_option_is_for(tmp_path: Path, option: str, complains: int) -> None:
    """find(1) reads a folder whole before it looks at what stands in it: here all goes between."""
    for number in range(9):
        (tmp_path / f"file{number}").touch()
    empties = ["-exec", "sh", "-c", 'rm -f "$1"/*', "sh", str(tmp_path), ";"]
    done = subprocess.run(
        ["find", tmp_path, option, "-perm", "/400", "-type", "f", *empties],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == complains, done.stderr
