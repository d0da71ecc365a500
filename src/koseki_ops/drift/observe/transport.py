"""Ask every host at once: one command over one connection each, bounded in time and bytes."""

from __future__ import annotations

import math
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from koseki_ops.core.foreign import tar_files
from koseki_ops.core.formatting import in_short
from koseki_ops.drift.observe.probe import CONTENTS, contents_question, fetching, sessions_in
from koseki_ops.plan.site import Site
from koseki_ops.remote.run import argv

# A host that has not finished by then is not verified; the others do not wait for it longer.
HOST_SECONDS = 30.0
# A host answers some hundred kilobytes; one that sends without end is cut off here. Read, it takes
# some twenty times as much memory, and the watch has a gigabyte.
ANSWER_BYTES = 16 << 20
ERROR_BYTES = 256 << 10
CHUNK = 1 << 18
# How much later than this side a host ends by itself what this side has forgotten, in seconds.
FORGOTTEN_SECONDS = 10
# Between the end of an answer and the end of the program that gave it.
END_SECONDS = 2.0
# As much is said of why a host did not answer.
SHOWN_LENGTH = 300
# ssh's exit code when it is the connection that failed.
SSH_FAILED = 255


@dataclass(frozen=True)
class Bounds:
    """How long a host may take (seconds) and how much it may say (bytes)."""

    seconds: float = HOST_SECONDS
    answer: int = ANSWER_BYTES
    errors: int = ERROR_BYTES

    @property
    def patience(self) -> int:
        """How many times as long as usual a host's parts may take."""
        return max(1, math.ceil(self.seconds / HOST_SECONDS))

    @property
    def host_seconds(self) -> float:
        """When a host ends by itself what this side has forgotten."""
        return self.seconds + FORGOTTEN_SECONDS

    def command(self, site: Site) -> tuple[str, ...]:
        """Return what takes the program on a host: at low priority, and for so long at most.

        The watch names none: whatever it names, one program answers (`koseki-inspect`).
        """
        if site.watch_host:
            return ()
        return ("sudo", "-n", "timeout", f"{self.host_seconds:.0f}", "nice", "-n", "10", "sh")


BOUNDS = Bounds()


@dataclass
class Reply:
    """What came from one host; unreachable_reason: why it is no whole answer, empty when it is.

    asked_at, answered_at: this machine's clock (seconds since the epoch).
    """

    host: str
    out: bytes = b""
    err: bytes = b""
    unreachable_reason: str = ""
    asked_at: float = 0.0
    answered_at: float = 0.0

    @property
    def seconds(self) -> float:
        """From the question to the end of the answer."""
        return max(0.0, self.answered_at - self.asked_at)


@dataclass
class _Talk:
    """One running ssh: what is left to send, what has come."""

    host: str
    process: subprocess.Popen[bytes]
    pending: memoryview
    asked_at: float
    out: list[bytes] = field(default_factory=list)
    err: list[bytes] = field(default_factory=list)
    received: int = 0
    complained: int = 0

    def write(self) -> bool:
        """Send on; return whether everything is sent, or nobody reads any more."""
        stdin = self.process.stdin
        assert stdin is not None  # noqa: S101 - it was asked for as a pipe
        try:
            sent = os.write(stdin.fileno(), self.pending[:CHUNK])
        except BrokenPipeError:
            sent = len(self.pending)
        self.pending = self.pending[sent:]
        return not self.pending

    def reply(self, unreachable_reason: str = "") -> Reply:
        """End it and return what it said."""
        if unreachable_reason:
            self.process.kill()
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
            unreachable_reason = "its answer ended, but its program did not"
        errors = self.process.stderr
        if errors is not None and not unreachable_reason:
            # The master connection keeps this end open: what is there is taken, no end is awaited.
            self.hear_errors()
        err = b"".join(self.err)
        if not unreachable_reason and code:
            complaints = err.decode(errors="backslashreplace").splitlines()
            # The probe's own marks say nothing of why the line broke.
            lines = [line for line in complaints if line.strip() and not line.startswith("@")]
            known = "it shows another host key than its own" if _strange_key(lines) else ""
            # The first line is the network's own word; later ones say what ssh made of it.
            unreachable_reason = known or (lines[0] if code == SSH_FAILED and lines else "")
            unreachable_reason = (
                unreachable_reason or f"the probe ended with exit {code} {' '.join(lines[-1:])}"
            )
            unreachable_reason = in_short(unreachable_reason, SHOWN_LENGTH)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                _close(stream)
        return Reply(
            self.host, b"".join(self.out), err, unreachable_reason, self.asked_at, time.time()
        )

    def hear(self) -> bool:
        """Take what it says; return whether that was the end."""
        chunk = os.read(self.process.stdout.fileno(), CHUNK) if self.process.stdout else b""
        self.received += len(chunk)
        self.out.append(chunk)
        return not chunk

    def hear_errors(self) -> bool:
        """Take what it complains of, up to a bound; return whether that was the end."""
        try:
            chunk = os.read(self.process.stderr.fileno(), CHUNK) if self.process.stderr else b""
        except BlockingIOError:
            return False
        if self.complained < ERROR_BYTES:
            self.err.append(chunk[: ERROR_BYTES - self.complained])
        self.complained += len(chunk)
        return not chunk


def _strange_key(lines: list[str]) -> bool:
    return any("Host key verification failed" in line or "host key" in line for line in lines)


def _close(stream: object) -> None:
    try:
        stream.close()  # type: ignore[attr-defined]
    except BrokenPipeError:
        # What was still to be sent is not wanted any more: the descriptor is closed all the same.
        return


class _Round:
    """All hosts asked at once, heard in one loop."""

    def __init__(self, bounds: Bounds, ready: Callable[[Reply], None]) -> None:
        """Start with nobody asked."""
        self.bounds, self.ready = bounds, ready
        self.talks: dict[str, _Talk] = {}
        self.replies: dict[str, Reply] = {}
        self.selector = selectors.DefaultSelector()

    def begin(self, site: Site, host: str, program: str, command: Iterable[str]) -> None:
        """Start one host's ssh."""
        started = argv(site, host, *command)
        pipe = subprocess.PIPE
        process = subprocess.Popen(started, stdin=pipe, stdout=pipe, stderr=pipe)
        talk = _Talk(host, process, memoryview(program.encode()), time.time())
        self.talks[host] = talk
        for stream, event, act in (
            (process.stdin, selectors.EVENT_WRITE, "write"),
            (process.stdout, selectors.EVENT_READ, "hear"),
            (process.stderr, selectors.EVENT_READ, "errors"),
        ):
            assert stream is not None  # noqa: S101 - all three were asked for as pipes
            os.set_blocking(stream.fileno(), False)
            self.selector.register(stream, event, (talk, act))
        # A program fits into the pipe: it is on its way before anybody is heard.
        self._act(talk, "write", process.stdin)

    def hear(self) -> None:
        """Hear all until the last has ended or the time is up."""
        end = time.monotonic() + self.bounds.seconds
        while self.talks and (left := end - time.monotonic()) > 0:
            for key, _ in self.selector.select(left):
                talk, act = key.data
                if talk.host in self.talks:
                    self._act(talk, act, key.fileobj)
        for talk in list(self.talks.values()):
            self._finish(talk, f"no whole answer within {self.bounds.seconds:.0f} s")

    def _act(self, talk: _Talk, act: str, stream: Any) -> None:  # noqa: ANN401 - a pipe's end
        if act == "write":
            if talk.write():
                self.selector.unregister(stream)
                _close(stream)
        elif act == "errors":
            if talk.hear_errors():
                self.selector.unregister(stream)
        elif talk.hear():
            self._finish(talk)
        elif talk.received > self.bounds.answer:
            self._finish(talk, f"it sent more than {self.bounds.answer >> 20} MiB: cut off")

    def _finish(self, talk: _Talk, unreachable_reason: str = "") -> None:
        for stream in (talk.process.stdin, talk.process.stdout, talk.process.stderr):
            if stream is not None and not stream.closed and stream in self.selector.get_map():
                self.selector.unregister(stream)
        del self.talks[talk.host]
        self.replies[talk.host] = reply = talk.reply(unreachable_reason)
        self.ready(reply)

    def end(self) -> None:
        """End what still runs."""
        for talk in self.talks.values():
            talk.process.kill()
            talk.process.wait()
        self.selector.close()


def ask_all(
    site: Site,
    programs: Mapping[str, str],
    bounds: Bounds = BOUNDS,
    command: Iterable[str] | None = None,
    ready: Callable[[Reply], None] = lambda _reply: None,
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[str, Reply]:
    """Send each host its program at once; return what each said.

    command: what takes the program on the host, if not the bounds' own;
    ready: told of each reply as it comes, so that it is read while the others still answer;
    meanwhile: done once all are asked, while their connections are made.
    """
    asked = _Round(bounds, ready)
    try:
        for host, program in programs.items():
            asked.begin(site, host, program, bounds.command(site) if command is None else command)
        meanwhile()
        asked.hear()
    finally:
        asked.end()
    return {host: asked.replies[host] for host in programs}


@dataclass
class Fetched:
    """What was fetched from one host: contents by path, and the day's sessions."""

    contents: dict[str, bytes] = field(default_factory=dict)
    sessions: list[tuple[float, str]] = field(default_factory=list)


def fetch(
    site: Site, paths: Mapping[str, Iterable[str]], *, sessions: bool = False
) -> dict[str, Fetched]:
    """Return the content of files by host; what could not be read is left out."""
    asked = {host: frozenset(listed) for host, listed in paths.items()}
    wording = contents_question if site.watch_host else fetching
    programs = {host: wording(listed, sessions=sessions) for host, listed in asked.items()}
    return {
        host: _fetched(reply.out, asked[host]) for host, reply in ask_all(site, programs).items()
    }


def _fetched(answer: bytes, asked: frozenset[str]) -> Fetched:
    output, _, stream = answer.partition(CONTENTS)
    found = Fetched(sessions=sessions_in(output.decode(errors="replace")))
    # A difference is shown without its content then; that it is one is known already.
    with suppress(ValueError):
        for name, content in tar_files(stream):
            if name in asked:
                found.contents.setdefault(name, content)
    return found
