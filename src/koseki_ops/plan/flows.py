"""The list of flows, resolved into one host's firewall."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from koseki_ops.plan.inventory import LINE_ENDPOINTS, REGISTRIES, TERMINALS, WORKSTATION, Inventory


@dataclass(frozen=True)
class Rule:
    """One allowed direction at one host: peers' addresses or networks, protocol, ports, flow."""

    flow: str
    peers: tuple[str, ...]
    protocol: str
    ports: tuple[int, ...]


@dataclass(frozen=True)
class Firewall:
    """What one host admits and what it may open."""

    inbound: tuple[Rule, ...]
    outbound: tuple[Rule, ...]


def endpoint_hosts(inventory: Inventory, names: list[str]) -> list[str]:
    """Return the hosts that a flow's end names stand for, the workstation among them.

    What stands on the municipalities' lines, and a neighbour, is no host of the plan
    (`external_peers`).
    """
    found: dict[str, None] = {}
    for name in names:
        if name in LINE_ENDPOINTS or name in inventory.platform.neighbours:
            continue
        for host in [WORKSTATION] if name == WORKSTATION else inventory.hosts_in(name):
            found[host] = None
    return list(found)


def external_peers(inventory: Inventory, names: list[str]) -> list[str]:
    """Return the subnets and addresses that a flow's end names stand for beyond the plan's hosts.

    On lines, of the municipalities that have joined alone, in the plan's order (K-02); then
    neighbours.
    """
    platform = inventory.platform
    lines = [platform.lines[municipality.slug] for municipality in platform.joined]
    found: list[str] = []
    if TERMINALS in names:
        found += [str(network) for line in lines for network in line.counters]
    if REGISTRIES in names:
        found += [str(line.registry) for line in lines]
    neighbours = platform.neighbours
    return found + [str(neighbours[name]) for name in names if name in neighbours]


def firewall_of(inventory: Inventory, host: str) -> Firewall:
    """Return the rules of one host, in the order of the list of flows."""
    return Firewall(
        tuple(_rules(inventory, host, inbound=True)), tuple(_rules(inventory, host, inbound=False))
    )


def _rules(inventory: Inventory, host: str, *, inbound: bool) -> Iterator[Rule]:
    for flow in inventory.platform.flows:
        here, there = (flow.to, flow.from_) if inbound else (flow.from_, flow.to)
        if host not in endpoint_hosts(inventory, here):
            continue
        addresses = [
            inventory.address_of(peer, host)
            for peer in endpoint_hosts(inventory, there)
            if peer != host
        ]
        others = external_peers(inventory, there)
        peers = (*sorted({address for address in addresses if address}), *others)
        if peers:
            yield Rule(flow.name, peers, flow.protocol, tuple(flow.ports))


def allowed(inventory: Inventory, source: str, target: str) -> set[tuple[str, int]]:
    """Return the (protocol, port) pairs that `source` may open at `target`."""
    found: set[tuple[str, int]] = set()
    for flow in inventory.platform.flows:
        if source in endpoint_hosts(inventory, flow.from_) and target in endpoint_hosts(
            inventory, flow.to
        ):
            found |= {(flow.protocol, port) for port in flow.ports}
    return found


def ruleset(firewall: Firewall) -> str:
    """Return the nftables text: default drop both ways, and nothing but the rules."""
    return f"""#!/usr/sbin/nft -f
# Managed by koseki (pyinfra, baseline/firewall.py) from the inventory's flows. Do not edit.
flush ruleset

table inet koseki {{
    chain input {{
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        ct state established,related accept
        ct state invalid drop
{_lines(firewall.inbound, "saddr")}        limit rate 6/minute log prefix "koseki in: "
        counter
    }}

    chain forward {{
        type filter hook forward priority filter; policy drop;
    }}

    chain output {{
        type filter hook output priority filter; policy drop;
        oifname "lo" accept
        ct state established,related accept
{_lines(firewall.outbound, "daddr")}        limit rate 6/minute log prefix "koseki out: "
        counter reject with icmpx admin-prohibited
    }}
}}
"""


def _lines(rules: tuple[Rule, ...], direction: str) -> str:
    text = ""
    for rule in rules:
        peers = ", ".join(rule.peers)
        ports = ", ".join(str(port) for port in rule.ports)
        text += f"        ip {direction} {{ {peers} }} {rule.protocol} dport {{ {ports} }} "
        text += f'ct state new accept comment "{rule.flow}"\n'
    return text
