"""K-13 on its host: days are closed, counted, sent once and in order, whatever dies."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from duplicate_hosts import Host, ended, forked, held_once, kill, limited
from duplicate_samples import URUGI, at, days, difference, full
from faults import KILLED, dying
from koseki_duplicate.transmission import MOST_DAYS
from koseki_ops.calendar.months import Month
from koseki_ops.core.errors import KosekiError
from koseki_ops.duplicates.adapter import Folders
from koseki_ops.duplicates.events import Closed
from koseki_ops.duplicates.model import State
from koseki_ops.lab.stand_in_relay import Outage, Rule, Script
from koseki_ops.plan.host_programs import program_files

ROOT = Path(__file__).resolve().parents[3]
FIRST, SECOND, THIRD = days(3)
BY = ("--by", "sousa01", "--reason", "文字対応表を更新した")
# More calls to the system than a turn makes.
MOST_CALLS = 80
# Bytes; what a turn writes is no longer than the last of them.
LIMITS = range(0, 5000, 250)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: thousands of small files are made and removed."""
    shared = Path("/dev/shm")  # noqa: S108 - the folder below it is made for us alone
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def host(memory: Path) -> Host:
    """A host on which nothing has happened."""
    return Host(memory)


def counted(host: Host, **by_day: int) -> None:
    """Let the register count these days: `first=3`."""
    named = {"first": FIRST, "second": SECOND, "third": THIRD}
    host.registered(days={str(named[name]): count for name, count in by_day.items()})


# What a turn does.


def test_a_day_is_closed_counted_and_received(host: Host) -> None:
    """At 17:15 and not before; one with nothing has its row as well."""
    counted(host, first=3)
    host.turn(at(FIRST, "17:14:59"))
    assert difference(FIRST) not in host.states()
    assert host.both(at(FIRST, "17:15:00")) == []
    # Of a municipality one row is under way at a time, and Friday's was the first.
    assert host.both(at(FIRST, "17:20:00")) == []
    assert host.both(at(SECOND, "17:15:00")) == []
    assert host.states()[difference(FIRST)] is State.RECEIVED
    assert host.states()[difference(SECOND)] is State.EMPTY_CONFIRMED
    row = host.journal().municipality(host.code6).rows[difference(FIRST)]
    assert row.approved == row.extracted == row.received == 3
    assert row.sha256 == row.received_sha256


@pytest.mark.parametrize(
    "moment",
    [
        at(SECOND, "00:30:00"),
        at(FIRST, "23:59:59"),
        # The same night, by a clock that speaks UTC.
        at(SECOND, "00:30:00").astimezone(UTC),
    ],
)
def test_what_runs_after_midnight_is_of_the_day_that_was_closed(
    host: Host, moment: datetime
) -> None:
    """And on a Sunday of the Friday."""
    counted(host, first=1)
    host.turn(moment)
    assert list(host.states()) == [difference(FIRST)]
    host.turn(at(FIRST) + timedelta(days=6))
    last = list(host.states())[-1]
    assert (last.day.isoformat(), last.day.weekday()) == ("2026-11-13", 4)


def test_days_that_nobody_closed_are_closed_in_order(host: Host) -> None:
    """A host that was off; the holiday in between has no row."""
    host.turn(at(FIRST))
    host.turn(at(FIRST) + timedelta(days=15))
    closed = [event.day for event in host.journal().events if isinstance(event, Closed)]
    assert closed == days(11)
    assert "2026-11-23" not in map(str, closed)


def test_a_month_of_days_is_not_closed_without_a_person(host: Host) -> None:
    """A clock that runs a month ahead would confirm days that have not been."""
    host.turn(at(FIRST))
    ahead = at(days(MOST_DAYS + 2)[-1])
    (note,) = host.turn(ahead)
    assert "16 days, from 2026-11-10" in note
    assert list(host.states()) == [difference(FIRST)]
    assert host.turn(ahead, 16) == []
    assert len(host.states()) == 17


def test_a_clock_that_is_set_back_turns_nothing_back(host: Host) -> None:
    """Nothing is closed twice or taken back, no moment is before the one recorded last."""
    counted(host, first=2, second=2)
    host.both(at(FIRST))
    host.turn(at(SECOND))
    notes = host.both(at(FIRST, "12:00:00"))
    assert [note for note in notes if "the clock is behind" in note] == notes != []
    assert host.states() == dict.fromkeys((difference(FIRST), difference(SECOND)), State.RECEIVED)
    moments = [event.at for event in host.journal().events]
    assert moments == sorted(moments)
    assert host.both(at(THIRD)) == []
    assert sorted(host.taken()) == [f"{key}.jsonl" for key in host.states()]
    assert len(host.states()) == 3


def test_an_extract_of_another_number_is_not_sent(host: Host) -> None:
    """The register approved three, and gave two."""
    host.registered(days={str(FIRST): 3}, extracted={str(FIRST): 2})
    host.both(at(FIRST))
    assert host.states() == {difference(FIRST): State.COUNT_DIFFERS}
    assert host.taken() == []


def test_what_cannot_be_converted_is_listed_without_a_name(host: Host) -> None:
    """By register and code point; the journal has no register's number and no text."""
    host.registered(days={str(FIRST): 1}, text="見本 \ue000郎")
    host.both(at(FIRST))
    assert host.states() == {difference(FIRST): State.NOT_CONVERTIBLE}
    (found,) = Folders(host.base).listed(difference(FIRST))
    assert (found.number, found.points) == ("00000000", "U+E000")
    written = [
        path.read_text() for path in host.base.rglob("*.json*") if path.name != "register.json"
    ]
    assert written
    assert not [text for text in written if "郎" in text or "見本" in text]
    assert '"00000000"' not in host.journal().path.read_text()


def test_a_register_that_does_not_answer_holds_up_no_receipt(host: Host) -> None:
    """What was handed over is received; the day is closed when it answers again."""
    counted(host, first=1)
    host.turn(at(FIRST))
    host.relay.turn(at(FIRST))
    host.registered(down=True)
    (note,) = host.turn(at(SECOND))
    assert "did not answer (57P03)" in note
    assert host.states() == {difference(FIRST): State.RECEIVED}
    counted(host, second=1)
    assert host.both(at(SECOND, "19:00:00")) == []
    assert host.states()[difference(SECOND)] is State.RECEIVED


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("twice", "twice"),
        ("other_municipality", "municipality"),
        ("other_count", "count"),
        ("other_hash", "hash"),
        ("no_such_row", "no-row"),
    ],
)
def test_an_answer_that_cannot_be_right_is_set_aside(host: Host, does: str, reason: str) -> None:
    """With its reason, once; a person closes it."""
    counted(host, first=2)
    host.script = Script([Rule(does)])
    host.both(at(FIRST))
    host.both(at(FIRST, "18:30:00"))
    assert host.reasons() == [reason]
    (answer,) = host.journal().municipality(host.code6).quarantined
    kept = Folders(host.base).quarantine(host.code6) / f"{answer}.json"
    assert json.loads(kept.read_text())["reason"] == reason
    assert host.asked(at(FIRST, "19:00:00"), "close-answer", answer, *BY)[0] == 0
    assert host.reasons() == []


# What a person decides.


def test_a_row_is_sent_again_and_both_attempts_stay(host: Host) -> None:
    """With what the register counts now."""
    counted(host, first=2)
    host.script = Script([Rule("refuse", attempt=1)])
    host.both(at(FIRST))
    counted(host, first=3)
    code, said = host.asked(at(FIRST, "19:00:00"), "resend", str(FIRST), *BY)
    assert (code, json.loads(said)["recorded"][0]["approved"]) == (0, 3)
    host.both(at(FIRST, "20:00:00"))
    assert host.states() == {
        difference(FIRST): State.CANCELLED,
        difference(FIRST, 2): State.RECEIVED,
    }
    assert len(host.taken()) == 2


def test_after_a_restore_all_registers_go_first(host: Host) -> None:
    """No difference before they are received; what is open until then is contained in them."""
    counted(host, first=1)
    host.both(at(FIRST))
    assert host.asked(at(SECOND, "10:00:00"), "full", "restore", *BY)[0] == 0
    host.script = Script(outages=[Outage(str(at(SECOND, "00:00:00")), str(at(THIRD)))])
    counted(host, second=4)
    host.both(at(SECOND))
    assert host.states()[difference(SECOND)] is State.NOT_EXTRACTED
    host.both(at(THIRD, "18:30:00"))
    states = host.states()
    sent_as_of = [key.day for key in states if key.kind == full(FIRST).kind]
    assert len(sent_as_of) == 1
    assert [name for name in host.taken() if "full" in name] == [f"{full(sent_as_of[0])}.jsonl"]
    host.both(at(THIRD, "19:00:00"))
    assert set(host.states().values()) <= {
        State.RECEIVED,
        State.EMPTY_CONFIRMED,
        State.CONTAINED_IN_FULL,
    }
    assert host.journal().municipality(host.code6).forced is None


def test_a_municipality_that_is_held_hands_nothing_over(host: Host) -> None:
    """Its days are closed all the same; released, they go in order."""
    counted(host, first=1, second=1)
    assert host.asked(at(FIRST, "12:00:00"), "hold", *BY)[0] == 0
    host.both(at(FIRST))
    host.both(at(SECOND))
    assert host.taken() == []
    assert host.asked(at(SECOND, "19:00:00"), "release", *BY)[0] == 0
    for hour in (20, 21, 22):
        host.both(at(SECOND, f"{hour}:00:00"))
    assert host.taken()[-2:] == [f"{difference(FIRST)}.jsonl", f"{difference(SECOND)}.jsonl"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("resend", str(FIRST), *BY), "no 差分 of this day"),
        (("close", str(FIRST), *BY), "no 差分 of this day"),
        (("close-answer", "a-1", *BY), "no such answer"),
        (("release", *BY), "nobody holds"),
        (("hold", "--by", "sousa01", "--reason", ""), "a reason is one line"),
    ],
)
def test_what_cannot_be_decided_is_refused(host: Host, words: tuple[str, ...], told: str) -> None:
    """One sentence, exit 2, nothing written."""
    code, said = host.asked(at(FIRST), *words)
    assert code == 2
    assert told in said
    assert len(said.splitlines()) == 1
    assert host.journal().events == []


def test_status_and_journal_are_told(host: Host) -> None:
    """The lines as they were written, behind a number; a late row is named at nine."""
    host.script = Script([Rule("lose")])
    counted(host, first=1)
    host.both(at(FIRST))
    for clock, late in (("08:59:59", []), ("09:00:00", [str(difference(FIRST))])):
        code, said = host.asked(at(SECOND, clock), "status")
        assert (code, json.loads(said)["late"]) == (0, late)
    _code, every = host.asked(at(SECOND), "journal")
    assert every.encode() == host.journal().path.read_bytes()
    assert host.asked(at(SECOND), "journal", "--after", "1")[1] == every.partition("\n")[2]


# The month's totals.


def test_totals_are_compared_when_they_come_or_are_due(host: Host) -> None:
    """By nine of the fifth business day silence is no agreement; what comes later is compared."""
    totals = {"戸籍": 3, "除籍": 2, "改製原": 1}
    host.both(at(FIRST))
    december = at(days(20)[-1]).replace(hour=8)
    november = Month(2026, 11)
    host.turn(december, 20)
    assert host.journal().municipality(host.code6).comparisons == {}
    host.turn(at(datetime(2026, 12, 7, tzinfo=UTC).date(), "09:00:00"), 20)
    (compared,) = host.journal().municipality(host.code6).comparisons.values()
    assert compared.theirs is None
    host.script = Script(totals={host.code6: {str(november): totals}})
    host.both(at(datetime(2026, 12, 7, tzinfo=UTC).date(), "19:00:00"))
    assert not host.journal().municipality(host.code6).comparisons[november].differing


# Whatever dies.


def test_each_day_is_sent_once_whoever_is_killed_when(host: Host) -> None:
    """Two processes beside each other, one of them killed at a random moment (docs: a hundred)."""
    died = kill(host, 24, random.Random(20261130))  # noqa: S311 - a draw of moments
    assert min(died.values()) > 0
    assert held_once(host) >= 8


def test_a_day_is_sent_once_wherever_a_turn_is_killed(memory: Path) -> None:
    """Before each of its calls to the system; the other side looks at once."""
    for call in range(1, MOST_CALLS):
        host = Host(memory / str(call))
        counted(host, first=2)
        code = dying(call, False, lambda: host.turn(at(FIRST)))  # noqa: B023, FBT003 - now; before
        assert code in {0, KILLED}
        host.relay.turn(at(FIRST))
        host.both(at(FIRST, "18:01:00"))
        assert held_once(host) == 1
        if code == 0:
            assert call > MOST_CALLS / 4
            return
    pytest.fail("it was never done")


def test_a_disk_that_is_full_loses_and_doubles_nothing(memory: Path) -> None:
    """At any length of what can be written; when there is room again, all of it goes once."""
    failed = 0
    for limit in LIMITS:
        host = Host(memory / str(limit))
        counted(host, first=3, second=1)
        host.both(at(FIRST))
        code = limited(limit, lambda: _full(host))  # noqa: B023 - called now
        assert code in {0, 3}
        failed += code == 3
        for minute in range(4):
            assert host.both(at(SECOND, f"20:{minute:02}:00")) == []
        assert held_once(host) == 2
    assert failed > 5


def _full(host: Host) -> None:
    """Take a turn, and end with 3 when something could not be done."""
    if host.turn(at(SECOND)):
        os._exit(3)


def test_a_line_that_is_not_on_the_disk_was_not_recorded(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that says at the sync alone that it failed: no line is left of it, nor a part."""
    counted(host, first=1)
    host.turn(at(FIRST))
    before = host.journal().path.read_bytes()

    def failing(_handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        assert host.asked(at(FIRST), "hold", *BY)[0] == 2
    assert host.journal().path.read_bytes() == before
    host.both(at(FIRST))
    assert held_once(host) == 1


def test_two_turns_at_once_wait_for_each_other(host: Host) -> None:
    """As when a person runs one while the timer does."""
    counted(host, first=50)
    assert [ended(one) for one in [forked(lambda: host.turn(at(FIRST))) for _ in range(4)]] == [
        0
    ] * 4
    host.both(at(FIRST))
    assert held_once(host) == 1


def test_a_journal_that_was_changed_is_refused(host: Host) -> None:
    """A line less in the middle, or another count in it: nothing is sent on such a ground."""
    counted(host, first=3)
    host.both(at(FIRST))
    path = host.journal().path
    lines = path.read_bytes().splitlines(keepends=True)
    for wrong in (lines[:1] + lines[2:], [lines[0].replace(b":3", b":4"), *lines[1:]], [b"{}\n"]):
        path.write_bytes(b"".join(wrong))
        with pytest.raises(KosekiError, match="is not what was recorded"):
            host.turn(at(SECOND))
        assert host.asked(at(SECOND), "status")[0] == 2
    # Longer than what is recorded next: nothing of it may stay behind that.
    path.write_bytes(b"".join(lines) + b'{"number":' + b" " * 5000)
    host.both(at(SECOND))
    assert held_once(host) == 2


def test_ten_days_of_outage_and_the_way_out_in_order(host: Host) -> None:
    """As in March 2024: one file waits outside, the others here, and all go afterwards."""
    business = days(7, datetime(2024, 3, 1, tzinfo=UTC).date())
    ends = datetime(2024, 3, 11, tzinfo=UTC).date()
    host.script = Script(
        outages=[Outage(str(at(business[0], "00:00:00")), str(at(ends, "10:00:00")))]
    )
    host.registered(days={str(day): number for number, day in enumerate(business)})
    for day in business:
        host.both(at(day))
        outbox = Folders(host.base).outbox("primary", host.code6)
        assert len(list(outbox.iterdir())) <= 1
    for minute in range(len(business)):
        host.both(at(business[-1], f"19:{minute:02}:00"))
    assert held_once(host) == len(business)


# As a program of its own.


def test_it_needs_nothing_but_what_it_brings(tmp_path: Path) -> None:
    """On a host there is Debian's Python; of the toolkit, what `toolkit.txt` names, and no more."""
    home = "/usr/local/lib/koseki-duplicate/"
    for file in program_files(ROOT, "koseki_duplicate"):
        if file.path.startswith(home):
            path = tmp_path / file.path.removeprefix(home)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.source, path)
    asked = (
        "import sys, koseki_duplicate.commands\n"
        "print(*(m.__file__ for m in sys.modules.values() if m.__name__.startswith('koseki_')))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-B", "-c", asked],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    loaded = set(done.stdout.split())
    brought = {str(path) for path in tmp_path.rglob("*.py")}
    # What speaks to the database is imported by the door alone.
    assert {Path(path).name for path in brought - loaded} == {"__main__.py", "register.py"}
    assert loaded < brought


@pytest.mark.usefixtures("counted_programs")
def test_the_doors_beside_a_relay_server_of_its_own(memory: Path) -> None:
    """Programs that know nothing of each other but files; one server for two municipalities."""
    hosts = [Host(memory / code6, slug=f"t{code6}", code6=code6) for code6 in (URUGI, "204021")]
    relay = subprocess.Popen(
        [sys.executable, "-m", "koseki_ops.lab.stand_in_relay", *(str(one.base) for one in hosts)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert relay.stdin
    assert relay.stdout
    for host in hosts:
        counted(host, first=2)
        turned(host)
    relay.stdin.write(f"{at(FIRST).isoformat()}\n")
    relay.stdin.flush()
    assert relay.stdout.readline() == "done\n"
    relay.communicate("")
    for host in hosts:
        turned(host)
        assert held_once(host) == 1


def turned(host: Host) -> None:
    """Let the program take a turn in a process of its own."""
    paths = ("tests", "src", "host_programs/koseki_duplicate/lib/koseki-duplicate")
    there = {**os.environ, "PYTHONPATH": ":".join(str(ROOT / path) for path in paths)}
    asked = ["duplicate_sender", at(FIRST).isoformat(), str(host.settings_path), host.slug, "turn"]
    subprocess.run([sys.executable, "-m", *asked], env=there, check=True)
