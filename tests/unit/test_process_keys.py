"""The page of who reads which key says what the suite holds processes to."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests/testinfra/process_keys.yml"
PAGE = ROOT / "docs/process-keys.md"


def test_the_page_is_the_suites_table() -> None:
    """Row by row, in order; a process without a line there reads no key (K-01)."""
    rows = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    wanted = [
        "| {} | {} | {} |".format(
            ", ".join(f"`{name}`" for name in row["units"]),
            ", ".join(f"`{key}`" for key in row["keys"]),
            " ".join(row["why"].split()),
        )
        for row in rows
    ]
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("| `")] == wanted
