"""The locks hold what pyproject.toml asks for: pinned, with hashes, without an address."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from koseki_ops.plan.site import project_root

ROOT = project_root()
LOCK, WATCH = ROOT / "requirements.lock", ROOT / "requirements-watch.lock"
PINNED = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[\w,]+\])?==(\S+)", re.MULTILINE)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = [
    Requirement(line) for lines in PROJECT["optional-dependencies"].values() for line in lines
]
# The collections alone: no role uses one, and they are large (tools/write-lock).
NOT_ON_WATCH = {"ansible"}


def pinned(lock: Path) -> dict[str, str]:
    """Return the versions in a lock by package."""
    return {name.lower(): version for name, version in PINNED.findall(lock.read_text("utf-8"))}


@pytest.mark.parametrize(
    ("lock", "needed"),
    [
        (LOCK, [*NEEDED, *EXTRAS]),
        (WATCH, [item for item in NEEDED if item.name not in NOT_ON_WATCH]),
    ],
    ids=["all", "watch"],
)
def test_what_is_asked_for_is_pinned(lock: Path, needed: list[Requirement]) -> None:
    """In a version that fits; `make lock` writes both anew."""
    versions = pinned(lock)
    missing = [
        str(item)
        for item in needed
        if (version := versions.get(item.name.lower())) is None
        or not item.specifier.contains(version)
    ]
    assert missing == []


def test_the_watch_has_no_other_versions() -> None:
    """What was tested here is what runs there."""
    everywhere = pinned(LOCK)
    assert pinned(WATCH)
    assert {n: v for n, v in pinned(WATCH).items() if everywhere.get(n, v) != v} == {}


@pytest.mark.parametrize("lock", [LOCK, WATCH], ids=["all", "watch"])
def test_every_package_has_hashes_and_no_address(lock: Path) -> None:
    """Where packages come from is the machine's own configuration."""
    text = lock.read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pinned(lock))
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    assert "--index" not in text
