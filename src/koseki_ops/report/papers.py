"""Papers of an office: a page as PDF, rows as CSV, and files that nobody's others are lost by.

Whoever prints the same again gets the same bytes.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from koseki_ops.core import subprocesses
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_atomic
from koseki_ops.core.language import _

# Spreadsheets of an office know UTF-8 by this.
BOM = "\ufeff"
# The printer's own files carry no time of the clock.
EPOCH = {"SOURCE_DATE_EPOCH": "0"}


def pdf(html: str) -> bytes:
    """Return a page as PDF, by WeasyPrint; it brings along all that it needs."""
    with TemporaryDirectory(prefix="koseki-paper-") as folder:
        path = Path(folder) / "paper.pdf"
        subprocesses.run(["weasyprint", "-q", "-", str(path)], html, {**os.environ, **EPOCH})
        return path.read_bytes()


def table(rows: Iterable[Sequence[object]]) -> bytes:
    """Return rows as CSV: UTF-8 with its mark, lines as offices' spreadsheets want them."""
    made = io.StringIO()
    csv.writer(made, lineterminator="\r\n").writerows(rows)
    return f"{BOM}{made.getvalue()}".encode()


def write(contents: Mapping[str, bytes], folder: Path) -> list[Path]:
    """Write papers by their names into a folder; return their paths.

    A file that is there with another content is kept, nothing is written, and it is a KosekiError.
    """
    for name, content in contents.items():
        path = folder / name
        if path.exists() and path.read_bytes() != content:
            raise KosekiError(
                _("another file of this name is there"),
                str(path),
                _("keep it, and print into another folder (`--to`)"),
            )
    for name, content in contents.items():
        write_atomic(folder / name, content)
    return [folder / name for name in contents]
