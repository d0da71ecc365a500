"""Every role has the same skeleton, and its spec, defaults and reference say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from koseki_ops.engines.ansible_run import ROLES_WITH_SERVICES

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted((ROOT / "roles").iterdir())


def read(path: Path) -> dict[str, Any]:
    """Return a YAML file, empty when there is none."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_spec_and_defaults_are_equal(role: Path) -> None:
    """What the spec calls a default is the default; what is required has none."""
    options = read(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = read(role / "defaults/main.yml")
    assert defaults == {
        name: option["default"] for name, option in options.items() if "default" in option
    }
    assert not {name for name, option in options.items() if option.get("required")} & set(defaults)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_public_names_carry_the_role(role: Path) -> None:
    """A variable is known by its role's name."""
    options = read(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert [name for name in options if not name.startswith(f"{role.name}_")] == []


def test_an_image_leaves_every_service_at_rest() -> None:
    """Whoever makes an image tells each role that has such a word, and no role that has none."""
    with_it = [
        role.name
        for role in ROLES
        if f"{role.name}_at_rest"
        in read(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    ]
    assert sorted(with_it) == sorted(ROLES_WITH_SERVICES)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_no_inventory_group_inside_a_role(role: Path) -> None:
    """Roles take lists; group_vars build them from groups."""
    found = [
        str(path.relative_to(ROOT))
        for path in role.rglob("*")
        if path.is_file() and "groups[" in path.read_text("utf-8")
    ]
    assert found == []


def test_nothing_swallows_a_failure() -> None:
    """No ignore_errors, failed_when: false or `|| true` anywhere."""
    bad = ("ignore_errors:", "failed_when: false", "|| true")
    folders = ("roles", "host_programs", "playbooks", "pyinfra_deploys", "tools", "molecule")
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for folder in (*folders, "inventories")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "secrets.yml"
        for word in bad
        if word in path.read_text(encoding="utf-8")
    ]
    assert found == []
