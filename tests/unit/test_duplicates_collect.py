"""K-13: what a host recorded comes into the book once, in order, or not at all.

The host is the program itself, behind an ssh that runs what it is told on this machine.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from duplicate_hosts import Host
from duplicate_samples import URUGI, at, closed, days, difference
from koseki_ops.cli import cli
from koseki_ops.core.errors import KosekiError
from koseki_ops.duplicates import collect
from koseki_ops.duplicates.history import History
from koseki_ops.duplicates.model import State
from koseki_ops.duplicates.service import DuplicateService
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.lab.stand_in_relay import Rule, Script
from koseki_ops.plan.site import Site, project_root

ROOT = project_root()
FIRST, SECOND, THIRD = days(3)
BY = ("--by", "sousa01", "--reason", "文字対応表を更新した")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the plan and keys of its own; they are made once."""
    made = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("secrets.yml")
    shutil.copytree(ROOT / "inventories", made / "inventories", symlinks=True, ignore=ignore)
    return made


@pytest.fixture
def site(root: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The site, with nothing recorded."""
    monkeypatch.setenv("KOSEKI_ROOT", str(root))
    found = Site(root, "lab", "lab")
    Ledger(found, "duplicates").path.unlink(missing_ok=True)
    Ledger(found, "duplicates").head.unlink(missing_ok=True)
    return found


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """売木村's transmission; ssh runs its door here, at the moment in the file `now`."""
    programs = tmp_path / "programs"
    programs.mkdir()
    host = Host(tmp_path / "host")
    paths = ":".join(
        str(ROOT / part)
        for part in ("tests", "src", "host_programs/koseki_duplicate/lib/koseki-duplicate")
    )
    for name, text in {
        "ssh": 'shift 3\nexec sh -c "$*"\n',
        "sudo": 'shift\nexec "$@"\n',
        "koseki-duplicate": f"export PYTHONPATH={paths}\nexec {sys.executable} -m duplicate_sender"
        f' "$(cat {tmp_path}/now)" {host.settings_path} "$@"\n',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(collect, "PROGRAM", str(programs / "koseki-duplicate"))
    (tmp_path / "now").write_text(at(FIRST, "19:00:00").isoformat(), encoding="ascii")
    host.registered(days={str(FIRST): 2, str(SECOND): 1})
    return host


def run(*argv: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(cli, ["duplicate", *argv])


def last(result: Result) -> dict[str, Any]:
    """Return the JSON of the last line."""
    said: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return said


def book(site: Site) -> History:
    """Return the book, read anew."""
    history = History(site)
    history.read()
    return history


def test_each_line_comes_once(site: Site, host: Host) -> None:
    """The book then says what the journal says, and is signed."""
    host.both(at(FIRST))
    assert last(run("collect", "売木村", "--json"))["lines"] == {"urugi": 5}
    assert last(run("collect", "売木村", "--json"))["lines"] == {"urugi": 0}
    host.both(at(SECOND))
    service, journal = DuplicateService.open(site), host.journal()
    done = collect.collect(site, service.history, [service.municipality(URUGI)])
    assert (done.lines, done.failed) == ({"urugi": 5}, {})
    assert service.history.collected == {URUGI: journal.end}
    history = book(site)
    assert history.events == journal.events
    assert history.municipalities == journal.municipalities
    assert history.collected == {URUGI: journal.end}
    assert Ledger(site, "duplicates").verify().wrong == ""
    shown = run("status", "売木村", "--month", "2026-11", "--at", str(at(SECOND, "19:00:00")))
    assert shown.exit_code == 0, shown.output
    assert "受領済 2/2/2" in shown.stdout


@pytest.mark.parametrize("what", ["shorter", "another", "rewritten", "rubbish", "gone"])
def test_a_journal_that_is_not_what_was_collected_is_refused(
    site: Site, host: Host, what: str
) -> None:
    """Also one that was rewritten as a whole, hash by hash; the book stays byte for byte."""
    host.both(at(FIRST))
    assert run("collect", "売木村").exit_code == 0
    before = Ledger(site, "duplicates").path.read_bytes()
    path = host.journal().path
    lines = path.read_bytes().splitlines(keepends=True)
    if what == "rewritten":
        path.unlink()
        host.registered(days={str(FIRST): 1})
        host.turn(at(FIRST, "18:00:01"))
        host.both(at(FIRST, "18:00:02"))
    content = {
        "shorter": lines[:-1],
        "another": [*lines[:-1], lines[-1].replace(b'"count":2', b'"count":3')],
        "rewritten": [path.read_bytes()] if what == "rewritten" else [],
        "rubbish": [*lines, b'{"number":6,"before":"x","event":{}}\n'],
        "gone": [],
    }[what]
    path.write_bytes(b"".join(content))
    done = run("collect", "売木村", "--json")
    assert done.exit_code == 1
    assert "is not what was collected" in last(done)["failed"]["urugi"]
    assert Ledger(site, "duplicates").path.read_bytes() == before


def test_what_the_rules_refuse_does_not_come_into_the_book(site: Site, host: Host) -> None:
    """A host that records what may not be is not believed, though its chain holds."""
    host.turn(at(FIRST))
    journal = host.journal()
    journal.record(closed(difference(SECOND), 1, at(SECOND)))
    path = journal.path
    # The same line, of a day that is no business day: its chain holds, the rules do not.
    path.write_bytes(path.read_bytes().replace(b'"day":"2026-11-10"', b'"day":"2026-11-14"'))
    done = run("collect", "売木村", "--json")
    assert done.exit_code == 1
    assert "not a business day" in last(done)["failed"]["urugi"]
    assert difference(FIRST) in book(site).municipality(URUGI).rows


def test_a_journal_of_another_municipality_is_refused(site: Site, host: Host) -> None:
    """A folder or a setting that was mixed up: nobody's book gets a neighbour's days."""
    settings = json.loads(host.settings_path.read_text())
    settings["municipalities"]["urugi"]["code6"] = "204021"
    host.settings_path.write_text(json.dumps(settings))
    host.turn(at(FIRST))
    done = run("collect", "売木村", "--json")
    assert done.exit_code == 1
    assert "line 1 is of 204021" in last(done)["failed"]["urugi"]
    assert book(site).events == []


def test_a_host_that_does_not_answer_holds_up_no_other(site: Site, host: Host) -> None:
    """Each municipality of which nothing came is named."""
    host.both(at(FIRST))
    done = run("collect", "飯田市", "売木村", "--json")
    assert done.exit_code == 1
    assert list(last(done)["failed"]) == ["iida"]
    assert last(done)["lines"] == {"urugi": 5}
    assert book(site).municipality(URUGI).rows


def test_a_decision_is_made_on_the_host_and_is_in_the_book(site: Site, host: Host) -> None:
    """Who, why and what the register counts now; a refusal is the host's own sentence."""
    host.script = Script([Rule("refuse", attempt=1)])
    host.both(at(FIRST))
    assert run("collect", "売木村").exit_code == 0
    host.registered(days={str(FIRST): 3})
    done = run("resend", "売木村", str(FIRST), *BY, "--json")
    assert done.exit_code == 0, done.output
    (recorded,) = last(done)["recorded"]
    assert (recorded["event"], recorded["approved"], recorded["by"]) == ("resent", 3, "sousa01")
    assert book(site).events == host.journal().events
    assert book(site).municipality(URUGI).rows[difference(FIRST)].state is State.CANCELLED
    decisions: tuple[tuple[tuple[str, ...], str], ...] = (
        (("hold", "売木村"), "held"),
        (("hold", "売木村", "--release"), "released"),
        (("resend", "売木村", "--full", "--cause", "restore"), "full forced"),
    )
    for argv, event in decisions:
        assert last(run(*argv, *BY, "--json"))["recorded"][0]["event"] == event
    refused: tuple[tuple[tuple[str, ...], str], ...] = (
        (("hold", "売木村", "--release"), "nobody holds"),
        (("close", "売木村", "--answer", "a-1"), "no such answer"),
        (("resend", "売木村", str(FIRST), "--approved", "3"), "the host counts by itself"),
    )
    for argv, told in refused:
        exception = run(*argv, *BY).exception
        assert isinstance(exception, KosekiError)
        assert told in str(exception)
    assert book(site).events == host.journal().events


def test_rows_of_here_and_of_a_host_are_not_mixed(site: Site, host: Host) -> None:
    """What was recorded in the book itself is no line of a journal."""
    history = History(site)
    with history.alone():
        history.record(closed(difference(FIRST)))
    host.both(at(FIRST))
    done = run("collect", "売木村", "--json")
    assert done.exit_code == 1
    assert "were recorded here" in last(done)["failed"]["urugi"]
