"""Which pair a run tries: that of two images, unless it was tried when it was made of the same.

A pair of two emulated servers takes half an hour, and says the same as long as what decides such a
pair is the same. Whenever it held, its lost leader included, the digest of all that is noted in
`proven-pairs.json`, which is committed, with that of the packages of the day. pytest's `--due`
keeps the test that is due alone: two images when they are made of something else than what was
noted, an image and a container when only the packages are others, none when nothing is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.site import Site
from koseki_ops.supply.mirror import mirror_folder

TESTS = "tests/images/test_pair.py"
TWO, ONE = "test_two_images_make_the_cluster", "test_an_image_and_a_container_make_the_cluster"
NOTES = "tests/images/proven-pairs.json"
REMEDY = "mend the lists of tests/images/proven.py"
# Enough for the branches that are at work at one time.
NOTES_KEPT = 20

VARIABLES = "inventories/lab/group_vars"
# What decides how two machines that boot from images find and keep each other. Debian's packages,
# which differ by the day, are not among it: with others the smaller pair is tried.
PATHS = (
    "inventories/lab/hosts.yml",
    f"{VARIABLES}/all/kernel.yml",
    f"{VARIABLES}/all/network.yml",
    f"{VARIABLES}/all/timing.yml",
    f"{VARIABLES}/all/volumes.yml",
    f"{VARIABLES}/databases",
    f"{VARIABLES}/etcd_members",
    "host_programs/koseki_backup",
    "host_programs/koseki_backup_lag",
    "host_programs/koseki_etcd_lead",
    "host_programs/koseki_requests",
    "host_programs/koseki_seal",
    "platform_schema",
    "playbooks/access-expiry.yml",
    "playbooks/deploy-etcd.yml",
    "playbooks/deploy-municipal-databases.yml",
    "playbooks/deploy-postgresql.yml",
    "playbooks/initial-backup.yml",
    "pyinfra_deploys/baseline",
    "pyinfra_deploys/vault",
    "roles/access_expiry",
    "roles/applied_files",
    "roles/etcd",
    "roles/municipal_databases",
    "roles/pgbackrest",
    "roles/pki",
    "roles/postgresql",
    "src/koseki_ops/image",
    "src/koseki_ops/lab/virtual.py",
    TESTS,
)
# Of a file with more in it, the values that a path of keys leads to.
VALUES = {
    f"{VARIABLES}/all/packages.yml": tuple(
        ("packages", concern)
        for concern in ("base", "image", "baseline", "etcd", "postgresql", "pgbackrest")
    ),
}


def digest(
    root: Path,
    paths: Sequence[str] = PATHS,
    values: Mapping[str, Sequence[Sequence[str]]] = VALUES,
) -> str:
    """Return the SHA-256 of what a pair is made of.

    paths: files, and folders with all that is in them, relative to the checkout; values: paths of
    keys, by YAML file. Raises KosekiError for a path or key that there is not: a list that names
    what was moved away would call pairs the same that are not.
    """
    whole = hashlib.sha256()
    for name, content in _parts(root, paths, values):
        # Each by a hash of its own, so that no two lists are the same bytes in a row.
        for part in (name.encode(), content):
            whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()


def _parts(
    root: Path, paths: Sequence[str], values: Mapping[str, Sequence[Sequence[str]]]
) -> Iterator[tuple[str, bytes]]:
    """Yield what a pair is made of, each with its name."""
    for path in paths:
        for file in _files(root / path):
            yield file.relative_to(root).as_posix(), file.read_bytes()
    for path, keys in values.items():
        content = yaml.safe_load(b"".join(file.read_bytes() for file in _files(root / path)))
        for steps in keys:
            found = json.dumps(_value(content, path, steps), sort_keys=True)
            yield f"{path} {'.'.join(steps)}", found.encode()


def _files(place: Path) -> list[Path]:
    """Return a file, or a folder's files by name, less what Python leaves beside its sources."""
    inside = [file for file in place.rglob("*") if "__pycache__" not in file.parts]
    found = sorted(file for file in (place, *inside) if file.is_file())
    if not found:
        raise KosekiError("a pair is not made of what is not there", str(place), REMEDY)
    return found


def _value(content: Any, path: str, steps: Sequence[str]) -> Any:  # noqa: ANN401 - any YAML
    for step in steps:
        if not isinstance(content, dict) or step not in content:
            named = f"{'.'.join(steps)} in {path}"
            raise KosekiError("a pair is not made of what is not there", named, REMEDY)
        content = content[step]
    return content


def packages(root: Path) -> str:
    """Return the SHA-256 of which packages the mirror has; empty when there is no mirror."""
    lists = mirror_folder(Site(root, "lab", "images")) / "dists"
    indices = sorted(lists.glob("*/main/binary-*/Packages"))
    found = [
        line
        for index in indices
        for line in index.read_text(encoding="utf-8").splitlines()
        if line.startswith("SHA256: ")
    ]
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest() if found else ""


def notes(root: Path) -> list[dict[str, str]]:
    """Return the pairs that held, the latest first: digest, packages, day and commit of each."""
    found: list[dict[str, str]] = json.loads((root / NOTES).read_text(encoding="utf-8"))
    return found


def note(root: Path, proven: str, commit: str) -> None:
    """Note that a pair with this digest held today, made from a commit and today's packages."""
    row = {
        "digest": proven,
        "packages": packages(root),
        "day": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": commit,
    }
    kept = [row, *(old for old in notes(root) if old["digest"] != proven)][:NOTES_KEPT]
    (root / NOTES).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def due(root: Path) -> tuple[str, str]:
    """Return the test that is due, empty for none, and why."""
    today, mirrored = digest(root), packages(root)
    for row in notes(root):
        if row["digest"] == today:
            told = f"two images held on {row['day']}, made of the same ({today[:12]})"
            if row["packages"] == mirrored:
                return "", f"no pair is due: {told} and of the same packages"
            return ONE, f"an image and a container make the pair: {told}, of other packages"
    return TWO, f"two images make the pair: none made of the same ({today[:12]}) was noted"
