"""What the last run asked is asked at once; every answer is this run's own, or none."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from koseki_ops.engines.connector import _question
from koseki_ops.engines.prefetch import AT_THIS_MOMENT, Prefetch


def asked(path: Path, *commands: str) -> Prefetch:
    """Return the questions of a run that comes after one with these commands."""
    before = Prefetch(path)
    for command in commands:
        assert before.answer(command) is None
    before.note()
    return Prefetch(path)


def run(prefetch: Prefetch, tmp_path: Path) -> Prefetch:
    """Ask this machine what was noted."""
    done = subprocess.run(
        ["sh"],
        input=prefetch.program().encode(),
        env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
    )
    prefetch.take(done.returncode, done.stdout)
    return prefetch


def test_the_answer_is_the_hosts_own_of_this_run(tmp_path: Path) -> None:
    """Output, errors and exit code are those of now, not those of when it was noted."""
    told = tmp_path / "told"
    told.write_text("before", encoding="utf-8")
    prefetch = asked(tmp_path / "q.json", f"cat {told}", "echo 誰 >&2; exit 3", "cat")
    told.write_text("now", encoding="utf-8")
    run(prefetch, tmp_path)
    answer = prefetch.answer(f"cat {told}")
    assert answer is not None
    assert answer.out == b"now"
    assert (answer := prefetch.answer("echo 誰 >&2; exit 3")) is not None
    assert (answer.rc, answer.err.decode()) == (3, "誰\n")
    # Over a connection of its own it would find its standard input empty.
    assert (answer := prefetch.answer("cat")) is not None
    assert answer.out == b""


def test_what_was_not_foreseen_is_asked_by_itself(tmp_path: Path) -> None:
    """A question that the last run did not ask has no answer here, and is noted."""
    prefetch = run(asked(tmp_path / "q.json", "echo one"), tmp_path)
    assert prefetch.answer("echo two") is None
    prefetch.note()
    assert "echo two" in Prefetch(tmp_path / "q.json").program()
    assert "echo one" not in Prefetch(tmp_path / "q.json").program()


def test_what_is_of_this_moment_is_asked_at_this_moment(tmp_path: Path) -> None:
    """A clock that was read with all the others would seem to be late."""
    prefetch = asked(tmp_path / "q.json", f"{AT_THIS_MOMENT}date", "echo one")
    assert "date" not in prefetch.program()
    assert run(prefetch, tmp_path).answer(f"{AT_THIS_MOMENT}date") is None


@pytest.mark.parametrize(("code", "kept"), [(255, 10240), (0, 700), (0, 0)])
def test_an_answer_that_did_not_arrive_whole_is_none(tmp_path: Path, code: int, kept: int) -> None:
    """A line that breaks costs time, and never is an answer."""
    prefetch = asked(tmp_path / "q.json", "echo one")
    stream = subprocess.run(
        ["sh"], input=prefetch.program().encode(), capture_output=True, check=True
    ).stdout
    prefetch.take(code, stream[:kept])
    assert prefetch.answer("echo one") is None


def test_nothing_noted_asks_nothing(tmp_path: Path) -> None:
    """The first run on a host asks as ever."""
    assert Prefetch(tmp_path / "none.json").program() == ""


@pytest.mark.parametrize(
    ("raw", "question"),
    [
        ("sudo -H -n sh -c 'echo \"a b\"'", 'echo "a b"'),
        ("sh -c 'id -u'", "id -u"),
        ("sudo -H -n -u postgres sh -c 'id -u'", ""),
        ("sudo -H -n -E sh -c 'id -u'", ""),
    ],
)
def test_only_roots_own_questions_are_foreseen(raw: str, question: str) -> None:
    """A question as somebody else would be answered by root."""
    assert _question(raw) == question
