"""An archive and its signature: nothing of it is read before every byte was verified."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from koseki_release.errors import Refused
from koseki_release.processes import run

NAMESPACE = "koseki-release"
FORMAT = 1
MANIFEST, START = "manifest.json", "koseki-start"
ARCHIVE_BYTES = 256 * 1024 * 1024
# What becomes of reading an archive that is none.
MALFORMED = (tarfile.TarError, OSError, EOFError, KeyError, ValueError, TypeError)


@dataclass(frozen=True)
class Release:
    """A verified archive: its bytes' digest, who signed it, its manifest, its files."""

    signer: str
    sha256: str
    manifest: dict[str, Any]
    files: dict[str, bytes]

    @property
    def version(self) -> str:
        """The version that the manifest names."""
        return str(self.manifest["version"])


def open_release(archive: Path, signers: Path) -> Release:
    """Return a release after its signature, manifest and every file were verified."""
    for path, what in ((archive, "release"), (signers, "list of allowed signers")):
        if not path.is_file():
            raise Refused(f"there is no such {what} ({path}): name an existing file")
    if archive.stat().st_size > ARCHIVE_BYTES:
        raise Refused(f"the release is larger than {ARCHIVE_BYTES >> 20} MiB ({archive.name})")
    # Read once: what is verified is what is unpacked.
    content = archive.read_bytes()
    signer = signer_of(content, archive, signers)
    try:
        files, modes = members(content)
        manifest = json.loads(files.pop(MANIFEST))
        reject_manifest(manifest, files, modes)
    except MALFORMED as error:
        raise Refused(
            f"the release cannot be read ({archive.name}: {error}): build it anew"
        ) from None
    return Release(signer, hashlib.sha256(content).hexdigest(), manifest, files)


def signer_of(content: bytes, archive: Path, signers: Path) -> str:
    """Return who signed these bytes; Refused when nobody did, a stranger did, or they changed."""
    signature = archive.with_name(archive.name + ".sig")
    if not signature.is_file():
        raise Refused(f"the release is not signed ({signature} is missing): `koseki release sign`")
    find = ["ssh-keygen", "-Y", "find-principals", "-s", str(signature), "-f", str(signers)]
    found = run(find)
    names = found.stdout.decode().split()
    if found.returncode or not names:
        raise Refused(
            f"the release is signed by nobody who may ({archive.name}): "
            f"have it signed by a key of {signers}"
        )
    check = ["ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-f", str(signers)]
    if run([*check, "-I", names[0], "-s", str(signature)], content).returncode:
        raise Refused(
            f"the release is not what {names[0]} signed ({archive.name}): "
            "it was altered, or signed for another purpose; fetch it again"
        )
    return names[0]


def members(content: bytes) -> tuple[dict[str, bytes], dict[str, int]]:
    """Return content and mode of every file of an archive; ValueError for anything else in it."""
    files: dict[str, bytes] = {}
    modes: dict[str, int] = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            plain = member.isfile() and not path.is_absolute() and ".." not in path.parts
            if not plain or str(path) != member.name or member.name in files:
                raise ValueError(f"{member.name!r} is no plain file in its place")
            file = archive.extractfile(member)
            files[member.name] = file.read() if file else b""
            modes[member.name] = 0o755 if member.mode & 0o100 else 0o644
    return files, modes


def reject_manifest(
    manifest: dict[str, Any], files: dict[str, bytes], modes: dict[str, int]
) -> None:
    """Raise ValueError unless manifest and files say the same."""
    if manifest["format"] != FORMAT:
        raise ValueError(f"format {manifest['format']} is not known here")
    version_of(manifest["version"])
    if not re.fullmatch(r"[a-z][a-z0-9-]{1,40}", manifest["name"]):
        raise ValueError(f"{manifest['name']!r} is no name")
    if not all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name) for name in manifest["packages"]):
        raise ValueError("a needed package has no Debian name")
    if not re.fullmatch(r"/[A-Za-z0-9/_.-]*", manifest["health"]):
        raise ValueError(f"{manifest['health']!r} is no path")
    if manifest["start"][0] not in files or START in files:
        raise ValueError(f"it holds no {manifest['start'][0]}, or a {START} of its own")
    declared = {
        name: (row["sha256"], int(row["mode"], 8)) for name, row in manifest["files"].items()
    }
    seen = {name: (hashlib.sha256(data).hexdigest(), modes[name]) for name, data in files.items()}
    if declared != seen:
        strange = sorted({name for name, _ in declared.items() ^ seen.items()})
        raise ValueError(f"manifest and files differ: {', '.join(strange[:3])}")
    numbers = [row["number"] for row in manifest["schema"]]
    if numbers != list(range(1, len(numbers) + 1)) or manifest["schema_version"] != len(numbers):
        raise ValueError("schema files are not numbered 1, 2, 3, …")
    for row in manifest["schema"]:
        reject_sql(row["file"], files[row["file"]].decode())


def reject_sql(name: str, sql: str) -> None:
    """Raise ValueError for SQL that would leave its role or its transaction, or reach a shell."""
    for line in sql.splitlines():
        word = line.strip().upper()
        if word.startswith("\\") or re.match(
            r"(BEGIN\s*;|COMMIT\b|ROLLBACK\b|START\s+TRANSACTION|RESET\b|SET\s+(LOCAL|SESSION|ROLE)\b)",
            word,
        ):
            raise ValueError(f"{name}: {line.strip()[:30]!r} has no place in a schema file")


def version_of(text: str) -> tuple[int, int, int]:
    """Return a version's parts, for comparison."""
    found = re.fullmatch(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", text)
    if not found:
        raise ValueError(f"{text!r} is no version such as 1.0.0")
    return int(found[1]), int(found[2]), int(found[3])


def digest(content: bytes) -> str:
    """Return the hash of some bytes."""
    return hashlib.sha256(content).hexdigest()
