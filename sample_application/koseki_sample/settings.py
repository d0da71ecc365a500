"""What the platform tells an instance by its environment: whose it is and where its data is."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """One municipality's instance of one release.

    path: where the gateway shows it; read_only: it stands in for a municipality that is cut off,
    and margin_note is what its documents say of that.
    """

    slug: str
    code6: str
    municipality: str
    signatory: str
    database: str
    path: str
    read_only: bool
    margin_note: str
    version: str
    schema: int

    @classmethod
    def read(cls) -> Settings:
        """Read the environment (`docs/releases.md` lists it) and this release's manifest."""
        folder = Path(__file__).resolve().parents[1]
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return cls(
            slug=os.environ["KOSEKI_SLUG"],
            code6=os.environ["KOSEKI_CODE"],
            municipality=os.environ["KOSEKI_MUNICIPALITY"],
            signatory=os.environ["KOSEKI_SIGNATORY"],
            database=os.environ["KOSEKI_DATABASE"],
            path=os.environ.get("KOSEKI_PATH", "/"),
            read_only="KOSEKI_READ_ONLY" in os.environ,
            margin_note=os.environ.get("KOSEKI_MARGIN_NOTE", ""),
            version=manifest["version"],
            schema=manifest["schema_version"],
        )
