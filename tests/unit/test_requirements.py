"""Every id that is cited is a requirement; each is covered, or says that it is not."""

from __future__ import annotations

from pathlib import Path

from koseki_ops.reference.requirements import (
    BASIS,
    CITED,
    SHOWING,
    SOURCE,
    citations,
    requirements,
)

ROOT = Path(__file__).resolve().parents[2]


def test_no_id_is_cited_that_nobody_can_read() -> None:
    """Anywhere in the project, documents included."""
    known = {row["id"] for row in requirements(ROOT)}
    folders = (
        *("src", "tests", "roles", "host_programs", "platform_schema", "playbooks"),
        *("pyinfra_deploys", "molecule", "docs", "tools"),
    )
    unknown = {
        f"{path.relative_to(ROOT)}: {cited}"
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in {".py", ".md", ".yml", ".sql", ".sh", ".j2"}
        for cited in CITED.findall(path.read_text(encoding="utf-8"))
        if cited not in known
    }
    assert unknown == set()


def test_every_requirement_is_shown_or_says_that_it_is_not() -> None:
    """What no suite, drill or test names is covered by nobody."""
    covered = citations(ROOT)
    missing = [
        row["id"]
        for row in requirements(ROOT)
        if not set(SHOWING) & set(covered.get(row["id"], {})) and not row.get("open")
    ]
    assert missing == []


def test_every_requirement_is_whole() -> None:
    """A sentence, what must be true, how it is shown, and what it rests on; ids in their order."""
    rows = requirements(ROOT)
    assert [row["id"] for row in rows] == [f"K-{n:02}" for n in range(1, len(rows) + 1)]
    for row in rows:
        assert set(row) - {"open"} == {"id", "says", "must", "shown", "basis"}, row["id"]
        assert row["basis"] in BASIS
    assert (ROOT / SOURCE).exists()
