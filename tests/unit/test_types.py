"""What `mypy` reads: a file that its configuration does not name would never be looked at."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_python_file_is_below_a_folder_that_mypy_reads() -> None:
    """Programs without a suffix are found by their first line; test_run_tests.py holds that."""
    listed = ["git", "-C", str(ROOT), "ls-files", "*.py"]
    done = subprocess.run(listed, capture_output=True, text=True, check=True)
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert len(paths) > 300
    folders = [Path(folder) for folder in options["files"]]
    assert [path for path in paths if not any(map(path.is_relative_to, folders))] == []
