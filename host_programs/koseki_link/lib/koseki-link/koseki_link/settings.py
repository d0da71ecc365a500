"""What the engine of one municipality is told: /etc/koseki/link.json, the role's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """One municipality's exchange.

    code6: 全国地方公共団体コード; folder: of its exchange; database: libpq's words for its own
    database; file_mb, line_kb: what a file and a line may hold (MiB, KiB); file_records: of a file
    that is sent; statement_hours: how old the registry's last statement may be; folder_mb: what
    in/ and quarantine/ may hold each (MiB); part_hours: how long an upload may stand still.
    """

    slug: str
    code6: str
    folder: Path
    database: str
    file_mb: int
    line_kb: int
    file_records: int
    statement_hours: int
    folder_mb: int
    part_hours: int

    @classmethod
    def read(cls, path: Path, slug: str) -> Settings:
        """Read a municipality's settings as the role wrote them."""
        row = json.loads(path.read_text(encoding="utf-8"))[slug]
        return cls(**{**row, "folder": Path(row["folder"])})
