"""The kinds of hosts that the platform is made of: the one table of them.

A host is of the kind whose group it is in. What it takes part in besides (etcd, vaults, …) are
groups of hosts.yml too, made of kinds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from koseki_ops.plan.inventory import WORKSTATION, Inventory

# What every host has, and what each has where Ansible works.
EVERYWHERE = ("base", "baseline")
SERVED = (*EVERYWHERE, "ansible")
DATABASE = (*SERVED, "etcd", "postgresql", "pgbackrest")


@dataclass(frozen=True)
class HostKind:
    """One kind of host.

    group: its group in hosts.yml; japanese, english: what reports call it; packages: the concerns
    of packages.yml that it has; row: of the city in the picture, from above, None: in the
    datacenter; needed: whether there is no platform without one.
    """

    group: str
    japanese: str
    english: str
    packages: tuple[str, ...]
    row: int | None
    needed: bool = True

    @property
    def in_city(self) -> bool:
        """Whether such a host stands in the city."""
        return self.row is not None


HOST_KINDS = (
    HostKind("primary", "正サーバー", "primary server", DATABASE, 0),
    HostKind("secondary", "副サーバー", "secondary server", DATABASE, 0),
    HostKind(
        "application",
        "アプリケーションサーバー",
        "application server",
        (*SERVED, "etcd", "db_proxy", "koseki_application", "web_gateway"),
        1,
    ),
    HostKind(
        "registry_link",
        "住基連携サーバー",
        "resident-registry link",
        (*SERVED, "db_proxy", "registry_link", "vault"),
        1,
    ),
    HostKind(WORKSTATION, "監視端末", "workstation", (*EVERYWHERE, "watch"), 2, needed=False),
    HostKind("remote_backup", "第二バックアップ", "second backup", (*EVERYWHERE, "vault"), None),
)


def kinds_of(inventory: Inventory, host: str) -> list[HostKind]:
    """Return the kinds that a host is of by its groups; one, where the inventory is valid."""
    groups = set(inventory.groups_of(host))
    return [kind for kind in HOST_KINDS if kind.group in groups]


def hosts_of(inventory: Inventory, kinds: Iterable[HostKind]) -> list[tuple[str, HostKind]]:
    """Return the hosts of these kinds with their kind, in the kinds' order; none is no error."""
    return [
        (host, kind)
        for kind in kinds
        if kind.group in inventory.groups
        for host in inventory.hosts_in(kind.group)
    ]
