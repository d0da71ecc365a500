"""Who certifies the engines and the hosts, and what of it lasts."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from koseki_ops.core.subprocesses import run
from koseki_ops.engines.connector import CLOCK_SECONDS, clocks_apart
from koseki_ops.evidence.ledger import Ledger, Verdict
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import WORKSHOP, Site
from koseki_ops.remote.ssh_config import certificate_holds, ensure_site_ssh
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
    assert certificate_holds(site) == "there is no certificate to ask with"


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


def test_a_workshops_certificates_are_the_sites(site: Site) -> None:
    """One authority, one row of serials, whoever asks."""
    workshop = replace(site, name=f"{site.name}{WORKSHOP}")
    assert Ledger(workshop, "certificates").path == Ledger(site, "certificates").path
