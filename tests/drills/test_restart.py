"""What a restart must bring: a setting to every member, in order (K-03)."""

from __future__ import annotations

import pytest

from drills.conftest import Platform, settled, wait_for

LOWERED = "123"


def in_force(platform: Platform, host: str) -> str:
    """Return the setting as a server runs with it."""
    return platform.sh(host, "runuser -u postgres -- psql -XqtAc 'SHOW max_connections'").strip()


@pytest.mark.drill
@pytest.mark.leaves
def test_members_restart_when_told_to(platform: Platform) -> None:
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
    said = platform.koseki("restart", "--dry-run").stdout.splitlines()
    follows = [host for host in ("primary1", "secondary1") if host != leader]
    assert [line.split()[1].rstrip(",") for line in said[:-1]] == [*follows, leader]
    assert in_force(platform, "primary1") != LOWERED
    report = platform.report("restart", "--reason", "訓練")
    assert report["restarted"] == [*follows, leader]
    settled(platform)
    assert {in_force(platform, host) for host in ("primary1", "secondary1")} == {LOWERED}
    assert platform.leader() == leader
    assert platform.report("restart")["restarted"] == []
    (last,) = [
        row["last"]
        for row in platform.report("procedure", "list")["procedures"]
        if row["name"] == "restart"
    ]
    assert last["outcome"] == "completed"
