"""The list of flows, resolved into one host's firewall."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from koseki_ops.plan.inventory import LINE_ENDS, REGISTRIES, TERMINALS, WORKSTATION, Inventory
from koseki_ops.plan.municipalities import active, lines


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


def ends(inventory: Inventory, names: list[str]) -> list[str]:
    """Return the hosts that a flow's end names stand for, the workstation among them.

    What stands on the municipalities' lines, and a neighbour, is no host of the plan: see `beyond`.
    """
    found: dict[str, None] = {}
    for name in names:
        if name in LINE_ENDS or name in inventory.shared["neighbours"]:
            continue
        for host in [WORKSTATION] if name == WORKSTATION else inventory.hosts_in(name):
            found[host] = None
    return list(found)


def beyond(inventory: Inventory, names: list[str]) -> list[str]:
    """Return the subnets and addresses that a flow's end names stand for beyond the plan's hosts.

    On lines, of the municipalities that have joined alone, in the plan's order (K-02); then
    neighbours.
    """
    shared = inventory.shared
    joined = active(shared["municipalities"], inventory.effective_day)
    found: list[str] = []
    if TERMINALS in names:
        found += chain.from_iterable(lines(joined, shared["line_subnets"]).values())
    if REGISTRIES in names:
        found += [str(shared["link_peers"][row["slug"]]) for row in joined]
    neighbours = shared["neighbours"]
    return found + [str(neighbours[name]) for name in names if name in neighbours]


def firewall_of(inventory: Inventory, host: str) -> Firewall:
    """Return the rules of one host, in the order of the list of flows."""
    return Firewall(
        tuple(_rules(inventory, host, "to", "from")), tuple(_rules(inventory, host, "from", "to"))
    )


def _rules(inventory: Inventory, host: str, here: str, there: str) -> Iterator[Rule]:
    for flow in inventory.shared["flows"]:
        if host not in ends(inventory, flow[here]):
            continue
        addresses = [
            inventory.address_of(peer, host)
            for peer in ends(inventory, flow[there])
            if peer != host
        ]
        others = beyond(inventory, flow[there])
        peers = (*sorted({address for address in addresses if address}), *others)
        if peers:
            yield Rule(flow["name"], peers, flow["protocol"], tuple(flow["ports"]))


def allowed(inventory: Inventory, source: str, target: str) -> set[tuple[str, int]]:
    """Return the (protocol, port) pairs that `source` may open at `target`."""
    found: set[tuple[str, int]] = set()
    for flow in inventory.shared["flows"]:
        if source in ends(inventory, flow["from"]) and target in ends(inventory, flow["to"]):
            found |= {(flow["protocol"], port) for port in flow["ports"]}
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
