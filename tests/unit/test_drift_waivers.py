"""A waiver covers one difference for a while, and nothing that could not be verified."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from drift_samples import NOW, drifted, not_verified, store, sweep, waiver
from koseki_ops.core.errors import KosekiError
from koseki_ops.drift.history.store import Store
from koseki_ops.drift.history.waivers import HANDED_OUT, committed_waivers, hand_out, terms_of
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import Waiver
from koseki_ops.plan.site import Site, WatchHost

DAY = 86_400


def test_a_waiver_covers_its_finding_and_no_other(tmp_path: Path) -> None:
    """Host, kind and name must be the same; the place too when it is given."""
    mine = drifted()
    others = [drifted(1), drifted(host="secondary1"), drifted(name="/etc/passwd")]
    history = store(tmp_path, waiver(mine))
    kept = history.append(sweep(mine, *others))
    assert [finding.waiver for finding in kept.findings] == ["W-2026-001", "", "", ""]
    assert [finding.id for finding in kept.open] == [finding.id for finding in others]
    (status,) = history.waiver_statuses
    assert (status.covers, status.fault, status.days_left) == ((mine.id,), "", 14)
    assert store(tmp_path).latest() == kept


@pytest.mark.parametrize(("place", "covered"), [(None, 2), ("mode", 1), ("owner", 1), ("hash", 0)])
def test_a_place_narrows_it(tmp_path: Path, place: str | None, covered: int) -> None:
    """Without a place it covers every field of the item, with one only this."""
    history = store(tmp_path, waiver(drifted(), place=place))
    kept = history.append(sweep(drifted(place="mode"), drifted(place="owner")))
    assert sum(bool(finding.waiver) for finding in kept.findings) == covered


def test_an_expired_waiver_reopens_the_finding(tmp_path: Path) -> None:
    """The second at which it ends is the first that it no longer covers."""
    row = waiver(drifted())
    end = row.expires.timestamp()
    history = store(tmp_path, row)
    assert not history.append(sweep(drifted(), at=end - 1)).open
    assert history.waiver_statuses[0].days_left == 1
    assert history.append(sweep(drifted(), at=end)).open
    assert "W-2026-001 expired at 2026-12-07T22:00:00Z" in history.waiver_statuses[0].fault
    assert history.waiver_statuses[0].days_left == 0


def test_a_waiver_begins_when_it_is_granted(tmp_path: Path) -> None:
    """Nobody waives what was before."""
    row = waiver(drifted())
    history = store(tmp_path, row)
    assert history.append(sweep(drifted(), at=row.granted.timestamp() - 1)).open
    assert "begins at 2026-11-23T22:00:00Z" in history.waiver_statuses[0].fault


def test_a_waiver_never_hides_what_was_not_verified(tmp_path: Path) -> None:
    """The same item, not verified, is open whatever is waived, and this is said."""
    blind = not_verified("primary1", kind="file", name=drifted().name, place="mode")
    history = store(tmp_path, waiver(drifted()))
    kept = history.append(sweep(blind))
    assert kept.open == kept.findings
    assert "a waiver never covers that" in history.waiver_statuses[0].fault
    history.append(sweep(not_verified("primary1"), unreachable=["primary1"], at=NOW + 900))
    assert "did not answer" in history.waiver_statuses[0].fault


def test_a_waiver_that_matches_nothing_is_said(tmp_path: Path) -> None:
    """A slip of the pen in a waiver, or a drift that is mended, is not left unsaid."""
    history = store(tmp_path, waiver(drifted(), name="/etc/patroni/config.yaml"))
    kept = history.append(sweep(drifted()))
    assert kept.open
    assert "W-2026-001 matches nothing" in history.waiver_statuses[0].fault
    (entry,) = store(tmp_path).history()
    assert entry.notices == (history.waiver_statuses[0].fault,)


def test_rewritten_terms_are_seen_and_cover_nothing(tmp_path: Path) -> None:
    """A longer end under the same id is tampering, committed or not, and years later too."""
    row = waiver(drifted())
    store(tmp_path, row).append(sweep(drifted()))
    store(tmp_path).append(sweep(at=NOW + 900))
    longer = waiver(drifted(), expires="2027-02-20T00:00:00Z")
    history = store(tmp_path, longer)
    assert history.append(sweep(drifted(), at=NOW + 60 * DAY)).open
    fault = history.waiver_statuses[0].fault
    assert "W-2026-001 was tampered with or rewritten (expires from 2026-12-07T22:00:00Z" in fault
    assert "new id" in fault
    assert not history.append(sweep(drifted(), at=NOW + 70 * DAY)).findings[0].waiver


def test_a_waiver_counts_once_it_is_committed(tmp_path: Path) -> None:
    """What an editor wrote and nobody committed covers nothing."""
    row = waiver(drifted())
    history = store(tmp_path, row, committed=[])
    assert history.append(sweep(drifted())).open
    assert "not committed as it stands here" in history.waiver_statuses[0].fault
    later = store(tmp_path, row)
    assert not later.append(sweep(drifted(), at=NOW + 900)).open


@pytest.fixture
def checkout(tmp_path: Path) -> Site:
    """A checkout in which the lab's waivers are a link to Iida's, as in this one."""
    for name in ("iida", "lab"):
        (tmp_path / "inventories" / name / "group_vars/all").mkdir(parents=True)
    values = tmp_path / "inventories/iida/group_vars/all/waivers.yml"
    write(values, {"waivers": []})
    link = tmp_path / "inventories/lab/group_vars/all/waivers.yml"
    link.symlink_to("../../../iida/group_vars/all/waivers.yml")
    git(tmp_path, "init", "-q")
    return Site(tmp_path, "lab", "lab")


def write(path: Path, content: object) -> None:
    """Write a value file."""
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def git(folder: Path, *arguments: str) -> None:
    """Run git as somebody."""
    somebody = ["-c", "user.name=操作者一", "-c", "user.email=sousa01@koseki.internal"]
    subprocess.run(["git", "-C", str(folder), *somebody, *arguments], check=True)


def commit_one(checkout: Site) -> Waiver:
    """Commit a waiver, and return it."""
    row = waiver(drifted())
    path = checkout.root / "inventories/iida/group_vars/all/waivers.yml"
    write(path, {"waivers": [row.model_dump(mode="json", exclude_none=True)]})
    git(checkout.root, "add", "-A")
    git(checkout.root, "commit", "-qm", "A waiver")
    return row


def test_committed_terms_are_the_commits(checkout: Site) -> None:
    """The file's own content counts for nothing; the commit's does."""
    row = waiver(drifted())
    plain = row.model_dump(mode="json", exclude_none=True)
    path = checkout.root / "inventories/iida/group_vars/all/waivers.yml"
    write(path, {"waivers": [plain]})
    assert committed_waivers(checkout) == ()
    git(checkout.root, "add", "-A")
    git(checkout.root, "commit", "-qm", "A waiver")
    assert committed_waivers(checkout) == (terms_of(row),)
    write(path, {"waivers": [{**plain, "expires": "2027-01-01T00:00:00Z"}]})
    assert committed_waivers(checkout) == (terms_of(row),)


def test_the_plans_own_waivers_are_read() -> None:
    """The history of a real site reads its waivers and its hosts from the inventory."""
    site = Site.open("lab")
    history = Store.open(site)
    assert history.folder == site.state / "drift"
    assert {"primary1", "remote-backup1", "workstation"} <= history.hosts
    assert len(history.waivers) == len(Inventory(site.inventory).shared["waivers"])


def test_a_host_that_keeps_watch_counts_what_the_seat_signed(checkout: Site) -> None:
    """It has no repository: nothing before the first apply, then the control node's alone."""
    row = commit_one(checkout)
    watch = replace(checkout, watch_host=WatchHost("workstation1", "lab", "lab", ""))
    assert committed_waivers(watch) == ()
    hand_out(checkout)
    shutil.rmtree(checkout.root / ".git")
    assert committed_waivers(watch) == (terms_of(row),)
    signed = checkout.state / "drift" / HANDED_OUT
    whole = signed.read_bytes()
    other = waiver(drifted(), expires="2027-01-01T00:00:00Z")
    for wrong in (
        whole.replace(b"W-2026-001", b"W-2026-002"),
        whole.split(b"\n", 1)[1],
        b"",
        b"00\n{}\n",
        whole.replace(terms_of(row)["expires"].encode(), terms_of(other)["expires"].encode()),
    ):
        signed.write_bytes(wrong)
        with pytest.raises(KosekiError, match="are not what was signed"):
            committed_waivers(watch)


def test_without_a_repository_nothing_is_committed(checkout: Site) -> None:
    """And nobody asks for git."""
    shutil.rmtree(checkout.root / ".git")
    assert committed_waivers(checkout) == ()


def test_a_git_that_is_missing_is_one_sentence(
    checkout: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a traceback in the middle of a sweep."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(KosekiError, match="a program is missing"):
        committed_waivers(checkout)


def test_what_git_cannot_say_is_not_that_there_is_none(checkout: Site) -> None:
    """A waiver that is committed would be none, and what it covers an alarm, without a word."""
    commit_one(checkout)
    assert committed_waivers(checkout)
    shutil.rmtree(checkout.root / ".git" / "objects")
    with pytest.raises(KosekiError, match="git cannot read"):
        committed_waivers(checkout)


def test_a_checkout_of_another_owner_is_read_all_the_same(checkout: Site) -> None:
    """As by root, of what an administrator cloned: git by itself refuses it."""
    commit_one(checkout)
    for path in (checkout.root, checkout.root / ".git"):
        os.chown(path, 65534, 65534)
    refused = subprocess.run(
        ["git", "-C", str(checkout.root), "rev-parse", "HEAD"], capture_output=True, check=False
    )
    assert b"dubious ownership" in refused.stderr
    assert committed_waivers(checkout)
