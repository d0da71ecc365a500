"""The municipalities' counters at work: each on its own line, with its own certificate.

A program of its own, so that who measures is not slowed down by who asks. It is told what to do as
JSON (`Work`) and prints JSON (`Seen`) when its time is up or it is asked to end (SIGTERM).
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from koseki_ops.lab.lab import Lab

HEALTH, SEARCH, CERTIFICATE = "health", "search", "certificate"
KANA = ("あお", "いし", "かつ", "きた", "さか", "たき", "にし", "はな", "まつ", "ゆき")
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
# The first registers of a town hold what no font can print: their certificates are refused.
PRINTABLE = 20
PATIENCE = 60


@dataclass(frozen=True)
class Work:
    """What the counters do. namespaces: by municipality; keys: folder of the terminals' keys.

    each: seconds between two questions of one counter, 0: as soon as it was answered; seconds: when
    to end, 0: when asked to; afresh: whether each question comes over a new connection.
    """

    what: str
    namespaces: Mapping[str, str]
    keys: str
    authority: str
    address: str
    each: float = 0.0
    seconds: float = 0.0
    registers: int = PRINTABLE
    afresh: bool = False


@dataclass
class Seen:
    """What came back: how long each good answer took (seconds), and what else, by municipality."""

    took: list[float] = field(default_factory=list)
    wrong: dict[str, dict[str, int]] = field(default_factory=dict)
    asked: int = 0
    elapsed: float = 0.0

    def percentile(self, share: float) -> float:
        """Return the time within which this share (0 to 1) of the good answers came, in seconds."""
        ordered = sorted(self.took)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Terminal:
    """One terminal of a municipality: its certificate, and a connection that is kept."""

    def __init__(self, work: Work, slug: str) -> None:
        """Read the terminal's key."""
        self.work, self.slug = work, slug
        self.context = ssl.create_default_context(cafile=work.authority)
        key = f"{work.keys}/{slug}-01"
        self.context.load_cert_chain(f"{key}.crt", f"{key}.key")
        self.connection: http.client.HTTPSConnection | None = None

    def ask(self, number: int) -> int:
        """Ask the gateway once; return the status."""
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(
                self.work.address, timeout=PATIENCE, context=self.context
            )
        match self.work.what:
            case "search":
                self.connection.request("GET", f"/?kana={quote(KANA[number % len(KANA)])}")
            case "certificate":
                register = PRINTABLE + number % max(1, self.work.registers - PRINTABLE)
                self.connection.request(
                    "POST",
                    f"/registers/{register}/certificates",
                    f"operator={quote('操作者一')}",
                    FORM,
                )
            case _:
                self.connection.request("GET", "/health")
        answer = self.connection.getresponse()
        answer.read()
        if self.work.afresh:
            self.close()
        return answer.status

    def close(self) -> None:
        """Forget the connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def stand(work: Work, slug: str, begin: float, stop: threading.Event, seen: Seen) -> None:
    """Be one counter, until the time is up; in a thread, which alone enters the namespace."""
    with Path("/run/netns", work.namespaces[slug]).open(encoding="ascii") as line:
        os.setns(line.fileno(), os.CLONE_NEWNET)
    terminal, wrong = Terminal(work, slug), Tally[str]()
    place = list(work.namespaces).index(slug) / len(work.namespaces)
    for number in itertools.count():
        due = begin + (number + place) * work.each if work.each else 0.0
        stop.wait(max(0.0, due - time.monotonic()))
        if stop.is_set():
            break
        begun = time.monotonic()
        try:
            status = terminal.ask(number)
        except (OSError, http.client.HTTPException) as error:
            terminal.close()
            wrong[type(error).__name__] += 1
            continue
        finally:
            seen.asked += 1
        if status == http.client.OK:
            # From when it was due: who waits for the one before waits, too.
            seen.took.append(time.monotonic() - (due or begun))
        else:
            wrong[str(status)] += 1
    if wrong:
        seen.wrong[slug] = dict(wrong)


def main() -> None:
    """Let all counters work, and say what they saw."""
    work, stop, seen = Work(**json.loads(sys.argv[1])), threading.Event(), Seen()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    begin = time.monotonic()
    counters = [
        threading.Thread(target=stand, args=(work, slug, begin, stop, seen))
        for slug in work.namespaces
    ]
    for counter in counters:
        counter.start()
    stop.wait(work.seconds or None)
    stop.set()
    for counter in counters:
        counter.join()
    seen.elapsed = time.monotonic() - begin
    print(json.dumps(asdict(seen)))


# The other side: who starts it.


def _work(lab: Lab, what: str, without: Sequence[str], values: Mapping[str, Any]) -> Work:
    from koseki_ops.trust.terminals import stand_ins_of  # noqa: PLC0415 - the program does without

    platform = lab.inventory.platform
    (host, *_) = lab.inventory.hosts_in("application")
    slugs = [row.slug for row in platform.municipalities]
    return Work(
        what,
        {slug: lab.network.counter(slug).netns for slug in slugs if slug not in without},
        str(stand_ins_of(lab.site)),
        str(lab.site.state / "pki/ca.crt"),
        str(platform.host_addresses[host].city),
        **values,
    )


def _start(work: Work) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", __name__, json.dumps(asdict(work))]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def work(lab: Lab, what: str, **values: Any) -> Seen:  # noqa: ANN401 - as `Work` has them
    """Let every counter of a lab work for some time; see `Work` for the values."""
    with _start(_work(lab, what, (), values)) as process:
        output, _ = process.communicate()
    return Seen(**json.loads(output))


@contextlib.contextmanager
def at_work(
    lab: Lab,
    what: str = HEALTH,
    without: Sequence[str] = (),
    **values: Any,  # noqa: ANN401 - as `Work` has them
) -> Iterator[Seen]:
    """Let the counters of a lab work meanwhile; what they saw is filled in at the end.

    without: municipalities that do not take part.
    """
    seen = Seen()
    with _start(_work(lab, what, without, values)) as process:
        try:
            yield seen
        finally:
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate()
    vars(seen).update(json.loads(output))


if __name__ == "__main__":
    main()
