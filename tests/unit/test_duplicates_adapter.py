"""K-13: a file goes to the relay server once, and what comes back counts once, whatever dies."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import pytest

from duplicate_samples import URUGI, ZONE, at, closed, days, difference, full, on, records
from faults import KILLED, dying
from koseki_ops.calendar.months import Month
from koseki_ops.duplicates import events
from koseki_ops.duplicates.adapter import BOXES, Adapter, Folders, Turn
from koseki_ops.duplicates.events import Quarantined
from koseki_ops.duplicates.history import History
from koseki_ops.duplicates.layout import Record, StandIn
from koseki_ops.duplicates.model import Cause, Key, State
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.lab.stand_in_relay import Outage, Relay, Rule, Script
from koseki_ops.plan.site import Site

CODES = (URUGI, "204021", "202053")
FIRST, SECOND, THIRD = days(3)
# More calls to the system than either side makes in a turn.
MOST_CALLS = 80
STATES_FINAL = {State.RECEIVED, State.EMPTY_CONFIRMED}


@dataclass
class Both:
    """Both sides of the exchange, in one folder."""

    root: Path
    script: Script = field(default_factory=Script)
    box: str = BOXES[0]

    @property
    def adapter(self) -> Adapter:
        """Our side, which knows nothing but what was recorded."""
        return Adapter(History(Site(self.root, "lab", "lab")), StandIn(), self.box)

    @property
    def relay(self) -> Relay:
        """The other side."""
        return Relay(self.adapter.folders.base, self.script)

    def close(self, key: Key, count: int = 2, moment: datetime | None = None) -> None:
        """Close a day and extract its records."""
        adapter, there = self.adapter, moment or at(key.day)
        with adapter.history.alone():
            adapter.history.record(closed(key, count, there))
            adapter.extract(key, records(count), there)

    def exchange(self, moment: datetime, municipalities: Iterable[str] = CODES) -> Turn:
        """Take a turn on our side."""
        adapter = self.adapter
        with adapter.history.alone():
            return adapter.exchange(municipalities, moment)

    def turn(self, moment: datetime, municipalities: Iterable[str] = CODES) -> None:
        """Hand over, let the other side answer, and take what it says."""
        self.exchange(moment, municipalities)
        self.relay.turn(moment)
        self.exchange(moment, municipalities)

    def state(self, key: Key) -> State:
        """Return where a row stands."""
        return self.history().municipality(key.code6).rows[key].state

    def history(self) -> History:
        """Return what was recorded, read anew."""
        history = History(Site(self.root, "lab", "lab"))
        history.read()
        return history

    def reasons(self, code6: str = URUGI) -> list[str]:
        """Return why answers of a municipality were set aside."""
        return list(self.history().municipality(code6).quarantined.values())

    def taken(self, code6: str = URUGI) -> list[str]:
        """Return what the relay server has taken of a municipality, both boxes, in order."""
        found = [one for box in BOXES for one in self.relay.taken(box, code6)]
        return [one.name for one in sorted(found, key=lambda one: (one.at, one.name))]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: thousands of small files are made and removed."""
    shared = Path("/dev/shm")  # noqa: S108 - the folder below it is made for us alone
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def both(memory: Path) -> Both:
    """Both sides, with nothing recorded."""
    return Both(memory)


def test_a_day_goes_out_and_comes_back(both: Both) -> None:
    """With records, and without any; what it says is in the ledger, and the ledger holds."""
    keys = [difference(FIRST), difference(FIRST, code6="204021")]
    for key, count in zip(keys, (1000, 0), strict=True):
        both.close(key, count)
    both.turn(at(FIRST))
    assert [both.state(key) for key in keys] == [State.RECEIVED, State.EMPTY_CONFIRMED]
    row = both.history().municipality(URUGI).rows[keys[0]]
    assert row.approved == row.extracted == row.received == 1000
    assert row.receipt
    folders = both.adapter.folders
    assert not list(folders.staged(URUGI).iterdir())
    assert not list(folders.outbox("primary", URUGI).iterdir())
    assert both.relay.ministry(URUGI) == [f"{keys[0]}.jsonl"]
    verdict = Ledger(Site(both.root, "lab", "lab"), "duplicates").verify()
    assert (verdict.rows, verdict.wrong) == (10, "")


def test_what_is_sent_holds_the_text_as_it_was_registered(both: Both) -> None:
    """Selectors, the second plane, compatibility ideographs, both dashes: byte for byte (K-19)."""
    key = difference(FIRST)
    both.close(key)
    both.turn(at(FIRST))
    (path,) = (both.adapter.folders.base / "relay/ministry" / URUGI).iterdir()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines[1:-1]] == [one.text for one in records(2)]


# What the other side does.

BEHAVIOURS: dict[str, tuple[Rule, State, list[str]]] = {
    "accepts": (Rule("accept"), State.RECEIVED, []),
    "refuses": (Rule("refuse"), State.REFUSED, []),
    "cannot send": (Rule("fail"), State.SENDING_FAILED, []),
    "wants it again": (Rule("ask_again"), State.RESEND_ASKED, []),
    "delays": (Rule("delay", hours=20), State.SENT, []),
    "answers twice": (Rule("twice"), State.RECEIVED, ["twice"]),
    "answers for another municipality": (
        Rule("other_municipality"),
        State.SENT,
        ["municipality"],
    ),
    "loses it": (Rule("lose"), State.HANDED_OVER, []),
    "says another count": (Rule("other_count"), State.SENT, ["count"]),
    "says another hash": (Rule("other_hash"), State.SENT, ["hash"]),
    "answers for no row": (Rule("no_such_row"), State.SENT, ["no-row"]),
}


@pytest.mark.parametrize("what", BEHAVIOURS)
def test_whatever_it_answers(both: Both, what: str) -> None:
    """What cannot be is set aside with its reason, once, and changes nothing; then the row is late.

    The next attempt goes through, and both of them are kept.
    """
    rule, state, reasons = BEHAVIOURS[what]
    both.script = Script([Rule(**{**vars(rule), "attempt": 1})])
    key, other = difference(FIRST), difference(FIRST, code6="204021")
    both.close(key)
    both.turn(at(FIRST), [URUGI])
    assert (both.state(key), both.reasons()) == (state, reasons)
    # The same status file again, and again after everything was read anew.
    before = both.history().events
    for _ in range(2):
        both.relay.turn(at(FIRST, "18:30:00"))
        assert both.exchange(at(FIRST, "18:30:00")).recorded == 0
    assert both.history().events == before
    for answer in both.history().municipality(URUGI).quarantined:
        path = both.adapter.folders.quarantine(URUGI) / f"{answer}.json"
        assert json.loads(path.read_text(encoding="utf-8"))["reason"] in reasons
    assert both.history().municipality(other.code6).rows == {}
    if state is not State.RECEIVED:
        morning = at(SECOND, "09:00:00")
        both.exchange(morning)
        late = state in {State.SENT, State.HANDED_OVER}
        assert both.state(key) is (State.RECEIPT_LATE if late else state)
        again(both, key, morning)
        both.turn(morning)
        assert both.state(key) is State.CANCELLED
        assert both.state(key.again) is State.RECEIVED


def again(both: Both, key: Key, moment: datetime) -> None:
    """Let a row be sent once more."""
    adapter = both.adapter
    with adapter.history.alone():
        adapter.history.record(events.Resent(reason="再送", **on(key, moment)))
        adapter.extract(key.again, records(2), moment)


def test_a_receipt_that_comes_late_comes_all_the_same(both: Both) -> None:
    """The deadline passes at nine; at two in the afternoon it is there."""
    both.script = Script([Rule("delay", hours=20)])
    key = difference(FIRST)
    both.close(key)
    both.turn(at(FIRST))
    both.exchange(at(SECOND, "08:59:59"))
    assert both.state(key) is State.SENT
    both.turn(at(SECOND, "09:00:00"))
    assert both.state(key) is State.RECEIPT_LATE
    both.turn(at(SECOND, "14:00:00"))
    assert both.state(key) is State.RECEIVED


def test_an_answer_for_what_was_sent_again_is_set_aside(both: Both) -> None:
    """Both attempts came through after all; the row is received once."""
    both.script = Script([Rule("delay", attempt=1, hours=20)])
    key = difference(FIRST)
    both.close(key)
    both.turn(at(FIRST))
    both.exchange(at(SECOND, "09:00:00"))
    again(both, key, at(SECOND, "10:00:00"))
    both.turn(at(SECOND, "10:00:00"))
    both.turn(at(SECOND, "15:00:00"))
    assert both.reasons() == ["replaced"]
    assert [both.state(key), both.state(key.again)] == [State.CANCELLED, State.RECEIVED]


def test_what_the_relay_server_writes_may_be_anything(both: Both) -> None:
    """Rubbish is set aside, or waited for as a whole; the other municipalities go on."""
    keys = [difference(FIRST, code6=code6) for code6 in CODES]
    for key in keys:
        both.close(key)
    both.exchange(at(FIRST))
    both.relay.turn(at(FIRST))
    folders = both.adapter.folders
    path = folders.status("primary", URUGI)
    whole = path.read_bytes()
    for cut in (whole[:40], b"", b"[]", b'{"layout":"another","answers":[]}', b"\xff"):
        path.write_bytes(cut)
        turn = both.exchange(at(FIRST))
        assert list(turn.failed) == [URUGI]
        assert "cannot be read" in turn.failed[URUGI]
    assert [both.state(key) for key in keys] == [State.HANDED_OVER, *[State.RECEIVED] * 2]
    said = json.loads(whole)
    wrong: list[object] = [
        *(None, 7, [], {"id": "1"}, {**said["answers"][1], "count": True}),
        {**said["answers"][1], "count": -1},
        {**said["answers"][1], "what": "eaten"},
        {**said["answers"][1], "key": "../../etc/passwd"},
        {**said["answers"][1], "key": "204129-2026-02-30-difference-01"},
        {**said["answers"][1], "id": "../x"},
        {**said["answers"][1], "more": 1},
        {"id": "e", "key": said["answers"][1]["key"], "what": "refused", "error": "戸籍 太郎"},
    ]
    path.write_text(json.dumps({**said, "answers": wrong + said["answers"]}), encoding="utf-8")
    assert both.exchange(at(FIRST)).failed == {}
    assert both.reasons() == ["unreadable"] * len(wrong)
    assert both.state(keys[0]) is State.RECEIVED


def test_a_file_of_ours_that_is_gone_or_changed_does_not_go(both: Both) -> None:
    """A bit that turned over on our own disk is not sent to the ministry."""
    spoilings: list[tuple[Key, Callable[[Path], object]]] = [
        (difference(FIRST), Path.unlink),
        (difference(FIRST, code6="204021"), lambda path: path.write_bytes(b"x")),
    ]
    for key, spoil in spoilings:
        both.close(key)
        (path,) = both.adapter.folders.staged(key.code6).iterdir()
        spoil(path)
        both.turn(at(FIRST))
        assert both.state(key) is State.SENDING_FAILED
        assert both.taken(key.code6) == []


def test_what_fails_for_one_municipality_is_said_and_holds_up_no_other(both: Both) -> None:
    """As when its folder is none."""
    keys = [difference(FIRST, code6=code6) for code6 in CODES]
    for key in keys:
        both.close(key)
    outbox = both.adapter.folders.outbox("primary", URUGI)
    outbox.parent.mkdir(parents=True)
    outbox.touch()
    turn = both.exchange(at(FIRST))
    assert list(turn.failed) == [URUGI]
    both.relay.turn(at(FIRST))
    both.exchange(at(FIRST))
    assert [both.state(key) for key in keys[1:]] == [State.RECEIVED] * 2
    outbox.unlink()
    both.turn(at(FIRST))
    assert both.state(keys[0]) is State.RECEIVED
    assert len(both.taken()) == 1


def test_no_file_is_made_ready_whose_count_differs(both: Both) -> None:
    """Three were approved, two came: nothing lies where it could be handed over from."""
    key = difference(FIRST)
    adapter = both.adapter
    with adapter.history.alone():
        adapter.history.record(closed(key, 3))
        adapter.extract(key, records(2), at(FIRST))
    assert both.state(key) is State.COUNT_DIFFERS
    assert not adapter.folders.staged(URUGI).exists()


def test_characters_that_cannot_be_converted_are_listed_without_a_name(both: Both) -> None:
    """By register and code point, in a file of their own; the ledger knows code points alone."""
    key = difference(FIRST)
    adapter = both.adapter
    with adapter.history.alone():
        adapter.history.record(closed(key, 2))
        adapter.extract(
            key, [Record("00000007", "戸籍 \ue000郎"), Record("00000008", "葛󠄂〓")], at(FIRST)
        )
    assert both.state(key) is State.NOT_CONVERTIBLE
    listed = both.adapter.folders.listed(key)
    assert [(one.number, one.points) for one in listed] == [
        ("00000007", "U+E000"),
        ("00000008", "U+3013"),
    ]
    ledger = Ledger(Site(both.root, "lab", "lab"), "duplicates").path.read_text(encoding="utf-8")
    assert "U+E000" in ledger
    assert "00000007" not in ledger
    texts = [path.read_bytes() for path in both.root.rglob("*") if path.is_file()]
    assert not [text for text in texts if "戸籍 ".encode() in text or "郎".encode() in text]
    assert not both.adapter.folders.staged(URUGI).exists()
    both.turn(at(FIRST))
    assert both.taken() == []


def test_all_registers_take_the_place_of_what_was_not_received(both: Both) -> None:
    """A restore: the difference that lies in the outbox is taken back when it is given up."""
    both.script = Script(outages=[Outage(begins=str(at(FIRST)), ends=str(at(SECOND)))])
    key, every = difference(FIRST), full(FIRST)
    both.close(key)
    both.turn(at(FIRST))
    morning, adapter = at(SECOND, "09:00:00"), both.adapter
    both.exchange(morning)
    with adapter.history.alone():
        for event in (
            events.FullForced(
                code6=URUGI, at=morning, by="sousa01", cause=Cause.RESTORE, reason="復元"
            ),
            closed(every, 5, morning),
            events.GivenUp(reason="全件", full=FIRST, full_attempt=1, **on(key, morning)),
        ):
            adapter.history.record(event)
        adapter.extract(every, records(5), morning)
    both.exchange(morning)
    assert [path.name for path in adapter.folders.outbox("primary", URUGI).iterdir()] == [
        f"{every}.jsonl"
    ]
    both.turn(at(SECOND))
    assert both.taken() == [f"{every}.jsonl"]
    assert (both.state(key), both.state(every)) == (State.CANCELLED, State.RECEIVED)
    assert both.history().municipality(URUGI).forced is None


def test_the_other_box_takes_over(both: Both) -> None:
    """正 is down: what it has not taken goes to 副; what it has taken is not sent a second time."""
    keys = [difference(FIRST, code6=code6) for code6 in CODES[:2]]
    both.script = Script([Rule("delay", hours=3)])
    both.close(keys[0])
    both.turn(at(FIRST))
    both.script = Script(
        outages=[Outage(str(at(FIRST, "18:30:00")), str(at(SECOND, "12:00:00")), "primary")]
    )
    both.close(keys[1])
    both.turn(at(FIRST, "19:00:00"))
    assert both.state(keys[1]) is State.HANDED_OVER
    both.box = "secondary"
    both.turn(at(FIRST, "20:00:00"))
    assert both.state(keys[1]) is State.RECEIVED
    assert both.state(keys[0]) is State.SENT
    both.turn(at(SECOND, "13:00:00"))
    assert both.state(keys[0]) is State.RECEIVED
    assert [len(both.taken(key.code6)) for key in keys] == [1, 1]


def test_totals_come_from_both_sides(both: Both) -> None:
    """The receiver's stand in its status file; where it says nothing, nothing is known."""
    totals = {"戸籍": 10, "除籍": 5, "改製原": 7}
    both.script = Script(totals={URUGI: {"2026-10": totals}})
    both.relay.turn(at(FIRST))
    adapter = both.adapter
    with adapter.history.alone():
        for code6 in CODES[:2]:
            adapter.compare(code6, Month(2026, 10), totals, at(FIRST))
    history = both.history()
    assert history.municipality(URUGI).comparisons[Month(2026, 10)].differing == []
    assert history.municipality("204021").comparisons[Month(2026, 10)].theirs is None


# Ten days, as in March 2024.


def test_ten_days_of_outage_and_the_way_out_of_it_in_order(both: Both) -> None:
    """Every day is alarmed, one file waits outside, and afterwards all go, the oldest first."""
    begins, ends = date(2024, 3, 1), date(2024, 3, 11)
    both.script = Script(outages=[Outage(str(at(begins, "00:00:00")), str(at(ends, "10:00:00")))])
    business = days(7, begins)
    for day in business:
        for number, code6 in enumerate(CODES):
            key = difference(day, code6=code6)
            both.close(key, number)
        both.turn(at(day))
        if day < ends:
            assert {both.state(difference(begins, code6=code6)) for code6 in CODES} < {
                State.HANDED_OVER,
                State.RECEIPT_LATE,
            }
            assert both.taken() == []
    outbox = both.adapter.folders.outbox("primary", URUGI)
    for number in range(len(business)):
        assert len(list(outbox.iterdir())) <= 1
        both.turn(at(ends, f"19:{number:02}:00"))
    history = both.history()
    for code6 in CODES:
        rows = history.municipality(code6).rows.values()
        assert {row.state for row in rows} <= STATES_FINAL
        # As they arrived: in the order of the days, each of them once.
        assert both.taken(code6) == [f"{row.key}.jsonl" for row in rows]
        assert [row.ended_at for row in rows] == sorted(row.ended_at or at(ends) for row in rows)
    # What was recorded says which days were late.
    late = {event.day for event in history.events if isinstance(event, events.Overdue)}
    assert late == set(business[:-1])
    assert all(
        row.ended_at and row.ended_at > history.policy.deadline(row)
        for row in history.municipality(URUGI).rows.values()
        if row.key.day < business[-2]
    )


# Exactly once.


def prepared(memory: Path, upto: Callable[[Both], None]) -> Path:
    """Return a folder in which everything was done that comes before what is killed."""
    folder = memory / "prepared"
    upto(Both(folder))
    return folder


def killed_everywhere(
    memory: Path, before: Callable[[Both], None], work: Callable[[Both], object]
) -> int:
    """Kill the work before each of its calls to the system; then let both sides go on.

    Returns how often it was killed. Each time the file was taken once, and counts once. What a kill
    after a call leaves is what one before the next call leaves.
    """
    template, key = prepared(memory, before), difference(FIRST)
    for call in range(1, MOST_CALLS):
        both = Both(memory / str(call))
        shutil.copytree(template, both.root)
        code = dying(call, False, lambda: work(both))  # noqa: B023, FBT003 - called now; before
        assert code in {0, KILLED}
        # The other side looks at once, before ours has come back.
        both.relay.turn(at(FIRST, "18:01:00"))
        finish(both, key)
        assert both.taken() == both.relay.ministry(URUGI) == [f"{key}.jsonl"]
        history = both.history()
        municipality, happened = history.municipality(URUGI), history.of_row(key)
        assert municipality.rows[key].state is State.RECEIVED
        assert len(happened) == len({type(event) for event, _ in happened})
        assert not municipality.quarantined
        assert Ledger(Site(both.root, "lab", "lab"), "duplicates").verify().wrong == ""
        if code == 0:
            return call - 1
    pytest.fail("it was never done")


def finish(both: Both, key: Key) -> None:
    """Do all that is left to do, as the next run does it."""
    municipality = both.history().municipality(URUGI)
    if key not in municipality.rows:
        both.close(key)
    elif municipality.rows[key].state is State.NOT_EXTRACTED:
        adapter = both.adapter
        with adapter.history.alone():
            adapter.extract(key, records(2), at(FIRST))
    both.turn(at(FIRST, "18:02:00"), [URUGI])


def test_a_file_is_taken_once_wherever_the_sender_is_killed(memory: Path) -> None:
    """At every call of closing, extracting, handing over; and of taking the answers."""
    key = difference(FIRST)

    def send(both: Both) -> None:
        both.close(key)
        both.exchange(at(FIRST), [URUGI])

    def sent(both: Both) -> None:
        send(both)
        both.relay.turn(at(FIRST))

    # The site's key is made once, when something is recorded first.
    def begun(both: Both) -> None:
        other = difference(FIRST, code6="204021")
        adapter = both.adapter
        with adapter.history.alone():
            adapter.history.record(closed(other))

    kills = killed_everywhere(memory / "send", begun, send)
    kills += killed_everywhere(
        memory / "take", sent, lambda both: both.exchange(at(FIRST), [URUGI])
    )
    # A few calls more or less are another way to write; half of them would be a test of nothing.
    assert kills >= 75


def test_a_file_is_received_once_wherever_the_receiver_is_killed(memory: Path) -> None:
    """At every call of taking it, of bringing it to the ministry, of saying so."""

    def handed(both: Both) -> None:
        both.close(difference(FIRST))
        both.exchange(at(FIRST), [URUGI])

    assert killed_everywhere(memory, handed, lambda both: both.relay.turn(at(FIRST))) >= 25


def test_an_answer_is_set_aside_once_wherever_we_are_killed(memory: Path) -> None:
    """The file with its reason, and the event, whichever of them was there."""
    template = prepared(memory, wrongly_answered)
    for call in range(1, MOST_CALLS):
        both = Both(memory / str(call))
        shutil.copytree(template, both.root)
        code = dying(call, False, lambda: both.exchange(at(FIRST), [URUGI]))  # noqa: B023, FBT003 - as above
        both.exchange(at(FIRST), [URUGI])
        assert both.reasons() == ["count"]
        history = both.history()
        assert sum(isinstance(event, Quarantined) for event in history.events) == 1
        assert len(list(both.adapter.folders.quarantine(URUGI).glob("*.json"))) == 1
        if code == 0:
            return
    pytest.fail("it was never done")


def wrongly_answered(both: Both) -> None:
    """Let the relay server say another count."""
    both.script = Script([Rule("other_count")])
    both.close(difference(FIRST))
    both.exchange(at(FIRST), [URUGI])
    both.relay.turn(at(FIRST))


# A process of its own.


def started(base: Path, script: Path) -> subprocess.Popen[str]:
    """Start the stand-in; it takes a turn at each moment that it is told."""
    return subprocess.Popen(
        [sys.executable, "-m", "koseki_ops.lab.stand_in_relay", str(base), "--script", str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str], moment: datetime) -> None:
    """Let it take a turn, and wait for it."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{moment.isoformat()}\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def test_the_stand_in_is_a_process_that_may_be_killed(both: Both) -> None:
    """With a script of its own; after a kill it goes on from its folders."""
    script = both.root / "script.json"
    script.write_text(
        json.dumps({"rules": [{"does": "refuse", "municipality": "204021"}]}), encoding="utf-8"
    )
    keys = [difference(FIRST, code6=code6) for code6 in CODES[:2]]
    for key in keys:
        both.close(key)
    both.exchange(at(FIRST))
    process = started(both.adapter.folders.base, script)
    told(process, at(FIRST))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    both.exchange(at(FIRST))
    assert [both.state(key) for key in keys] == [State.RECEIVED, State.REFUSED]
    both.close(difference(SECOND))
    both.exchange(at(SECOND))
    process = started(both.adapter.folders.base, script)
    told(process, at(SECOND))
    process.communicate("")
    assert process.returncode == 0
    both.exchange(at(SECOND))
    assert both.state(difference(SECOND)) is State.RECEIVED
    assert len(both.taken()) == 2


def test_a_script_that_names_nothing_known_is_refused(tmp_path: Path) -> None:
    """A stand-in that silently accepts would prove nothing."""
    script = tmp_path / "script.json"
    for said in ('{"rules": [{"does": "eat"}]}', '{"rules": [{"dose": "refuse"}]}', "[]", "no"):
        script.write_text(said, encoding="utf-8")
        with pytest.raises((ValueError, TypeError, AttributeError)):
            Script.load(script)


def test_moments_are_in_japan() -> None:
    """The samples' own: at eighteen hours there."""
    assert at(THIRD).isoformat() == "2026-11-11T18:00:00+09:00"
    assert Folders(Path("x")).outbox("primary", URUGI) == Path(f"x/relay/primary/outbox/{URUGI}")
    assert str(ZONE) == "Asia/Tokyo"
