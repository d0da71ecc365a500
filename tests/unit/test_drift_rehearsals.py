"""A vault whose copy nobody has restored for too long is told by every sweep (K-04)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from drift_samples import NOW
from koseki_ops.drift.judge.rehearsals import DAY, overdue
from koseki_ops.drift.model import Verdict
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site

INVENTORY = Inventory(Path(__file__).resolve().parents[2] / "inventories/iida")
DAYS = INVENTORY.platform.backup_policy.rehearse_within_days
BOTH = {"registry-link1": NOW - 3 * DAY, "remote-backup1": NOW - 900 * DAY}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site without any record."""
    return Site(tmp_path, "lab", "lab")


def rehearsed(site: Site, vault: str, days: float, **worth: object) -> None:
    """Record that a vault's copy was restored so many days ago."""
    row = {"vault": vault, "equal": ["koseki_iida"], "moved": [], "different": [], "seconds": 9}
    at = round(NOW - days * DAY)
    Ledger(site, "rehearsals").append(
        {"at": at, "vaults": [row | worth]}, at=datetime.fromtimestamp(at, UTC)
    )


def names(site: Site, since: dict[str, float] | None = None) -> list[str]:
    """Return the vaults that are owed a rehearsal."""
    found = overdue(site, INVENTORY, BOTH if since is None else since, NOW)
    assert {finding.answer for finding in found} <= {Verdict.NOT_VERIFIED}
    return [finding.name for finding in found]


def test_a_vault_without_one_is_owed_it_as_long_after_it_began(site: Site) -> None:
    """A platform of three days owes none yet; what was not asked is not judged."""
    assert names(site) == ["remote"]
    assert names(site, {"registry-link1": NOW - (DAYS + 1) * DAY}) == ["city"]
    assert names(site, {}) == []


def test_a_whole_copy_counts_and_only_that(site: Site) -> None:
    """A rehearsal of the other vault, a copy that differs or never answered, is none."""
    rehearsed(site, "remote", DAYS + 3)
    rehearsed(site, "city", 1)
    rehearsed(site, "remote", 1, different=["koseki_iida"])
    rehearsed(site, "remote", 1, seconds=None)
    (found,) = overdue(site, INVENTORY, BOTH, NOW)
    assert f"last restored {DAYS + 3} days ago" in found.why
    assert found.repair == "koseki restore rehearse --vault remote"
    rehearsed(site, "remote", DAYS)
    assert names(site) == []


def test_a_record_that_was_edited_counts_for_nothing(site: Site) -> None:
    """Whoever writes a rehearsal into it by hand makes it overdue, and is told."""
    rehearsed(site, "remote", 1)
    assert names(site) == []
    path = Ledger(site, "rehearsals").path
    path.write_text(path.read_text().replace("koseki_iida", "koseki_oshika"))
    (city, remote) = overdue(site, INVENTORY, BOTH, NOW)
    assert (city.repair, remote.repair) == ("koseki evidence verify",) * 2
    assert "cannot be believed" in remote.why
