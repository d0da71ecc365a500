"""Backups while others are at work, beats that were missed (K-04)."""

from __future__ import annotations

import json

import pytest

from drills.conftest import Platform, settled, wait_for

# Closes the log's segment between the canary's row and the end of its transaction, each time.
CLOSE = """
runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d koseki_iida <<'SQL'
create function platform.close_log() returns trigger language plpgsql
    as 'begin perform pg_switch_wal(); return null; end';
create constraint trigger close_log after insert on platform.probe
    deferrable initially deferred for each row execute function platform.close_log();
SQL
"""
OPEN = "drop trigger close_log on platform.probe; drop function platform.close_log()"
SEALS = "koseki-seal@remote.service"
COPIES = "'pgbackrest-*'"
LOCK = "/run/koseki-seal.remote.lock"


@pytest.mark.drill
def test_the_canary_is_found_whoever_closes_the_log(platform: Platform):
    """The log is closed behind the canary by somebody else: it is looked for where it lies."""
    leader = platform.leader()
    assert leader is not None
    platform.sh(leader, CLOSE)
    platform.koseki("verify", "backup")
    platform.sh(leader, f"runuser -u postgres -- psql -XAtq -d koseki_iida -c '{OPEN}'")


@pytest.mark.drill
def test_a_seal_waits_for_who_looks_at_it(platform: Platform):
    """The beat comes while a verification reads the sealed copies: it seals when that is done."""
    looks = f"flock -s {LOCK} sh -c 'sleep 3; date -u +%Y%m%dT%H%M%SZ' & sleep 0.5"
    newest = "koseki-seal list remote | tail -n 1 | cut -d ' ' -f 1"
    said = platform.sh("remote-backup1", f"{looks}; systemctl start {SEALS}; wait; {newest}")
    looked_until, sealed_at = said.split()
    assert looked_until <= sealed_at


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
        platform.slept_through(host, "pgbackrest-*")
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
    for host in members:
        wait_for(lambda host=host: not platform.at_work(host, COPIES), f"backups of {host}", 240)
        assert not platform.sh(host, "systemctl --failed --no-legend --plain")
