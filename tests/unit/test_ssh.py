"""Who certifies the engines and the hosts, and what of it lasts."""

from __future__ import annotations

from pathlib import Path

import pytest

from koseki_ops.core.subprocesses import run
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
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


def test_a_certificate_lasts(site: Site):
    """Nothing is signed anew while most of its life is left."""
    assert _signatures(site) == _signatures(site)


def test_an_authority_that_was_replaced_counts_for_nothing(site: Site):
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
