"""Who certifies the engines and the hosts, and what of it lasts."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from koseki_ops.core.subprocesses import run
from koseki_ops.engines.connector import CLOCK_SECONDS, clocks_apart, seconds_apart
from koseki_ops.evidence.ledger import Ledger, Verdict
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import BUILD_LAB, Site
from koseki_ops.remote.ssh_config import certificate_holds, ensure_site_ssh
from koseki_ops.trust.ssh_ca import (
    admitted_uploads,
    certificate,
    files_of,
    host_certificate,
    upload_certificate,
    vault_host_keys,
)

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


def test_what_was_made_ahead_of_time_is_made_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that was ahead and was set right: what was signed meanwhile holds nowhere (C11)."""
    before = _signatures(site)
    now = time.time()
    monkeypatch.setattr("koseki_ops.trust.ssh_ca.time.time", lambda: now - 3600)
    assert not set(before) & set(_signatures(site))


def test_who_is_refused_learns_when_the_certificate_holds(site: Site) -> None:
    """Both ends and this machine's clock; how to set the other needs no certificate (C11)."""
    said = certificate_holds(site)
    today = time.strftime("%Y-%m-%dT", time.gmtime())
    assert re.search(rf"holds from .* to .*Z, this clock says {today}", said)
    assert "on its console" in said
    files_of(site).automation_key.with_name("automation-cert.pub").unlink()
    assert certificate_holds(site) == "there is no SSH certificate"


@pytest.mark.parametrize("there", [100.0, 103.0, 110.0])
def test_a_clock_is_not_off_because_its_answer_was_long_on_its_way(there: float) -> None:
    """Wherever between question and answer it was read: a busy machine sets no clock."""
    assert seconds_apart(there, 100.0, 110.0) <= 0
    assert seconds_apart(99.0, 100.0, 110.0) == 1
    assert seconds_apart(112.0, 100.0, 110.0) == 2


@pytest.mark.parametrize("off", [-CLOCK_SECONDS, 0, CLOCK_SECONDS])
def test_a_clock_within_what_certificates_begin_earlier_is_good(off: int) -> None:
    """What is signed here holds there, or a second later."""
    assert clocks_apart(1000.0 + off, 1000.0, 1000.0) == ""


@pytest.mark.parametrize("off", [-3600, -CLOCK_SECONDS - 1, CLOCK_SECONDS + 3, 10**15])
def test_a_clock_that_is_far_off_is_named_with_ours(off: int) -> None:
    """Nothing that is dated goes there before one of both is set right (C3)."""
    now = 1_795_564_800.0
    said = clocks_apart(now + off, now, now + 2)
    assert "this machine's 2026-11-25T00:00:02Z" in said
    assert "`date --set`" in said


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


def _uploads(site: Site, public: str, *, sign: bool = True) -> str:
    return upload_certificate(site, Inventory(site.inventory), HOST, public, sign=sign)


def test_an_upload_certificate_is_one_hosts_own(site: Site) -> None:
    """A principal of its own, from its own addresses alone, nothing but files, and it lasts."""
    public = files_of(site).automation_key.with_suffix(".pub").read_text(encoding="ascii")
    first = _uploads(site, public)
    signed = certificate(files_of(site).folder / "uploads" / f"{HOST}-cert.pub")
    assert signed is not None
    addresses = Inventory(site.inventory).shared["host_addresses"][HOST].values()
    assert signed.valid_principals == [f"upload-{HOST}".encode()]
    assert signed.critical_options == {b"source-address": ",".join(addresses).encode()}
    assert signed.extensions == {}
    assert _uploads(site, public) == _uploads(site, public, sign=False) == first


def test_a_vault_admits_the_databases_alone(site: Site) -> None:
    """By their certificates' names and from their addresses, to upload and nothing else."""
    inventory = Inventory(site.inventory)
    options, _, key = admitted_uploads(site, inventory, "remote-backup1").partition(" ")
    assert options.split(",", 2)[:2] == ["restrict", "cert-authority"]
    assert 'from="10.158.90.11,10.158.90.12"' in options
    assert options.endswith('principals="upload-primary1,upload-secondary1"')
    assert key == files_of(site).user_ca.with_suffix(".pub").read_text(encoding="ascii")


def test_what_ends_an_upload_certificate(site: Site) -> None:
    """Another key, an authority that was replaced: signed anew, and under check not at all."""
    files = files_of(site)
    keys = [
        path.with_suffix(".pub").read_text(encoding="ascii")
        for path in (files.automation_key, files.host_ca)
    ]
    first = _uploads(site, keys[0])
    assert _uploads(site, keys[1], sign=False) == ""
    assert _uploads(site, keys[0]) == first
    second = _uploads(site, keys[1])
    assert second != first
    files.user_ca.unlink()
    files.user_ca.with_suffix(".pub").unlink()
    ensure_site_ssh(site, Inventory(site.inventory))
    assert _uploads(site, keys[1], sign=False) == ""
    assert _uploads(site, keys[1]) != second


def test_a_moved_host_gets_another_certificate(site: Site) -> None:
    """The one before holds from its former addresses alone."""
    inventory = Inventory(site.inventory)
    public = files_of(site).automation_key.with_suffix(".pub").read_text(encoding="ascii")
    upload_certificate(site, inventory, HOST, public)
    moved = Inventory(site.inventory)
    moved.shared["host_addresses"][HOST]["city"] = "10.158.10.99"
    assert upload_certificate(site, moved, HOST, public, sign=False) == ""


def test_only_vaults_that_were_met_are_known(site: Site) -> None:
    """By name and by the address that a database's host sees; the key without its comment."""
    inventory, folder = Inventory(site.inventory), files_of(site).folder / "hosts"
    assert vault_host_keys(site, inventory, HOST) == ""
    public = files_of(site).host_ca.with_suffix(".pub").read_text(encoding="ascii")
    host_certificate(site, inventory, "remote-backup1", public)
    assert (folder / "remote-backup1.pub").exists()
    address = inventory.address_of("remote-backup1", HOST)
    key = " ".join(public.split()[:2])
    assert vault_host_keys(site, inventory, HOST) == f"remote-backup1,{address} {key}\n"


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
