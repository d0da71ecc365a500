"""A host is asked in one go; a question that a busy machine did not let finish is asked again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from koseki_ops.core.subprocesses import TIMED_OUT
from koseki_ops.drift.observe.transport import Bounds
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.plan.site import Site, WatchHost, project_root
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


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """The site as the watch sees it, and an ssh that keeps what is sent and refuses it."""
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/words\ncat >{tmp_path}/sent\n'
        "echo 'koseki-inspect: not among the questions of the last apply here: 1' >&2\nexit 2\n",
        encoding="ascii",
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return replace(SITE, watch_host=WatchHost("workstation1", "iida", "iida", ""))


def test_the_watch_names_no_command(watch: Site, tmp_path: Path) -> None:
    """It sends questions as data; the one program that answers there is the host's own."""
    asked = {"ssh/sshd": Question("sshd -T"), "ssh/test": Question("sshd -t")}
    reply = ask(watch, "primary1", asked)
    words = (tmp_path / "words").read_text(encoding="utf-8").splitlines()
    assert words == ["-F", str(watch.ssh_config), "primary1"]
    sent = (tmp_path / "sent").read_text(encoding="utf-8")
    assert sent.startswith("verify\nquestion 0 30 alone -\nsshd -T\n")
    assert Bounds().command(watch) == ()
    assert "koseki apply --limit primary1" in reply.unreachable_reason
    assert "ssh/test" in reply.unreachable_reason
