"""What a program of hosts does not understand is refused: one sentence, exit 2, nothing changed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).resolve().parents[3] / "host_programs"


@pytest.mark.parametrize(
    ("program", "words", "sentence"),
    [
        ("koseki_backup/sbin/koseki-backup", [], "usage: koseki-backup full|diff|incr REPOSITORY…"),
        ("koseki_backup/sbin/koseki-backup", ["all", "1"], "usage: koseki-backup full|diff|incr"),
        ("koseki_backup/sbin/koseki-backup", ["full"], "no repository: name one of those"),
        ("koseki_link/sbin/koseki-link", [], "no such municipality here (): koseki-link SLUG VERB"),
        ("koseki_link/sbin/koseki-link", ["iida"], "no such municipality here (iida): koseki-link"),
        ("koseki_link/sbin/koseki-link", ["nowhere", "status"], "municipality here (nowhere)"),
        ("koseki_seal/sbin/koseki-seal", ["make"], "usage: koseki-seal make|verify|list|restore"),
        ("rehearse_restore/rehearse-restore", ["anything"], "rehearse-restore mark NAME | restore"),
    ],
)
def test_what_is_not_understood_is_refused(program: str, words: list[str], sentence: str) -> None:
    """As it is called on a host, where it finds nothing of its own."""
    done = subprocess.run(
        ["sh", str(PROGRAMS / program), *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
