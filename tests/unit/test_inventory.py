"""One inventory for three engines: our reading of it is Ansible's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site, project_root

ROOT = project_root()


def by_ansible(name: str) -> dict[str, dict[str, Any]]:
    """Return what Ansible makes of an inventory."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-inventory")),
            "--inventory",
            str(ROOT / "inventories" / name),
            "--list",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    listed: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return listed


def members(listed: dict[str, dict[str, Any]], group: str) -> set[str]:
    """Return a group's hosts with those of its children."""
    row = listed.get(group, {})
    found = set[str](row.get("hosts", []))
    for child in row.get("children", []):
        found |= members(listed, child)
    return found


@pytest.mark.parametrize("name", ["iida", "lab"])
def test_groups_and_values_are_ansibles(name: str) -> None:
    """The same hosts in the same groups, and the same shared values."""
    inventory, listed = Inventory(ROOT / "inventories" / name), by_ansible(name)
    assert set(inventory.hosts) == members(listed, "all")
    for group in set(listed) - {"_meta", "all", "ungrouped"}:
        assert set(inventory.hosts_in(group)) == members(listed, group), group
    seen = listed["_meta"]["hostvars"]
    for host in inventory.hosts:
        theirs = {key: seen[host].get(key) for key in inventory.shared}
        assert theirs == inventory.shared, host


def test_names_are_resolved_or_refused() -> None:
    """A host, a group, or a sentence that names what there is."""
    inventory = Inventory(Site.open().inventory)
    assert inventory.resolve("databases") == ["primary1", "secondary1"]
    assert inventory.resolve("primary") == ["primary1"]
    with pytest.raises(KosekiError, match="primary9"):
        inventory.resolve("primary9")
