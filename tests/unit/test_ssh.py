"""Who certifies the engines and the hosts, and what of it lasts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from koseki_ops.core.subprocesses import run
from koseki_ops.evidence.ledger import Ledger, Verdict
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import BUILD_LAB, Site
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.trust.ssh_ca import files_of, host_certificate

HOST = "primary1"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A lab's site with authorities of its own."""
    (tmp_path / "inventories").symlink_to(Site.open().root / "inventories")
    made = Site(tmp_path, "lab", "authorities")
    ensure_site_ssh(made, Inventory(made.inventory))
    return made


def _signatures(site: Site) -> list[bytes]:
    """Return the engines' certificate and a host's, asked for as every apply does."""
    inventory, files = Inventory(site.inventory), files_of(site)
    ensure_site_ssh(site, inventory)
    public = files.automation_key.with_suffix(".pub").read_text(encoding="ascii")
    engines = files.automation_key.with_name("automation-cert.pub")
    host_certificate(site, inventory, HOST, public)
    return [path.read_bytes() for path in (engines, files.folder / "hosts" / f"{HOST}-cert.pub")]


def test_a_certificate_lasts(site: Site) -> None:
    """Nothing is signed anew while most of its life is left."""
    assert _signatures(site) == _signatures(site)


def test_an_authority_that_was_replaced_counts_for_nothing(site: Site) -> None:
    """What the old one signed is signed anew: hosts that trust the new one would refuse it."""
    before = _signatures(site)
    files = files_of(site)
    for authority in (files.user_ca, files.host_ca):
        authority.unlink()
        authority.with_suffix(".pub").unlink()
    after = _signatures(site)
    assert not set(before) & set(after)
    engines = files.automation_key.with_name("automation-cert.pub")
    signer = run(["ssh-keygen", "-l", "-f", str(files.user_ca.with_suffix(".pub"))]).split()[1]
    assert signer in run(["ssh-keygen", "-L", "-f", str(engines)])


def test_every_certificate_is_recorded_before_it_is_signed(site: Site, tmp_path: Path) -> None:
    """Its serial is the record's number; what an earlier toolkit noted keeps its own."""
    ledger = Ledger(site, "certificates")
    (first,) = ledger.rows()
    assert (first.record["kind"], first.record["principals"]) == ("user", ["automation"])
    shown = run(["ssh-keygen", "-L", "-f", str(files_of(site).folder / "automation-cert.pub")])
    assert "Serial: 1\n" in shown
    other = Site(tmp_path, "lab", "older")
    old = other.state / "ssh/certificates.jsonl"
    old.parent.mkdir(parents=True)
    rows = [{"serial": number, "kind": "host", "identity": f"h{number}"} for number in (1, 2, 3)]
    old.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ensure_site_ssh(other, Inventory(other.inventory))
    shown = run(["ssh-keygen", "-L", "-f", str(files_of(other).folder / "automation-cert.pub")])
    assert "Serial: 4\n" in shown
    recorded = list(Ledger(other, "certificates").rows())
    assert [row.record.get("serial", row.number) for row in recorded] == [1, 2, 3, 4]
    assert Ledger(other, "certificates").verify() == Verdict(4)


def test_a_build_labs_certificates_are_the_sites(site: Site) -> None:
    """One authority, one row of serials, whoever asks."""
    build_lab = replace(site, name=f"{site.name}{BUILD_LAB}")
    assert Ledger(build_lab, "certificates").path == Ledger(site, "certificates").path
