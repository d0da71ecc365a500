"""Processes that outlive the command that started them: known by id and start time."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _

START_TIME_FIELD = 22 - 3  # proc(5) counts from 1, and two fields stand before the split
STATE_FIELD = 0


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


@dataclass(frozen=True)
class Process:
    """A process by id and start time, so that a reused id is never signalled."""

    pid: int
    start_time: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return the process that has this id now."""
        fields = _stat(pid)
        if fields is None:
            raise KosekiError(
                _("a process ended as soon as it began"),
                _("pid {pid}").format(pid=pid),
                _("read its log below `var/`, then run `koseki lab up` again"),
            )
        return cls(pid, int(fields[START_TIME_FIELD]))

    def alive(self) -> bool:
        """Whether it is this very process and not a zombie."""
        fields = _stat(self.pid)
        return (
            fields is not None
            and int(fields[START_TIME_FIELD]) == self.start_time
            and fields[STATE_FIELD] != "Z"
        )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it is still this process."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return  # it ended between the question and the signal: what was wanted

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended; say whether it has."""
        end = time.monotonic() + seconds
        while self.alive():
            self._reap()
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        self._reap()
        return True

    def _reap(self) -> None:
        """Collect it if it is our own child, so that no zombie stays."""
        try:
            os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return  # another command started it: init collects it

    def end(self, patience: float) -> None:
        """Ask it to end, then insist."""
        self.signal(signal.SIGTERM)
        if not self.wait(patience):
            self.kill_tree()
            if not self.wait(10):
                raise KosekiError(
                    _("a process still runs"),
                    _("pid {pid} after 10 s").format(pid=self.pid),
                    _("end it with `kill -9 {pid}`, then try again").format(pid=self.pid),
                )

    def children(self) -> list[Process]:
        """Return its direct children."""
        try:
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):
            return []
        found = []
        for word in text.split():
            fields = _stat(int(word))
            if fields is not None:
                found.append(Process(int(word), int(fields[START_TIME_FIELD])))
        return found

    def kill_tree(self) -> None:
        """Kill it with its children: a machine's supervisor with the machine's init."""
        children = self.children()
        self.signal(signal.SIGKILL)
        for child in children:
            child.signal(signal.SIGKILL)
