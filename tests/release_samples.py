"""Small releases for tests of what builds them and of what unpacks them."""

from __future__ import annotations

from pathlib import Path

from koseki_ops.plan.site import Site
from koseki_ops.supply import release

PLAIN = """---
name: plain
version: {version}
packages: [{package}]
start: [run]
health: /health
schema: schema
"""


def source(folder: Path, version: str = "1.0.0", package: str = "base-files") -> Path:
    """Write a small release's source."""
    (folder / "schema").mkdir(parents=True, exist_ok=True)
    (folder / "release.yml").write_text(PLAIN.format(version=version, package=package))
    (folder / "run").write_text("#!/bin/sh\nexec sleep 60\n")
    (folder / "run").chmod(0o755)
    (folder / "schema/0001-first.sql").write_text("CREATE SCHEMA own;\n")
    return folder


def signed(site: Site, folder: Path) -> Path:
    """Build and sign a release from a source."""
    archive = release.build(folder, release.folder_of(site))
    release.sign_all(site, archive)
    return archive
