"""The commands on what sweeps left: what they print, and how they end."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from drift_samples import NOW, drifted, not_verified, sweep, waiver
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.lazy_group import LazyGroup
from koseki_ops.drift.cli import HISTORY, drift_group
from koseki_ops.drift.history.store import DATABASE_FILE, HEAD_FILE, Store
from koseki_ops.drift.history_cli import since_moment
from koseki_ops.drift.record import record
from koseki_ops.drift.report.alerts import ALERTS_FILE
from koseki_ops.drift.report.page import PAGE_FILE
from koseki_ops.drift.scheduled import METRICS_FILE
from koseki_ops.plan.site import Site

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A checkout of its own, with a waiver that is committed."""
    shutil.copytree(
        ROOT / "inventories",
        tmp_path / "inventories",
        symlinks=True,
        ignore=shutil.ignore_patterns("secrets.yml"),
    )
    rows = [waiver(drifted(1)).model_dump(mode="json", exclude_none=True)]
    path = tmp_path / "inventories/iida/group_vars/all/waivers.yml"
    path.write_text(yaml.safe_dump({"waivers": rows}, allow_unicode=True), encoding="utf-8")
    somebody = ["-c", "user.name=操作者一", "-c", "user.email=sousa01@koseki.internal"]
    for words in (["init", "-q"], ["add", "-A"], [*somebody, "commit", "-qm", "plan"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setenv("KOSEKI_ROOT", str(tmp_path))
    return Site.open("lab")


GROUP = LazyGroup("drift", places=HISTORY)


def run(*words: str) -> Result:
    """Run a command as the group would."""
    return CliRunner().invoke(GROUP, list(words), catch_exceptions=True)


def last_line(result: Result) -> dict[str, Any]:
    """Return the JSON object at the end."""
    plain: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return plain


def test_history_tells_changes_and_counts_the_rest(site: Site) -> None:
    """Began, changed, ended; the quiet sweeps between are one line; JSON has them all."""
    history = Store.open(site)
    history.append(sweep(drifted(), at=NOW))
    for number in range(1, 4):
        history.append(sweep(drifted(), at=NOW + number * 900))
    history.append(sweep(drifted(seen="0777"), drifted(1), at=NOW + 3600))
    history.append(sweep(not_verified(), unreachable=["secondary1"], at=NOW + 4500))
    result = run("history", "--json")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0] == "2026-11-24 08:15  3742 as applied, 1 drifted (0 waived), 0 not verified"
    assert lines[1].startswith(f"  + {drifted().id} primary1 file /etc/patroni/config.yml mode: ")
    assert lines[2] == "  3 sweeps without a change"
    assert lines[4].startswith("  ~ ")
    assert lines[5].endswith("unmanaged, waived by W-2026-001")
    assert sum(line.startswith("  - ") for line in lines) == 2
    told = last_line(result)
    assert isinstance(told["sweeps"], list)
    assert len(told["sweeps"]) == 6
    assert told["head"] == history.head()
    late = run("history", "--since", "2026-11-24T09:20:00+09:00")
    assert late.stdout.splitlines()[0].startswith("2026-11-24 09:30")


def test_since(site: Site) -> None:
    """A day begins at midnight in the city; a moment needs its zone."""
    assert site.is_lab
    assert since_moment("2026-11-24", "Asia/Tokyo") == NOW - 8 * 3600 - 900
    assert since_moment("2026-11-23T23:15:00Z", "Asia/Tokyo") == NOW
    assert since_moment(None, "Asia/Tokyo") == 0
    for bad in ("yesterday", "2026-11-31", "2026-11-24T09:00:00"):
        with pytest.raises(KosekiError, match="--since is not a date"):
            since_moment(bad, "Asia/Tokyo")


def test_waivers(site: Site) -> None:
    """One that covers is fine; one that matches nothing is said, with exit code 1."""
    assert isinstance(run("waivers").exception, KosekiError)
    history = Store.open(site)
    history.append(sweep(drifted(1), at=NOW))
    good = run("waivers", "--json")
    assert good.exit_code == 0
    assert "W-2026-001  sousa01, approved by sousa02: covers 1, 14 days left" in good.stdout
    history.append(sweep(at=NOW + 900))
    bad = run("waivers", "--json")
    assert bad.exit_code == 1
    assert "matches nothing" in bad.stdout
    (row,) = last_line(bad)["waivers"]
    assert row["expires"] == "2026-12-07T22:00:00Z"


def test_an_uncommitted_waiver_covers_nothing(site: Site) -> None:
    """Whoever edits the file without a commit reopens nothing and hides nothing."""
    path = site.root / "inventories/iida/group_vars/all/waivers.yml"
    rows = [waiver(drifted(), id="W-2026-002").model_dump(mode="json", exclude_none=True)]
    path.write_text(yaml.safe_dump({"waivers": rows}, allow_unicode=True), encoding="utf-8")
    assert Store.open(site).append(sweep(drifted())).open
    result = run("waivers")
    assert result.exit_code == 1
    assert "W-2026-002 is not committed as it stands here" in result.stdout


def test_export(site: Site, tmp_path: Path) -> None:
    """To standard output or to a file in one step."""
    Store.open(site).append(sweep(drifted()))
    root = ET.fromstring(run("export", "--format", "junit").stdout)  # noqa: S314 - our own text
    assert root.get("failures") == "1"
    target = tmp_path / "drift.prom"
    result = run("export", "--format", "prometheus", "--output", str(target))
    assert result.exit_code == 0
    assert "koseki_drift_items" in target.read_text()
    assert json.loads(run("export", "--format", "sarif").stdout)["version"] == "2.1.0"
    wrong = run("export", "--format", "sarif", "--output", "/proc/none/drift.sarif")
    assert isinstance(wrong.exception, KosekiError)


def test_page(site: Site) -> None:
    """The page lies beside the history."""
    Store.open(site).append(sweep(drifted()))
    result = run("page")
    path = site.state / "drift/drift.html"
    assert result.stdout == f"page: {path}\n"
    assert "/etc/patroni/config.yml" in path.read_text(encoding="utf-8")


def test_verify_history(site: Site) -> None:
    """Exit 0 while it holds, 1 with a sentence when it was tampered with."""
    history = Store.open(site)
    history.append(sweep(drifted()))
    history.append(sweep(at=NOW + 900))
    good = run("verify-history", "--json")
    assert good.exit_code == 0
    assert "2 sweeps, the chain is whole" in good.stdout
    with closing(sqlite3.connect(site.state / "drift" / DATABASE_FILE)) as connection, connection:
        connection.execute("UPDATE sweeps SET drifted = 0 WHERE number = 1")
    bad = run("verify-history", "--json")
    assert bad.exit_code == 1
    assert str(last_line(bad)["fault"]).startswith("sweep 1 of the history of drift was tampered")


def test_the_group_hands_its_site_on(site: Site) -> None:
    """`koseki drift -i iida page` and `koseki drift page -i iida` are about the same site."""
    for words in (["-i", "iida", "page"], ["page", "-i", "iida"]):
        result = CliRunner().invoke(drift_group, words)
        assert result.stdout == f"page: {site.var / 'iida/drift/drift.html'}\n"


def with_mta(site: Site, folder: Path) -> Path:
    """Give a site an MTA that takes every mail into one file; return its program."""
    program = folder / "sendmail"
    program.write_text(f"#!/bin/sh\ncat >>{folder}/mail\n")
    program.chmod(0o755)
    settings = site.root / "inventories/iida/group_vars/all/drift.yml"
    plain = yaml.safe_load(settings.read_text(encoding="utf-8"))
    plain["drift_alerts"]["sendmail"] = str(program)
    settings.write_text(yaml.safe_dump(plain, allow_unicode=True), encoding="utf-8")
    return program


def test_a_sweep_of_the_schedule_leaves_everything(site: Site, tmp_path: Path) -> None:
    """It is kept, told, measured and shown; a person's own sweep is kept only."""
    program = with_mta(site, tmp_path)
    folder = site.state / "drift"
    person = record(site, sweep(drifted()), alert=False)
    assert [said[:29] for said in person.notices] == ["W-2026-001 matches nothing: p"]
    assert person.sweep.findings[0].first_seen == NOW
    assert not (folder / PAGE_FILE).exists()
    watch = record(site, sweep(drifted(), drifted(1), at=NOW + 900), alert=True)
    assert watch.notices == ()
    assert [finding.waiver for finding in watch.sweep.findings] == ["", "W-2026-001"]
    assert "koseki_drift_open_items 1.0" in (folder / METRICS_FILE).read_text()
    assert drifted().id in (folder / PAGE_FILE).read_text(encoding="utf-8")
    assert len(json.loads((folder / "alerts" / ALERTS_FILE).read_text(encoding="utf-8"))) == 1
    assert (tmp_path / "mail").read_text().count("Subject:") == 1
    program.unlink()
    unreachable = record(site, sweep(at=NOW + 1800), alert=True)
    assert "the MTA cannot be started" in unreachable.notices[-1]


def test_a_tampered_history_is_told_once(site: Site, tmp_path: Path) -> None:
    """The schedule says so by mail, once, and once more when a new history begins."""
    program = with_mta(site, tmp_path)
    folder = site.state / "drift"
    record(site, sweep(), alert=True)
    (folder / HEAD_FILE).unlink()
    program.rename(tmp_path / "away")
    with pytest.raises(KosekiError, match=r"head file .* is missing.*the MTA cannot be started"):
        record(site, sweep(at=NOW + 1), alert=True)
    (tmp_path / "away").rename(program)
    for number in (1, 2):
        with pytest.raises(KosekiError, match=r"head file .* is missing"):
            record(site, sweep(at=NOW + number), alert=True)
    mail = (tmp_path / "mail").read_text()
    assert mail.count("Subject:") == 1
    assert "koseki drift verify-history" in mail
    for name in ("history.db", "history.db-wal", "history.db-shm"):
        (folder / name).unlink(missing_ok=True)
    record(site, sweep(at=NOW + 3), alert=True)
    assert (tmp_path / "mail").read_text().count("Subject:") == 2


def test_each_command_has_an_example() -> None:
    """A command's help shows how it is called."""
    context = click.Context(GROUP)
    for name, (_, line) in HISTORY.items():
        command = GROUP.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert f"Example: koseki drift {name}" in str(command.help)
        # The line in the group's help begins as the command's own.
        assert str(command.help).startswith(line.removesuffix("."))
