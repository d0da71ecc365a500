"""Ports of services, and PostgreSQL's version, stand in services.yml and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import ServicePorts
from koseki_ops.plan.site import project_root

ROOT = project_root()
PLACES = (
    "host_programs",
    "inventories",
    "molecule",
    "platform_schema",
    "playbooks",
    "plugins",
    "pyinfra_deploys",
    "roles",
    "sample_application",
    "src",
    "tests/drills",
    "tests/testinfra",
    "tools",
)
SERVICES = "inventories/iida/group_vars/all/services.yml"
# Where a number of these stands for a reason of its own.
ALLOWED = {
    "host_programs/koseki_etcd_compact/sbin/koseki-etcd-compact": "5000: keys that are looked at",
    "src/koseki_ops/drift/judge/sweep.py": "5000: the most findings of a host that are told",
    "inventories/iida/group_vars/all/link.yml": "5000: the most records of a file, no port",
    "tests/drills/breaks.yml": "a break opens a port by hand, past the plan",
    "tests/testinfra/test_flows.py": "ports that must be closed, whatever the plan calls them",
    "tests/testinfra/test_isolation.py": "doors of other hosts, tried whatever the plan calls them",
}
PLATFORM = Inventory(ROOT / "inventories/iida").platform


def second_places(text: str) -> bool:
    """Say whether a text has a port of the services, or PostgreSQL's version, written out."""
    ports = "|".join(str(port) for _, port in PLATFORM.service_ports)
    version = PLATFORM.postgresql_version
    written = rf"(?<![\w.])(?:{ports})(?![\w.])|postgresql(?:-client)?[-/]{version}\b"
    return re.search(written, text) is not None


def files() -> Iterator[Path]:
    """Yield every file of text below the places, links left out."""
    for place in PLACES:
        for path in sorted((ROOT / place).rglob("*")):
            if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
                yield path


def test_ports_and_versions_stand_in_one_place() -> None:
    """Whoever changes one changes it there; a second place would keep the old one."""
    found = set()
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if second_places(text):
            found.add(str(path.relative_to(ROOT)))
    assert found - {SERVICES} == set(ALLOWED)


@pytest.mark.parametrize(
    "text",
    [
        "host=127.0.0.1 port=5000 dbname=x",
        "https://127.0.0.1:2379",
        "    ports: [8008]",
        "BIN=/usr/lib/postgresql/17/bin",
        "    - postgresql-17-pgaudit",
        "    - postgresql-client-17",
    ],
)
def test_a_second_place_would_be_seen(text: str) -> None:
    """Each form that stood in the tree before."""
    assert second_places(text)


def test_names_are_written_out_at_the_plans_door() -> None:
    """Flows have numbers, packages the names that Debian gives them: no key is left, and no gap."""
    ports = PLATFORM.service_ports
    assert isinstance(ports, ServicePorts)
    ways = {flow.name: flow.ports for flow in PLATFORM.flows}
    assert ways["etcd-clients"] == [ports.etcd_clients]
    assert ways["registers"] == ways["recording"] == [ports.postgresql]
    assert "postgresql-17" in PLATFORM.packages["postgresql"]
    assert not [n for names in PLATFORM.packages.values() for n in names if "{" in n]
