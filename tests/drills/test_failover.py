"""正 is lost under load or as timers fire, and is back: nothing is lost, never two leaders (K-03).

The outage is measured and printed (`pytest -s`, or the bench's table); it is no timed assertion.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from drills.conftest import DISTURBED, OURS, Platform, settled, wait_for
from drills.corelock import cores
from koseki_ops.lab import writers
from koseki_ops.lab.writers import Acknowledged

SLUG = "iida"
LOST, OTHER = "primary1", "secondary1"
LOAD_SECONDS = 8
REMOTE = "remote-backup1"
NO_WAY = "nft insert rule inet koseki output ip daddr {address} reject"
# The second record is acknowledged by the other server, so it has the first one's segment whole.
CLOSE_LOG = """runuser -u postgres -- psql -XqtA <<'SQL'
SELECT pg_logical_emit_message(true, 'drill', 'in it') IS NULL \\gset
SELECT pg_walfile_name(pg_switch_wal());
SELECT pg_logical_emit_message(true, 'drill', 'behind it') IS NULL \\gset
SQL
"""
IN_VAULT = (
    "cd / && runuser -u postgres -- pgbackrest --stanza=koseki --repo={} repo-ls --recurse archive"
)
RECONCILE = f"koseki-link-reconcile@{SLUG}.service"


def kill(platform: Platform) -> None:
    """Cut the power of 正."""
    platform.lab.kill(LOST)


def bring_back(platform: Platform) -> None:
    """Give 正 its power again."""
    platform.lab.start(LOST)


def cut(platform: Platform) -> None:
    """Cut the network between 正 and everything else; 正 itself goes on."""
    platform.lab.partition(LOST, "all")


def heal(platform: Platform) -> None:
    """Mend the network."""
    platform.lab.heal()


def overlap(one: list[Acknowledged], other: list[Acknowledged]) -> bool:
    """Say whether two servers acknowledged writes of their own in one span of time."""
    if not one or not other:
        return False
    return max(one[0].at, other[0].at) < min(one[-1].at, other[-1].at)


@pytest.mark.drill
@pytest.mark.parametrize(("lose", "mend"), [(kill, bring_back), (cut, heal)], ids=["kill", "cut"])
def test_the_leader_is_lost_under_load(
    platform: Platform, lose: Callable[[Platform], None], mend: Callable[[Platform], None]
) -> None:
    """No acknowledged row is missing, one leader at a time, the old one rejoins by itself."""
    lab = platform.lab
    assert platform.leader() == LOST
    municipality = writers.municipality_writer(lab, SLUG)
    servers = {host: writers.server_writer(lab, host, SLUG) for host in (LOST, OTHER)}
    for writer in (municipality, *servers.values()):
        writers.start(lab, writer)
    time.sleep(LOAD_SECONDS)

    # Nothing heavy begins beside it: this minute is promised.
    with cores(1):
        lost_at = time.time()
        lose(platform)
        wait_for(lambda: writers.acknowledged_since(lab, municipality, lost_at), "writes go on", 60)
    time.sleep(LOAD_SECONDS)

    # A machine that lost its power lost its log in /run; what it was acknowledged is in the rows.
    by_server = {OTHER: writers.acknowledged(lab, servers[OTHER])}
    if lose is cut:
        by_server[LOST] = writers.acknowledged(lab, servers[LOST])
        assert by_server[LOST], "the writer on 正 never wrote: the drill shows nothing"
        assert not overlap(by_server[LOST], by_server[OTHER]), "two leaders accepted writes"
    mend(platform)
    settled(platform)
    writers.stop(lab, municipality)
    for host, writer in servers.items():
        if lose is cut or host == OTHER:
            writers.stop(lab, writer)

    assert platform.leader() == OTHER
    rows = writers.acknowledged(lab, municipality)
    missing = {row.number for row in rows} - writers.present(lab, OTHER, SLUG, municipality)
    assert not missing, f"acknowledged and lost: {sorted(missing)[:10]}"
    for host, found in by_server.items():
        gone = {row.number for row in found} - writers.present(lab, OTHER, SLUG, servers[host])
        assert not gone, f"acknowledged by {host} and lost: {sorted(gone)[:10]}"
    print(f"\noutage after {lose.__name__}: {writers.outage(rows):.1f} s, {len(rows)} rows written")

    platform.koseki("switchover", LOST)
    assert platform.leader() == LOST
    for writer in (municipality, *servers.values()):
        writers.clear(lab, LOST, SLUG, writer)
    platform.green(*DISTURBED)


def timer_units(platform: Platform, host: str) -> list[str]:
    """Return the units that the clock starts on a host."""
    shown = platform.sh(host, f"systemctl list-timers --all --output=json {OURS}")
    return [row["activates"] for row in json.loads(shown)]


def archived(platform: Platform, host: str, segment: str) -> bool:
    """Say whether both vaults have a segment of the log, as a host reads them."""
    return all(f"{segment}-" in platform.sh(host, IN_VAULT.format(vault)) for vault in (1, 2))


@pytest.mark.drill
@pytest.mark.leaves
def test_every_timer_fires_while_nobody_leads(platform: Platform) -> None:
    """What the clock starts then, and what 正 missed, ends well without anybody's help.

    正 takes closed segments with it that it never archived, and the other sees one vault alone.
    """
    lab = platform.lab
    # The watch's runs tell by mail what they find, and they would find 正: they have other drills.
    others = [host for host in lab.inventory.hosts if host not in {LOST, "workstation1"}]
    units = {host: timer_units(platform, host) for host in others}
    assert {"pgbackrest-full.service", "koseki-requests.service"} < set(units[OTHER])
    assert RECONCILE in units["registry-link1"]

    here, far = (lab.inventory.address_of(host, LOST) for host in ("registry-link1", REMOTE))
    platform.miss_runs(LOST)
    platform.sh(LOST, NO_WAY.format(address=f"{{ {here}, {far} }}"))
    platform.sh(OTHER, NO_WAY.format(address=far))
    closed = platform.sh(LOST, CLOSE_LOG).strip()
    kill(platform)
    for host, names in units.items():
        platform.sh(host, f"systemctl start --no-block {' '.join(names)}")
    said = f"journalctl -b -o cat --no-pager -u {RECONCILE}"
    wait_for(lambda: "begun again" in platform.sh("registry-link1", said), "nobody leads")
    leads = "runuser -u postgres -- psql -XqtAc 'SELECT NOT pg_is_in_recovery()'"
    wait_for(lambda: platform.sh(OTHER, leads, check=False).strip() == "t", "the other leads")
    copies = "journalctl -b -o cat --no-pager -u 'pgbackrest-*'"
    wait_for(lambda: "tried again" in platform.sh(OTHER, copies), "a copy that failed", 240)
    platform.sh(OTHER, "systemctl restart nftables; systemctl start koseki-backup-lag.service")
    wait_for(lambda: archived(platform, OTHER, closed), f"{closed} in both vaults", 150)
    bring_back(platform)
    settled(platform)

    for host in (LOST, *others):
        wait_for(lambda: not platform.at_work(host), f"the runs of {host}", 300)  # noqa: B023 - called now
    platform.green(*DISTURBED)
