"""An authority that hosts believe is never made anew in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import BUILD_LAB, Site, WatchHost, project_root
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.trust.authorities import AUTHORITIES, require


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
    (made.manifests / "primary1.json").write_text("{}", encoding="ascii")
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
