"""Every procedure: asked before, alone, recorded however it ends."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.progress import OnProgress, Progress
from koseki_ops.evidence.ledger import Ledger, Verdict
from koseki_ops.plan.site import Site, project_root
from koseki_ops.procedures.base import (
    COMPLETED,
    FAILED,
    INTERRUPTED,
    Order,
    Procedure,
    last_runs,
    perform,
)
from koseki_ops.procedures.cli import PROCEDURES, list_command
from koseki_ops.procedures.options import carry_out
from koseki_ops.procedures.restart_members import in_order
from koseki_ops.remote.cluster import Member

ORDER = Order("訓練", "root")


class Sample(Procedure[int]):
    """A procedure that does what a test wants."""

    name = "sample"
    title = "Do what a test wants."

    def __init__(self, site: Site, work: Callable[[], int], missing: str = "") -> None:
        """Take the work, and what is missing before it."""
        super().__init__(site)
        self.work, self.missing = work, missing
        self.rolled_back = False

    def preflight(self) -> None:
        """Refuse when something is missing."""
        if self.missing:
            raise KosekiError(self.missing, "seen", "mend it")

    def describe(self) -> Sequence[str]:
        """Say one thing."""
        return ["work"]

    def run(self, on_progress: OnProgress) -> int:
        """Work."""
        on_progress("working")
        return self.work()

    def succeeded(self, outcome: int) -> bool:
        """Zero is well."""
        return outcome == 0

    def rollback(self, on_progress: OnProgress) -> None:
        """Remember it."""
        on_progress("taking it back")
        self.rolled_back = True


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A lab's site without a lab."""
    (tmp_path / "inventories").symlink_to(project_root() / "inventories")
    return Site(tmp_path, "lab", "lab")


def quiet(_line: str) -> None:
    """Say nothing."""


def records(site: Site) -> list[dict[str, object]]:
    """Return what was recorded."""
    return [dict(row.record) for row in Ledger(site, "procedures").rows()]


@pytest.mark.parametrize(("found", "outcome"), [(0, COMPLETED), (1, FAILED)])
def test_its_begin_and_its_end_are_recorded(site: Site, found: int, outcome: str) -> None:
    """Who, why, with what, and what became of it; chained and signed."""
    assert perform(Sample(site, lambda: found), ORDER, quiet) == found
    begun, ended = records(site)
    assert begun == {
        "procedure": "sample",
        "event": "begun",
        "arguments": {},
        "reason": "訓練",
        "by": "root",
    }
    assert ended | {"seconds": 0} == {
        "procedure": "sample",
        "event": "ended",
        "begun": 1,
        "outcome": outcome,
        "seconds": 0,
    }
    assert last_runs(site)["sample"].outcome == outcome
    assert Ledger(site, "procedures").verify() == Verdict(2)


@pytest.mark.parametrize("error", [KosekiError("it broke", "here", "look"), KeyboardInterrupt()])
def test_what_breaks_off_is_taken_back_and_recorded(site: Site, error: BaseException) -> None:
    """A failure and a Ctrl-C alike; the error goes on to whoever called."""

    def broken() -> int:
        raise error

    procedure = Sample(site, broken)
    with pytest.raises(type(error)):
        perform(procedure, ORDER, quiet)
    assert procedure.rolled_back
    ended = records(site)[1]
    assert ended["outcome"] == FAILED
    assert ended["why"] == (str(error) or "KeyboardInterrupt")


def test_a_kill_leaves_a_begin_without_an_end(site: Site) -> None:
    """The record was written before anything was done; the lock went with the process."""
    child = os.fork()
    if not child:
        perform(Sample(site, lambda: os._exit(9)), ORDER, quiet)
    os.waitpid(child, 0)
    assert last_runs(site)["sample"].outcome == INTERRUPTED
    perform(Sample(site, lambda: 0), ORDER, quiet)
    assert last_runs(site)["sample"].outcome == COMPLETED


def test_one_at_a_time(site: Site) -> None:
    """Whoever comes second is told which process is at work, and leaves no record."""
    child = os.fork()
    if not child:
        perform(Sample(site, lambda: time.sleep(60) or 0), ORDER, quiet)  # type: ignore[func-returns-value]
    try:
        end = time.monotonic() + 10
        while not records(site) and time.monotonic() < end:
            time.sleep(0.01)
        with pytest.raises(KosekiError, match=f"another procedure is at work.*process {child}"):
            perform(Sample(site, lambda: 0), ORDER, quiet)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert len(records(site)) == 1


def test_what_is_missing_before_leaves_no_trace(site: Site) -> None:
    """Nothing is done, nothing is recorded."""
    with pytest.raises(KosekiError, match="no standby"):
        perform(Sample(site, lambda: 0, "no standby"), ORDER, quiet)
    assert records(site) == []


def test_outside_of_a_lab_a_change_has_a_reason(site: Site) -> None:
    """It is asked for before anything else; what changes nothing needs none."""
    production = Site(site.root, "iida", "iida")
    with pytest.raises(KosekiError, match="given no reason"):
        perform(Sample(production, lambda: 0), Order("", "root"), quiet)
    harmless = Sample(production, lambda: 0)
    harmless.changes = False  # type: ignore[misc]
    assert perform(harmless, Order("", "root"), quiet) == 0


def test_a_dry_run_says_and_does_nothing(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """What must be true before is asked all the same."""
    assert carry_out(Sample(site, lambda: 1), None, Progress([])) is None
    assert capsys.readouterr().out == "work\nnothing was changed\n"
    assert records(site) == []
    with pytest.raises(KosekiError, match="no standby"):
        carry_out(Sample(site, lambda: 0, "no standby"), None, Progress([]))


def test_each_is_listed_with_its_last_run(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name of its command."""
    monkeypatch.setenv("KOSEKI_ROOT", str(site.root))
    assert len({kind.name for kind in PROCEDURES}) == len(PROCEDURES)
    monkeypatch.setattr(Sample, "name", "switchover")
    perform(Sample(site, lambda: 0), ORDER, quiet)
    done = CliRunner().invoke(list_command, [])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert len(lines) == 2 * len(PROCEDURES)
    assert lines[0].startswith("switchover ")
    assert re.fullmatch(r" +20\S+ by root, completed after \d+ s: 訓練", lines[1])
    assert lines[3].strip() == "never run here"


def test_the_leader_is_restarted_last() -> None:
    """Whatever the names are."""
    found = [Member("a", "Leader", "running", 1), Member("b", "Sync Standby", "streaming", 1)]
    assert [row.name for row in in_order(found)] == ["b", "a"]
