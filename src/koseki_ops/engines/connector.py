"""pyinfra over the site's one SSH configuration: `pyinfra @koseki/lab …`.

OpenSSH does the work, so that pyinfra shares its master connections, its certificates and its
host CA with every other engine. A host that does not know the automation account yet is met as
root with the installer's key (first contact).
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import IOBase
from typing import Any, Unpack

import gevent
from gevent.os import make_nonblocking, nb_read, nb_write
from gevent.subprocess import PIPE, Popen
from pyinfra.api import QuoteString, StringCommand
from pyinfra.api.arguments import ConnectorArguments
from pyinfra.api.exceptions import ConnectError
from pyinfra.api.state import StateStage
from pyinfra.api.util import get_file_io
from pyinfra.connectors.base import BaseConnector
from pyinfra.connectors.util import (
    CommandOutput,
    OutputLine,
    extract_control_arguments,
    make_unix_command_for_host,
)

from koseki_ops.core.foreign import number
from koseki_ops.core.formatting import in_short, rfc3339
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import (
    ANSWER_BYTES,
    CHUNK,
    CUT_OFF,
    ERROR_BYTES,
    TIMED_OUT,
    reason_of,
)
from koseki_ops.engines.prefetch import Prefetch
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.remote.run import argv
from koseki_ops.remote.ssh_config import certificate_holds
from koseki_ops.trust.ssh_ca import files_of

# One question at the first contact: which Debian, what is the time there (seconds since the epoch),
# and is there room (KiB) where things are written.
ROOMS = "/ /etc /tmp /usr /var /var/cache /var/lib /var/log /var/tmp"
PROBE = (
    '. /etc/os-release && printf "%s\\n" "$VERSION_CODENAME" && date +%s && '
    f"df --output=avail,target {ROOMS} | tail -n +2"
)
ROOM_KIB = 32 * 1024
# Certificates and lists that are made here begin so much earlier than now (seconds): on a host
# whose clock is further behind they do not hold yet, on one further ahead they end too early.
CLOCK_SECONDS = 300
SSH_FAILED = 255
PROOF_TRIES = 5
# Longer than any command of an engine takes; a host that says nothing does not hold the others.
COMMAND_SECONDS = 3600
# Each is an object of pyinfra's.
LINES = 500_000
DENIED = ("Permission denied", "Host key verification failed")


AS_ROOT = ("sudo", "-H", "-n", "sh")


class NoAnswerError(Exception):
    """A host fell out of the run over a question; why is its connector's `trouble`."""


class KosekiConnector(BaseConnector):
    """Hosts, groups and raw values of an inventory; execution by OpenSSH."""

    handles_execution = True

    @staticmethod
    def make_names_data(name: str | None = None) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        """Yield each host of an inventory with its raw values and groups.

        name: an inventory below `inventories/`; empty for the lab. `KOSEKI_NAME` names the lab.
        """
        site = Site.open(name or None, os.environ.get("KOSEKI_NAME") or None)
        inventory = Inventory(site.inventory)
        for host in inventory.hosts:
            data = {**inventory.values_of(host), "koseki_site": site, "koseki_inventory": inventory}
            yield host, data, inventory.groups_of(host)

    def connect(self) -> None:
        """Open the shared connection; refuse a host that is not the release of the plan."""
        self.site: Site = self.host.data.koseki_site
        self.first_contact = False
        # Why the last command that failed did; pyinfra itself tells it to its own log only.
        self.trouble = ""
        self.config = self.site.ssh_config
        self.prefetch = Prefetch(self.site.state / "questions" / f"{self.host.name}.json")
        asked = time.time()
        code, output = self._ssh(PROBE)
        if code == SSH_FAILED and any(word in output.stderr for word in DENIED):
            # It does not know us yet, or its sshd still shows the key it was installed with.
            self.first_contact = True
            self.config = files_of(self.site).bootstrap_config
            code, output = self._ssh(PROBE)
        if code:
            reason = reason_of(output.stderr, code)
            reason += f"; {certificate_holds(self.site)}" if DENIED[0] in reason else ""
            raise ConnectError(
                _(
                    "{host} does not answer ({reason}): look at the host and its line, then "
                    "run it again"
                ).format(host=self.host.name, reason=reason)
            )
        release, clock, rooms = self._first_answer(output.stdout)
        wanted = self.host.data.debian_release
        if release != wanted:
            raise ConnectError(
                _(
                    "{host} runs Debian {release}, the plan wants {wanted}: install that "
                    "release; nothing was changed there"
                ).format(host=self.host.name, release=release, wanted=wanted)
            )
        sources = self.host.data.get("time_sources", {})
        # The clock of a host that asks nobody is set by the baseline.
        if any(sources.get(group) for group in self.host.groups) and (
            apart := clocks_apart(clock, asked, time.time())
        ):
            raise ConnectError(
                _("{host}: {apart}; nothing was changed there").format(
                    host=self.host.name, apart=apart
                )
            )
        for place, free in rooms.items():
            if free < ROOM_KIB:
                raise ConnectError(
                    _(
                        "{host} has {free} KiB left on {place}, an apply needs {room_kib}: free "
                        "some; nothing was changed there"
                    ).format(host=self.host.name, free=free, place=place, room_kib=ROOM_KIB)
                )
        if not self.first_contact and (program := self.prefetch.program()):
            code, out, _ignored = self._run(" ".join(AS_ROOT), program.encode())
            self.prefetch.take(code, out)

    def _first_answer(self, answer: str) -> tuple[str, float, dict[str, int]]:
        """Return what a host said at the first contact: release, clock, and KiB left by place."""
        try:
            release, clock, *rooms = answer.splitlines()
            split = [room.split(maxsplit=1) for room in rooms]
            left = {in_short(place): int(free) for free, place in split}
            return in_short(release), number(clock), left
        except ValueError as error:
            raise ConnectError(
                _(
                    "{host} has no known kind ({reason}): look at the host; nothing was "
                    "changed there"
                ).format(host=self.host.name, reason=in_short(answer, 80))
            ) from error

    def _run(self, command: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
        way = argv(self.site, self.host.name, command, config=self.config)
        return heard(way, stdin)

    def _ssh(self, command: str, stdin: bytes = b"") -> tuple[int, CommandOutput]:
        code, out, err = self._run(command, stdin)
        return code, _lines(out, err)

    def run_shell_command(
        self,
        command: StringCommand,
        print_output: bool = False,  # noqa: ARG002 - pyinfra's signature
        print_input: bool = False,  # noqa: ARG002 - pyinfra's signature
        **arguments: Unpack[ConnectorArguments],
    ) -> tuple[bool, CommandOutput]:
        """Run a shell command, as root; return whether it succeeded and what it printed."""
        control = extract_control_arguments(arguments)
        arguments["_sudo"] = not self.first_contact and arguments.get("_sudo", True)
        unix = make_unix_command_for_host(self.state, self.host, command, **arguments)
        stdin = control.get("_stdin") or ""
        text = stdin if isinstance(stdin, str) else "\n".join(stdin)
        raw = unix.get_raw_value()
        question = "" if text or self.state.current_stage != StateStage.Prepare else _question(raw)
        if question and (answer := self.prefetch.answer(question)):
            code, output = answer.rc, _lines(answer.out, answer.err)
        else:
            code, output = self._ssh(raw, text.encode())
        well = code in (control.get("_success_exit_codes") or [0])
        if not well:
            self.trouble = reason_of(output.stderr, code)
        return well, output

    def put_file(
        self,
        filename_or_io: str | IOBase,
        remote_filename: str,
        remote_temp_filename: str | None = None,  # noqa: ARG002 - written in one step anyway
        print_output: bool = False,  # noqa: ARG002 - pyinfra's signature
        print_input: bool = False,  # noqa: ARG002 - pyinfra's signature
        **arguments: Unpack[ConnectorArguments],
    ) -> bool:
        """Write a file through the shared connection, readable by root alone until it is placed."""
        with get_file_io(filename_or_io) as file:  # type: ignore[arg-type] # IOBase is pyinfra's own
            content = file.read()
        data = content if isinstance(content, bytes) else content.encode()
        extract_control_arguments(arguments)
        arguments["_sudo"] = not self.first_contact
        script = StringCommand("umask 077; cat >", QuoteString(remote_filename))
        unix = make_unix_command_for_host(self.state, self.host, script, **arguments)
        code, output = self._ssh(unix.get_raw_value(), data)
        if code:
            raise OSError(output.stderr)
        return True

    def get_file(
        self,
        remote_filename: str,
        filename_or_io: str | IOBase,
        remote_temp_filename: str | None = None,  # noqa: ARG002 - pyinfra's signature
        print_output: bool = False,  # noqa: ARG002 - pyinfra's signature
        print_input: bool = False,  # noqa: ARG002 - pyinfra's signature
        **arguments: Unpack[ConnectorArguments],
    ) -> bool:
        """Read a text file through the shared connection."""
        extract_control_arguments(arguments)
        arguments["_sudo"] = not self.first_contact
        script = StringCommand("cat", QuoteString(remote_filename))
        unix = make_unix_command_for_host(self.state, self.host, script, **arguments)
        code, output = self._ssh(unix.get_raw_value())
        if code:
            raise OSError(output.stderr)
        with get_file_io(filename_or_io, "wb") as file:  # type: ignore[arg-type] # as above
            file.write(output.stdout.encode())
        return True

    def new_connection_works(self) -> bool:
        """Whether a connection of its own, not the shared one, reaches root by the automation.

        sshd closes its door for a moment when it reads its configuration anew: it is tried again.
        Why the last try did not work is the `trouble`.
        """
        own = ("-o", "ControlPath=none", "-o", "ControlMaster=no")
        way = argv(self.site, self.host.name, "sudo -n true", options=own)
        for _ignored in range(PROOF_TRIES):
            code, _, reason = heard(way, b"")
            if code == 0:
                return True
            self.trouble = reason_of(reason, code)
            gevent.sleep(1)
        return False


def heard(way: Sequence[str], stdin: bytes) -> tuple[int, bytes, bytes]:
    """Run a program beside the other hosts' greenlets; return exit code, output and errors.

    A host may say and take so much and no more: then there is no answer, and why is its error.
    """
    process = Popen(way, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    out, err = bytearray(), bytearray()
    talk: list[Any] = [
        gevent.spawn(_send, process.stdin, stdin),
        gevent.spawn(_hear, process.stdout, out, process.kill),
        gevent.spawn(_hear, process.stderr, err),
    ]
    try:
        late = len(gevent.joinall(talk, COMMAND_SECONDS)) < len(talk)
    finally:
        gevent.killall(talk)
        process.kill()
        for stream in filter(None, (process.stdin, process.stdout, process.stderr)):
            stream.close()
    if late:
        return TIMED_OUT, b"", f"no answer within {COMMAND_SECONDS} s".encode()
    code = process.wait()
    if len(out) > ANSWER_BYTES or out.count(b"\n") > LINES:
        most = f"{ANSWER_BYTES >> 20} MiB or {LINES} lines"
        return CUT_OFF, b"", f"it sent more than {most}: cut off".encode()
    return code, bytes(out), bytes(err)


def _send(stream: Any, stdin: bytes) -> None:  # noqa: ANN401 - a pipe's end, gevent's own
    left = memoryview(stdin)
    make_nonblocking(stream.fileno())
    # Nobody may read any more: what becomes of it is said by its end.
    with suppress(BrokenPipeError):
        while left:
            left = left[nb_write(stream.fileno(), left[:CHUNK]) :]
    stream.close()


def _hear(stream: Any, kept: bytearray, end: Callable[[], None] | None = None) -> None:  # noqa: ANN401 - as above
    """Take what comes. end: ends the program when that is too much; without it the end is kept."""
    make_nonblocking(stream.fileno())
    while chunk := nb_read(stream.fileno(), CHUNK):
        kept += chunk
        if end is None:
            del kept[:-ERROR_BYTES]
        elif len(kept) > ANSWER_BYTES:
            end()
            return


def seconds_apart(there: float, asked: float, answered: float) -> float:
    """Return by how much a host's clock is surely off, however long its answer was on its way.

    there: the host's, between the question and the answer; all in seconds since the epoch. Nothing
    is sure while it lies between them: then the result is at most 0.
    """
    return max(there - answered, asked - there)


def clocks_apart(there: float, asked: float, answered: float) -> str:
    """Return what is said of a host's clock that is too far from this one, empty when it is not.

    Its arguments are those of `seconds_apart`.
    """
    if seconds_apart(there, asked, answered) <= CLOCK_SECONDS:
        return ""
    return _(
        "its clock shows {there}, this machine's {here}: what is signed "
        "here would not hold there; set the one that is wrong (`date --set`), "
        "then run it again"
    ).format(there=_moment(there), here=_moment(answered))


def _moment(at: float) -> str:
    try:
        return rfc3339(at)
    except (ValueError, OverflowError, OSError):
        return _("{at:.0f} s since 1970").format(at=at)


def _lines(out: bytes, err: bytes) -> CommandOutput:
    """Return what a command printed as pyinfra keeps it."""
    lines = [OutputLine("stdout", line) for line in out.decode(errors="replace").splitlines()]
    lines += [OutputLine("stderr", line) for line in err.decode(errors="replace").splitlines()]
    return CommandOutput(lines)


def _question(raw: str) -> str:
    """Return the shell command that root's shell is given; nothing when it is another user's."""
    words = shlex.split(raw)
    root = words[:-1] in ([*AS_ROOT, "-c"], [AS_ROOT[-1], "-c"])
    return words[-1] if root else ""
