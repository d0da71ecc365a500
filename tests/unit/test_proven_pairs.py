"""The pair of two images is tried again whenever what it is made of is not what it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from images import proven
from koseki_ops.core.errors import KosekiError

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "roles/one/tasks/main.yml": "- one\n",
    "roles/one/files/program": "true\n",
    "single.py": "one = 1\n",
    "packages.yml": "packages:\n  base: [nano]\n  other: [vim]\n",
    "elsewhere.py": "two = 2\n",
}
PATHS = ("roles/one", "single.py")
VALUES = {"packages.yml": [("packages", "base")]}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small checkout of which a pair might be made."""
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return tmp_path


def of(checkout: Path) -> str:
    """Return the digest of the small checkout."""
    return proven.digest(checkout, PATHS, VALUES)


@pytest.mark.parametrize(
    "name", ["roles/one/tasks/main.yml", "roles/one/files/program", "single.py"]
)
def test_what_changes_in_a_listed_file_changes_the_digest(checkout: Path, name: str) -> None:
    """By one byte, and by the file's absence where its folder is what is listed."""
    before = of(checkout)
    (checkout / name).write_text(FILES[name] + " ", encoding="utf-8")
    assert of(checkout) != before
    (checkout / name).write_text(FILES[name], encoding="utf-8")
    assert of(checkout) == before


def test_a_file_that_comes_goes_or_moves_changes_the_digest(checkout: Path) -> None:
    """A folder is what is in it, under the names that it is there by."""
    digests = [of(checkout)]
    program = checkout / "roles/one/files/program"
    program.rename(program.with_name("renamed"))
    digests.append(of(checkout))
    program.with_name("renamed").unlink()
    digests.append(of(checkout))
    (checkout / "roles/one/new").write_text("", encoding="utf-8")
    digests.append(of(checkout))
    assert len(set(digests)) == len(digests)


def test_what_is_not_listed_does_not_change_the_digest(checkout: Path) -> None:
    """Another file, another key of the same file, what Python leaves behind."""
    before = of(checkout)
    (checkout / "elsewhere.py").write_text("two = 3\n", encoding="utf-8")
    packages = FILES["packages.yml"].replace("vim", "emacs").replace("[nano]", "\n    - nano")
    (checkout / "packages.yml").write_text(packages, encoding="utf-8")
    (checkout / "roles/one/__pycache__").mkdir()
    (checkout / "roles/one/__pycache__/one.pyc").write_bytes(b"\0")
    assert of(checkout) == before


def test_a_listed_value_changes_the_digest(checkout: Path) -> None:
    """Of a file with more in it."""
    before = of(checkout)
    packages = FILES["packages.yml"].replace("nano", "ed")
    (checkout / "packages.yml").write_text(packages, encoding="utf-8")
    assert of(checkout) != before


@pytest.mark.parametrize("name", ["single.py", "packages.yml"])
def test_a_listed_path_that_is_not_there_is_an_error(checkout: Path, name: str) -> None:
    """What was moved away does not leave the digest in silence."""
    (checkout / name).unlink()
    with pytest.raises(KosekiError, match=name):
        of(checkout)


def test_a_listed_folder_without_a_file_is_an_error(checkout: Path) -> None:
    """As one that is not there."""
    for name in ("tasks/main.yml", "files/program"):
        (checkout / "roles/one" / name).unlink()
    with pytest.raises(KosekiError, match="roles/one"):
        of(checkout)


def test_a_listed_value_that_is_not_there_is_an_error(checkout: Path) -> None:
    """As a path."""
    (checkout / "packages.yml").write_text("packages: {other: [vim]}\n", encoding="utf-8")
    with pytest.raises(KosekiError, match=r"packages\.base"):
        of(checkout)


def test_everything_listed_is_in_this_checkout() -> None:
    """And so are the tests that are chosen from."""
    assert len(proven.digest(ROOT)) == 64
    tests = (ROOT / proven.TESTS).read_text(encoding="utf-8")
    assert all(f"def {name}(" in tests for name in (proven.ONE, proven.TWO))


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose pair of today has the digest `today`, and in which nothing is noted."""
    (tmp_path / proven.NOTES).parent.mkdir(parents=True)
    (tmp_path / proven.NOTES).write_text("[]\n", encoding="utf-8")
    monkeypatch.setattr(proven, "digest", lambda _root: "today")
    mirror(tmp_path, "one")
    return tmp_path


def mirror(root: Path, *versions: str) -> None:
    """Have a mirror with packages of these versions."""
    index = root / "var/mirror/dists/trixie/main/binary-amd64/Packages"
    index.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"Package: p\nVersion: {v}\nSHA256: {v}\n\n" for v in versions)
    index.write_text(text, encoding="utf-8")


def test_two_images_are_due_until_they_held(noted: Path) -> None:
    """Nothing noted, another digest noted: two; this one, with other packages: a container."""
    assert proven.due(noted)[0] == proven.TWO
    proven.note(noted, "yesterday", "c0ffee")
    assert proven.due(noted)[0] == proven.TWO
    proven.note(noted, "today", "c0ffee")
    which, why = proven.due(noted)
    assert which == ""
    assert proven.notes(noted)[0]["day"] in why
    mirror(noted, "one", "another")
    which, why = proven.due(noted)
    assert which == proven.ONE
    assert "other packages" in why
    (noted / "var/mirror/dists/trixie/main/binary-amd64/Packages").unlink()
    assert proven.due(noted)[0] == proven.ONE


def test_a_note_is_kept_once_and_for_some_time(noted: Path) -> None:
    """The latest first; a pair that held again moves up; the oldest goes."""
    for number in range(proven.NOTES_KEPT + 2):
        proven.note(noted, f"pair {number}", "c0ffee")
    proven.note(noted, "pair 10", "decaf")
    found = [row["digest"] for row in proven.notes(noted)]
    assert found[:2] == ["pair 10", f"pair {proven.NOTES_KEPT + 1}"]
    assert len(found) == len(set(found)) == proven.NOTES_KEPT
    assert proven.notes(noted)[0]["commit"] == "decaf"


def test_what_is_committed_can_be_read() -> None:
    """Each note says what held, when, and from which commit."""
    for row in json.loads((ROOT / proven.NOTES).read_text(encoding="utf-8")):
        assert set(row) == {"digest", "packages", "day", "commit"}
        assert len(row["digest"]) == len(row["packages"]) == 64


def test_the_due_test_alone_is_kept_and_it_says_why() -> None:
    """What CI starts: one of the tests of pairs or none, and a line for whoever reads the run."""
    argv = [sys.executable, "-m", "pytest", "--collect-only", "-q", proven.TESTS, "--due"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    kept = [line for line in done.stdout.splitlines() if "::" in line]
    which, why = proven.due(ROOT)
    assert kept == ([f"{proven.TESTS}::{which}"] if which else [])
    assert why in done.stdout
