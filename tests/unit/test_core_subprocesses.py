"""A failure is told by its reason, never by what followed from it."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.subprocesses import ask, cause_in, reason_of, run

CASES = {
    "ssh's options": (
        "x: line 3: Bad configuration option: ctl\r\nx: terminating, 1 bad configuration options",
        "x: line 3: Bad configuration option: ctl",
    ),
    "a terminal's end": (
        "pgbackrest: the vault does not answer\nShared connection to secondary1 closed.\r\n",
        "pgbackrest: the vault does not answer",
    ),
    "tar": (
        "tar: x: Cannot open: Permission denied\ntar: Error is not recoverable: exiting now",
        "tar: x: Cannot open: Permission denied",
    ),
    "apt": (
        "dpkg: error: no room\nE: Sub-process /usr/bin/dpkg returned an error code (1)\n",
        "dpkg: error: no room",
    ),
    "usage": (
        "cp: missing operand\nTry 'cp --help' for more information.\n",
        "cp: missing operand",
    ),
    "a plain reason": (
        "first\nPermission denied (publickey).\n\n",
        "Permission denied (publickey).",
    ),
}


@pytest.mark.parametrize(("said", "reason"), CASES.values(), ids=CASES)
def test_the_reason_is_told(said: str, reason: str) -> None:
    """The last line that is a reason, in text and in bytes."""
    assert reason_of(said, 1) == reason_of(said.encode(), 1) == reason


def test_without_a_reason_the_end_is_told() -> None:
    """Nothing but consequences, or nothing at all."""
    assert reason_of("Connection to x closed.\n", 255) == "Connection to x closed."
    assert cause_in("Connection to x closed by remote host.\n") == ""
    assert reason_of("\n", 7) == "exit 7"


def test_a_program_that_fails_is_named_with_its_reason() -> None:
    """As an administrator reads it."""
    code = "import sys; print('no room', 'lost connection', sep='\\n', file=sys.stderr);"
    with pytest.raises(KosekiError) as failed:
        run([sys.executable, "-c", f"{code} sys.exit(3)"])
    assert failed.value.seen == "no room"
    with pytest.raises(KosekiError, match="a program is missing"):
        run(["/nowhere/program"])


def test_a_program_that_could_not_say_has_not_said_nothing(tmp_path: Path) -> None:
    """Missing, not to be started, failing, killed, hanging: none of them is an empty answer."""
    script = tmp_path / "script"
    script.write_text("no program\n", encoding="ascii")
    for argv, reason in (
        (["/nowhere/program"], "a program is missing"),
        ([script], "Permission denied"),
        (["sh", "-c", "echo heard; echo refused >&2; exit 2"], "refused"),
        (["sh", "-c", "echo heard; exit 3"], "heard"),
        (["sh", "-c", "exit 4"], "exit 4"),
        (["sh", "-c", "kill -9 $$"], "exit -9"),
        (["sleep", "30"], "no answer within 1 s"),
        (["/bin/sh", str(tmp_path / "gone")], "gone"),
    ):
        with pytest.raises(KosekiError, match=reason):
            ask(argv, seconds=1)


def test_a_code_that_is_an_answer_is_one() -> None:
    """As of `diff` and `grep`; the bytes are what was said, and a text is always one."""
    told = ask(["sh", "-c", r"printf 'a\377\n'; exit 1"], answers=(0, 1))
    assert (told.code, told.out, told.text) == (1, b"a\xff\n", "a\\xff\n")
    assert ask(["cat"], stdin=b"given").out == b"given"


def test_whoever_asks_may_have_words_of_their_own() -> None:
    """The reason is the program's all the same."""
    with pytest.raises(KosekiError) as failed:
        ask(
            ["sh", "-c", "echo 'no room' >&2; exit 1"],
            error=lambda reason: KosekiError("the copy was not made", reason, "free some room"),
        )
    assert (failed.value.seen, failed.value.remedy) == ("no room", "free some room")


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (
            {
                "stderr": "Shared connection to secondary1 closed.\r\n",
                "msg": "non-zero return code",
                "stdout": "the vault does not answer\r\n",
            },
            "the vault does not answer",
        ),
        ({"msg": "Timeout", "stderr": ""}, "Timeout"),
        (
            {
                "msg": "MODULE FAILURE: No start of json char found\n"
                "See stdout/stderr for the exact error",
                "module_stderr": "Traceback\nOSError: [Errno 28] No space left on device\n",
            },
            "OSError: [Errno 28] No space left on device",
        ),
        ({"msg": "non-zero return code"}, "non-zero return code"),
        ({"results": [{"failed": False}, {"failed": True, "msg": "second"}]}, "second"),
        ({"_ansible_no_log": True, "msg": "secret"}, "it holds secrets, so its output is kept"),
        ({}, "no output"),
    ],
)
def test_a_task_is_told_by_its_reason(result: dict[str, object], reason: str) -> None:
    """What the connection said at its end stands in stderr alone; the reason stands elsewhere."""
    path = Path(__file__).parents[2] / "plugins/callback/koseki_summary.py"
    sentence = runpy.run_path(str(path))["sentence"]
    assert sentence(result).startswith(reason)
