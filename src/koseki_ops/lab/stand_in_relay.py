"""A stand-in for the ministry's relay server (戸籍事務内連携サーバー), 正 and 副: files in folders.

It takes files out of the outboxes of `koseki_ops.duplicates.adapter.Folders` and writes a status
file for each municipality. What it does with which file is said by a script, and when by a clock
that is given to it: the same script and the same moments are the same answers. A program of its
own: it takes a turn at each moment that it reads from standard input, or every so many seconds by
the machine's clock.

    python -m koseki_ops.lab.stand_in_relay FOLDER… --script script.json [--every 5]

Whenever it is killed, it goes on: a file is taken by moving it, and what it says is made anew in
each turn from what it has taken.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from koseki_ops.core.files import create_private, move, write_atomic
from koseki_ops.duplicates.adapter import BOXES, Folders
from koseki_ops.duplicates.layout import StandIn
from koseki_ops.duplicates.model import Key
from koseki_ops.plan.model import check_digit

ACCEPT = "accept"
DOES = (
    ACCEPT,
    "refuse",
    "fail",
    "ask_again",
    "delay",
    "twice",
    "other_municipality",
    "lose",
    "other_count",
    "other_hash",
    "no_such_row",
)
STAMP = "%Y%m%dT%H%M%S%z"


@dataclass(frozen=True)
class Rule:
    """What is done with the files that it names; what it leaves out is meant of any.

    hours: how long a delayed receipt takes.
    """

    does: str
    municipality: str | None = None
    day: str | None = None
    kind: str | None = None
    attempt: int | None = None
    hours: int = 0

    def __post_init__(self) -> None:
        """Refuse what nobody here can do."""
        if self.does not in DOES:
            raise ValueError(f"{self.does}: choose one of {', '.join(DOES)}")

    def is_for(self, key: Key) -> bool:
        """Say whether a file is meant."""
        meant = (self.municipality, self.day, self.kind, self.attempt)
        there = (key.code6, key.day.isoformat(), key.kind, key.attempt)
        return all(one in {None, other} for one, other in zip(meant, there, strict=True))


@dataclass(frozen=True)
class Outage:
    """From when until when a box, or both of them, is down (ISO moments with their zone)."""

    begins: str
    ends: str
    box: str | None = None

    def is_on(self, box: str, now: datetime) -> bool:
        """Say whether a box is down."""
        begins, ends = map(datetime.fromisoformat, (self.begins, self.ends))
        return self.box in {None, box} and begins <= now < ends


@dataclass(frozen=True)
class Script:
    """What the stand-in does. totals: by municipality and month, as the receiver counts them."""

    rules: Sequence[Rule] = ()
    outages: Sequence[Outage] = ()
    totals: Mapping[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> Script:
        """Return the script of a file; ValueError or TypeError for what is none."""
        script = json.loads(path.read_bytes())
        return cls(
            [Rule(**row) for row in script.get("rules", ())],
            [Outage(**row) for row in script.get("outages", ())],
            script.get("totals", {}),
        )

    def rule_for(self, key: Key) -> Rule:
        """Return the first rule that is meant; without one a file is accepted."""
        return next((rule for rule in self.rules if rule.is_for(key)), Rule(ACCEPT))


@dataclass(frozen=True)
class Taken:
    """A file that a box has taken: when, which row, where it lies now."""

    at: datetime
    key: Key
    path: Path

    @property
    def name(self) -> str:
        """What the file was called in the outbox."""
        return self.path.name.partition("~")[2]


@dataclass(frozen=True)
class Relay:
    """Both boxes. base: the folder that holds `relay/`."""

    base: Path
    script: Script = field(default_factory=Script)
    layout: StandIn = field(default_factory=StandIn)

    def turn(self, now: datetime) -> None:
        """Take what is there and say what there is to say, on each box that is up."""
        for box in BOXES:
            if not any(outage.is_on(box, now) for outage in self.script.outages):
                self._take(box, now)
                self._write_status(box, now)

    def taken(self, box: str, code6: str) -> list[Taken]:
        """Return what a box has taken of a municipality, in the order in which it did."""
        return [
            Taken(datetime.fromisoformat(stamp), key, path)
            for path in sorted(self._folder(box, "taken", code6).glob("*~*"))
            for stamp, _, name in [path.name.partition("~")]
            if (key := self.layout.key_of(name))
        ]

    def ministry(self, code6: str) -> list[str]:
        """Return the names of what has come to the ministry from a municipality."""
        return sorted(path.name for path in (self.base / "relay/ministry" / code6).glob("*"))

    def _folder(self, box: str, what: str, code6: str) -> Path:
        return self.base / "relay" / box / what / code6

    def _take(self, box: str, now: datetime) -> None:
        for path in sorted(self._folder(box, "outbox", "").glob("*/*")):
            if self.layout.key_of(path.name):
                taken = self._folder(box, "taken", path.parent.name)
                move(path, taken / f"{now.strftime(STAMP)}~{path.name}")

    def _write_status(self, box: str, now: datetime) -> None:
        names = {path.name for path in self._folder(box, "taken", "").glob("*")}
        for code6 in sorted(names | set(self.script.totals)):
            rows = [row for one in self.taken(box, code6) for row in self._answers(box, one, now)]
            status = {
                "layout": self.layout.version,
                "answers": rows,
                "totals": self.script.totals.get(code6, {}),
            }
            write_atomic(Folders(self.base).status(box, code6), json.dumps(status) + "\n")

    def _answers(self, box: str, one: Taken, now: datetime) -> Iterator[dict[str, Any]]:
        """Yield what is said of a file, by its rule; what is received comes to the ministry."""
        rule, content = self.script.rule_for(one.key), one.path.read_bytes()
        count = self.layout.count(content)
        if count is None and rule.does == ACCEPT:
            rule = replace(rule, does="refuse")
        number = f"{box[0].upper()}-{one.at:%Y%m%dT%H%M%S}-{one.key}"
        status = {"key": str(one.key)}
        if rule.does == "lose":
            return
        if rule.does == "fail":
            yield {"id": f"{number}-1", "what": "failed", "error": "E-LINE", **status}
            return
        yield {"id": f"{number}-1", "what": "sent", **status}
        if rule.does in {"refuse", "ask_again"}:
            what = "refused" if rule.does == "refuse" else "resend"
            yield {"id": f"{number}-2", "what": what, "error": "E-CONTENT", **status}
            return
        if now < one.at + timedelta(hours=rule.hours):
            return
        create_private(self.base / "relay/ministry" / one.key.code6 / one.name, content)
        received = {
            "id": f"{number}-2",
            "what": "received",
            "count": count,
            "sha256": sha256(content).hexdigest(),
            "receipt": number,
            **status,
        }
        yield received | _altered(rule.does, one.key, received)
        if rule.does == "twice":
            yield received | {"id": f"{number}-3", "receipt": f"{number}-again"}


def _altered(does: str, key: Key, received: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a rule says otherwise than it is."""
    if does == "other_count":
        return {"count": received["count"] + 1}
    if does == "other_hash":
        return {"sha256": "0" * 64}
    if does == "no_such_row":
        return {"key": str(replace(key, attempt=99))}
    if does == "other_municipality":
        code5 = f"{(int(key.code6[:5]) + 1):05}"
        return {"key": str(replace(key, code6=code5 + check_digit(code5)))}
    return {}


def main() -> None:
    """Take turns until standard input ends, or for ever."""
    parser = argparse.ArgumentParser(description="A stand-in for the ministry's relay server.")
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="what holds relay/: of all municipalities, or of one on a host that sends",
    )
    parser.add_argument("--script", type=Path, help="what it does (default: it accepts)")
    parser.add_argument("--every", type=float, help="a turn every so many seconds")
    options = parser.parse_args()
    script = Script.load(options.script) if options.script else Script()
    relays = [Relay(folder, script) for folder in options.folders]
    for now in _moments(options.every):
        for relay in relays:
            relay.turn(now)
        if not options.every:
            print("done", flush=True)


def _moments(every: float | None) -> Iterator[datetime]:
    """Yield the moments of turns: every so many seconds now, or as standard input says them."""
    while every:
        yield datetime.now().astimezone()
        time.sleep(every)
    for line in sys.stdin:
        yield datetime.fromisoformat(line.strip())


if __name__ == "__main__":
    main()
