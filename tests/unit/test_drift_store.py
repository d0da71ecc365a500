"""The history keeps every sweep, tells each again, survives a kill and sees each tampering."""

from __future__ import annotations

import multiprocessing
import random
import re
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from drift_samples import (
    HOSTILE,
    NOW,
    QUARTER,
    drifted,
    keep_writing,
    not_verified,
    store,
    sweep,
    unwaived,
    year,
)
from koseki_ops.core.errors import KosekiError
from koseki_ops.drift.history.store import DATABASE_FILE, HEAD_FILE
from koseki_ops.drift.model import HostSweep, Verdict
from koseki_ops.evidence.site_key import KEY_FILE, make_key

KILLS = 112
YEAR = 365 * 24 * 4
YEAR_LIMIT = 200 * 2**20


def test_an_empty_history_is_empty_and_makes_nothing(tmp_path: Path) -> None:
    """An empty history is empty and makes nothing."""
    history = store(tmp_path / "drift")
    assert history.latest() is None
    assert list(history.history()) == []
    assert history.trend() == []
    assert history.head() == ""
    assert history.verify().sweeps == 0
    assert not history.verify().fault
    assert not (tmp_path / "drift").exists()


def test_a_drift_keeps_its_beginning_until_it_is_over(tmp_path: Path) -> None:
    """A drift keeps its beginning until it is over, and has a new one when it comes back."""
    history = store(tmp_path)
    began = history.append(sweep(drifted(), at=NOW)).findings[0]
    changed = history.append(sweep(drifted(seen="0777", logged_in=("x",)), at=NOW + 900))
    assert began.first_seen == changed.findings[0].first_seen == NOW
    assert changed.findings[0].logged_in == ("sousa01",)
    assert history.append(sweep(at=NOW + 1800)).findings == ()
    again = history.append(sweep(drifted(), at=NOW + 2700)).findings[0]
    assert again.first_seen == NOW + 2700


def test_an_unreachable_host_ends_nothing(tmp_path: Path) -> None:
    """What was wrong on a host that is unreachable, or was not asked, is still known."""
    history = store(tmp_path)
    finding, other = drifted(), drifted(1, "application1")
    history.append(sweep(finding, other, at=NOW))
    unreachable = sweep(not_verified("primary1"), other, at=NOW + 900, unreachable=["primary1"])
    assert [f.host for f in history.append(unreachable).findings] == ["primary1", "application1"]
    assert history.known.unseen == {finding.id}
    one = sweep(other, at=NOW + 1000)
    history.append(replace(one, hosts=one.hosts[2:3]))
    assert finding.id in history.known.unseen
    back = history.append(sweep(finding, other, at=NOW + 1800))
    assert back.findings[0].first_seen == NOW
    assert not history.known.unseen
    history.append(sweep(other, at=NOW + 2700))
    assert finding.id not in history.known.findings


def test_an_item_that_cannot_be_asked_ends_nothing(tmp_path: Path) -> None:
    """A file that cannot be read any more is not mended by that."""
    history = store(tmp_path)
    finding = drifted()
    history.append(sweep(finding))
    for step, name in enumerate((finding.name, "*"), 1):
        blind = not_verified(finding.host, kind=finding.kind, name=name)
        history.append(sweep(blind, at=NOW + step))
        assert finding.id in history.known.unseen
    history.append(sweep(not_verified(finding.host, kind="cron", name="*"), at=NOW + 3))
    assert finding.id not in history.known.findings


def test_what_was_wrong_on_a_host_that_left_the_plan_is_over(tmp_path: Path) -> None:
    """What was wrong on a host that left the plan is over."""
    history = store(tmp_path)
    history.append(sweep(drifted()))
    history.hosts = history.hosts - {"primary1"}
    one = sweep(at=NOW + 900)
    history.append(replace(one, hosts=one.hosts[1:]))
    assert not history.known.findings


def test_each_sweep_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest sweep, and each before it, over several whole copies."""
    monkeypatch.setattr("koseki_ops.drift.history.store.WHOLE_EVERY", 16)
    history = store(tmp_path)
    kept = [history.append(one) for one in year(75, seed=11)]
    assert history.latest() == kept[-1]
    entries = list(store(tmp_path).history())
    assert [entry.at for entry in entries] == [one.at for one in kept]
    assert [entry.hosts for entry in entries] == [one.hosts for one in kept]
    present: dict[str, object] = {}
    for entry, one in zip(entries, kept, strict=True):
        present |= {finding.id: finding for finding in entry.changed}
        for finding in entry.ended:
            del present[finding.id]
        assert {finding.id: finding for finding in one.findings}.items() <= present.items()
        assert entry.drifted == one.count(Verdict.DRIFTED)
    tail = list(store(tmp_path).history(since=kept[-3].at))
    assert tail == entries[-3:]
    assert [point.at for point in history.trend(kept[-3].at)] == [one.at for one in kept[-3:]]
    assert history.verify().sweeps == len(kept)


def test_text_comes_back_as_it_was(tmp_path: Path) -> None:
    """Japanese and hostile text is neither changed nor run."""
    finding = drifted(name=HOSTILE, seen=HOSTILE, expected="葛󠄀 U+FA19 神")
    store(tmp_path).append(sweep(finding))
    latest = store(tmp_path).latest()
    assert latest
    assert unwaived(latest.findings[0]) == unwaived(finding)


def test_the_folder_is_private(tmp_path: Path) -> None:
    """What was found on hosts is for the owner's eyes only."""
    store(tmp_path).append(sweep(drifted()))
    for name in (DATABASE_FILE, HEAD_FILE, KEY_FILE):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0, name


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    """Two sweeps that end at once are both kept, and readers never meet half of one."""

    def write(start: float) -> None:
        history = store(tmp_path)
        for number in range(25):
            history.append(sweep(drifted(number), at=start + number))

    writers = [threading.Thread(target=write, args=(NOW + i * 1000,)) for i in range(2)]
    store(tmp_path).append(sweep())
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert store(tmp_path).latest()
    for writer in writers:
        writer.join()
    verdict = store(tmp_path).verify()
    assert (verdict.sweeps, verdict.fault) == (51, "")


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory: a kill loses what a process had not written, wherever it writes to."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_a_kill_at_any_moment_blocks_and_breaks_nothing(memory: Path) -> None:
    """Kill -9 at many moments: by the clock, and between two lines of the store; from nothing too.

    After each the chain holds, no sweep that was there is lost, and the next is written.
    """
    chance = random.Random(20261124)  # noqa: S311 - moments, not secrets
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["drift_samples"])
    grown, written, rounds = memory / "grown", 0, 0
    for kill in range(KILLS):
        folder = memory / f"fresh{kill}" if kill % 4 == 0 else grown
        by_line = chance.randrange(1, 700) if kill % 2 else 0
        writer = context.Process(target=keep_writing, args=(folder, by_line))
        writer.start()
        if not by_line:
            time.sleep(chance.uniform(0.005, 0.04))
            writer.kill()
        writer.join()
        assert writer.exitcode == -9, f"kill {kill} at line {by_line}: ended by itself"
        history = store(folder)
        verdict = history.verify()
        assert not verdict.fault, f"kill {kill} at line {by_line}: {verdict.fault}"
        if folder == grown:
            assert verdict.sweeps >= written
            rounds += 1
        history.append(sweep(drifted(1), at=NOW + kill))
        after = history.verify()
        assert (after.sweeps, after.fault) == (verdict.sweeps + 1, "")
        written = after.sweeps if folder == grown else written
    # The writers that were killed had written as well.
    assert written > rounds


def by_sql(*statements: str) -> Callable[[Path], None]:
    """Return a tampering of the database."""

    def tamper(folder: Path) -> None:
        with closing(sqlite3.connect(folder / DATABASE_FILE)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    return tamper


def with_another_key(folder: Path) -> None:
    """Sign with a new key from now on."""
    (folder / KEY_FILE).unlink()
    make_key(folder)


def overwrite(name: str, content: bytes, at: int = 0) -> Callable[[Path], None]:
    """Return a tampering of a file's bytes."""

    def tamper(folder: Path) -> None:
        with closing(sqlite3.connect(folder / DATABASE_FILE)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with (folder / name).open("r+b") as file:
            file.seek(at)
            file.write(content)

    return tamper


def older_copy(folder: Path) -> None:
    """Put yesterday's database in place of today's."""
    other = folder / "other"
    other.mkdir()
    (other / KEY_FILE).write_bytes((folder / KEY_FILE).read_bytes())
    store(other).append(sweep(drifted()))
    overwrite(DATABASE_FILE, b"")(other)
    for path in folder.glob("history.db*"):
        path.unlink()
    (other / DATABASE_FILE).rename(folder / DATABASE_FILE)


def unlink(*paths: Path) -> None:
    """Remove files."""
    for path in paths:
        path.unlink()


TAMPERED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a count": (by_sql("UPDATE sweeps SET drifted = 0 WHERE number = 2"), "sweep 2 .*tampered"),
    "a moment": (by_sql("UPDATE sweeps SET at = at + 1 WHERE number = 1"), "sweep 1 .*tampered"),
    "a body": (
        by_sql("UPDATE sweeps SET body = (SELECT body FROM sweeps WHERE number = 1)"),
        "sweep 2 .*tampered",
    ),
    "a row removed": (by_sql("DELETE FROM sweeps WHERE number = 2"), "sweep 2 is missing"),
    "the end removed": (by_sql("DELETE FROM sweeps WHERE number > 3"), "was tampered with"),
    "everything removed": (by_sql("DELETE FROM sweeps", "DELETE FROM head"), "not signed"),
    "the head": (by_sql("UPDATE head SET number = 3"), "not signed"),
    "the signature": (by_sql("UPDATE head SET signature = zeroblob(64)"), "not signed"),
    "the table dropped": (by_sql("DROP TABLE sweeps"), "was tampered with"),
    "the key": (with_another_key, "not signed by this site's key"),
    "the key gone": (lambda folder: (folder / KEY_FILE).unlink(), "key cannot be read"),
    "the head file": (overwrite(HEAD_FILE, b'{"number": 9'), "head file .*(damaged|not signed)"),
    "the head file gone": (lambda folder: (folder / HEAD_FILE).unlink(), "head file .*missing"),
    "the database gone": (
        lambda folder: unlink(*folder.glob("history.db*")),
        "is gone, but its head",
    ),
    "an older copy": (older_copy, "head file says sweep|not the one that its head file"),
    "no database": (overwrite(DATABASE_FILE, b"no database at all"), "cannot be read"),
    "a torn page": (overwrite(DATABASE_FILE, b"\xff" * 512, 4096), "cannot be read|tampered"),
}


@pytest.mark.parametrize(("tamper", "sentence"), TAMPERED.values(), ids=TAMPERED.keys())
def test_tampering_is_named(
    tmp_path: Path, tamper: Callable[[Path], object], sentence: str
) -> None:
    """Whatever is changed, one sentence names it."""
    history = store(tmp_path)
    for number in range(5):
        history.append(sweep(drifted(number), at=NOW + number * QUARTER))
    tamper(tmp_path)
    fault = store(tmp_path).verify().fault
    assert re.search(sentence, fault), fault
    assert "\n" not in fault


@pytest.mark.parametrize("name", ["the end removed", "the key", "an older copy", "no database"])
def test_nothing_is_written_after_tampering(tmp_path: Path, name: str) -> None:
    """A sweep is not chained to a history whose end is not the one that was signed."""
    history = store(tmp_path)
    for number in range(5):
        history.append(sweep(drifted(number), at=NOW + number * QUARTER))
    TAMPERED[name][0](tmp_path)
    with pytest.raises(KosekiError, match="history of drift"):
        store(tmp_path).append(sweep())


def test_a_year_is_small(memory: Path) -> None:
    """Three days of sweeps of five hosts, as a year of them, stay below the year's limit."""
    days = 3 * 24 * 4
    history = store(memory)
    for one in year(days):
        history.append(one)
    size = sum(path.stat().st_size for path in memory.glob("history.db*"))
    assert size / days * YEAR < YEAR_LIMIT


def test_what_does_not_apply_keeps_its_key() -> None:
    """Histories of before, and who reads the JSON, know it as `beyond`; a row may have neither."""
    host = HostSweep("primary1", answered=True, not_applicable=7)
    plain = host.as_json()
    assert (plain["beyond"], "not_applicable" in plain) == (7, False)
    assert HostSweep.from_json(plain) == host
    del plain["beyond"]
    assert HostSweep.from_json(plain).not_applicable == 0
