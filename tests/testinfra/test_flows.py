"""Flows: what the plan lists is open, and nothing else, in both directions (K-01).

Every end tries every other end, all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from koseki_ops.core.language import _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.verify.batch import ANSWER_SECONDS, Question
from koseki_ops.verify.connections import OPEN, SHUT, from_host, from_origin
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import Plan, pairs
from koseki_ops.verify.plugin import PLAN, Everywhere, Facts, Questions, on_hosts

# Ports that are tried although no flow may list them: remote shells, mail, names, files, web,
# other databases, and what the platform's own daemons open on loopback.
SAMPLE = (21, 23, 25, 53, 80, 111, 139, 443, 445, 873, 2049, 3306, 5000, 5001, 5433, 6379, 8404)
UDP_SAMPLE = (53, 69, 514)
# The workstation may try more: it does so without a process per attempt.
INBOUND = range(1, 151)
# A packet that is dropped is not answered at all: how long to wait for nothing, and for something.
SHUT_SECONDS, OPEN_SECONDS = "1.5", str(ANSWER_SECONDS)
# What is there in both of two looks: a client that asks by UDP (time, names) has a socket that
# looks like a listener's for as long as it waits, on a number of the kernel's choice.
LISTENING = r"""
for look in 1 2; do
    there=$(ss -Hlntu) || exit 1
    printf '%s\n' "$there" | sed "s/^/$look /"
    if [ $look = 1 ]; then sleep 1; fi
done | awk '
    { name = $2 " " $3 " - - " $6; if (!(($1, name) in seen)) { seen[$1, name]; looks[name]++ } }
    END { for (name in looks) if (looks[name] == 2) print name }'
"""


@dataclass(frozen=True)
class Connection:
    """One attempt: an address, protocol and port, and whether the plan lists it."""

    address: str
    protocol: str
    port: int
    listed: str = ""


def connections(plan: Plan, source: str, target: str) -> list[Connection]:
    """Return every attempt from one end to another."""
    address = plan.address(target, source)
    listed = {(row.protocol, row.port): row.flow for row in plan.listed(source, target)}
    ports = plan.listed_ports | set(SAMPLE)
    if source == WORKSTATION:
        ports |= set(INBOUND)
    wanted = {("tcp", port) for port in ports} | set(listed)
    if source != WORKSTATION:
        wanted |= {("udp", port) for port in UDP_SAMPLE}
    found = [
        Connection(str(address), protocol, port, listed.get((protocol, port), ""))
        for protocol, port in sorted(wanted)
        if address
    ]
    row = plan.platform.host_addresses.get(target, plan.platform.workstation_addresses)
    if row.city and str(row.city) != address:
        # The datacenter sees the city behind the line's addresses; the city's own must be nowhere.
        found += [Connection(str(row.city), "tcp", port) for port in sorted(plan.listed_ports)]
    return found


def questions(plan: Plan, host: str) -> Questions:
    """Ask each end to try every other end, and each host for its rules and listeners."""
    tried = [
        connection
        for source, target in pairs(plan.endpoints)
        if source == host
        for connection in connections(plan, source, target)
    ]
    jobs = [
        f"{row.address},{row.protocol},{row.port},{OPEN_SECONDS if row.listed else SHUT_SECONDS}"
        for row in tried
    ]
    if host == WORKSTATION:
        return {"probes": Question(from_origin(jobs), aside=True)}
    return {
        "probes": Question(from_host(jobs), aside=True),
        "rules": "nft -j list ruleset",
        "routes": "ip route show; ip -6 route show default",
        "listening": Question(LISTENING, aside=True),
        "forwarding": "cat /proc/sys/net/ipv4/ip_forward",
        "boot": "systemctl is-enabled nftables.service",
    }


def apply_to(*endpoints: str) -> str:
    """Return the command that brings these ends to the plan; the workstation is nobody's host."""
    limits = " ".join(f"--limit {end}" for end in endpoints if end != WORKSTATION)
    return f"koseki apply {limits}"


def outcomes(facts: Facts) -> dict[tuple[str, str, int], str]:
    """Return what each attempt met, by address, protocol and port."""
    found = {}
    for line in facts["probes"].lines:
        address, protocol, port, said = line.split(" ", 3)
        found[address, protocol, int(port)] = said
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each ordered pair of ends a run of its own."""
    if "connection" in metafunc.fixturenames:
        plan = metafunc.config.stash[PLAN]
        all_pairs = pairs(plan.endpoints)
        if metafunc.function is test_listed_ways_are_open:
            all_pairs = [pair for pair in all_pairs if plan.listed(*pair)]
        metafunc.parametrize("connection", all_pairs, ids=[f"{a}-to-{b}" for a, b in all_pairs])


def test_listed_ways_are_open(
    plan: Plan, everywhere: Everywhere, connection: tuple[str, str]
) -> None:
    """Each way that the plan lists answers; a flow that is shut stops the work it is for (K-01)."""
    source, target = connection
    seen = outcomes(everywhere[source])
    for row in connections(plan, source, target):
        if not row.listed:
            continue
        said = seen.get((row.address, row.protocol, row.port), "was not tried")
        # Whether a datagram arrived cannot be seen from here; that it may leave can be.
        left = row.protocol == "udp" and said == "Connection refused"
        check(
            said == OPEN or left,
            _("{listed}: {source} reaches {target} on {protocol} {port}").format(
                listed=row.listed,
                source=source,
                target=target,
                protocol=row.protocol,
                port=row.port,
            ),
            said,
            _("see that the service on {target} runs, then run `{apply_to}`").format(
                target=target, apply_to=apply_to(source, target)
            ),
            "nftables",
            source if target == WORKSTATION else target,
        )


def test_unlisted_ways_are_shut(
    plan: Plan, everywhere: Everywhere, connection: tuple[str, str]
) -> None:
    """What the plan does not list is refused, whoever asks and whatever listens there (K-01)."""
    source, target = connection
    seen = outcomes(everywhere[source])
    tried = [row for row in connections(plan, source, target) if not row.listed]
    missing = [
        f"{row.protocol} {row.port} at {row.address}: {said or 'nothing was said'}"
        for row in tried
        if (said := seen.get((row.address, row.protocol, row.port), "")) not in {OPEN, *SHUT}
    ]
    expect(missing, [], _("run `koseki verify flows`: not every attempt was made"))
    opened = [
        f"{row.protocol} {row.port} at {row.address}"
        for row in tried
        if seen[row.address, row.protocol, row.port] == OPEN
    ]
    check(
        not opened,
        _("{source} reaches nothing unlisted on {target} ({count} attempts)").format(
            source=source, target=target, count=len(tried)
        ),
        opened,
        _("run `{apply_to}`, or add the flow to flows.yml with its reason").format(
            apply_to=apply_to(source, target)
        ),
        "nftables",
        target if target != WORKSTATION else source,
    )


@on_hosts("all")
def test_the_firewall_drops_by_default(facts: Facts) -> None:
    """In, out and through: what no rule names is dropped, also after a restart (K-01)."""
    chains = [item["chain"] for item in facts["rules"].json["nftables"] if "chain" in item]
    for hook in ("input", "output", "forward"):
        policies = {
            chain.get("policy")
            for chain in chains
            if chain.get("hook") == hook and chain["family"] in {"inet", "ip", "ip6"}
        }
        expect(f"{hook}: {sorted(map(str, policies))}", f"{hook}: ['drop']", facts.remedy)
    expect(facts["boot"].text, "enabled", facts.remedy, "nftables")


@on_hosts("all")
def test_no_rule_accepts_everything(facts: Facts) -> None:
    """A bare `accept` would turn the list of flows into decoration (K-01)."""
    bare = []
    for item in facts["rules"].json["nftables"]:
        rule = item.get("rule")
        words = (
            []
            if rule is None
            else [word for word in rule["expr"] if not word.keys() & {"counter", "log"}]
        )
        if words == [{"accept": None}]:
            bare.append(f"{rule['table']} {rule['chain']} handle {rule['handle']}")
    expect(bare, [], facts.remedy, "nftables")


@on_hosts("all")
def test_there_is_no_way_out(plan: Plan, facts: Facts) -> None:
    """No default route: a server that cannot reach the internet cannot leak to it (K-01)."""
    routes = facts["routes"].lines
    check(routes, _("routes to its own networks"), _("no route at all"), facts.remedy)
    expect([line for line in routes if line.startswith("default")], [], facts.remedy)
    if plan.is_in(facts.host, "remote_backup"):
        through = [line for line in routes if " via " in line]
        expect(
            through, [], _("by hand: remove the route: the datacenter has no way towards the city")
        )


@on_hosts("all")
def test_hosts_do_not_route(facts: Facts) -> None:
    """A server that forwards packets would be a way around the line's end (K-01)."""
    expect(
        facts["forwarding"].text,
        "0",
        _("run `sysctl -w net.ipv4.ip_forward=0` on {host}").format(host=facts.host),
    )


@on_hosts("all")
def test_nothing_listens_unlisted(plan: Plan, facts: Facts) -> None:
    """What listens beyond loopback is what a flow leads to; the rest should not run (K-01)."""
    wanted = {
        (row.protocol, row.port)
        for source in plan.endpoints
        if source != facts.host
        for row in [*plan.listed(source, facts.host), *plan.listed_for_lines(facts.host)]
    }
    lines = [line.split() for line in facts["listening"].lines]
    check(lines, _("listening sockets"), _("none: not even sshd"), facts.remedy)
    seen = set()
    for words in lines:
        address, _colon, port = words[4].rpartition(":")
        inside = address.split("%")[0].strip("[]")
        if not inside.startswith("127.") and inside != "::1":
            seen.add((words[0], int(port)))
    expect(
        {f"{protocol} {port}" for protocol, port in seen - wanted},
        set(),
        _("by hand: stop that service or bind it to loopback, or list its flow with its reason"),
    )


@on_hosts("remote_backup")
def test_the_datacenter_may_open_nothing(plan: Plan, facts: Facts) -> None:
    """The datacenter's host is asked and never asks: no flow starts there (K-01, K-04)."""
    if not plan.hosts_in("remote_backup"):
        not_verified(_("the plan has no second backup"))
    starts = [row for end in plan.endpoints for row in plan.listed(facts.host, end)]
    expect(starts, [], _("by hand: remove that flow from flows.yml"))
    accepted = [
        item["rule"]
        for item in facts["rules"].json["nftables"]
        if "rule" in item and item["rule"]["chain"] == "output"
    ]
    new = [rule for rule in accepted if "new" in str(rule["expr"]) and "accept" in str(rule)]
    expect(new, [], facts.remedy, "nftables")
