"""The change record: rows that are only appended, each with the digest of the row before."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from koseki_release.archive import digest
from koseki_release.errors import Refused
from koseki_release.processes import answer


def record(path: Path, row: dict[str, Any]) -> None:
    """Append a row; each carries the digest of the row before, so that an edit shows."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = path.read_bytes().splitlines() if path.exists() else []
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    full = {"at": stamp, **row, "before": digest(lines[-1]) if lines else ""}
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(json.dumps(full, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    # The journal leaves the host; this file alone would be root's to rewrite.
    try:
        answer(["logger", "--tag", "koseki-release", json.dumps(full, ensure_ascii=False)])
    except Refused as refused:
        # What is being done goes on: an instance between two versions would be worse.
        print(f"koseki-release: not in the journal, only in {path}: {refused}", file=sys.stderr)


def last_chosen(path: Path) -> str | None:
    """Return the version that was switched to last and ran; None before the first."""
    chosen = None
    for line in path.read_bytes().splitlines() if path.exists() else []:
        row = json.loads(line)
        if row["action"] == "switch" and row["result"] == "ok":
            chosen = str(row["version"])
    return chosen


def broken_link(path: Path) -> int | None:
    """Return the number of the first row of a record that does not follow the one before."""
    before = ""
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else [], 1):
        if json.loads(line)["before"] != before:
            return number
        before = digest(line)
    return None
