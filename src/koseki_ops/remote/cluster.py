"""The cluster as its own members list it: who leads, who records along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.foreign import parsed
from koseki_ops.core.language import _
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.remote.run import run
from koseki_ops.remote.ssh_config import ensure_site_ssh

LIST = "sudo -n patronictl -c /etc/patroni/config.yml list --format=json"
LEADING = ("Leader", "running")


@dataclass(frozen=True)
class Member:
    """A member of the cluster as Patroni lists it.

    timeline: 0 while it is not known; pending_restart: a changed setting waits for one.
    """

    name: str
    role: str
    state: str
    timeline: int
    pending_restart: bool = False


def members(site: Site, inventory: Inventory) -> list[Member]:
    """Return the cluster's members, asked of the first database host that answers."""
    reason = _("no database host")
    for host in inventory.hosts_in("databases"):
        listed = run(site, host, LIST)
        if listed.code:
            reason = listed.reason
            continue
        try:
            return [_member(row) for row in parsed(listed.stdout)]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            reason = _("{host} did not list its members: {error}").format(host=host, error=error)
    raise KosekiError(
        _("no database host reports the state of the cluster"),
        reason,
        _("see `koseki verify etcd`"),
    )


def _member(row: Mapping[str, Any]) -> Member:
    return Member(
        str(row["Member"]),
        str(row["Role"]),
        str(row["State"]),
        int(row.get("TL") or 0),
        bool(row.get("Pending restart")),
    )


def leader(site: Site, inventory: Inventory) -> str:
    """Return the host that leads; raise KosekiError when none does, or more than one says so."""
    ensure_site_ssh(site, inventory)
    leaders = [row.name for row in members(site, inventory) if (row.role, row.state) == LEADING]
    if len(leaders) != 1:
        seen = ", ".join(leaders) or _("nobody leads")
        raise KosekiError(
            _("the cluster has no leader"), seen, _("see `koseki verify replication`")
        )
    return leaders[0]
