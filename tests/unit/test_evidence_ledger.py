"""A record that was written stays what it was, or the first row that is not is named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from faults import KILLED, dying
from koseki_ops.cli import cli
from koseki_ops.core.errors import KosekiError
from koseki_ops.evidence import site_key
from koseki_ops.evidence.ledger import LEDGERS, TAKEN_OVER, Ledger
from koseki_ops.plan.site import Site

pytestmark = pytest.mark.usefixtures("counted_programs")
WRITER = """
import sys
from pathlib import Path
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.plan.site import Site

ledger = Ledger(Site(Path(sys.argv[1]), "lab", "lab"), "joinings")
for number in range(20):
    ledger.append({"by": sys.argv[2], "number": number})
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site without records."""
    return Site(tmp_path, "lab", "lab")


def filled(site: Site, count: int = 4) -> Ledger:
    """Return a ledger with some rows."""
    ledger = Ledger(site, "joinings")
    for number in range(1, count + 1):
        ledger.append({"municipality": "飯田市", "number": number})
    return ledger


def test_rows_come_back_in_their_order_and_hold(site: Site) -> None:
    """Numbers from one on, the moment in UTC, the record as it was."""
    ledger = Ledger(site, "rehearsals")
    assert ledger.verify().rows == 0
    first = ledger.append({"vault": "city"}, datetime(2026, 11, 29, 12, tzinfo=UTC))
    ledger.append({"vault": "remote"})
    rows = list(ledger.rows())
    assert [row.number for row in rows] == [1, 2]
    assert rows[0] == first
    assert (first.at, first.record) == ("2026-11-29T12:00:00+00:00", {"vault": "city"})
    assert (ledger.verify().rows, ledger.verify().wrong) == (2, "")


def lines(ledger: Ledger) -> list[bytes]:
    """Return the file's lines."""
    return ledger.path.read_bytes().splitlines(keepends=True)


def edited(found: list[bytes]) -> list[bytes]:
    """Change one letter of the second row."""
    return [found[0], found[1].replace("飯田".encode(), "飯山".encode()), *found[2:]]


TAMPERINGS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], int, str]] = {
    "edited": (edited, 1, "not what was signed"),
    "removed": (lambda found: [found[0], *found[2:]], 1, "does not follow"),
    "the first removed": (lambda found: found[1:], 0, "does not follow"),
    "inserted": (lambda found: [*found[:2], found[0], *found[2:]], 2, "does not follow"),
    "put elsewhere": (lambda found: [found[0], found[2], found[1], found[3]], 1, "does not follow"),
    "cut off": (lambda found: found[:2], 2, "2 rows at the end are missing"),
    "emptied": (lambda _found: [], 0, "4 rows at the end are missing"),
    "no row": (lambda found: [found[0], b"rubbish\n", *found[2:]], 1, "is no row"),
    "a list": (lambda found: [b"[1]\n", *found], 0, "is no row"),
    "a signature that is none": (
        lambda found: [found[0].replace(b'"signature":"', b'"signature":"?'), *found[1:]],
        0,
        "is no row",
    ),
}


@pytest.mark.parametrize("how", TAMPERINGS)
def test_what_was_tampered_with_is_named(site: Site, how: str) -> None:
    """The first row that is not what it was, and how many before it are."""
    ledger = filled(site)
    tamper, good, wrong = TAMPERINGS[how]
    ledger.path.write_bytes(b"".join(tamper(lines(ledger))))
    verdict = ledger.verify()
    assert verdict.rows == good
    assert wrong in verdict.wrong
    with pytest.raises(KosekiError, match="koseki evidence verify"):
        ledger.held()


@pytest.mark.parametrize(
    ("head", "wrong"),
    [
        (None, "the head is missing"),
        (b"{}", "no head"),
        (b'{"rows":4,"digest":"0","signature":"AAAA"}', "not what was signed"),
    ],
)
def test_the_head_is_held_too(site: Site, head: bytes | None, wrong: str) -> None:
    """Without it whoever cuts rows off is not seen."""
    ledger = filled(site)
    if head is None:
        ledger.head.unlink()
    else:
        ledger.head.write_bytes(head)
    assert wrong in ledger.verify().wrong
    with pytest.raises(KosekiError, match=wrong):
        ledger.held()


def test_what_holds_is_read_as_it_was_written(site: Site) -> None:
    """All of it by the hashes; also where the writer was killed before he wrote the head."""
    ledger = Ledger(site, "joinings")
    assert ledger.held() == []
    for number in range(3):
        head = ledger.head.read_bytes() if number else b""
        ledger.append({"number": number})
        assert ledger.held() == list(ledger.rows())
    ledger.head.write_bytes(head)
    assert len(ledger.held()) == 3
    # Whoever has not the key can use that for no row of his own.
    forged = [*lines(ledger)[:2], lines(ledger)[2].replace(b'"number":2', b'"number":7')]
    ledger.path.write_bytes(b"".join(forged))
    with pytest.raises(KosekiError, match="row 3 is not what was signed"):
        ledger.held()


def test_a_row_by_another_key_is_none(site: Site) -> None:
    """Whoever has not the site's key can write none."""
    ledger = filled(site)
    (site.state / "drift" / site_key.KEY_FILE).unlink()
    site_key.make_key(site.state / "drift")
    assert "row 1 is not what was signed" in ledger.verify().wrong


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_moment_leaves_a_row_or_none(tmp_path: Path, after: bool) -> None:
    """Half a line is no row, and the next one is written as if nothing had been."""
    seen = set()
    for at in range(1, 25):
        ledger = filled(Site(tmp_path / str(at), "lab", "lab"), 2)
        code = dying(at, after, lambda: ledger.append({"number": 3}))  # noqa: B023 - called now
        assert code in {0, KILLED, 1}
        rows = [row.record["number"] for row in ledger.rows()]
        assert rows in ([1, 2], [1, 2, 3])
        seen.add(len(rows))
        assert ledger.verify().wrong == ""
        ledger.append({"number": 4})
        assert [row.record["number"] for row in ledger.rows()] == [*rows, 4]
        verdict = ledger.verify()
        assert (verdict.rows, verdict.wrong) == (len(rows) + 1, "")
    assert seen == {2, 3}


def test_what_cannot_be_written_is_one_sentence(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk; the half line is none."""
    ledger = filled(site)

    def full(_handle: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.write", full)
        with pytest.raises(KosekiError, match="No space left"):
            ledger.append({"number": 5})
    ledger.append({"number": 5})
    assert (ledger.verify().rows, ledger.verify().wrong) == (5, "")


def test_two_who_write_at_one_time_do_not_meet(site: Site) -> None:
    """Each row follows the one before, whoever wrote it."""
    argv = [sys.executable, "-c", WRITER, str(site.root)]
    running = [subprocess.Popen([*argv, who]) for who in ("one", "other")]
    assert [process.wait() for process in running] == [0, 0]
    ledger = Ledger(site, "joinings")
    assert (ledger.verify().rows, ledger.verify().wrong) == (40, "")


def test_who_reads_meanwhile_sees_no_rewriting(site: Site) -> None:
    """Rows of now and a head of then would look like it."""
    ledger = filled(site)
    argv = [sys.executable, "-c", WRITER, str(site.root), "one"]
    with subprocess.Popen(argv) as running:
        while running.poll() is None:
            ledger.held()
            assert ledger.verify().wrong == ""
    assert len(ledger.held()) == 24


@pytest.mark.parametrize("done", [0, 1, 2])
def test_what_was_recorded_before_is_taken_over_once(site: Site, done: int) -> None:
    """Also when whoever took it over was killed behind some of its rows."""
    place = LEDGERS["joinings"]
    assert place is not None
    old = site.state / place
    old.parent.mkdir(parents=True)
    before = [{"at": "2026-01-01T00:00:00Z", "action": "enroll", "number": n} for n in (1, 2)]
    ledger = Ledger(site, "joinings")
    for row in before[:done]:
        ledger.append({"taken_over_from": old.name, **row})
    old.write_text("".join(json.dumps(row) + "\n" for row in before), encoding="utf-8")
    ledger.append({"number": 3})
    ledger.append({"number": 4})
    rows = list(ledger.rows())
    assert [row.record["number"] for row in rows] == [1, 2, 3, 4]
    assert rows[0].record["at"] == "2026-01-01T00:00:00Z"
    assert not old.exists()
    assert old.with_name(old.name + TAKEN_OVER).exists()
    assert ledger.verify().wrong == ""


def test_nothing_is_recorded_behind_a_row_that_is_none(site: Site) -> None:
    """One sentence, and the file stays as it is."""
    ledger = filled(site)
    with ledger.path.open("ab") as file:
        file.write(b"rubbish\n")
    before = ledger.path.read_bytes()
    with pytest.raises(KosekiError, match="koseki evidence verify"):
        ledger.append({"number": 5})
    assert ledger.path.read_bytes() == before


def test_the_command_shows_and_verifies(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 1 and the first bad row when one was changed."""
    monkeypatch.setattr("koseki_ops.plan.site.project_root", lambda: site.root)
    monkeypatch.setenv("KOSEKI_ROOT", str(site.root))
    (site.root / "inventories/lab").mkdir(parents=True)
    (site.root / "inventories/lab/hosts.yml").touch()
    ledger = filled(site)
    shown = CliRunner().invoke(cli, ["evidence", "show", "joinings", "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output.splitlines()[-1])["rows"][3]["record"]["number"] == 4
    assert CliRunner().invoke(cli, ["evidence", "verify"]).exit_code == 0
    ledger.path.write_bytes(b"".join(edited(lines(ledger))))
    done = CliRunner().invoke(cli, ["evidence", "verify", "--json"])
    assert done.exit_code == 1
    told = json.loads(done.output.splitlines()[-1])["ledgers"]["joinings"]
    assert told == {"rows": 1, "wrong": "row 2 is not what was signed"}
