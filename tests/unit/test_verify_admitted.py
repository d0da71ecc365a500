"""What the watch may ask: the suites' questions, whose texts are the same in every verification."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from koseki_ops.core.language import LANGUAGES, VARIABLE
from koseki_ops.plan.site import Site, project_root
from koseki_ops.verify import plugin
from koseki_ops.verify.admitted import admitted_questions
from koseki_ops.verify.batch import NONCE, Question, digest
from koseki_ops.verify.expectations import Plan

WATCH = "workstation1"
AGAIN = """
from koseki_ops.plan.site import Site
from koseki_ops.verify.admitted import admitted_questions
from koseki_ops.verify.expectations import Plan
plan = Plan.of(Site.open("iida"))
for host in plan.inventory.hosts:
    print(host, *admitted_questions(plan, host, "workstation1"))
"""


@pytest.fixture(scope="module")
def plan(request: pytest.FixtureRequest) -> Plan:
    """The plan of the inventory; the suites' own mark is known, as where they run."""
    plugin.know_marks(request.config)
    return Plan.of(Site.open("iida"))


def test_every_host_has_its_questions(plan: Plan) -> None:
    """Sorted, as the program on the host compares them; each host's are its own."""
    listed = {host: admitted_questions(plan, host, WATCH) for host in plan.inventory.hosts}
    for host, hashes in listed.items():
        assert len(hashes) > 40, host
        assert hashes == sorted(set(hashes))
    assert len(set(map(tuple, listed.values()))) == len(listed)
    assert all(digest(plugin.JOURNAL) in hashes for hashes in listed.values())


@pytest.mark.parametrize("spoken", LANGUAGES)
def test_another_process_asks_the_same(plan: Plan, spoken: str) -> None:
    """No moment, word of the occasion or language stands in a text: they are arguments."""
    done = subprocess.run(
        [sys.executable, "-c", AGAIN],
        cwd=project_root(),
        env={**os.environ, VARIABLE: spoken},
        capture_output=True,
        text=True,
        check=True,
    )
    seen = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    assert seen == {host: admitted_questions(plan, host, WATCH) for host in plan.inventory.hosts}


def test_a_question_says_nothing_of_this_machine(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The watch makes them from another folder, with another Python."""
    texts: list[str] = []

    def kept(text: str) -> str:
        texts.append(text)
        return text

    monkeypatch.setattr("koseki_ops.verify.admitted.digest", kept)
    for host in plan.inventory.hosts:
        admitted_questions(plan, host, WATCH)
    for word in (str(plan.site.root), sys.executable, NONCE):
        assert [text for text in texts if word in text] == []


def test_an_argument_is_one_word() -> None:
    """A shell makes nothing of it, quoted or not."""
    for argument in ("$(id)", "a b", "-n", "a'b", "a\nb", "x" * 101):
        with pytest.raises(ValueError, match="no argument"):
            Question("true", argument=argument)
