"""What of a program that runs on hosts goes where: found in its folder, never listed by hand.

`host_programs/<name>/` has `sbin/` for what is called and `lib/` for the packages that it imports,
as they lie below `/usr/local` on a host, all of it root's. A program that is brought for one run
alone lies beside them. Where a program shares rules with this toolkit, `toolkit.txt` beside them
has the toolkit's modules that go along, into the program's own folder below `lib/`: one source at
work in two places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import koseki_ops
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _

HOST_PROGRAMS = "host_programs"
BELOW = PurePosixPath("/usr/local")
CALLED, IMPORTED, TOOLKIT = "sbin", "lib", "toolkit.txt"
# Where the package at work lies: a host that keeps watch has it installed.
SOURCES = Path(koseki_ops.__file__).parents[1]


@dataclass(frozen=True)
class ProgramFile:
    """A file of a program: source: here; path, mode: on the host, mode in octal."""

    source: Path
    path: str
    mode: str


def program_files(root: Path, name: str) -> list[ProgramFile]:
    """Return every file of a program below a checkout: what is called comes last.

    So the one of before works on until all that the new one imports is there.
    KosekiError: there is no such program, or there is nothing in it to call.
    """
    folder = root / HOST_PROGRAMS / name
    found = [
        ProgramFile(source, str(BELOW / source.relative_to(folder)), mode)
        for part, mode in ((IMPORTED, "0644"), (CALLED, "0755"))
        for source in sorted(_sources(folder / part))
    ]
    found[:0] = _of_toolkit(folder)
    if not any(file.source.parent.name == CALLED for file in found):
        known = sorted(path.parent.name for path in (root / HOST_PROGRAMS).glob(f"*/{CALLED}"))
        raise KosekiError(
            _("no such program in `host_programs/`"),
            name,
            _("name a folder of `host_programs/`: {known}").format(known=", ".join(known)),
        )
    return found


def _of_toolkit(folder: Path) -> list[ProgramFile]:
    """Return the toolkit's modules that a program brings along."""
    listed = folder / TOOLKIT
    if not listed.exists():
        return []
    (home,) = (folder / IMPORTED).iterdir()
    return [
        ProgramFile(SOURCES / name, str(BELOW / IMPORTED / home.name / name), "0644")
        for name in listed.read_text(encoding="ascii").split()
    ]


def _sources(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, less what Python leaves beside its sources."""
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def program_folders(files: list[ProgramFile]) -> list[str]:
    """Return the folders on a host that are these files' alone, the outer one first."""
    shared = {str(BELOW / CALLED), str(BELOW / IMPORTED)}
    folders = {
        str(parent)
        for file in files
        for parent in PurePosixPath(file.path).parents
        if parent.is_relative_to(BELOW) and parent != BELOW
    }
    return sorted(folders - shared)
