"""What must be true, read from the inventory alone: the expectations of every suite.

Resolved here once more on purpose, and not taken from the engines' code: a slip in how an engine
reads the plan must not hide from the suites.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from koseki_ops.plan.host_kinds import kinds_of
from koseki_ops.plan.inventory import LINE_ENDPOINTS, WORKSTATION, Inventory
from koseki_ops.plan.model import (
    Municipality,
    Operator,
    Platform,
    ServicePorts,
    TimingProfile,
    Vault,
)
from koseki_ops.plan.rules import load_platform
from koseki_ops.plan.site import Site

# Names and places of the platform's conventions (docs/architecture.md).
STANZA = "koseki"


@dataclass(frozen=True)
class Listed:
    """One listed way: protocol, port and the name of the flow that lists it."""

    protocol: str
    port: int
    flow: str


@dataclass(frozen=True)
class Plan:
    """The expectations for one site on one day."""

    site: Site
    inventory: Inventory
    platform: Platform
    today: date

    @classmethod
    def of(cls, site: Site, today: date | None = None) -> Plan:
        """Read the plan of a site; KosekiError when its inventory does not hold."""
        inventory = Inventory(site.inventory)
        platform = load_platform(inventory, today)
        return cls(site, inventory, platform, today or platform.today)

    def hosts_in(self, *groups: str) -> list[str]:
        """Return the hosts of these groups or hosts (or the workstation), in plan order."""
        chosen: set[str] = set()
        for name in groups:
            # On lines, or beside the plan: no hosts.
            if name not in LINE_ENDPOINTS and name not in self.platform.neighbours:
                chosen |= {name} if name == WORKSTATION else set(self.inventory.resolve(name))
        return [host for host in [*self.inventory.hosts, WORKSTATION] if host in chosen]

    def is_in(self, host: str, *groups: str) -> bool:
        """Say whether a host belongs to one of these groups."""
        return host in self.hosts_in(*groups)

    @property
    def endpoints(self) -> list[str]:
        """Every end of a flow: the hosts and the workstation."""
        return [*self.inventory.hosts, WORKSTATION]

    def stands_in_city(self, host: str) -> bool:
        """Say whether a host has a place in the city's network, whatever it carries."""
        return self.platform.host_addresses[host].city is not None

    def address(self, host: str, seen_from: str) -> str | None:
        """Return the address of a host as another sees it, or None: there is no way."""
        return self.inventory.address_of(host, seen_from)

    def listed(self, source: str, target: str) -> list[Listed]:
        """Return every way from one end to the other that the plan lists."""
        return [
            Listed(flow.protocol, port, flow.name)
            for flow in self.platform.flows
            if self.is_in(source, *flow.from_) and self.is_in(target, *flow.to)
            for port in flow.ports
        ]

    def listed_for_lines(self, target: str) -> list[Listed]:
        """Return every way from the municipalities' lines to a host that the plan lists."""
        return [
            Listed(flow.protocol, port, flow.name)
            for flow in self.platform.flows
            if set(LINE_ENDPOINTS) & set(flow.from_) and self.is_in(target, *flow.to)
            for port in flow.ports
        ]

    @cached_property
    def listed_ports(self) -> set[int]:
        """Every TCP port that any flow lists."""
        return {
            port for flow in self.platform.flows if flow.protocol == "tcp" for port in flow.ports
        }

    @cached_property
    def effective_date(self) -> date:
        """The day for which municipalities count as joined."""
        chosen = self.platform.effective_date
        return self.today if chosen == "today" else chosen

    @cached_property
    def joined(self) -> list[Municipality]:
        """The municipalities that have joined and not left, in the plan's order (K-02)."""
        return [
            municipality
            for municipality in self.platform.municipalities
            if municipality.joined_on
            and municipality.joined_on <= self.effective_date
            and municipality not in self.gone
        ]

    @cached_property
    def gone(self) -> list[Municipality]:
        """The municipalities that have left."""
        return [
            municipality
            for municipality in self.platform.municipalities
            if municipality.left_on and municipality.left_on <= self.effective_date
        ]

    @cached_property
    def cut_off(self) -> list[Municipality]:
        """The municipalities for whom the host municipality may issue in a failure (K-06)."""
        issues = any(municipality.host for municipality in self.joined)
        return [
            municipality
            for municipality in self.joined
            if municipality.issued_by_host_in_failure and issues
        ]

    @property
    def host_municipality(self) -> Municipality:
        """The municipality that runs the platform, and issues for another in a failure."""
        return next(municipality for municipality in self.joined if municipality.host)

    @cached_property
    def waiting(self) -> list[Municipality]:
        """The municipalities that have not joined yet, or have left."""
        return [
            municipality
            for municipality in self.platform.municipalities
            if municipality not in self.joined
        ]

    @property
    def ports(self) -> ServicePorts:
        """The ports of the services."""
        return self.platform.service_ports

    @property
    def timing(self) -> TimingProfile:
        """The timing profile in use."""
        return self.platform.timing_profiles[self.platform.timing_profile]

    def operators_on(self, host: str) -> list[Operator]:
        """Return the operators whose row covers a host, ended ones too."""
        return [row for row in self.platform.operators if self.is_in(host, *row.hosts)]

    def is_valid(self, operator: Operator) -> bool:
        """Say whether an operator may log in today."""
        return operator.status == "active" and (
            operator.valid_from <= self.today <= operator.valid_until
        )

    def vaults_on(self, host: str) -> list[Vault]:
        """Return the vaults that live on a host."""
        return [vault for vault in self.platform.vaults if self.is_in(host, vault.group)]

    def vault_host(self, vault: Vault) -> str:
        """Return the one host that a vault lives on."""
        return self.hosts_in(vault.group)[0]

    def packages_for(self, host: str) -> set[str]:
        """Return the packages that the inventory asks for on a host."""
        table = self.platform.packages
        return {
            name
            for kind in kinds_of(self.inventory, host)
            for concern in kind.packages
            for name in table.get(concern, [])
        }

    def audited_key_files(self, host: str) -> list[str]:
        """Return the keys, and folders of keys, on a host whose reading must be recorded."""
        table = self.platform.audit_key_files
        return [path for group in table if self.is_in(host, group) for path in table[group]]

    def time_sources_of(self, host: str) -> list[str]:
        """Return the addresses that a host's clock follows; the nearest group's row counts."""
        groups = [g for g in self.inventory.groups_of(host) if g in self.platform.time_sources]
        return [str(a) for a in self.platform.time_sources[groups[-1]]] if groups else []


def pairs(endpoints: Iterable[str]) -> list[tuple[str, str]]:
    """Return every ordered pair of different ends."""
    listed = list(endpoints)
    return [(a, b) for a in listed for b in listed if a != b]
