"""A municipality leaves the platform and takes its data along (K-02)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import created, write_atomic
from koseki_ops.core.foreign import parsed
from koseki_ops.core.language import N_, _
from koseki_ops.core.progress import OnProgress
from koseki_ops.plan.site import Site
from koseki_ops.procedures.base import Procedure
from koseki_ops.procedures.municipality import (
    SUITES,
    Outcome,
    bring_about,
    departed,
    export_path,
    program_on_host,
    record,
    row_of,
)
from koseki_ops.remote.cluster import leader


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


class Withdraw(Procedure[tuple[Outcome, Export]]):
    """Close every way in for a municipality that has left, and write its data for it.

    Half of its data is removed again where writing it broke off; its ways stay closed.
    """

    name = "withdraw"
    title = N_("Close a municipality that has left, and hand over its data.")

    def __init__(self, site: Site, slug: str, recipient: Path, folder: Path) -> None:
        """Take the municipality's slug, and whom its data is for.

        recipient: a certificate (PEM) whose key the municipality holds; folder: where the data, and
        what is in it (JSON), are written.
        """
        super().__init__(site)
        self.slug, self.recipient, self.folder = slug, recipient, folder

    @property
    def arguments(self) -> Mapping[str, str]:
        """Which municipality."""
        return {"municipality": self.slug}

    def preflight(self) -> None:
        """Ask for its day of leaving, a certificate that is valid, and the folder."""
        departed(self.inventory, self.slug)
        _certificate(self.recipient)
        if not self.folder.is_dir():
            raise KosekiError(
                _("not a folder"),
                str(self.folder),
                _("run `mkdir {folder}`, on a disk of this machine").format(folder=self.folder),
            )

    def describe(self) -> Sequence[str]:
        """Return what it will do."""
        name = row_of(self.inventory, self.slug).name
        return [
            _("apply the plan, in which {name} has left: every way in is closed").format(name=name),
            _("verify {suites} on all hosts").format(suites=", ".join(SUITES)),
            _("write its data to {folder}, encrypted for the holder of {recipient}").format(
                folder=self.folder, recipient=self.recipient
            ),
        ]

    def run(self, on_progress: OnProgress) -> tuple[Outcome, Export]:
        """Close, hand over, and record what was handed over."""
        certificate = _certificate(self.recipient)
        moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        file = self.folder / f"koseki-{self.slug}-{moment}.sql.cms"
        outcome = bring_about(self.site, on_progress)
        if outcome.applied.failed or outcome.applied.unreachable:
            raise KosekiError(
                _("the ways of {name} could not all be closed").format(
                    name=row_of(self.inventory, self.slug).name
                ),
                _("{failed} failed").format(failed=outcome.applied.failed),
                _("run `koseki apply`, then `koseki withdraw {slug}` again").format(slug=self.slug),
            )
        on_progress(_("{slug}: writing its data").format(slug=self.slug))
        export = self._export(certificate, file)
        text = json.dumps(vars(export), ensure_ascii=False, indent=1) + "\n"
        write_atomic(file.with_suffix(".json"), text)
        write_atomic(export_path(self.site, self.slug), text)
        row = {"action": "withdraw", "municipality": self.slug, "sha256": export.sha256}
        record(self.site, row)
        return outcome, export

    def succeeded(self, outcome: tuple[Outcome, Export]) -> bool:
        """Say whether it is out, the others are where they were, and its data was written."""
        return outcome[0].holds

    def facts(self, outcome: tuple[Outcome, Export]) -> Mapping[str, Any]:
        """Return what was handed over."""
        return {"sha256": outcome[1].sha256, "rows": sum(outcome[1].rows.values())}

    def _export(self, certificate: x509.Certificate, file: Path) -> Export:
        database = row_of(self.inventory, self.slug).database
        host = leader(self.site, self.inventory)
        recipient = self.recipient.read_bytes()
        # Half of a municipality's registers helps nobody.
        with created(file) as out:
            output = program_on_host(self.site, host, "export.sh", database, recipient, out)
            copied = _copied(host, output)
        with file.open("rb") as written:
            whole = hashlib.file_digest(written, "sha256")
        return Export(
            self.slug,
            str(file.resolve()),
            whole.hexdigest(),
            *copied,
            certificate.fingerprint(SHA256()).hex(),
            f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        )


def _copied(host: str, output: str) -> tuple[str, dict[str, int]]:
    """Return the hash of the copy and its rows by table, as the host says them last."""
    try:
        last = parsed(output.rpartition("\n")[2])
        (digest,) = re.findall("^[0-9a-f]{64}$", last["sha256"])
        rows = {name: int(n) for name, n in last["rows"].items()}
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise KosekiError(
            _("{host} did not report what it copied").format(host=host),
            str(error),
            _("read `journalctl -n 50` on {host}, then run the same command again").format(
                host=host
            ),
        ) from error
    return digest, rows


def _certificate(path: Path) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise KosekiError(
            _("not a certificate to encrypt for"),
            f"{path}: {error}",
            _("give a PEM file with --recipient"),
        ) from error
    if not found.not_valid_before_utc <= datetime.now(UTC) <= found.not_valid_after_utc:
        raise KosekiError(
            _("the certificate is not valid today"),
            _("{path}: until {not_valid_after_utc:%Y-%m-%d}").format(
                path=path, not_valid_after_utc=found.not_valid_after_utc
            ),
            _("get a valid one from the municipality, and give it with --recipient"),
        )
    return found
