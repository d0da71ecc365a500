"""Ask a host in one connection what its last run asked it one by one.

Of two hundred questions that an apply asks before it changes anything, nearly all are those of the
time before. They are noted, asked at once when the next run has connected, and answered from there
while it prepares; what was not foreseen is asked as ever. Nothing is inferred: each answer is the
host's own, of this run.
"""

from __future__ import annotations

import json
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_private
from koseki_ops.core.subprocesses import TIMED_OUT
from koseki_ops.verify.batch import DELIMITER, CommandResult, Question, assemble, parse

# A shell command that begins so is asked when it is asked: its answer is of that moment.
AT_THIS_MOMENT = ": at this moment; "
# A question that takes longer is asked again by itself, without a bound.
SECONDS = 60


class Prefetch:
    """One host's questions: those of the last run, and their answers in this one."""

    def __init__(self, path: Path) -> None:
        """Read what was noted. path: a JSON list of shell commands, root's alone."""
        self.path = path
        self._noted: list[str] = json.loads(path.read_text("utf-8")) if path.exists() else []
        self._names: list[str] = []
        self._answers: dict[str, CommandResult] = {}
        self._asked: dict[str, None] = {}

    def program(self) -> str:
        """Return the shell program that asks what was noted; empty when there is nothing."""
        if not self._noted:
            return ""
        # What reads its standard input finds it empty, as over a connection of its own.
        questions = {
            command: Question(f"{{ {command}\n}} </dev/null", seconds=SECONDS)
            for command in self._noted
            if DELIMITER not in command
        }
        program, self._names = assemble(questions, environment="")
        return program

    def take(self, code: int, stream: bytes) -> None:
        """Keep the answers; without them every question is asked by itself."""
        if code:
            return
        try:
            answers = parse(stream, self._names)
        except KosekiError:
            return
        self._answers = {name: answer for name, answer in answers.items() if answer.rc != TIMED_OUT}

    def answer(self, command: str) -> CommandResult | None:
        """Return the answer to a question, None when it has to be asked; note it for next time."""
        if command.startswith(AT_THIS_MOMENT):
            return None
        self._asked[command] = None
        return self._answers.get(command)

    def note(self) -> None:
        """Keep this run's questions for the next one."""
        if list(self._asked) != self._noted:
            write_private(self.path, json.dumps(list(self._asked)))
