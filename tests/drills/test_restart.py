"""What a restart must bring: a setting to every member in order, a missed backup (K-03, K-04)."""

from __future__ import annotations

import json

import pytest

from drills.conftest import Platform, playbook, settled, wait_for

LOWERED = "123"


def in_force(platform: Platform, host: str) -> str:
    """Return the setting as a server runs with it."""
    return platform.sh(host, "runuser -u postgres -- psql -XqtAc 'SHOW max_connections'").strip()


@pytest.mark.drill
def test_members_restart_when_told_to(platform: Platform):
    """Lowered settings are the hard case: no replica may have less than its leader."""
    leader = platform.leader()
    patronictl = "patronictl -c /etc/patroni/config.yml"
    platform.sh(
        "primary1", f"{patronictl} edit-config --force --quiet -p max_connections={LOWERED}"
    )
    wait_for(
        lambda: all(row.get("Pending restart") for row in platform.cluster().values()),
        "pending on every member",
    )
    assert in_force(platform, "primary1") != LOWERED
    playbook(platform, "restart-members")
    settled(platform)
    assert {in_force(platform, host) for host in ("primary1", "secondary1")} == {LOWERED}
    assert platform.leader() == leader


def backups(platform: Platform, kind: str) -> dict[int, set[str]]:
    """Return the labels of one kind of backup by repository, as the leader reads them."""
    leader = platform.leader()
    assert leader
    ask = "cd / && runuser -u postgres -- pgbackrest --stanza=koseki info --output=json"
    (stanza,) = json.loads(platform.sh(leader, ask))
    found: dict[int, set[str]] = {row["key"]: set() for row in stanza["repo"]}
    for row in stanza["backup"]:
        if row["type"] == kind:
            found[row["database"]["repo-key"]].add(row["label"])
    return found


@pytest.mark.drill
def test_a_backup_that_was_slept_through_is_made_up_for(platform: Platform):
    """Both members were off at the beat: whoever leads afterwards makes the copy, in both vaults.

    The beat comes while the servers still start, and that of another kind with it.
    """
    members = ("primary1", "secondary1")
    before = {kind: backups(platform, kind) for kind in ("diff", "incr")}
    for host in members:
        platform.sh(host, "touch -d '-8 days' /var/lib/systemd/timers/stamp-pgbackrest-*; sync")
        platform.lab.kill(host)
    for host in members:
        platform.lab.start(host)
    settled(platform)

    def made_up_for() -> bool:
        after = {kind: backups(platform, kind) for kind in before}
        return all(
            after[kind][number] - before[kind][number] for kind in before for number in before[kind]
        )

    wait_for(made_up_for, "both kinds in both repositories", 240)
    at_work = "systemctl list-units --no-legend --plain --state=activating 'pgbackrest-*.service'"
    for host in members:
        wait_for(lambda host=host: not platform.sh(host, at_work), f"the backups of {host}", 240)
        assert not platform.sh(host, "systemctl --failed --no-legend --plain")
