"""What of releases is on this host's disk, and whether it is what was signed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from koseki_release import places
from koseki_release.archive import MANIFEST, START, Release, digest, version_of


def current() -> str | None:
    """Return the version that is switched to."""
    link = places.BASE / "current"
    return link.readlink().name if link.is_symlink() else None


def unpacked() -> list[str]:
    """Return the versions that are unpacked, oldest first."""
    folder = places.BASE / "releases"
    names = (
        [path.name for path in folder.iterdir() if path.name[0] != "."] if folder.is_dir() else []
    )
    return sorted(names, key=version_of)


def kept(version: str) -> Path:
    """Return where the archive of a version is kept."""
    return places.STATE / f"{version}.tar.gz"


def altered(release: Release) -> list[str]:
    """Return what differs between a verified archive and its unpacked folder."""
    folder = places.BASE / "releases" / release.version
    wanted = {
        **release.manifest["files"],
        MANIFEST: {"sha256": digest(manifest_bytes(release.manifest)), "mode": "0644"},
        START: {"sha256": digest(start_script(release.manifest)), "mode": "0755"},
    }
    seen = {str(path.relative_to(folder)): path for path in folder.rglob("*") if not path.is_dir()}
    strange = sorted(wanted.keys() ^ seen.keys())
    for name in wanted.keys() & seen.keys():
        state = seen[name].lstat()
        whole = (
            seen[name].is_file()
            and not seen[name].is_symlink()
            and state.st_uid == 0
            and state.st_mode & 0o7777 == int(wanted[name]["mode"], 8)
            and digest(seen[name].read_bytes()) == wanted[name]["sha256"]
        )
        if not whole:
            strange.append(name)
    return sorted(strange)


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """Return a manifest as it is written."""
    return json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True).encode()


def start_script(manifest: dict[str, Any]) -> bytes:
    """Return the program that starts an instance, whatever the release calls it.

    It names the version's own folder: an instance stays with its version until it is restarted.
    """
    folder = places.BASE / "releases" / manifest["version"]
    words = " ".join("'" + word.replace("'", "'\\''") + "'" for word in manifest["start"])
    return f"#!/bin/sh\n# Written by koseki-release.\ncd {folder} && exec ./{words}\n".encode()


def point(version: str) -> None:
    """Let `current` name a version, in one step."""
    aside = places.BASE / ".current"
    aside.unlink(missing_ok=True)
    aside.symlink_to(Path("releases") / version)
    aside.rename(places.BASE / "current")
