"""A batch keeps every answer apart and whole, whatever the commands print or do."""

from __future__ import annotations

import ast
import re
import subprocess
import time
from pathlib import Path

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.verify.batch import ARGUMENT, DELIMITER, CommandResult, Question, assemble, parse


def run(questions: dict[str, Question], tmp_path: Path) -> dict[str, CommandResult]:
    """Run a batch on this machine, in a directory where leftovers would be seen."""
    program, names = assemble(questions)
    done = subprocess.run(
        ["sh"],
        input=program.encode(),
        env={"TMPDIR": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    assert list(tmp_path.iterdir()) == []
    return parse(done.stdout, names)


def test_output_errors_and_exit_code_come_back_apart(tmp_path: Path) -> None:
    """Output errors and exit code come back apart."""
    answer = run({"a": Question("echo out; echo err >&2; exit 3")}, tmp_path)["a"]
    assert (answer.out, answer.err, answer.rc) == (b"out\n", b"err\n", 3)


def test_bytes_are_untouched(tmp_path: Path) -> None:
    """Bytes are untouched."""
    text = "葛󠄂 𠮷 﨑 \N{WAVE DASH}"
    answers = run(
        {
            "text": Question(f"printf '%s' '{text}'"),
            "bytes": Question("printf '\\000\\377\\r\\n\\n'"),
        },
        tmp_path,
    )
    assert answers["text"].out.decode() == text
    assert answers["bytes"].out == b"\x00\xff\r\n\n"


def test_a_question_cannot_eat_the_next_one(tmp_path: Path) -> None:
    """A question cannot eat the next one."""
    answers = run({"greedy": Question("cat"), "next": Question("echo here")}, tmp_path)
    assert answers["greedy"].out == b""
    assert answers["next"].text == "here"


def test_an_exit_or_a_broken_line_stays_inside_its_question(tmp_path: Path) -> None:
    """An exit or a broken line stays inside its question."""
    answers = run(
        {"exit": Question("exit 7"), "broken": Question("if"), "next": Question("echo here")},
        tmp_path,
    )
    assert answers["exit"].rc == 7
    assert answers["broken"].rc != 0
    assert answers["next"].text == "here"


def test_a_question_that_hangs_ends_and_the_others_are_answered(tmp_path: Path) -> None:
    """A question that hangs ends and the others are answered."""
    answers = run(
        {"hangs": Question("sleep 60", seconds=1), "next": Question("echo here")}, tmp_path
    )
    assert answers["hangs"].rc == 124
    assert answers["next"].text == "here"


def test_questions_aside_wait_together(tmp_path: Path) -> None:
    """Questions aside wait together."""
    begun = time.monotonic()
    answers = run({str(n): Question(f"sleep 1; echo {n}", aside=True) for n in range(8)}, tmp_path)
    assert {name: answer.text for name, answer in answers.items()} == {
        str(n): str(n) for n in range(8)
    }
    assert time.monotonic() - begun < 4


def test_names_may_hold_anything(tmp_path: Path) -> None:
    """Names may hold anything."""
    name = "flows/probe ../x; 'y'"
    assert run({name: Question("echo here")}, tmp_path)[name].text == "here"


def test_a_cut_stream_is_no_answer(tmp_path: Path) -> None:
    """A cut stream is no answer."""
    program, names = assemble({"a": Question("head -c 60000 /dev/zero")})
    done = subprocess.run(
        ["sh"],
        input=program.encode(),
        env={"TMPDIR": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    with pytest.raises(KosekiError):
        parse(done.stdout[:3000], names)
    with pytest.raises(KosekiError):
        parse(b"", names)


def test_a_missing_answer_is_named(tmp_path: Path) -> None:
    """A missing answer is named."""
    program, _ = assemble({"a": Question("true")})
    done = subprocess.run(
        ["sh"],
        input=program.encode(),
        env={"TMPDIR": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    with pytest.raises(KosekiError, match="b"):
        parse(done.stdout, ["a", "b"])


def test_a_question_may_not_hold_the_delimiter() -> None:
    """A question may not hold the delimiter."""
    with pytest.raises(ValueError, match="delimiter"):
        assemble({"a": Question(f"echo {DELIMITER}")})


def test_nothing_is_no_lines() -> None:
    """Nothing is no lines."""
    assert CommandResult(0, b"", b"").lines == []
    assert CommandResult(0, b"\n \n", b"").lines == []


def test_what_is_no_json_says_what_came() -> None:
    """What is no json says what came."""
    with pytest.raises(AssertionError, match="went wrong"):
        _ = CommandResult(1, b"", b"it went wrong").json


def test_every_unit_that_a_suite_names_can_be_asked_for_its_journal() -> None:
    """Whatever is red is shown with its unit's journal, by the unit's name or its pattern."""
    suites = Path(__file__).resolve().parents[1] / "testinfra"
    units = {
        word.value
        for path in suites.glob("test_*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        if call.func.id in {"expect", "check"}
        for word in call.args[2:]
        if isinstance(word, ast.Constant) and isinstance(word.value, str)
        if re.fullmatch(r"[a-z][a-z0-9@.*-]*", word.value)
    }
    assert len(units) > 5
    assert any("*" in unit for unit in units)
    assert [unit for unit in units if not ARGUMENT.fullmatch(unit)] == []
