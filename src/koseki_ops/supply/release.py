"""Releases of the application on the workstation: build, sign, verify.

An archive is a gzipped tar with `manifest.json` first; built twice from the same source it has the
same bytes. Verified by the very program that the hosts verify with.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import sys
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import put_file, write_atomic
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import run
from koseki_ops.plan.inventory import load_yaml
from koseki_ops.plan.site import Site, project_root
from koseki_ops.trust import signatures

NAMESPACE = "koseki-release"
SOURCE_FILE, MANIFEST = "release.yml", "manifest.json"
FORMAT = 1
PROGRAM = "host_programs/koseki_release/sbin/koseki-release"
STAND_IN, STAND_IN_NAME = "sample_application", "sample-application"
# Who has to sign, what stands behind an archive's name in the name of that signature, and where the
# site's own key for it lies, if it lies here at all (docs/releases.md).
VENDOR, CITY = "vendor", "city"
TAILS = {VENDOR: ".sig", CITY: ".city.sig"}
KEY_FOLDERS = {VENDOR: ".", CITY: CITY}
KEYS = {"name", "version", "packages", "start", "health", "schema"}


def folder_of(site: Site) -> Path:
    """Return where a site keeps its releases, the signing key and the allowed signers."""
    return site.state / "release"


def signers_of(site: Site) -> Path:
    """Return the file that says who may sign for a site."""
    return folder_of(site) / signatures.SIGNERS


def build(source: Path, output: Path) -> Path:
    """Pack a source folder with its `release.yml` into an archive; return the archive's path."""
    if not (source / SOURCE_FILE).is_file():
        raise KosekiError(
            _("no {source_file} in this folder").format(source_file=SOURCE_FILE),
            str(source),
            _("name the folder of a release's source (docs/releases.md)"),
        )
    description = load_yaml(source / SOURCE_FILE)
    if not isinstance(description, dict) or set(description) != KEYS:
        seen = ", ".join(sorted(description)) if isinstance(description, dict) else str(description)
        raise KosekiError(
            _("{source_file} has other keys than it must").format(source_file=SOURCE_FILE),
            seen,
            _("write {keys}").format(keys=", ".join(sorted(KEYS))),
        )
    files = _files(source)
    schema = [name for name in files if name.startswith(f"{description['schema']}/")]
    manifest = {
        "format": FORMAT,
        **{key: description[key] for key in ("name", "version", "packages", "start", "health")},
        "schema": [
            {"number": number, "file": name, "sha256": _digest(files[name][0])}
            for number, name in enumerate(schema, 1)
        ],
        "schema_version": len(schema),
        "files": {
            name: {"sha256": _digest(content), "mode": f"{mode:04o}"}
            for name, (content, mode) in files.items()
        },
    }
    for number, name in enumerate(schema, 1):
        if not re.fullmatch(rf"0*{number}-[a-z0-9-]+\.sql", Path(name).name):
            raise KosekiError(
                _("a schema file does not have the next number"),
                name,
                _("number them `0001-….sql`, `0002-….sql`, …"),
            )
    text = json.dumps(manifest, ensure_ascii=False, indent=1, sort_keys=True).encode()
    archive = output / f"{description['name']}-{description['version']}.tar.gz"
    write_atomic(archive, _packed({MANIFEST: (text, 0o644), **files}))
    return archive


def _files(source: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and mode of each file of a source, by name; nothing that a run left."""
    found = {}
    for path in sorted(source.rglob("*")):
        name = str(path.relative_to(source))
        if path.is_symlink():
            raise KosekiError(
                _("a release may contain plain files only"),
                name,
                _("replace the link by the file (docs/releases.md)"),
            )
        if path.is_file() and "__pycache__" not in path.parts and name != SOURCE_FILE:
            executable = path.stat().st_mode & 0o100
            found[name] = (path.read_bytes(), 0o755 if executable else 0o644)
    return found


def _packed(files: dict[str, tuple[bytes, int]]) -> bytes:
    """Return a gzipped tar without times or owners: the same files give the same bytes."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, (content, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def key_of(site: Site, part: str) -> Path:
    """Return where a site's own key of a part (vendor or city) lies, whether it is there or not."""
    return folder_of(site) / KEY_FOLDERS[part] / signatures.KEY


def make_key(site: Site, part: str) -> Path:
    """Make a site's key of a part unless there is one; allow it unless some key has that part."""
    key, signers = key_of(site, part), signers_of(site)
    signatures.make_pair(key, f"{site.name} releases, {part}")
    listed = signers.read_text(encoding="ascii").splitlines() if signers.exists() else []
    if part not in {line.partition(" ")[0] for line in listed}:
        signatures.allow(signers, part, NAMESPACE, key)
    return key


def sign(archive: Path, key: Path, part: str) -> Path:
    """Sign an archive as vendor or as city; return the signature's path beside it."""
    return signatures.sign(archive, key, NAMESPACE, TAILS[part])


def sign_all(site: Site, archive: Path) -> None:
    """Sign an archive for every part with the site's own keys, as a lab alone may."""
    for part in TAILS:
        sign(archive, make_key(site, part), part)


def verify(archive: Path, signers: Path) -> dict[str, Any]:
    """Return a release's signer, hash, manifest and SQL; KosekiError when it may not be used."""
    signed = [archive.with_name(archive.name + tail) for tail in TAILS.values()]
    parts = (archive, signers, *signed)
    state = [path.stat().st_mtime_ns if path.exists() else 0 for path in parts]
    return dict(_verified(archive, signers, tuple(state)))


@cache
def _verified(archive: Path, signers: Path, _state: tuple[int, ...]) -> dict[str, Any]:
    argv = [sys.executable, str(project_root() / PROGRAM), "verify"]
    try:
        output = run([*argv, "--signers", str(signers), str(archive)])
    except KosekiError as error:
        # The program's own sentence says it all.
        what, _ignored, rest = error.seen.removeprefix("koseki-release: ").partition(" (")
        seen, _ignored, remedy = rest.partition("): ")
        raise KosekiError(what, seen, remedy or _("sign it anew: `koseki release sign`")) from error
    found: dict[str, Any] = json.loads(output)
    return found


def ensure_stand_in(site: Site) -> None:
    """Build and sign the stand-in for a lab, unless the same bytes lie there signed."""
    folder = folder_of(site)
    fresh = build(site.root / STAND_IN, folder / "build")
    archive = folder / fresh.name
    same = archive.exists() and archive.read_bytes() == fresh.read_bytes()
    signed = all(archive.with_name(archive.name + tail).exists() for tail in TAILS.values())
    if not (same and signed):
        put_file(fresh, archive)
        sign_all(site, archive)
