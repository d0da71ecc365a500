"""The only reader of host data: what the baseline needs to know of one host, typed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from pyinfra.api import Host

from koseki_ops.plan.inventory import WORKSTATION, Inventory
from koseki_ops.plan.model import AccountPolicy, AuditPolicy, Operator, Platform
from koseki_ops.plan.site import Site
from koseki_ops.supply.mirror import mirror_folder

EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class OperatorAccount:
    """An operator on one host.

    belongs: whether the plan gives the operator an account here; open: whether it is valid today.
    """

    operator: Operator
    belongs: bool
    open: bool

    @property
    def expire_day(self) -> int:
        """The day on which the account is no longer valid, as shadow(5) counts days."""
        return (self.operator.valid_until + timedelta(days=1) - EPOCH).days


@dataclass(frozen=True)
class HostData:
    """What the baseline needs to know of one host."""

    name: str
    groups: tuple[str, ...]
    site: Site
    inventory: Inventory

    @classmethod
    def of(cls, host: Host) -> HostData:
        """Read pyinfra's host."""
        data = host.data
        return cls(
            host.name,
            tuple(host.groups),
            data.koseki_site,
            data.koseki_inventory,
        )

    @property
    def plan(self) -> Platform:
        """What the inventory says for every host."""
        return self.inventory.platform

    @property
    def is_city(self) -> bool:
        """Whether the host stands in the city, where it may ask the workstation."""
        return self.plan.host_addresses[self.name].city is not None

    @property
    def mirror(self) -> Path:
        """The package mirror on the workstation."""
        return mirror_folder(self.site)

    @property
    def packages(self) -> list[str]:
        """The packages of the baseline on this host."""
        concerns = ["base", "baseline"]
        for group, concern in (("city", "ansible"), ("watch_hosts", "watch")):
            concerns += [concern] if group in self.groups else []
        return sorted({name for concern in concerns for name in self.plan.packages[concern]})

    @property
    def workstation(self) -> str | None:
        """The workstation's address as this host sees it."""
        return self.inventory.address_of(WORKSTATION, self.name)

    @property
    def known_hosts(self) -> dict[str, str]:
        """Addresses of everybody this host can see, itself included, by name."""
        table = {}
        for other in [*self.inventory.hosts, WORKSTATION]:
            address = self.inventory.address_of(other, self.name)
            if address and (self.is_city or other == self.name):
                table[other] = address
        return table

    @property
    def time_sources(self) -> list[str]:
        """Where chrony asks; empty where the clock is set over the management connection."""
        for group in reversed(self.groups):
            if group in self.plan.time_sources:
                return [str(source) for source in self.plan.time_sources[group]]
        return []

    @property
    def policy(self) -> AccountPolicy:
        """Passwords, lockout and idle time."""
        return self.plan.account_policy

    @property
    def audit_policy(self) -> AuditPolicy:
        """How much the records of use may take, and when that is too much."""
        return self.plan.audit_policy

    def operators(self, today: date) -> list[OperatorAccount]:
        """Return every operator, as this host should know them."""
        accounts = []
        for operator in self.plan.operators:
            belongs = bool(set(operator.hosts) & set(self.groups))
            is_open = belongs and operator.is_valid(today)
            accounts.append(OperatorAccount(operator, belongs, is_open))
        return accounts
