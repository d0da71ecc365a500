"""Many questions to a host as one shell program, and the answers as one stream.

A round trip and a sudo per question would make the suites minutes long. A batch runs every
command on the host in one go, keeps the outputs apart and untouched (bytes, not lines), and sends
them back as one tar stream. Needs a POSIX shell and tar, nothing else: the datacenter host has no
Python.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.foreign import loads, tar_files
from koseki_ops.core.formatting import printable
from koseki_ops.core.language import N_, _

# How long a door that should open is waited for: all suites knock at once, and a busy machine is
# no closed door.
ANSWER_SECONDS = 20
# Each question's own limit on the host, so that one that hangs does not cost the others.
QUESTION_SECONDS = 30

# The suites' own: their answers are compared with texts and times of the plan.
ENVIRONMENT = """\
LC_ALL=C.UTF-8 TZ=Asia/Tokyo
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL TZ PATH
"""
# The directory lies in memory (/run) and is gone when the program ends, however it ends.
PROLOGUE = """\
set -u
umask 077
answers=$(mktemp -d "${TMPDIR:-/run}/koseki-questions.XXXXXX") || exit 1
trap 'rm -rf "$answers"' EXIT
trap 'exit 1' HUP INT TERM
question() {
    argument=$3 timeout "$2" sh >"$answers/$1.out" 2>"$answers/$1.err"
    printf '%s' "$?" >"$answers/$1.rc"
}
"""
EPILOGUE = """\
wait
tar -C "$answers" -cf - .
"""
EXIT_CODE = re.compile(rb"[0-9]{1,3}")
AGAIN = N_("run `koseki verify SUITE --limit HOST` again")
DELIMITER = "end_of_question_7f3a"
ARGUMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9@:_.-]{0,98}\*?")
# One word a verification: what an earlier one left behind cannot be taken for this one's.
NONCE = secrets.token_hex(12)


@dataclass(frozen=True)
class Question:
    """A shell command whose output is an answer.

    aside: it mostly waits (a network, a disk) and runs beside the others.
    seconds: how long it may take. argument: the one word that differs from run to run, which the
    command finds in `$argument`: a moment, a number, a unit. A command that held it in its text
    would be another one each time, and the watch may ask those alone that an apply left on the
    host (`admitted.py`).
    """

    command: str
    aside: bool = False
    seconds: int = QUESTION_SECONDS
    argument: str = ""

    def __post_init__(self) -> None:
        """Refuse an argument that is more than a word: a shell would make something of it."""
        if self.argument and not ARGUMENT.fullmatch(self.argument):
            raise ValueError(f"no argument of a question: {self.argument!r}")


@dataclass(frozen=True)
class CommandResult:
    """What a command said: exit code, output and errors, as the host sent them."""

    rc: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """The output as text, without the last newline."""
        return self.out.decode(errors="replace").strip()

    @property
    def errors(self) -> str:
        """The error output as text."""
        return self.err.decode(errors="replace").strip()

    @property
    def lines(self) -> list[str]:
        """The output's lines that are not blank; no output is no lines."""
        return [line.strip() for line in self.text.splitlines() if line.strip()]

    @cached_property
    def json(self) -> Any:  # noqa: ANN401 - JSON is whatever the host says
        """The output as JSON; an AssertionError names what came instead."""
        try:
            return loads(self.out)
        except ValueError as error:
            raise AssertionError(
                f"no JSON came, exit {self.rc}: {self.text[:200]!r} {self.errors[:400]!r}"
            ) from error

    def __str__(self) -> str:
        """Give a line for a failed test: exit code, output, errors."""
        parts = [f"exit {self.rc}", self.text[:400], self.errors[:400]]
        return printable(", ".join(part for part in parts if part))


# What `timer` is answered while all is well.
TIMER_OK = ["enabled", "active", "success"]


def timer(name: str) -> str:
    """Return the question whether a timer is on at boot and now, and how its last run ended."""
    return (
        f"systemctl is-enabled {name}.timer; systemctl is-active {name}.timer;"
        f" systemctl show -P Result {name}.service"
    )


def assemble(
    questions: Mapping[str, Question], environment: str = ENVIRONMENT
) -> tuple[str, list[str]]:
    """Return the program for a host's questions, and their names in the program's order.

    Questions are numbered in the program, so that a name may hold any character. environment: shell
    commands that come before all of them.
    """
    parts = [environment, PROLOGUE]
    for number, question in _numbered(questions):
        end = " &" if question.aside else ""
        parts.append(
            f"question {number} {question.seconds} '{question.argument}' <<'{DELIMITER}'{end}\n"
            f"{question.command}\n{DELIMITER}\n"
        )
    parts.append(EPILOGUE)
    return "".join(parts), list(questions)


def request(questions: Mapping[str, Question]) -> tuple[str, list[str]]:
    """Return what a watch sends for a host's questions, and their names; no program, but data.

    `koseki-inspect` on the host asks those that an apply left there, in the same way.
    """
    parts = ["verify\n"]
    for number, question in _numbered(questions):
        kind = "aside" if question.aside else "alone"
        parts.append(
            f"question {number} {question.seconds} {kind} {question.argument or '-'}\n"
            f"{question.command}\n{DELIMITER}\n"
        )
    return "".join(parts), list(questions)


def digest(command: str) -> str:
    """Return the name by which a host knows a question: the hash of its text as it is sent."""
    return hashlib.sha256(f"{command}\n".encode()).hexdigest()


def _numbered(questions: Mapping[str, Question]) -> list[tuple[int, Question]]:
    """Return questions by number, those that wait first."""
    for name, question in questions.items():
        if DELIMITER in question.command:
            raise ValueError(f"question {name} holds the delimiter")
    return sorted(enumerate(questions.values()), key=lambda item: not item[1].aside)


def parse(stream: bytes, names: list[str]) -> dict[str, CommandResult]:
    """Return the answers in a batch's stream by name.

    Raises KosekiError when the stream is not what a batch writes: it is cut off, an answer is
    missing or there twice, something else is there.
    """
    try:
        files = dict(tar_files(stream))
    except ValueError as error:
        raise KosekiError(
            _("the answers did not arrive whole"),
            _("{count} bytes: {error}").format(count=len(stream), error=error),
            _(AGAIN),
        ) from error
    answers = {name: _answer(files, number, name) for number, name in enumerate(names)}
    if files:
        raise KosekiError(_("something came that was not asked for"), min(files), _(AGAIN))
    return answers


def _answer(files: dict[str, bytes], number: int, name: str) -> CommandResult:
    """Take one answer out of the files of a batch."""
    try:
        code, out, err = (files.pop(f"./{number}.{part}") for part in ("rc", "out", "err"))
    except KeyError:
        raise KosekiError(_("an answer is missing"), name, _(AGAIN)) from None
    if not EXIT_CODE.fullmatch(code):
        raise KosekiError(_("an answer has no exit code"), f"{name}: {code[:40]!r}", _(AGAIN))
    return CommandResult(int(code), out, err)
