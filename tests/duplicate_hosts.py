"""A host that sends a municipality's duplicates, the relay server beside it, and deaths of both."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from duplicate_samples import URUGI, at, days
from duplicate_sender import REGISTER, FileRegister, write_settings
from koseki_duplicate.commands import answer, arguments
from koseki_duplicate.settings import Settings
from koseki_duplicate.transmission import MOST_DAYS, Transmission
from koseki_ops.duplicates import events
from koseki_ops.duplicates.adapter import BOXES
from koseki_ops.duplicates.journal import Journal
from koseki_ops.duplicates.layout import StandIn
from koseki_ops.duplicates.model import Key, State
from koseki_ops.lab.stand_in_relay import Relay, Script

SLUG = "urugi"


@dataclass
class Host:
    """One municipality's transmission, its register and the relay server, below one folder."""

    root: Path
    script: Script = field(default_factory=Script)
    slug: str = SLUG
    code6: str = URUGI

    def __post_init__(self) -> None:
        """Write settings, and a register with nothing in it."""
        self.base.mkdir(parents=True, exist_ok=True)
        if not self.settings_path.exists():
            write_settings(self.settings_path, self.root, {self.slug: self.code6})
            self.registered(days={})

    @property
    def base(self) -> Path:
        """The municipality's folder."""
        return self.root / self.slug

    @property
    def settings_path(self) -> Path:
        """What the role writes."""
        return self.root / "duplicate.json"

    @property
    def settings(self) -> Settings:
        """The same, read."""
        return Settings.read(self.settings_path, self.slug)

    @property
    def relay(self) -> Relay:
        """The other side."""
        return Relay(self.base, self.script)

    def registered(self, **held: Any) -> None:  # noqa: ANN401 - as FileRegister reads it
        """Say what the register holds."""
        totals = {"戸籍": 3, "除籍": 2, "改製原": 1}
        told = {"registers": 5, "totals": totals, **held}
        (self.base / REGISTER).write_text(json.dumps(told), encoding="utf-8")

    def transmission(self, moment: datetime) -> Transmission:
        """Return the transmission at a moment, which knows nothing but its journal."""
        settings = self.settings
        journal = Journal(settings.folder, settings.policy)
        return Transmission(
            settings, journal, FileRegister(self.base / REGISTER), StandIn(), moment
        )

    def turn(self, moment: datetime, most: int = MOST_DAYS) -> list[str]:
        """Take a turn on our side; return what could not be done."""
        transmission = self.transmission(moment)
        transmission.turn(most)
        return transmission.notes

    def both(self, moment: datetime) -> list[str]:
        """Take a turn on our side, on the other, and on ours."""
        notes = self.turn(moment)
        self.relay.turn(moment)
        return notes + self.turn(moment)

    def asked(self, moment: datetime, *words: str) -> tuple[int, str]:
        """Ask the program's door; return its exit code and what it printed."""
        given = arguments([str(self.settings_path), self.slug, *words])
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = answer(given, self.settings, FileRegister(self.base / REGISTER), moment)
        return code, out.getvalue()

    def journal(self) -> Journal:
        """Return the journal, read anew: KosekiError when it does not hold."""
        settings = self.settings
        journal = Journal(settings.folder, settings.policy)
        journal.read()
        return journal

    def states(self) -> dict[Key, State]:
        """Return where each row stands."""
        rows = self.journal().municipality(self.code6).rows
        return {key: row.state for key, row in rows.items()}

    def reasons(self) -> list[str]:
        """Return why answers were set aside."""
        return list(self.journal().municipality(self.code6).quarantined.values())

    def taken(self) -> list[str]:
        """Return what the relay server took, both boxes, in order."""
        found = [one for box in BOXES for one in self.relay.taken(box, self.code6)]
        return [one.name for one in sorted(found, key=lambda one: (one.at, one.name))]


def forked(work: Callable[[], object]) -> int:
    """Do work in a process of its own; return its id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:  # noqa: BLE001 - this process ends here, whatever it was
        os._exit(1)
    os._exit(0)


def ended(child: int) -> int:
    """Wait for a process; return its exit code, or its signal below zero."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def limited(length: int, work: Callable[[], object]) -> int:
    """Do work in a process that can write no file longer than this; return its exit code."""

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (length, length))
        work()

    return ended(forked(bounded))


def kill(host: Host, count: int, chosen: random.Random) -> dict[str, int]:
    """Let both sides work beside each other, and kill one of them at a random moment, so often.

    A business day passes with every fourth death. Return how often which side died; AssertionError
    when either ended by itself with an error.
    """
    died = {"sender": 0, "receiver": 0}
    business = days(count // 4 + 2)
    host.registered(days={str(day): number % 4 for number, day in enumerate(business)})
    while (deaths := sum(died.values())) < count:
        moment = at(business[deaths // 4])
        sides = {
            "sender": forked(lambda: [host.turn(moment) for _ in range(3)]),  # noqa: B023 - now
            "receiver": forked(lambda: _turns(host, moment)),  # noqa: B023
        }
        victim = chosen.choice(sorted(sides))
        time.sleep(chosen.uniform(0, 0.03))
        os.kill(sides[victim], signal.SIGKILL)
        codes = {side: ended(child) for side, child in sides.items()}
        other = next(side for side in sides if side != victim)
        assert codes[other] == 0, f"the {other} ended with {codes[other]}"
        assert codes[victim] in {0, -signal.SIGKILL}
        died[victim] += codes[victim] != 0
    # Whoever comes next finishes, day by day: of a municipality one row is under way at a time.
    for number in range(len(business) + 2):
        notes = host.both(at(business[-1]) + timedelta(minutes=number))
        assert not notes, notes
    return died


def _turns(host: Host, moment: datetime) -> None:
    """Take turns on the other side."""
    for _number in range(6):
        host.relay.turn(moment)


def held_once(host: Host) -> int:
    """Hold that every business day was sent and received once and in order; return how many."""
    journal = host.journal()
    rows = journal.municipality(host.code6).rows
    names = [f"{key}.jsonl" for key in rows]
    assert host.taken() == names
    assert host.relay.ministry(host.code6) == sorted(names)
    assert {row.state for row in rows.values()} <= {State.RECEIVED, State.EMPTY_CONFIRMED}
    assert [key.day for key in rows] == days(len(rows), next(iter(rows)).day)
    told = [
        (type(event), event.key)
        for event in journal.events
        if isinstance(event, events.RowEvent) and not isinstance(event, events.Overdue)
    ]
    assert len(told) == len(set(told)) == 5 * len(rows)
    assert not host.reasons()
    return len(rows)


def main() -> None:
    """Kill as often as is told, and say what came of it: python -m duplicate_hosts COUNT [SEED]."""
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 1
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        host, begun = Host(Path(folder)), time.monotonic()
        died = kill(host, count, random.Random(seed))  # noqa: S311 - a draw of moments
        print(f"{died}, {held_once(host)} days once and in order, {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
