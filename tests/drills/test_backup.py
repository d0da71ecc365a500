"""Backups while others are at work: what closes the log, and what looks at the seal."""

from __future__ import annotations

import pytest

from drills.conftest import Platform

# Closes the log's segment between the canary's row and the end of its transaction, each time.
CLOSE = """
runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d koseki_iida <<'SQL'
create function platform.close_log() returns trigger language plpgsql
    as 'begin perform pg_switch_wal(); return null; end';
create constraint trigger close_log after insert on platform.probe
    deferrable initially deferred for each row execute function platform.close_log();
SQL
"""
SEALS = "koseki-seal@remote.service"
LOCK = "/run/koseki-seal.remote.lock"


@pytest.mark.drill
def test_the_canary_is_found_whoever_closes_the_log(platform: Platform):
    """The log is closed behind the canary by somebody else: it is looked for where it lies."""
    leader = platform.leader()
    assert leader is not None
    platform.sh(leader, CLOSE)
    platform.koseki("verify", "backup")


@pytest.mark.drill
def test_a_seal_waits_for_who_looks_at_it(platform: Platform):
    """The beat comes while a verification reads the sealed copies: it seals when that is done."""
    platform.sh("remote-backup1", f"flock -s {LOCK} sleep 3 & sleep 0.5; systemctl start {SEALS}")
