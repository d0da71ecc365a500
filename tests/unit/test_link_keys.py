"""The registries' keys: one of the right kind for each town that has joined, or a sentence."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.for_ansible import exchange_folders, exchanges, municipality_names
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import Platform
from koseki_ops.plan.municipalities import active
from koseki_ops.plan.rules import load_platform
from koseki_ops.plan.site import Site
from koseki_ops.registers.link import service
from koseki_ops.registers.link.cli import manual_command

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def platform() -> Platform:
    """The lab's plan."""
    return load_platform(Inventory(ROOT / "inventories/lab"))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A lab's site with nothing in it."""
    return Site(tmp_path, "lab", "lab")


def test_a_lab_plays_every_registry(site: Site, platform: Platform) -> None:
    """A key a town, made once; its public half is what the exchange will admit."""
    with pytest.raises(KosekiError, match="the registry of iida has no key"):
        service.verify_keys(site, platform)
    service.ensure_stand_ins(site, platform)
    service.verify_keys(site, platform)
    kept = {path.name: path.read_text() for path in service.folder_of(site).glob("*.pub")}
    assert len(kept) == len(set(kept.values())) == 14
    assert service.stand_in_of(site, "oshika").stat().st_mode & 0o777 == 0o600
    service.ensure_stand_ins(site, platform)
    assert kept == {path.name: path.read_text() for path in service.folder_of(site).glob("*.pub")}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ\n",
        'command="/bin/sh" ssh-ed25519 AAAA\n',
        "KEY\nKEY\n",
        "-----BEGIN OPENSSH PRIVATE KEY-----\n",
    ],
)
def test_what_is_no_key_is_refused(
    site: Site, platform: Platform, tmp_path: Path, text: str
) -> None:
    """No option, no second key, no other kind, never the private half."""
    service.ensure_stand_ins(site, platform)
    good = (service.folder_of(site) / "iida.pub").read_text()
    file = tmp_path / "given.pub"
    file.write_text(text.replace("KEY\n", good))
    with pytest.raises(KosekiError, match="not one public key"):
        service.keep_key(site, platform, "iida", file)
    assert (service.folder_of(site) / "iida.pub").read_text() == good


def test_a_key_belongs_to_a_municipality(site: Site, platform: Platform, tmp_path: Path) -> None:
    """An unknown town is named, with the known ones."""
    service.ensure_stand_ins(site, platform)
    file = shutil.copy(service.folder_of(site) / "iida.pub", tmp_path / "given.pub")
    with pytest.raises(KosekiError, match="no such municipality"):
        service.keep_key(site, platform, "matumoto", Path(file))


@pytest.mark.parametrize("name", ["sousa03", "nobody"])
def test_only_an_operator_of_today_does_things_by_hand(name: str) -> None:
    """Whose time is over is refused like whoever is unknown, before the host is asked."""
    words = ["iida", "address-change", "--reason", "訓練", "--by", name, "-i", "iida"]
    done = CliRunner().invoke(manual_command, words)
    assert isinstance(done.exception, KosekiError)
    assert "not a valid operator today" in str(done.exception)


def test_an_exchange_names_its_own_municipality_alone() -> None:
    """Accounts, folder, peer, database, role and key of one town stand in one row."""
    plan = Inventory(ROOT / "inventories/lab").platform
    municipalities = active(plan.municipalities, date(2017, 11, 1))
    rows = exchanges(municipalities, plan.lines, plan.link_policy, plan.service_ports, "/ca.crt")
    assert len(rows) == len(municipality_names(municipalities)) == 14
    others = {row["slug"] for row in rows}
    for row in rows:
        text = str(row)
        assert f"user=koseki_{row['slug']}_link" in text
        named = {slug for slug in others if f"_{slug}" in text or f"/{slug}" in text}
        assert named == {row["slug"]}
    assert len(set(exchange_folders(rows))) == 2 + 14 * 6
