"""The lab's network: a namespace, two bridges, the city's end of the datacenter line, counters.

The namespace plays the workstation and the city's router. The line translates each city address
one to one into the line's own network, so that the datacenter host sees single peers on its own
link and needs no route towards the city.

Each municipality's counter is a small namespace of its own on that municipality's line: a terminal
has that line's address and the city's router, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import run
from koseki_ops.plan.inventory import LINE_ENDPOINTS, WORKSTATION, Inventory

CITY_BRIDGE, LINE_BRIDGE = "br-city", "br-line"
# A bridge that is given none has the lowest address of its ports: whenever that host came or went,
# the others would for a minute send what is for the router to an address that nobody has.
BRIDGE_ADDRESSES = {CITY_BRIDGE: "02:00:00:00:00:10", LINE_BRIDGE: "02:00:00:00:00:90"}
# A counter's line as the city's router sees it, by its place in the plan, and as a terminal does.
COUNTER_LINK, TERMINAL_LINK = "counter{number}", "line0"
# The host part of a terminal's address.
TERMINAL_NUMBER = 11
CUT_TABLES = (("bridge", "cut"), ("inet", "line"))


@dataclass(frozen=True)
class Counter:
    """A municipality's counter: its namespace, the router's link to it, its first line subnet.

    registry: the address of the town's resident registry, which the same namespace plays.
    """

    slug: str
    netns: str
    link: str
    subnet: IPv4Network
    registry: str

    @property
    def router(self) -> str:
        """The router's address on the line."""
        return str(self.subnet[1])

    @property
    def terminal(self) -> str:
        """The terminal's address on the line."""
        return str(self.subnet[TERMINAL_NUMBER])


@dataclass(frozen=True)
class LabNetwork:
    """The network namespace `netns` with the addresses of an inventory."""

    netns: str
    inventory: Inventory

    def exists(self) -> bool:
        """Whether the namespace is there."""
        return self.netns in namespaces()

    @property
    def counters(self) -> list[Counter]:
        """Every municipality's counter, joined or not: the line may be there before its day."""
        return [
            Counter(
                slug,
                # No lab's name holds a full stop.
                f"{self.netns}.{slug}",
                COUNTER_LINK.format(number=number),
                line.counters[0],
                str(line.registry),
            )
            for number, (slug, line) in enumerate(self.inventory.platform.lines.items())
        ]

    def counter(self, slug: str) -> Counter:
        """Return a municipality's counter; KosekiError when there is none of that name."""
        for counter in self.counters:
            if counter.slug == slug:
                return counter
        known = ", ".join(counter.slug for counter in self.counters)
        raise KosekiError(
            _("no such municipality"),
            slug,
            _("name one of {known} (`koseki municipalities`)").format(known=known),
        )

    def enter(self, argv: Sequence[str]) -> list[str]:
        """Return `argv` so that it runs inside the namespace.

        nsenter and not `ip netns exec`: the latter hides the cgroup mounts that nspawn needs.
        """
        return ["nsenter", f"--net=/run/netns/{self.netns}", *argv]

    def bridge_of(self, host: str) -> str:
        """Return the bridge that a host is plugged into."""
        row = self.inventory.platform.host_addresses[host]
        return CITY_BRIDGE if row.city else LINE_BRIDGE

    def link_file(self, host: str, match: str = "Name=host0") -> str:
        """Return the systemd-networkd file of a host: a static address and no default route.

        match: how the host knows its link.
        """
        platform = self.inventory.platform
        row, networks = platform.host_addresses[host], platform.networks
        lines = ["[Match]", match, "", "[Network]"]
        prefix = networks["city" if row.city else "line"].cidr.prefixlen
        address = f"Address={row.city or row.line}/{prefix}"
        lines += [address, "LinkLocalAddressing=no", "IPv6AcceptRA=no"]
        if row.city:
            destinations, router = [str(networks["line"].cidr)], networks["city"].router
            if self._serves_counters(host):
                # As the city's installer would: a way back to each line, and no default route.
                destinations += [str(counter.subnet) for counter in self.counters]
            for destination in destinations:
                lines += ["", "[Route]", f"Destination={destination}", f"Gateway={router}"]
        return "\n".join(lines) + "\n"

    def _serves_counters(self, host: str) -> bool:
        return any(
            set(LINE_ENDPOINTS) & set(flow.from_) and host in self.inventory.hosts_in(group)
            for flow in self.inventory.platform.flows
            for group in flow.to
            if group != WORKSTATION
        )

    def create(self) -> None:
        """Make namespaces, bridges, addresses and rules; does nothing when they are there."""
        if self.exists():
            return
        run(["ip", "netns", "add", self.netns])
        platform = self.inventory.platform
        city, line = platform.networks["city"], platform.networks["line"]
        own = platform.workstation_addresses
        commands = ["link set lo up"]
        for bridge, link_address in BRIDGE_ADDRESSES.items():
            commands += [
                f"link add {bridge} address {link_address} type bridge",
                f"link set {bridge} up",
            ]
        # The first address of a link is the source of what the workstation sends over it.
        for bridge, network, address in (
            (CITY_BRIDGE, city, own.city),
            (LINE_BRIDGE, line, own.line),
        ):
            commands.append(f"addr add {address}/{network.cidr.prefixlen} dev {bridge}")
            commands.append(f"addr add {network.router}/32 dev {bridge}")
        commands += [
            f"addr add {row.line}/32 dev {LINE_BRIDGE}"
            for row in platform.host_addresses.values()
            if row.city and row.line
        ]
        run(["ip", "-n", self.netns, "-batch", "-"], "\n".join(commands) + "\n")
        run(self.enter(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]))
        self._create_counters()
        run(self.enter(["nft", "-f", "-"]), self._rules())

    def _create_counters(self) -> None:
        here, counters = [], self.counters
        for counter in counters:
            run(["ip", "netns", "add", counter.netns])
            here += [
                f"link add {counter.link} type veth peer {TERMINAL_LINK} netns {counter.netns}",
                f"addr add {counter.router}/{counter.subnet.prefixlen} dev {counter.link}",
                f"link set {counter.link} up",
            ]
        run(["ip", "-n", self.netns, "-batch", "-"], "\n".join(here) + "\n")
        for counter in counters:
            there = [
                "link set lo up",
                # The first address is the source of what names none: the terminal's.
                f"addr add {counter.terminal}/{counter.subnet.prefixlen} dev {TERMINAL_LINK}",
                f"addr add {counter.registry}/{counter.subnet.prefixlen} dev {TERMINAL_LINK}",
                f"link set {TERMINAL_LINK} up",
                f"route add default via {counter.router}",
            ]
            run(["ip", "-n", counter.netns, "-batch", "-"], "\n".join(there) + "\n")

    def _rules(self) -> str:
        rows = self.inventory.platform.host_addresses.values()
        seen_as = ", ".join(f"{row.city} : {row.line}" for row in rows if row.city and row.line)
        # A line carries its own addresses only, and leads into the city, not to another line.
        counters = "".join(
            f"        iifname {counter.link} ip saddr {counter.subnet} "
            f"oifname {CITY_BRIDGE} accept\n"
            for counter in self.counters
        )
        return f"""
table bridge cut {{
    set pairs {{ type ipv4_addr . ipv4_addr; }}
    chain forward {{
        type filter hook forward priority 0; policy accept;
        ip saddr . ip daddr @pairs drop
    }}
}}
table inet line {{
    set pairs {{ type ipv4_addr . ipv4_addr; }}
    chain forward {{
        type filter hook forward priority 0; policy drop;
        ip saddr . ip daddr @pairs drop
        ct state established,related ct original ip saddr . ct original ip daddr @pairs drop
        ct state established,related accept
        # Where the kernel shows bridged frames to these rules too, the city's own traffic.
        iifname {CITY_BRIDGE} oifname {CITY_BRIDGE} accept
        iifname {CITY_BRIDGE} oifname {LINE_BRIDGE} accept
{counters}    }}
    chain input {{
        type filter hook input priority 0; policy accept;
        ip saddr . ip daddr @pairs drop
        iifname {LINE_BRIDGE} ct state new drop
        iifname "counter*" ct state new drop
    }}
    chain output {{
        type filter hook output priority 0; policy accept;
        ip saddr . ip daddr @pairs drop
    }}
}}
table ip line {{
    map seen_as {{ type ipv4_addr : ipv4_addr; elements = {{ {seen_as} }}; }}
    chain translate {{
        type nat hook postrouting priority 100;
        oifname {LINE_BRIDGE} snat to ip saddr map @seen_as
    }}
}}
"""

    def _ours(self) -> list[str]:
        """Return the namespaces of this lab that are there: its own and the counters'."""
        return [
            name for name in namespaces() if name == self.netns or name.startswith(f"{self.netns}.")
        ]

    def delete(self) -> None:
        """Remove the namespaces with all that is in them."""
        for name in self._ours():
            run(["ip", "netns", "delete", name])

    def pids(self) -> list[int]:
        """Return the processes in the namespaces: machines' supervisors, the mirror server."""
        return [
            int(line)
            for name in self._ours()
            for line in run(["ip", "netns", "pids", name]).split()
        ]

    def cut(self, one: str, other: str) -> None:
        """Drop everything between two ends, in both directions."""
        self._change_pairs("add", self._pairs(one, other))

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """Undo one cut, or all."""
        if one is not None and other is not None:
            self._change_pairs("delete", self._pairs(one, other))
            return
        script = "".join(f"flush set {family} {table} pairs\n" for family, table in CUT_TABLES)
        run(self.enter(["nft", "-f", "-"]), script)

    def _pairs(self, one: str, other: str) -> list[str]:
        ours = self.inventory.address_of(one, other), self.inventory.address_of(other, one)
        # On the line the router sees a host by its city address before it is translated.
        city = [
            self._city_address(end) or address
            for end, address in zip((one, other), ours, strict=True)
        ]
        directions = {(ours[0], ours[1]), (city[0], city[1])}
        return [
            f"{a} . {b}"
            for here, there in directions
            if here and there
            for a, b in ((here, there), (there, here))
        ]

    def _city_address(self, end: str) -> str | None:
        if end == WORKSTATION:
            return None
        address = self.inventory.platform.host_addresses[end].city
        return str(address) if address else None

    def _change_pairs(self, verb: str, pairs: Iterable[str]) -> None:
        elements = ", ".join(pairs)
        if verb == "delete":
            # An element that is not there would make the whole batch fail: add it first.
            self._change_pairs("add", pairs)
        script = "".join(
            f"{verb} element {family} {table} pairs {{ {elements} }}\n"
            for family, table in CUT_TABLES
        )
        run(self.enter(["nft", "-f", "-"]), script)


def namespaces() -> list[str]:
    """Return the names of this computer's network namespaces."""
    return [line.split()[0] for line in run(["ip", "netns", "list"]).splitlines() if line]
