"""`koseki drift`: what a sweep found is printed, kept, and told by its exit code."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from drift_samples import HOSTS, NOW, drifted, not_verified, store, sweep, waiver
from koseki_ops.core.errors import KosekiError
from koseki_ops.drift import cli
from koseki_ops.drift.history.store import HEAD_FILE
from koseki_ops.drift.model import Cause, Sweep
from koseki_ops.plan.site import Site, project_root
from koseki_ops.trust.secrets import init_secrets


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A lab's site that was applied once."""
    shutil.copytree(
        project_root() / "inventories",
        tmp_path / "inventories",
        symlinks=True,
        ignore=shutil.ignore_patterns("secrets.yml"),
    )
    monkeypatch.setenv("KOSEKI_ROOT", str(tmp_path))
    made = Site.open("lab")
    init_secrets(made)
    made.ssh_config.parent.mkdir(parents=True)
    made.ssh_config.touch()
    return made


def run(monkeypatch: pytest.MonkeyPatch, found: Sweep, *words: str) -> Result:
    """Run the command; the hosts answered so that the sweep found this."""
    asked: list[list[str]] = []

    def swept(_site: object, _inventory: object, hosts: list[str], *_more: object) -> Sweep:
        asked.append(hosts)
        return found

    monkeypatch.setattr(cli, "sweep", swept)
    done = CliRunner().invoke(cli.drift_group, list(words))
    assert len(asked) <= 1
    return done


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("found", "code"),
    [
        (sweep(), 0),
        (sweep(drifted()), 1),
        (sweep(not_verified(), unreachable=["secondary1"]), 2),
        (sweep(drifted(), not_verified(), unreachable=["secondary1"]), 2),
    ],
    ids=["holds", "drifted", "not verified", "both"],
)
def test_the_exit_code_tells_what_was_found(
    monkeypatch: pytest.MonkeyPatch, found: Sweep, code: int
) -> None:
    """Not verified is worse than drifted: nobody knows what is there."""
    done = run(monkeypatch, found, "--json")
    assert done.exit_code == code, done.output
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["drifted"] == sum(f.answer.name == "DRIFTED" for f in found.findings)
    assert report["holds"] == sum(host.holds for host in found.hosts)
    assert [row["id"] for row in report["findings"]] == [f.id for f in found.findings]


@pytest.mark.usefixtures("site")
def test_each_host_has_its_line_and_each_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds, what drifted, what was not verified, and what a reader must know of a host."""
    long = drifted(1, seen="x" * 400)
    found = sweep(drifted(), long, not_verified(), unreachable=["secondary1"])
    first, *rest = found.hosts
    stale = replace(first, stale=True, adopted=True, not_applicable=7)
    done = run(monkeypatch, replace(found, hosts=(stale, *rest)))
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[: len(HOSTS)]] == list(HOSTS)
    assert "2 drifted" in lines[0]
    assert "(stale: the inventory has changed since)  (adopted as it was found)" in lines[0]
    assert "1 not verified" in lines[1]
    assert f"{drifted().id}  primary1: file /etc/patroni/config.yml mode: " in done.stdout
    assert "0640 → 0644" in done.stdout
    assert "secondary1: host secondary1: not verified: no answer within 10 s" in done.stdout
    assert "7 kernel parameters not verified" in done.stdout
    assert "x" * 100 + "…" not in done.stdout
    assert "…" in done.stdout


@pytest.mark.usefixtures("site")
def test_many_findings_are_counted_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person reads the first ones; JSON has them all."""
    found = sweep(*(drifted(number) for number in range(cli.SHOWN_FINDINGS + 5)))
    done = run(monkeypatch, found)
    assert "… and 5 more: --json has them all" in done.stdout


@pytest.mark.usefixtures("site")
def test_one_finding_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the beginning of its id; all that is known, and a file's two contents."""
    one = drifted(diff="-listen 5432\n+listen 5433")
    done = run(monkeypatch, sweep(one, drifted(1)), "--explain", one.id[:8])
    rows = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
    assert rows["what"].strip() == "file /etc/patroni/config.yml"
    assert rows["kind"].strip() == str(Cause.CHANGED_ON_HOST)
    assert rows["first seen"].strip() == "2026-11-23 23:15:00 UTC"
    assert rows["logged in"].strip() == "sousa01"
    assert "why" not in rows
    assert done.stdout.endswith("+listen 5433\n")


@pytest.mark.usefixtures("site")
def test_an_id_that_is_not_one_findings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """None begins so, or more than one: of seventeen, two share their first hex digit."""
    found = sweep(*(drifted(number) for number in range(17)))
    digits = Counter(finding.id[0] for finding in found.findings)
    shared = next(digit for digit, count in digits.items() if count > 1)
    for wanted, said in (
        ("zz", "no such finding now"),
        (shared, "several findings begin like that"),
    ):
        done = run(monkeypatch, found, "--explain", wanted)
        assert isinstance(done.exception, KosekiError)
        assert said in str(done.exception)


def test_a_history_that_was_tampered_with_hides_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found is printed all the same; the exit code is 2 and a sentence says why."""
    assert run(monkeypatch, sweep(at=NOW)).exit_code == 0
    (site.state / "drift" / HEAD_FILE).write_bytes(b"{")
    done = run(monkeypatch, sweep(drifted(), at=NOW + 900))
    assert done.exit_code == 2
    assert "file /etc/patroni/config.yml" in done.stdout
    assert "koseki: the head file of the history of drift is damaged" in done.stderr


def test_only_the_hosts_that_were_named_are_asked(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group stands for its hosts, in the plan's order; before any apply nobody is asked."""
    asked: list[str] = []

    def swept(_site: object, _inventory: object, hosts: list[str], *_more: object) -> Sweep:
        asked.extend(hosts)
        return sweep()

    monkeypatch.setattr(cli, "sweep", swept)
    words = ["--limit", "secondary1", "--limit", "databases"]
    CliRunner().invoke(cli.drift_group, words, catch_exceptions=False)
    assert asked == ["primary1", "secondary1"]
    site.ssh_config.unlink()
    done = CliRunner().invoke(cli.drift_group, words)
    assert "nothing was applied here yet" in str(done.exception)
    assert len(asked) == 2


@pytest.mark.usefixtures("site")
def test_no_difference_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep is given every value of the vault that is long enough to be one, to mask it."""
    given: list[str] = []

    def swept(*arguments: object) -> Sweep:
        secrets = arguments[-1]
        assert callable(secrets)
        given.extend(secrets())
        return sweep()

    monkeypatch.setattr(cli, "sweep", swept)
    nested = {"one": ["a secret of a list"], "two": {"three": "a secret of a table"}, "short": "x"}
    monkeypatch.setattr("koseki_ops.trust.secrets.load_secrets", lambda _site: nested)
    assert CliRunner().invoke(cli.drift_group, []).exit_code == 0
    assert given == ["a secret of a list", "a secret of a table"]


@pytest.mark.usefixtures("site")
def test_a_waived_difference_does_not_make_it_red(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is printed with its waiver's id, and the exit code is 0."""
    one = drifted()
    history = store(tmp_path / "kept", waiver(one))
    monkeypatch.setattr("koseki_ops.drift.record.Store.open", lambda _site: history)
    done = run(monkeypatch, sweep(one))
    assert done.exit_code == 0
    assert "(waived by W-2026-001)" in done.stdout
