"""One inventory for three engines: our reading of it is Ansible's."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
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


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ("hosts: {one: }", "must contain the one group all"),
        ("- all", "must contain the one group all"),
        ("all: {hosts: {one: }, vars: {port: 1}}", "hosts and groups only .*group all"),
        ("all: {children: {far: [one]}}", "hosts and groups only .*group far"),
        ("all: {hosts: {one: {port: 1}}}", "hosts and groups only .*values at host one"),
    ],
)
def test_a_hosts_file_of_another_form_is_refused(tmp_path: Path, hosts: str, said: str) -> None:
    """Values have their own files, so that nobody looks for one where it does not count."""
    (tmp_path / "hosts.yml").write_text(f"{hosts}\n", encoding="utf-8")
    with pytest.raises(KosekiError, match=said):
        Inventory(tmp_path)


def test_a_group_that_is_named_twice_is_one(tmp_path: Path) -> None:
    """Its hosts are counted once, in the order of the file, and it stands below its deepest."""
    (tmp_path / "hosts.yml").write_text(
        "all:\n  children:\n    near: {hosts: {one: , two: }}\n"
        "    both: {children: {near: {hosts: {two: }}}, hosts: {three: }}\n    empty:\n",
        encoding="utf-8",
    )
    inventory = Inventory(tmp_path)
    assert inventory.hosts_in("near") == ["one", "two"]
    assert sorted(inventory.hosts_in("both")) == ["one", "three", "two"]
    assert inventory.hosts_in("empty") == []
    assert inventory.groups_of("two") == ["all", "both", "near"]
    with pytest.raises(
        KosekiError, match=r"unknown group \(far\): name a group of `hosts.yml`: all, both"
    ):
        inventory.hosts_in("far")


def test_values_come_from_every_file_of_a_group_and_none_twice(tmp_path: Path) -> None:
    """A host's own groups decide over those above; an empty file says nothing."""
    (tmp_path / "hosts.yml").write_text("all: {children: {near: {hosts: {one: }}}}\n")
    for group, name, text in (
        ("all", "a", "port: 1\nzone: far\n"),
        ("all", "empty", "---\n"),
        ("near", "b", "port: 2\n"),
    ):
        path = tmp_path / "group_vars" / group / f"{name}.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert Inventory(tmp_path).values_of("one") == {"port": 2, "zone": "far"}
    path.with_name("c.yml").write_text("port: 3\n", encoding="utf-8")
    with pytest.raises(KosekiError, match=r"port is set twice for group near \(b.yml and c.yml"):
        Inventory(tmp_path).values_of("one")
    path.with_name("c.yml").write_text("- port\n", encoding="utf-8")
    with pytest.raises(KosekiError, match="a value file must be a mapping"):
        Inventory(tmp_path).values_of("one")


# Who may see the plan before it is typed, and why.
RAW = {
    "plan/inventory.py": "reads it, and types it",
    "plan/rules.py": "holds the raw values against the model",
    "reference/values.py": "says which file sets a value",
    "bench/fleet.py": "writes a plan of its own: the lab's, with other hosts",
}
# Who may compare a day with the plan's dates, and why.
DATED = {
    "plan/model/municipalities.py": "decides it: has_joined, has_left, is_active",
    "plan/model/people.py": "decides it: covers, is_over, is_valid",
    "verify/expectations.py": "the suites' second reading, apart from the engines' on purpose",
}
DATES = {"joined_on", "left_on", "valid_until"}


def sources() -> Iterator[tuple[str, ast.AST]]:
    """Yield every file of Python that acts on the plan, and its tree."""
    package = ROOT / "src/koseki_ops"
    for start in (package, ROOT / "plugins", ROOT / "pyinfra_deploys"):
        for path in sorted(start.rglob("*.py")):
            place = path.relative_to(package if start == package else ROOT)
            yield str(place), ast.parse(path.read_text(encoding="utf-8"))


def test_raw_values_end_at_the_plans_door() -> None:
    """Whoever acts on the plan reads it typed: no raw dictionary of it goes further."""
    found = {
        place
        for place, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in {"shared", "group_values"}
    }
    assert found == set(RAW)


def test_who_counts_on_a_day_is_decided_in_one_place() -> None:
    """Joined, left and valid are the model's answers; the suites reckon them a second time."""
    found = {
        place
        for place, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in node.ops)
        and any(
            isinstance(side, ast.Attribute) and side.attr in DATES
            for side in (node.left, *node.comparators)
        )
    }
    assert found == set(DATED)


@pytest.mark.parametrize("name", ["koseki_active", "koseki_left", "koseki_takeovers"])
def test_who_counts_today_is_computed_once_for_ansible(name: str) -> None:
    """The roles' values are made from one value each; a second computation could differ."""
    folder = ROOT / "inventories/iida/group_vars"
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*/*.yml"))
    assert len(re.findall(rf"\| {name}\b(?!_)", text)) == 1
