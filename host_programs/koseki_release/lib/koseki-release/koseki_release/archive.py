"""An archive and its signatures: nothing of it is read before every byte was verified."""

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
# Who has to sign, and what stands behind an archive's name in the name of that signature.
SIGNATURES = {"vendor": ".sig", "city": ".city.sig"}
# The archive comes last: with it a host has all that it needs to verify.
TAILS = (*SIGNATURES.values(), "")
MANIFEST, START = "manifest.json", "koseki-start"
ARCHIVE_BYTES = 256 * 1024 * 1024
# What becomes of reading an archive that is none.
MALFORMED = (tarfile.TarError, OSError, EOFError, KeyError, ValueError, TypeError)


@dataclass(frozen=True)
class Release:
    """A verified archive: by which keys it is signed, its bytes' digest, its manifest and files."""

    signer: str
    sha256: str
    manifest: dict[str, Any]
    files: dict[str, bytes]

    @property
    def version(self) -> str:
        """The version that the manifest names."""
        return str(self.manifest["version"])


def open_release(archive: Path, signers: Path) -> Release:
    """Return a release after its signatures, manifest and every file were verified."""
    for path, what in ((archive, "release"), (signers, "list of allowed signers")):
        if not path.is_file():
            raise Refused(f"there is no such {what} ({path}): name an existing file")
    if archive.stat().st_size > ARCHIVE_BYTES:
        raise Refused(f"the release is larger than {ARCHIVE_BYTES >> 20} MiB ({archive.name})")
    # Read once: what is verified is what is unpacked.
    content = archive.read_bytes()
    signer = signers_of(content, archive, signers)
    try:
        files, modes = members(content)
        manifest = json.loads(files.pop(MANIFEST))
        reject_manifest(manifest, files, modes)
    except MALFORMED as error:
        raise Refused(
            f"the release cannot be read ({archive.name}: {error}): build it anew"
        ) from None
    return Release(signer, hashlib.sha256(content).hexdigest(), manifest, files)


def signers_of(content: bytes, archive: Path, signers: Path) -> str:
    """Return by which key each part signed these bytes; Refused unless every one of them did.

    Neither who wrote a release nor who runs it brings it here alone: a part that both could play
    with one key would be one signature twice.
    """
    keys = {
        part: signing_key(part, content, archive.with_name(archive.name + tail), signers)
        for part, tail in SIGNATURES.items()
    }
    if len(set(keys.values())) < len(keys):
        raise Refused(
            f"one key signed the release for {' and '.join(keys)} ({keys['city']}): "
            "have each sign with a key of its own"
        )
    return ", ".join(f"{part} {key}" for part, key in keys.items())


def signing_key(part: str, content: bytes, signature: Path, signers: Path) -> str:
    """Return the fingerprint of the key by which a part signed; Refused when it did not."""
    again = f"`koseki release sign --as {part}`"
    if not signature.is_file():
        raise Refused(f"the release is not signed by the {part} ({signature} is missing): {again}")
    over = ["-n", NAMESPACE, "-s", str(signature)]
    done = run(["ssh-keygen", "-Y", "verify", "-I", part, "-f", str(signers), *over], content)
    found = re.search(rb" key (SHA256:\S+)\s*$", done.stdout)
    if done.returncode == 0 and found:
        return found[1].decode()
    if run(["ssh-keygen", "-Y", "check-novalidate", *over], content).returncode:
        raise Refused(
            f"the release is not what the {part} signed ({signature.name}): "
            "it was altered, or signed for another purpose; fetch it again"
        )
    raise Refused(
        f"the release is signed by nobody who may as the {part} ({signature.name}): "
        f"have it signed by a key that {signers} names `{part}`"
    )


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
