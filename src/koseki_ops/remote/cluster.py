"""The cluster as its own members list it: who leads, who records along."""

from __future__ import annotations

import json
from dataclasses import dataclass

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.remote.run import run
from koseki_ops.remote.ssh_config import ensure_site_ssh

LIST = "sudo -n patronictl -c /etc/patroni/config.yml list --format=json"
LEADING = ("Leader", "running")


@dataclass(frozen=True)
class Member:
    """A member of the cluster as Patroni lists it. timeline: 0 while it is not known."""

    name: str
    role: str
    state: str
    timeline: int


def members(site: Site, inventory: Inventory) -> list[Member]:
    """Return the cluster's members, asked of the first database host that answers."""
    reason = "no database host"
    for host in inventory.hosts_in("databases"):
        listed = run(site, host, LIST)
        if listed.code == 0:
            return [
                Member(row["Member"], row["Role"], row["State"], int(row.get("TL") or 0))
                for row in json.loads(listed.stdout)
            ]
        reason = listed.reason
    raise KosekiError("no database host tells of the cluster", reason, "see `koseki verify etcd`")


def leader(site: Site, inventory: Inventory) -> str:
    """Return the host that leads; raise KosekiError when none does, or more than one says so."""
    ensure_site_ssh(site, inventory)
    leaders = [row.name for row in members(site, inventory) if (row.role, row.state) == LEADING]
    if len(leaders) != 1:
        seen = ", ".join(leaders) or "nobody leads"
        raise KosekiError("the cluster has no leader", seen, "see `koseki verify replication`")
    return leaders[0]
