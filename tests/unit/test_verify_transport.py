"""A host is asked in one go; a question that a busy machine did not let finish is asked again."""

from __future__ import annotations

from pathlib import Path

from koseki_ops.core.subprocesses import TIMED_OUT
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.plan.site import Site, project_root
from koseki_ops.verify.batch import Question
from koseki_ops.verify.transport import ask

# Not a lab: its workstation is this machine.
SITE = Site(project_root(), "iida", "iida")


def test_what_ran_out_of_time_is_asked_once_more(tmp_path: Path) -> None:
    """The first try only leaves its mark and hangs; the others are not asked again."""
    asked, counted = tmp_path / "asked", tmp_path / "counted"
    questions = {
        "slow": Question(f"[ -e {asked} ] || {{ touch {asked}; sleep 20; }}; echo late", seconds=1),
        "quick": Question(f"echo once >>{counted}"),
    }
    reply = ask(SITE, WORKSTATION, questions)
    assert reply.unreachable_reason == ""
    assert (reply.answers["slow"].rc, reply.answers["slow"].text) == (0, "late")
    assert counted.read_text(encoding="ascii") == "once\n"


def test_what_hangs_twice_has_no_answer(tmp_path: Path) -> None:
    """It stays what it was: out of time; nothing waits for ever."""
    tried = tmp_path / "tried"
    command = f"echo x >>{tried}; exit {TIMED_OUT}"
    reply = ask(SITE, WORKSTATION, {"hangs": Question(command)})
    assert reply.answers["hangs"].rc == TIMED_OUT
    assert tried.read_text(encoding="ascii") == "x\nx\n"
