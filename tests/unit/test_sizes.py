"""No function is longer than a screen: what it does is read in one look."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from koseki_ops.plan.site import project_root

ROOT = project_root()
FOLDERS = ("src", "host_programs", "pyinfra_deploys", "plugins", "sample_application", "tests")
LINES = 60


def programs() -> Iterator[Path]:
    """Yield every file of Python: by its suffix, or by its first line."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and (path.suffix == ".py" or b"python3" in first_line(path)):
                yield path
    yield from (path for path in (ROOT / "tools").iterdir() if b"python3" in first_line(path))


def first_line(path: Path) -> bytes:
    """Return the line that says what a file is run by."""
    with path.open("rb") as file:
        return file.readline(200) if file.read(2) == b"#!" else b""


def long_ones(text: str) -> list[str]:
    """Return the functions of a program that are longer, with their number of lines."""
    return [
        f"{node.name}: {lines} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > LINES
    ]


def test_no_function_is_longer_than_a_screen() -> None:
    """Split it by what its parts are for, or make a table of what is one."""
    files = list(programs())
    assert len(files) > 300  # one that reads nothing finds nothing
    found = {
        str(path.relative_to(ROOT)): long
        for path in files
        if (long := long_ones(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_a_long_one_is_found() -> None:
    """The rule itself can be red."""
    assert not long_ones("def whole():\n" + "    x = 1\n" * (LINES - 1))
    assert long_ones("def whole():\n" + "    x = 1\n" * LINES) == ["whole: 61 lines"]
