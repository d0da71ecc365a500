"""What an apply does when the world is not as it should be: a sentence, and nothing lost."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from drills.conftest import ONLY_BASELINE, Platform, beside, koseki, wait_for
from koseki_ops.trust.secrets import load_secrets

# A folder with one file of the baseline, which a small disk is mounted over.
SMALL = "/etc/profile.d"
# Where a change that could lock us out keeps what stood before, until it is proved.
ROLLBACK = "/run/koseki-rollback"
# What a drill breaks in the baseline is asked of it alone, what it breaks in the services of them:
# an apply of everything takes longer. That all is well again is the word of the sweep after each.
BASELINE, SERVICES = ONLY_BASELINE, ("--only", "services")


def unchanged(platform: Platform, *only: str) -> bool:
    """Say whether an apply would change nothing and nothing fails."""
    report = platform.report("apply", "--check", *only, check=False)
    return (report["changed"], report["failed"]) == (0, 0)


def told(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Return what a command said, after holding it to the form: this exit code, no traceback."""
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said, said
    return said


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a refusal said: exit 2, no traceback."""
    return told(done, 2)


def failed(done: subprocess.CompletedProcess[str]) -> str:
    """Return what an apply said that failed on some host: exit 1, no traceback."""
    return told(done, 1)


@pytest.mark.drill
def test_right_after_an_apply_nothing_is_due(platform: Platform) -> None:
    """The contract's object: changed 0, failed 0, and every host in it."""
    report: dict[str, Any] = platform.report("apply", "--check")
    assert (report["changed"], report["failed"]) == (0, 0)
    assert sorted(report["hosts"]) == sorted(platform.lab.inventory.hosts)
    assert report["seconds"] > 0


@pytest.mark.drill
def test_a_host_that_does_not_answer_is_named(platform: Platform) -> None:
    """The others go on: what was due on another host is done; exit 2."""
    platform.lab.kill("registry-link1")
    platform.sh("secondary1", "rm /etc/hosts")
    try:
        said = refused(koseki(platform.site, "apply"))
        assert "registry-link1 does not answer" in said
        assert platform.sh("secondary1", "grep -c primary1 /etc/hosts").strip() != "0"
    finally:
        platform.lab.start("registry-link1")


@pytest.mark.drill
def test_another_release_and_a_full_disk_are_refused(platform: Platform) -> None:
    """A host that is not Debian 13, one without room: each is named, and nothing is changed there.

    The one with what it runs, the other with the place and what is left of it.
    """
    old = platform.sh("remote-backup1", "cat /usr/lib/os-release")
    mark = "sed -i s/VERSION_CODENAME=trixie/VERSION_CODENAME=bookworm/ /usr/lib/os-release"
    platform.sh("remote-backup1", f"{mark} && rm /etc/hosts")
    platform.sh("application1", "mount -t tmpfs -o size=1m tmpfs /var/tmp && rm /etc/hosts")
    try:
        said = refused(koseki(platform.site, "apply", *BASELINE))
        assert "remote-backup1 runs Debian bookworm, the plan wants trixie" in said
        assert "application1 has 1024 KiB left on /var/tmp" in said
        for host in ("remote-backup1", "application1"):
            platform.sh(host, "test ! -e /etc/hosts")
    finally:
        platform.sh("remote-backup1", f"cat >/usr/lib/os-release <<'END'\n{old}END")
        platform.sh("application1", "umount /var/tmp")
    platform.koseki("apply", *BASELINE)


@pytest.mark.drill
def test_a_disk_that_fills_up_on_the_way(platform: Platform) -> None:
    """No space left for a file: host and reason are named, nothing half written; then healed."""
    platform.sh(
        "application1",
        f"mount -t tmpfs -o size=8k tmpfs {SMALL} && head -c 8192 /dev/zero >{SMALL}/fill",
    )
    try:
        said = failed(koseki(platform.site, "apply", *BASELINE))
        assert "application1: " in said
        assert "No space left on device" in said
        left = platform.sh("application1", f"find {SMALL} -type f ! -name fill")
        assert left == "", "a half-written file stayed"
    finally:
        platform.sh("application1", f"umount {SMALL}")
    wait_for(lambda: unchanged(platform, *BASELINE), "an apply that changes nothing")


@pytest.mark.drill
def test_a_host_that_cannot_be_asked_falls_out(platform: Platform) -> None:
    """It answers and lets nobody look: it is named with its own words, the others are served."""
    platform.sh("registry-link1", "chmod 0000 /usr/bin/sudo")
    platform.sh("secondary1", "rm /etc/hosts")
    try:
        said = failed(koseki(platform.site, "apply", *BASELINE))
        assert "registry-link1 could not be asked (" in said
        assert "sudo" in said
        assert platform.sh("secondary1", "grep -c primary1 /etc/hosts").strip() != "0"
    finally:
        platform.sh("registry-link1", "chmod 4755 /usr/bin/sudo")
    wait_for(lambda: unchanged(platform, *BASELINE), "an apply that changes nothing")


def goes_on_after(platform: Platform, undo: str, change: str = "true") -> None:
    """Leave a change and the timer that undoes it, as a run that ended before its proof; apply.

    The apply counts the proof as its one change, and leaves no timer.
    """
    arm = (
        f"mkdir -m 0700 {ROLLBACK} && echo '{undo}' >{ROLLBACK}/undo && {change} &&"
        " systemd-run --quiet --collect --unit=koseki-rollback --on-active=45"
        f" sh {ROLLBACK}/undo"
    )
    platform.sh("secondary1", arm)
    report = platform.report("apply", *BASELINE)
    assert (report["changed"], report["failed"]) == (1, 0)
    timers = platform.sh("secondary1", "systemctl list-units --no-legend 'koseki-rollback*'")
    assert timers == ""


@pytest.mark.drill
def test_a_firewall_that_was_broken_off_stays(platform: Platform) -> None:
    """A run that ended before its proof left a timer that undoes its rules: the next one proves."""
    goes_on_after(platform, undo="nft flush ruleset")
    assert "policy drop" in platform.sh("secondary1", "nft list ruleset")


@pytest.mark.drill
def test_a_door_that_was_broken_off_is_undone(platform: Platform) -> None:
    """A run that ended before its proof left a door that opens to nobody: the next one heals it.

    It gets in by the connection that is still open; no new one would.
    """
    assert unchanged(platform, *BASELINE)
    sshd, reload = "/etc/ssh/sshd_config.d/10-koseki.conf", "systemctl reload ssh.service"
    # At the top: what stands behind a `Match` is for those alone.
    lock_out = f'cp -p {sshd} {ROLLBACK}/0 && sed -i "1i DenyUsers *" {sshd} && {reload}'
    goes_on_after(platform, f"cp -p {ROLLBACK}/0 {sshd} && {reload}", lock_out)
    assert unchanged(platform, *BASELINE)


@pytest.mark.drill
def test_an_unhealthy_cluster_is_refused(platform: Platform) -> None:
    """Services are not touched while a member is unwell, and that member is named."""
    stop = 'kill -{} "$(systemctl show -p MainPID --value patroni.service)"'
    platform.sh("secondary1", stop.format("STOP"))
    platform.sh("application1", "rm /etc/haproxy/haproxy.cfg")
    try:
        said = refused(koseki(platform.site, "apply", "--only", "services"))
        assert "secondary1 is unhealthy" in said
        platform.sh("application1", "test ! -e /etc/haproxy/haproxy.cfg")
    finally:
        platform.sh("secondary1", stop.format("CONT"))
    wait_for(lambda: koseki(platform.site, "apply").returncode == 0, "an apply")
    assert unchanged(platform, *SERVICES)


@pytest.mark.drill
def test_two_applies_at_once(platform: Platform) -> None:
    """The second is refused at once, by the first one's process id; the first ends well."""
    with beside(platform.site, "apply", *BASELINE, stdout=subprocess.DEVNULL) as first:
        assert first.stderr is not None
        # It says so once it has the site's lock.
        while "baseline: 6 hosts" not in (line := first.stderr.readline()):
            assert line, "the first one ended before it began"
        said = refused(koseki(platform.site, "apply", *BASELINE))
        assert f"another apply is at work on {platform.site.name} (process {first.pid})" in said
        first.stderr.read()
    assert first.returncode == 0


@pytest.mark.drill
def test_without_the_vaults_password_no_host_is_asked(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing, then wrong: one sentence each, before anything is touched."""
    password = tmp_path / "password"
    monkeypatch.setenv("KOSEKI_VAULT_PASSWORD_FILE", str(password))
    assert "the vault password is missing" in refused(koseki(platform.site, "apply"))
    password.write_text("another\n", encoding="ascii")
    said = refused(koseki(platform.site, "apply"))
    assert "does not open the secrets" in said
    assert len(said.splitlines()) == 1


@pytest.mark.drill
def test_no_secret_is_told(platform: Platform) -> None:
    """No secret's value in what the engines wrote on the workstation, nor in a host's journal."""
    secrets = load_secrets(platform.site)
    values = [value for value in secrets.values() if isinstance(value, str)]
    values += secrets["operator_initial_passwords"].values()
    # The provisioning's own words and logs: it had every secret in its hands.
    kept = [platform.site.state / name for name in ("provisioning.log", "ansible.log")]
    kept += platform.site.state.glob("reports/*")
    said = list[str]()
    said += [path.read_text(encoding="utf-8", errors="replace") for path in kept if path.is_file()]
    said += [
        platform.sh(host, "journalctl --no-pager --output=cat; cat /proc/[0-9]*/cmdline")
        for host in platform.lab.inventory.hosts
    ]
    assert all(said), "a source of the search is empty: it shows nothing"
    assert [text[:80] for text in said if any(value in text for value in values)] == []
