"""The double recording of a lab's two database servers: whether it stands, and its orderly end.

Asked of the servers themselves: what Patroni lists comes from its store, and may be what stood
there before a restart.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _

if TYPE_CHECKING:
    from koseki_ops.lab.lab import Lab

PATRONI = "patroni.service"
# The leader drops a standby that is gone in one round of its loop, ten seconds by any profile.
SECONDS_TO_DROP = 30


def records_twice(lab: Lab) -> bool:
    """Say whether one running server leads and another acknowledges its every transaction."""
    ask = "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'"
    answers = [_psql(lab, host, ask) for host in lab.inventory.hosts_in("databases")]
    return [answer.split() for answer in answers if answer] == [["sync"]]


def end(lab: Lab) -> None:
    """End Patroni on the replica, then on the leader, while their store still answers.

    Whoever powers all hosts off at once leaves a leader's key that nobody gives back: after the
    next start both members wait until it has run out. Hosts without a running member are left as
    they are.
    """
    members = [host for host in lab.hosts if host in lab.inventory.hosts_in("databases")]
    running = {host for host in members if _runs(lab, host)}
    replicas = {host for host in running if _psql(lab, host, "SELECT pg_is_in_recovery()") == "t"}
    leaders = running - replicas
    for host in replicas:
        _stop(lab, host)
    until = time.monotonic() + SECONDS_TO_DROP
    for leader in leaders:
        # A leader that still names its standby when it ends lets both claim the lead afterwards.
        while replicas & set(_names(_psql(lab, leader, "SHOW synchronous_standby_names"))):
            if time.monotonic() > until:
                raise KosekiError(
                    _("{leader} still waits for {replicas}, which has ended").format(
                        leader=leader, replicas=", ".join(sorted(replicas))
                    ),
                    _("{seconds_to_drop} s later").format(seconds_to_drop=SECONDS_TO_DROP),
                    _("read `koseki lab exec {leader} -- journalctl -u {patroni}`").format(
                        leader=leader, patroni=PATRONI
                    ),
                )
            time.sleep(0.5)
        _stop(lab, leader)


def _names(setting: str) -> list[str]:
    """Return who is named in PostgreSQL's list of synchronous standbys."""
    return re.findall(r"[\w.-]+", setting)


def _runs(lab: Lab, host: str) -> bool:
    return lab.exec(host, ["systemctl", "is-active", "--quiet", PATRONI]).returncode == 0


def _stop(lab: Lab, host: str) -> None:
    lab.exec(host, ["systemctl", "stop", PATRONI]).check_returncode()


def _psql(lab: Lab, host: str, statement: str) -> str:
    """Return a server's answer; empty when it has none to give, or does not run."""
    argv = ["runuser", "-u", "postgres", "--", "psql", "-XqtA", "-c", statement]
    return lab.exec(host, argv).stdout.strip()
