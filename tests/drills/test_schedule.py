"""The watch by the clock: a run that dies, a host that is down, a machine that slept."""

from __future__ import annotations

import re
from email import policy
from email.message import EmailMessage
from email.parser import Parser

import pytest

from drills.conftest import Platform, wait_for
from drills.corelock import cores
from drills.ledger import LEDGER

WATCH_HOST = "workstation1"
SWEEP = "koseki-drift.service"
KILL = """
systemctl start --no-block {unit}; sleep {pause}
systemctl kill --signal=KILL {unit} 2>/dev/null
while [ "$(systemctl show -P ActiveState {unit})" = activating ]; do sleep 0.1; done
systemctl show -P Result {unit}
"""
# The first is stopped, so that it is at work for as long as the second is looked for.
TWICE = """
systemctl start --no-block {unit}
until pid=$(pgrep -x -u koseki-watch koseki); do sleep 0.02; done
kill -STOP $pid
systemctl show -P MainPID {unit}
systemctl start --no-block {unit}; sleep 1
systemctl show -P MainPID {unit}
pgrep -cx -u koseki-watch koseki
kill -CONT $pid
"""
STAMP = "/var/lib/systemd/timers/stamp-koseki-drift.timer"


def run(platform: Platform, unit: str) -> int:
    """Start a run as its timer would, wait for its end, and return its exit code.

    A run that is at work already would be joined, and tell of what it saw before: its end first.
    """
    shown = f"systemctl show -P ActiveState {unit}"
    wait_for(lambda: platform.sh(WATCH_HOST, shown).strip() != "activating", "the run before", 120)
    with cores(1):
        LEDGER.count("sweep")
        platform.sh(WATCH_HOST, f"systemctl start {unit}", check=False)
    return int(platform.sh(WATCH_HOST, f"systemctl show -P ExecMainStatus {unit}"))


def said(platform: Platform, unit: str) -> str:
    """Return what the last run left in the journal."""
    last = f"$(systemctl show -P InvocationID {unit})"
    return platform.sh(WATCH_HOST, f"journalctl -o cat --no-pager _SYSTEMD_INVOCATION_ID={last}")


def killed(platform: Platform, pause: float) -> None:
    """Kill a run some seconds after its start; sooner where it was at its end by then."""
    while platform.sh(WATCH_HOST, KILL.format(unit=SWEEP, pause=pause)).strip() != "signal":
        pause /= 2
        assert pause > 0.02, said(platform, SWEEP)


@pytest.mark.drill
def test_a_run_that_is_killed_holds_up_nothing(platform: Platform) -> None:
    """SIGKILL in the middle, several times; the next one asks every host and ends well."""
    for pause in (0.2, 0.8, 1.5):
        killed(platform, pause)
    assert run(platform, SWEEP) == 0, said(platform, SWEEP)
    assert f"{WATCH_HOST} " in said(platform, SWEEP)


@pytest.mark.drill
def test_two_runs_never_overlap(platform: Platform) -> None:
    """If the timer fires while a run is active, no second one starts."""
    first, after, count = platform.sh(WATCH_HOST, TWICE.format(unit=SWEEP)).split()
    assert (first != "0", after, count) == (True, first, "1")


@pytest.mark.drill
def test_a_host_that_is_down_is_not_verified(platform: Platform) -> None:
    """It is named, the others were asked, and the run does not end as if all were well."""
    platform.lab.kill("registry-link1")
    try:
        assert run(platform, SWEEP) == 2
        lines = said(platform, SWEEP).splitlines()
        assert any("registry-link1" in line and "not verified" in line for line in lines), lines
        assert any(line.startswith("primary1") and "as applied" in line for line in lines), lines
    finally:
        platform.lab.start("registry-link1")
    wait_for(lambda: not run(platform, SWEEP), "a sweep that ends well", 120)


@pytest.mark.drill
def test_a_missed_sweep_is_made_up_for(platform: Platform) -> None:
    """A machine that was off then sweeps by itself as soon as it is there again."""
    platform.sh(WATCH_HOST, f"touch -d '-1 hour' {STAMP} && sync")
    platform.lab.kill(WATCH_HOST)
    platform.lab.start(WATCH_HOST)
    shown = f"systemctl show -P ExecMainExitTimestampMonotonic {SWEEP}"
    wait_for(lambda: platform.sh(WATCH_HOST, shown).strip() != "0", "a sweep by itself")
    assert platform.sh(WATCH_HOST, f"systemctl show -P ExecMainStatus {SWEEP}").strip() == "0"
    platform.koseki("verify", "schedule")


@pytest.mark.drill
def test_new_drift_is_mailed_once_and_so_is_its_end(platform: Platform) -> None:
    """The host's own MTA keeps a mail for the change, none for the next sweep, one for its end."""
    # What was there before has been told by then.
    wait_for(lambda: not run(platform, SWEEP), "a sweep that ends well")
    platform.sh(WATCH_HOST, "rm -f /var/mail/root")
    platform.sh("secondary1", "chmod 0600 /etc/hosts")
    try:
        assert [run(platform, SWEEP), run(platform, SWEEP)] == [1, 1]
    finally:
        platform.sh("secondary1", "chmod 0644 /etc/hosts")
    assert run(platform, SWEEP) == 0
    wait_for(lambda: len(mails(platform)) > 1, "two mails")
    new, over = mails(platform)
    assert "新規 new 1" in new["Subject"]
    assert "解消 resolved 1" in over["Subject"]
    told = new.get_content()
    assert "secondary1: file /etc/hosts (mode)" in told
    assert "koseki apply --limit secondary1" in told


def mails(platform: Platform) -> list[EmailMessage]:
    """Return what the host that keeps watch has in its mailbox."""
    text = platform.sh(WATCH_HOST, "cat /var/mail/root", check=False)
    whole = [f"From {part}" for part in re.split(r"^From ", text, flags=re.MULTILINE) if part]
    parse = Parser(EmailMessage, policy=policy.default).parsestr
    return [parse(one.partition("\n")[2]) for one in whole]


@pytest.mark.drill
def test_the_second_opinion_names_a_change_by_hand(platform: Platform) -> None:
    """The engines, asked from the seat under check, tell the host, the change and the remedy."""
    platform.sh("secondary1", "chmod 0600 /etc/hosts")
    try:
        with cores(2):
            LEDGER.count("check")
            asked = platform.koseki("watch", "opinion", check=False)
        told = asked.stderr
        assert asked.returncode == 1, told
        assert "secondary1 differs from the inventory, 1 would change" in told
        # Whatever the hosts' ordinary life has brought, the engines find nothing else to change.
        assert told.count("differs from the inventory") == 1, told
        assert "run `koseki apply --limit secondary1`" in told
        assert platform.sh("secondary1", "stat -c %a /etc/hosts").strip() == "600"
    finally:
        platform.sh("secondary1", "chmod 0644 /etc/hosts")
