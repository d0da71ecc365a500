"""A setting that needs a restart reaches every member in order, and nobody else's doing (K-03)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from drills.conftest import Platform, settled, wait_for
from koseki_ops import ansible_run

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
    playbook = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "--inventory",
            str(platform.site.inventory),
            "playbooks/restart-members.yml",
        ],
        cwd=platform.site.root,
        env=ansible_run.environment(platform.site),
        capture_output=True,
        text=True,
        check=False,
    )
    assert playbook.returncode == 0, playbook.stdout[-2000:]
    settled(platform)
    assert {in_force(platform, host) for host in ("primary1", "secondary1")} == {LOWERED}
    assert platform.leader() == leader
