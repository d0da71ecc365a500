"""Networks, addresses, lines, ports, and who may open a connection to whom."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from koseki_ops.core.language import _
from koseki_ops.plan.model.values import Address, Network, Port, Table


class Line(Table):
    """The line of one municipality."""

    counters: Annotated[list[Network], Field(min_length=1)]
    """The networks of its counters."""
    registry: Address
    """The address of its resident registry, in one of them."""

    @model_validator(mode="after")
    def _own_registry(self) -> Self:
        if not any(self.registry in network for network in self.counters):
            raise ValueError(
                _(
                    "the registry {registry} is outside its counters; a registry stands on "
                    "its own municipality's line"
                ).format(registry=self.registry)
            )
        return self


class PlanNetwork(Table):
    """A network of the plan and the city's router in it."""

    cidr: Network
    """The network."""
    router: Address
    """The city's router in it."""

    @model_validator(mode="after")
    def _router_inside(self) -> Self:
        if self.router not in self.cidr:
            raise ValueError(
                _("the router {router} is outside {cidr}; correct one of them").format(
                    router=self.router, cidr=self.cidr
                )
            )
        return self


class HostAddresses(Table):
    """The addresses of a host: inside the city, and as the datacenter line sees it."""

    city: Address | None = None
    """Inside the city; a datacenter host has none."""
    line: Address | None = None
    """As the datacenter line sees it."""

    @property
    def listed(self) -> list[str]:
        """Those that there are, the city's first."""
        return [str(address) for address in (self.city, self.line) if address]


class ServicePorts(Table):
    """The ports of the services that talk to each other; a flow names one by its key."""

    postgresql: Port
    """PostgreSQL, on its servers."""
    patroni: Port
    """Patroni, on the same servers."""
    etcd_clients: Port
    """Etcd, for who asks it."""
    etcd_peers: Port
    """Etcd, for its other members."""
    proxy_leader: Port
    """The proxy to the leader, on the host of whoever asks."""
    proxy_replica: Port
    """The proxy to a replica, on the same host."""

    @model_validator(mode="after")
    def _each_its_own(self) -> Self:
        seen: dict[int, str] = {}
        for name, port in self:
            if port in seen:
                raise ValueError(
                    _("{name} and {seen} are both {port}; correct one").format(
                        name=name, seen=seen[port], port=port
                    )
                )
            seen[port] = name
        return self


class Flow(Table):
    """One allowed direction of traffic."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    """Its name, in the firewall's rules too."""
    why: str
    """Why it is needed, in a sentence."""
    from_: Annotated[list[str], Field(alias="from", min_length=1)]
    """Who may open it: groups of hosts.yml, `workstation`, `terminals` or `registries`."""
    to: Annotated[list[str], Field(min_length=1)]
    """To whom: groups, `workstation`, or names of `neighbours`."""
    protocol: Literal["tcp", "udp"]
    """Its protocol."""
    ports: Annotated[list[Port], Field(min_length=1)]
    """The ports at the end it leads to: numbers, or keys of `service_ports`."""
