"""What the documents name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from koseki_ops.plan.site import project_root

ROOT = project_root()
# Where a path in a document may begin, as patterns; a role's own path is meant of any role.
BASES = (
    *("src/koseki_ops", "docs", "tests", "inventories/iida", "inventories/iida/group_vars"),
    *("roles", "roles/*", "host_programs/*/lib/*"),
)
NAMED = re.compile(r"`([\w./-]+/[\w.-]+\.(?:py|sh|sql|yml|j2|md|toml|lock))`")
# A block of code may name them without quotes; a name in angle brackets stands for many.
DRAWN = re.compile(
    r"(?<![\w./<>-])([a-z][\w.-]*/[\w./-]+\.(?:py|sh|sql|yml|j2|md|toml|lock))(?![\w/<-])"
)
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(p.relative_to(ROOT)) for p in DOCUMENTS])
def test_the_files_it_names_exist(document: Path) -> None:
    """A file that moved takes its mentions along; what a run makes, or a host has, is left out."""
    text = document.read_text(encoding="utf-8")
    drawn = [name for block in BLOCK.findall(text) for name in DRAWN.findall(block)]
    named = {name for name in [*NAMED.findall(text), *drawn] if not name.startswith(("/", "var/"))}
    bases = [ROOT, document.parent, *(path for base in BASES for path in ROOT.glob(base))]
    gone = sorted(name for name in named if not any((base / name).exists() for base in bases))
    assert not gone


# In running text alone: what a block of code shows is no link.
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=[str(p.relative_to(ROOT)) for p in DOCUMENTS])
def test_the_links_lead_somewhere(document: Path) -> None:
    """From where the document lies; what is elsewhere in the world is not asked for."""
    text = BLOCK.sub("", document.read_text(encoding="utf-8"))
    gone = [name for name in LINK.findall(text) if not (document.parent / name).exists()]
    assert gone == []


# What a walk says is done, by whom: a function of the toolkit.
DONE_BY = re.compile(r"\b([a-z_]+)\(\)")


def test_the_functions_on_the_walks_are_there() -> None:
    """A walk that was drawn follows the code: whoever renames a function redraws it."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    drawn = {name for block in BLOCK.findall(text) for name in DONE_BY.findall(block)}
    programs = [ROOT / "src", ROOT / "pyinfra_deploys"]
    defined = {
        name
        for folder in programs
        for path in folder.rglob("*.py")
        for name in re.findall(r"def ([a-z_]+)\(", path.read_text(encoding="utf-8"))
    }
    assert len(drawn) > 10
    assert drawn - defined == set()
