"""The ends of flows on the lines of those who have joined: terminals, and registries."""

from __future__ import annotations

from pathlib import Path

import pytest

from koseki_ops.lab.network import LabNetwork
from koseki_ops.plan.flows import firewall_of, ruleset
from koseki_ops.plan.inventory import Inventory

INVENTORY = Path(__file__).resolve().parents[2] / "inventories/lab"


@pytest.mark.parametrize(
    ("day", "count"), [("2015-10-31", 0), ("2015-11-01", 8), ("2017-10-31", 8), ("2017-11-01", 14)]
)
def test_the_lines_of_who_has_joined_lead_to_the_gateway(day: str, count: int) -> None:
    """Port 443 of the application's host opens for their subnets, and for no other host."""
    inventory = Inventory(INVENTORY)
    inventory.shared["effective_date"] = day
    rules = [rule for rule in firewall_of(inventory, "application1").inbound if 443 in rule.ports]
    assert [len(rule.peers) for rule in rules] == ([count] if count else [])
    if count:
        assert rules[0].peers[0] == "10.158.101.0/24"
        assert "10.158.101.0/24" in ruleset(firewall_of(inventory, "application1"))
    for host in inventory.hosts:
        if host != "application1":
            assert "10.158.101.0/24" not in ruleset(firewall_of(inventory, host))


@pytest.mark.parametrize(
    ("day", "count"), [("2015-10-31", 0), ("2017-10-31", 8), ("2017-11-01", 14)]
)
def test_the_registries_of_who_has_joined_lead_to_the_exchange(day: str, count: int) -> None:
    """The exchange's port opens for one address a town, on the link's host alone."""
    inventory = Inventory(INVENTORY)
    inventory.shared["effective_date"] = day
    for host in inventory.hosts:
        rules = [rule for rule in firewall_of(inventory, host).inbound if 2022 in rule.ports]
        wanted = [count] if count and host == "registry-link1" else []
        assert [len(rule.peers) for rule in rules] == wanted, host
        for rule in rules:
            assert rule.peers[0] == "10.158.101.21"


def test_a_flow_may_lead_to_a_neighbour() -> None:
    """The mail server's address is one more peer, for who is named alone; nobody comes from it."""
    inventory = Inventory(INVENTORY)
    inventory.shared["neighbours"] = {"mail": "10.158.10.25"}
    flow = {"name": "mail", "why": "", "from": ["watch_hosts"], "to": ["mail"]}
    inventory.shared["flows"].append(flow | {"protocol": "tcp", "ports": [25]})
    for host in inventory.hosts:
        firewall = firewall_of(inventory, host)
        peers = [rule.peers for rule in firewall.outbound if rule.flow == "mail"]
        assert peers == ([("10.158.10.25",)] if host == "workstation1" else []), host
        assert "mail" not in {rule.flow for rule in firewall.inbound}


def test_a_lab_has_a_counter_on_each_line() -> None:
    """A namespace and an address a municipality; only the gateway's host knows the way back."""
    network = LabNetwork("koseki-0-lab", Inventory(INVENTORY))
    counters = network.counters
    assert len({counter.netns for counter in counters}) == 14
    assert max(len(counter.link) for counter in counters) <= 15, "the kernel takes no longer name"
    oshika = network.counter("oshika")
    assert (oshika.terminal, oshika.router) == ("10.158.108.11", "10.158.108.1")
    assert oshika.registry == "10.158.108.21"
    assert "Destination=10.158.108.0/24" in network.link_file("application1")
    assert "Destination=10.158.108.0/24" in network.link_file("registry-link1")
    assert "Destination=10.158.108.0/24" not in network.link_file("primary1")
