"""A municipality joins a running platform, or leaves it and takes its data along (K-02).

The inventory says who is there (`joined_on`, `left_on`, `joinings`); an ordinary apply brings that
about without the others noticing. What is here asks what must be asked before, hands over what
leaves, and keeps a record of both (`koseki evidence show joinings`).
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.results import EngineResult
from koseki_ops.engines import apply as engine
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import Joining
from koseki_ops.plan.municipalities import active, left, tenants
from koseki_ops.plan.site import Site
from koseki_ops.registers.requests.service import Desk
from koseki_ops.remote.cluster import leader
from koseki_ops.remote.run import run
from koseki_ops.verify.results import FAILED, Results
from koseki_ops.verify.runner import verify

# What proves that a municipality is in, or out, and the others are where they were.
SUITES = ("application", "databases", "flows", "gateway", "link")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What was done: the apply, and what the suites found after it; nothing when that failed."""

    applied: EngineResult
    found: Results

    @property
    def holds(self) -> bool:
        """Whether every host was brought along, answered, and every test passed."""
        brought = not (self.applied.failed or self.applied.unreachable)
        return brought and not (self.found.silent or self.found.count(FAILED))


@dataclass(frozen=True)
class Export:
    """A municipality's data as it was handed over.

    file: where it was written; sha256: of the file; content_sha256: of the SQL in it; rows: by
    table; recipient: SHA-256 fingerprint of the certificate that opens it.
    """

    slug: str
    file: str
    sha256: str
    content_sha256: str
    rows: Mapping[str, int]
    recipient: str
    at: str


def row_of(inventory: Inventory, slug: str) -> Mapping[str, Any]:
    """Return a municipality's row of the plan, or raise KosekiError."""
    rows = {str(row["slug"]): row for row in inventory.shared["municipalities"]}
    if slug not in rows:
        raise KosekiError("no such municipality in the plan", slug, f"choose of {', '.join(rows)}")
    return dict(rows[slug])


def may_go_live(inventory: Inventory, slug: str) -> None:
    """Raise KosekiError with what is missing before a municipality goes live (K-02)."""
    row = row_of(inventory, slug)
    names = {"approval": "認容", "resolution": "議決", "agreement": "調印"}
    documents = inventory.shared.get("joinings", {}).get(slug) or {}
    lacks = [names[name] for name in Joining.model_fields if not documents.get(name)]
    if lacks:
        raise KosekiError(
            f"{row['name']} cannot go live without the ids of its documents",
            f"{', '.join(lacks)} missing",
            f"add them to joinings.{slug} in joinings.yml",
        )
    day = inventory.effective_day
    if row.get("joined_on") is None:
        raise KosekiError(
            f"{row['name']} has no day of joining",
            "joined_on is null",
            "write it into municipalities.yml",
        )
    if row in left([row], day):
        raise KosekiError(
            f"{row['name']} has left", f"left_on {row['left_on']}", "look at municipalities.yml"
        )
    if not active([row], day):
        raise KosekiError(
            f"{row['name']} has not joined yet",
            f"joined_on {row['joined_on']}, today is {day}",
            "wait for its day, or correct municipalities.yml",
        )


def enroll(site: Site, slug: str, say: Say) -> Outcome:
    """Bring a municipality onto the running platform, and prove it.

    Raises KosekiError, and changes nothing, when a document or its day is missing or the platform
    is not healthy. Whoever is in already stays so: nothing is changed then.
    """
    inventory = Inventory(site.inventory)
    may_go_live(inventory, slug)
    outcome = _bring_about(site, say)
    documents = inventory.shared["joinings"][slug]
    _record(site, {"action": "enroll", "municipality": slug, **documents, "held": outcome.holds})
    return outcome


def withdraw(
    site: Site, slug: str, recipient: Path, folder: Path, say: Say
) -> tuple[Outcome, Export]:
    """Close every way in for a municipality that has left, and write its data for it.

    recipient: a certificate (PEM) whose key the municipality holds; folder: where the data and what
    is in it (JSON) are written. Raises KosekiError, and changes nothing, when the plan does not say
    that it has left or something of this cannot be.
    """
    inventory = Inventory(site.inventory)
    row = _gone(inventory, slug)
    certificate = _certificate(recipient)
    file = folder / f"koseki-{slug}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.sql.cms"
    if not folder.is_dir():
        raise KosekiError("this is no folder", str(folder), "make it, on a disk of this machine")
    outcome = _bring_about(site, say)
    if outcome.applied.failed or outcome.applied.unreachable:
        raise KosekiError(
            f"the ways of {row['name']} could not all be closed",
            f"{outcome.applied.failed} failed",
            "run `koseki apply`, then this once more",
        )
    say(f"{slug}: writing its data")
    export = _export(site, inventory, slug, recipient.read_bytes(), certificate, file)
    text = json.dumps(vars(export), ensure_ascii=False, indent=1) + "\n"
    file.with_suffix(".json").write_text(text, encoding="utf-8")
    kept = _export_path(site, slug)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(text, encoding="utf-8")
    _record(site, {"action": "withdraw", "municipality": slug, "sha256": export.sha256})
    return outcome, export


def delete(site: Site, slug: str, confirmation: str, who: Sequence[str], say: Say) -> Outcome:
    """Delete what a municipality left behind, once it has confirmed that it holds its data.

    confirmation: id of its written confirmation; who: who deletes, and who approved it. Raises
    KosekiError, and deletes nothing, without an export, or when one person is both.
    """
    inventory = Inventory(site.inventory)
    row = _gone(inventory, slug)
    desk = Desk.of(site)
    deletes, approved = map(desk.operator, who)
    if deletes == approved:
        raise KosekiError(
            "nobody approves a deletion of their own", approved, "let another operator approve it"
        )
    if not _export_path(site, slug).exists():
        raise KosekiError(
            f"the data of {row['name']} was never handed over",
            "no export of it",
            f"run `koseki withdraw {slug} --to FOLDER --recipient CERTIFICATE` first",
        )
    (tenant,) = tenants([row])
    host = leader(site, inventory)
    say(f"{slug}: deleting its database")
    _on_host(site, host, "delete.sh", tenant["database"])
    for host in inventory.hosts_in("databases"):
        # Empty once the member has dropped the tablespace; the other one follows the leader.
        empty = f"until [ ! -d {tenant['folder']} ] || rmdir {tenant['folder']}; do sleep 1; done"
        _run(site, host, ["timeout", "60", "sh", "-c", f"{empty} 2>/dev/null"])
    for host in inventory.hosts_in("registry_link"):
        _run(site, host, ["rm", "-rf", "--one-file-system", f"/srv/koseki/exchange/{slug}"])
    _record(
        site,
        {
            "action": "delete",
            "municipality": slug,
            "confirmation": confirmation,
            "by": deletes,
            "approver": approved,
        },
    )
    return _bring_about(site, say)


def _bring_about(site: Site, say: Say) -> Outcome:
    """Apply, and when that went well ask the suites."""
    applied = engine.apply(site, engine.Plan(), say)
    if applied.failed or applied.unreachable:
        return Outcome(applied, Results())
    say("verifying")
    return Outcome(applied, verify(site, SUITES, ()))


def _gone(inventory: Inventory, slug: str) -> Mapping[str, Any]:
    row = row_of(inventory, slug)
    day = inventory.effective_day
    if row not in left([row], day):
        said = row.get("left_on") or "null"
        raise KosekiError(
            f"{row['name']} has not left",
            f"left_on is {said}, today is {day}",
            "write its day into municipalities.yml when its leaving is agreed",
        )
    return row


def _certificate(path: Path) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise KosekiError(
            "this is no certificate to encrypt for", f"{path}: {error}", "give it as PEM"
        ) from error
    if not found.not_valid_before_utc <= datetime.now(UTC) <= found.not_valid_after_utc:
        raise KosekiError(
            "the certificate is not valid today",
            f"{path}: until {found.not_valid_after_utc:%Y-%m-%d}",
            "ask the municipality for one that is",
        )
    return found


def _export(
    site: Site,
    inventory: Inventory,
    slug: str,
    recipient: bytes,
    certificate: x509.Certificate,
    file: Path,
) -> Export:
    (tenant,) = tenants([row_of(inventory, slug)])
    host = leader(site, inventory)
    try:
        with file.open("xb") as out:
            file.chmod(0o600)
            said = _on_host(site, host, "export.sh", tenant["database"], recipient, out)
        told = json.loads(said.splitlines()[-1])
    except BaseException:
        # Half of a municipality's registers helps nobody.
        file.unlink(missing_ok=True)
        raise
    with file.open("rb") as written:
        whole = hashlib.file_digest(written, "sha256")
    return Export(
        slug,
        str(file.resolve()),
        whole.hexdigest(),
        told["sha256"],
        told["rows"],
        certificate.fingerprint(SHA256()).hex(),
        f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    )


def _export_path(site: Site, slug: str) -> Path:
    return site.state / "exports" / f"{slug}.json"


def _on_host(
    site: Site,
    host: str,
    program: str,
    database: str,
    stdin: bytes = b"",
    out: IO[bytes] | None = None,
) -> str:
    """Run one of this room's programs as root on a host; return its errors' text."""
    text = files("koseki_ops.procedures").joinpath("files", program).read_text(encoding="utf-8")
    return _run(site, host, ["bash", "-c", text, program, database], stdin, out)


def _run(
    site: Site,
    host: str,
    argv: Sequence[str],
    stdin: bytes = b"",
    out: IO[bytes] | None = None,
) -> str:
    # A municipality's data takes as long as it takes.
    done = run(site, host, f"sudo -n {shlex.join(argv)}", stdin, seconds=None, out=out)
    if done.code:
        seen = done.reason
        raise KosekiError(f"{argv[0]} failed on {host}", seen, "see its journal, then try again")
    return done.stderr.strip()


def _record(site: Site, row: Mapping[str, Any]) -> None:
    """Add a row to the record of joining and leaving."""
    Ledger(site, "joinings").append(row)
