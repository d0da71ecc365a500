"""An authority that hosts believe is never made anew in silence."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import BUILD_LAB, Site, WatchHost, project_root
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.trust.authorities import (
    AUTHORITIES,
    BELIEVED_IN,
    INTERNAL,
    ensure_internal,
    require,
)
from koseki_ops.trust.x509 import Request, open_authority, sign, still_good


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with every authority and a host that was applied."""
    (tmp_path / "inventories").symlink_to(project_root() / "inventories")
    made = Site(tmp_path, "lab", "lab")
    for place in AUTHORITIES:
        path = made.state / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("an authority", encoding="ascii")
    made.manifests.mkdir(parents=True)
    believed = json.dumps({"items": dict.fromkeys(BELIEVED_IN.values())})
    (made.manifests / "primary1.json").write_text(believed, encoding="ascii")
    return made


def test_a_site_that_has_them_all_is_let_be(site: Site) -> None:
    """Nothing is said."""
    require(site)


@pytest.mark.parametrize("place", AUTHORITIES)
def test_each_is_missed_once_a_host_was_met(site: Site, place: str) -> None:
    """File and remedy are named; before the first host it will be made."""
    (site.state / place).unlink()
    with pytest.raises(KosekiError, match=f"{place}.*bring back the copy"):
        require(site)
    (site.manifests / "primary1.json").unlink()
    require(site)


def test_one_that_came_later_is_made_for_a_site_that_stood_before(site: Site) -> None:
    """Its hosts have not heard of it: an apply makes it. Afterwards it is missed as the others."""
    (site.manifests / "primary1.json").write_text("{}", encoding="ascii")
    for folder in INTERNAL:
        shutil.rmtree(site.state / folder)
    with pytest.raises(KosekiError, match=r"pki/ca\.key"):
        require(site)
    ensure_internal(site, "pass phrase", 3650)
    require(site)
    for folder in BELIEVED_IN:
        (site.state / folder / "ca.key").unlink()
    require(site)


def test_each_authority_certifies_for_one_purpose(site: Site) -> None:
    """What one signed is a stranger's to whoever believes another."""
    for folder in INTERNAL:
        shutil.rmtree(site.state / folder)
    ensure_internal(site, "pass phrase", 3650)
    opened = {folder: open_authority(site.state / folder, "pass phrase", 1) for folder in INTERNAL}
    assert len({ca.certificate.subject for ca in opened.values()}) == len(opened)
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    request = Request("patroni", (), days=398, renew_days=132)
    for folder, authority in opened.items():
        signed = sign(authority, request, pem)
        good = {name for name, ca in opened.items() if still_good(ca, request, pem, signed)}
        assert good == {folder}


@pytest.mark.parametrize("place", [place for place in AUTHORITIES if place.startswith("ssh/")])
def test_nothing_is_made_in_its_place(site: Site, place: str) -> None:
    """Whatever command comes first."""
    (site.state / place).unlink()
    before = sorted(path for path in site.state.rglob("*"))
    with pytest.raises(KosekiError, match="is not here"):
        ensure_site_ssh(site, Inventory(site.inventory))
    assert sorted(path for path in site.state.rglob("*")) == before


def test_who_has_none_misses_none(site: Site) -> None:
    """A host that keeps watch; what an image is made with, which is thrown away."""
    for place in AUTHORITIES:
        (site.state / place).unlink()
    require(replace(site, watch_host=WatchHost("workstation1", "lab", "lab", "")))
    require(replace(site, name=f"{site.name}{BUILD_LAB}"))
