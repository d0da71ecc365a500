"""Backups while others are at work, runs that were missed (K-04)."""

from __future__ import annotations

import json
import re

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
def test_the_canary_is_found_whoever_closes_the_log(platform: Platform) -> None:
    """The log is closed behind the canary by somebody else: it is looked for where it lies."""
    leader = platform.leader()
    assert leader is not None
    platform.sh(leader, CLOSE)
    platform.koseki("verify", "backup")
    platform.sh(leader, f"runuser -u postgres -- psql -XAtq -d koseki_iida -c '{OPEN}'")


@pytest.mark.drill
def test_a_seal_waits_for_who_looks_at_it(platform: Platform) -> None:
    """The timer fires while a verification reads the sealed copies: it seals when that is done."""
    looks = f"flock -s {LOCK} sh -c 'sleep 3; date -u +%Y%m%dT%H%M%SZ' & sleep 0.5"
    newest = "koseki-seal list remote | tail -n 1 | cut -d ' ' -f 1"
    said = platform.sh("remote-backup1", f"{looks}; systemctl start {SEALS}; wait; {newest}")
    looked_until, sealed_at = said.split()
    assert looked_until <= sealed_at


# A vault of its own beside the real one, whose sealed store has little room.
SMALL = """
set -eu
trap 'chattr -R -i /srv/drill-sealed; umount /srv/drill-sealed; rm -rf /srv/drill /srv/drill-sealed
    rm /etc/koseki/vaults/drill.conf /var/lib/koseki/seal/drill.index /run/koseki-seal.drill.lock
    ' EXIT
mkdir /srv/drill /srv/drill-sealed
mount -t tmpfs -o size=3m tmpfs /srv/drill-sealed
printf 'ROOT=/srv/drill\\nACCOUNT=backup\\nKEEP_GENERATIONS=2\\nKEEP_DAYS=2\\n' \\
    >/etc/koseki/vaults/drill.conf
seal() { code=0; "koseki-seal" "$@" 2>&1 || code=$?; echo "exit $code"; }
head -c 1000000 /dev/urandom >/srv/drill/one; chmod a+r /srv/drill/one
echo FIRST; seal make drill
head -c 4000000 /dev/urandom >/srv/drill/big; chmod a+r /srv/drill/big
echo FULL; seal make drill; seal list drill; seal verify drill
rm /srv/drill/big; touch /srv/drill/closed; chmod 0 /srv/drill/closed
echo CLOSED; seal make drill
rm /srv/drill/closed
echo EXPIRED; for turn in 1 2 3 4; do seal make drill; done; seal list drill; seal verify drill
"""


@pytest.mark.drill
def test_a_seal_is_whole_or_none(platform: Platform) -> None:
    """No room: no generation, none expires, one sentence; what nobody may read is named.

    Generations whose time is over leave the chain of the others whole.
    """
    said = platform.sh("remote-backup1", SMALL)
    first, full, closed, expired = re.split(r"FIRST|FULL|CLOSED|EXPIRED", said)[1:]
    assert first.endswith("exit 0\n")
    assert "nothing was sealed" in full
    assert "make room on /srv/drill-sealed" in full
    assert full.count("exit 1") == 1
    assert len(re.findall(r"^\d{8}T\d{6}Z 1 1000000$", full, re.MULTILINE)) == 1
    assert full.endswith("every hash and the chain hold\nexit 0\n")
    assert "closed cannot be read by backup and was not sealed" in closed
    assert closed.endswith("exit 1\n")
    assert expired.count("exit 0") == 6
    # Of six: the newest two and each day's first; a fourth when the day ended meanwhile.
    assert len(re.findall(r"^\d{8}T\d{6}Z 1 1000000$", expired, re.MULTILINE)) in {3, 4}
    assert "every hash and the chain hold" in expired


@pytest.mark.drill
def test_a_backup_is_safe_in_anybodys_hands(platform: Platform) -> None:
    """Root becomes the server's account; others, and half a command, are refused at once."""
    leader = platform.leader()
    (follows,) = [host for host in ("primary1", "secondary1") if host != leader]
    script = (
        'try() { code=0; "$@" 2>&1 || code=$?; echo "exit $code"; }; '
        "try koseki-backup; try koseki-backup incr; try koseki-backup anything 1; "
        "try runuser -u nobody -- /usr/local/sbin/koseki-backup incr 1; try koseki-backup incr 1; "
        "stat -c %U /run/lock/koseki-backup"
    )
    said = platform.sh(follows, script).splitlines()
    assert [line for line in said if line.startswith("exit")] == [*["exit 2"] * 4, "exit 0"]
    assert said[-1] == "postgres"
    assert "this host records along" in " ".join(said)


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
def test_a_missed_backup_is_made_up_for(platform: Platform) -> None:
    """Both members were off then: whoever leads afterwards makes the copy, in both vaults.

    The run comes while the servers still start, and that of another kind with it.
    """
    members = ("primary1", "secondary1")
    before = {kind: backups(platform, kind) for kind in ("diff", "incr")}
    for host in members:
        platform.miss_runs(host, "pgbackrest-*")
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
        wait_for(lambda: not platform.at_work(host, COPIES), f"backups of {host}", 240)  # noqa: B023 - called now
        assert not platform.sh(host, "systemctl --failed --no-legend --plain")
