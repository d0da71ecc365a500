"""The fleet's content is the same in every engine's words, and a slow engine is ended and named."""

from __future__ import annotations

import ast
import os
import sys
import time
from hashlib import sha256
from pathlib import Path

import click
import pytest
import yaml

from koseki_ops.bench.engines import (
    FLOOR_COLD,
    FLOOR_WARM,
    PIPELINED,
    SWEEP_COLD,
    SWEEP_WARM,
    Cost,
    bounded,
    compared,
    median,
    reached,
)
from koseki_ops.bench.fleet import Content, Fleet
from koseki_ops.plan.revision import inputs_of
from koseki_ops.plan.site import Site

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("items", [10, 50, 500])
def test_content_has_as_many_items_as_it_says(items: int) -> None:
    """Eight of ten are files; accounts and packages make up the rest."""
    content = Content(items)
    assert len(content.files) + len(content.users) + len(content.packages) == items
    assert len(content.files) == items * 8 // 10


def test_every_engine_is_asked_for_the_same_content() -> None:
    """A comparison of different content compares nothing."""
    content = Content(50)
    (play,) = yaml.safe_load(content.playbook())
    files, users, packages = (task for task in play["tasks"])
    assert {row["path"]: row["text"] for row in files["loop"]} == content.files
    assert {row["name"]: row["uid"] for row in users["loop"]} == content.users
    assert set(packages["ansible.builtin.apt"]["name"]) == set(content.packages)
    told = yaml.safe_load(content.goss())
    assert set(told["file"]) == set(content.files)
    assert set(told["user"]) == set(content.users)
    assert set(told["package"]) == set(content.packages)
    for program in (content.deploy(), content.assertions()):
        literals = {
            node.value for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Constant)
        }
        assert set(content.files) | set(content.users) | set(content.packages) <= literals


def test_what_is_laid_is_what_is_declared(tmp_path: Path) -> None:
    """Otherwise every host would begin with drift."""
    tree, layer = tmp_path / "tree", tmp_path / "layer"
    (tree / "etc").mkdir(parents=True)
    for name in ("passwd", "group", "shadow"):
        (tree / "etc" / name).write_text("root:x:0:\n", encoding="ascii")
    content = Content(20)
    content.lay(layer, tree)
    rows = content.declared("a-host-of-this-test").rows
    for path in content.files:
        held = (layer / path[1:]).read_bytes()
        assert rows["file"][path]["content"] == sha256(held).hexdigest()
        assert (layer / path[1:]).stat().st_mode & 0o777 == 0o644
    accounts = (layer / "etc/passwd").read_text(encoding="ascii").splitlines()
    assert accounts[0].startswith("root:")
    assert {line.split(":")[0] for line in accounts[1:]} == set(rows["user"])
    assert (layer / "etc/shadow").stat().st_mode & 0o777 == 0o640


def test_a_fleet_has_an_inventory_that_the_sweep_and_the_engines_read(tmp_path: Path) -> None:
    """One file of hosts, an address each, no lab of the checkout's."""
    fleet = Fleet(Site(ROOT, "lab", "lab"), tmp_path, 50, Content(10))
    assert len(fleet.inventory.hosts) == 50
    addresses = {fleet.inventory.address_of(host, "workstation") for host in fleet.names}
    assert len(addresses) == 50
    assert fleet.inventory.shared["waivers"] == []
    assert not fleet.site.is_lab
    assert "inventories/fleet/hosts.yml" in inputs_of(fleet.site).files


def test_an_engine_that_is_too_slow_is_ended_with_its_children(tmp_path: Path) -> None:
    """The bench is bounded whatever an engine does."""
    begun = time.monotonic()
    program = "import subprocess; subprocess.run(['sleep', '60'])"
    assert bounded([sys.executable, "-c", program], tmp_path, os.environ, 0.5)
    assert time.monotonic() - begun < 20


def test_an_engine_that_would_change_something_is_no_measurement(tmp_path: Path) -> None:
    """It did not see the content that the others saw."""
    fine = [sys.executable, "-c", "print('node01 : ok=3 changed=0 unreachable=0 failed=0')"]
    assert not bounded(fine, tmp_path, os.environ, 30)
    other = [sys.executable, "-c", "print('node01 : ok=3 changed=1 unreachable=0 failed=0')"]
    with pytest.raises(click.ClickException):
        bounded(other, tmp_path, os.environ, 30)
    with pytest.raises(click.ClickException):
        bounded([sys.executable, "-c", "raise SystemExit(3)"], tmp_path, os.environ, 30)


def test_a_run_that_was_ended_says_more_than() -> None:
    """What was not waited for is not told as if it had been."""
    assert str(Cost(60.0, 12.0, ended=True)) == "> 60.0 s, CPU 12.0 s"
    assert median([Cost(1, 5), Cost(3, 1), Cost(2, 3)]) == Cost(2, 3)


def _costs(cold: float, warm: float, engine: float) -> dict[str, Cost]:
    return {
        FLOOR_COLD: Cost(1, 1),
        FLOOR_WARM: Cost(0.5, 1),
        SWEEP_COLD: Cost(cold, 1),
        SWEEP_WARM: Cost(warm, 1),
        PIPELINED: Cost(engine, 1),
    }


def test_ratios_are_taken_within_one_run() -> None:
    """Each figure is held against its own reach."""
    small, many, tenfold = _costs(2, 1, 50), _costs(18, 7, 50), _costs(2, 1.4, 50)
    marks = [row.reached for row in reached(small, many, tenfold)]
    # Cold, against the floor, warm, engine, engine tenfold, tenfold, fifty cold, fifty warm.
    assert marks == [True, True, True, True, False, True, False, True]
    said = [row.measured for row in compared(5, 50, small)]
    assert "2.0× the cold floor" in said[2]
    assert "50.0× the warm sweep" in said[4]
