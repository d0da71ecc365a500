"""Isolation: no town's line leads to another's, nor to any door that is not its own (K-01).

182 pairs of towns are tried at each of five layers. Here is the network; the others are where
what they knock at is: the gateway in `gateway`, socket, process and key in `application`, the
database in `databases`, the file exchange in `link`. In a lab every counter listens and every other
knocks; elsewhere nobody here stands at a counter.
"""

from __future__ import annotations

import json
import shlex
import sys
from functools import cache

from koseki_ops.lab.network import LabNetwork
from koseki_ops.plan.inventory import TERMINALS, WORKSTATION
from koseki_ops.plan.model import Municipality
from koseki_ops.verify.batch import Question
from koseki_ops.verify.expect import expect, hold, not_verified
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Everywhere, Questions

OPEN, SILENT = "open", "silent"
# What a counter's programs listen at for this; the firewall of no host speaks of it.
DOOR = 4443
# Doors that hosts have for each other, and one that nobody has.
DOORS = (22, 443, 2022, 2379, 5432, 8008, 8080, DOOR)
# Opens a door on every line, then knocks from every line at all doors at once.
PROGRAM = """
import errno, json, os, select, socket, sys, time

told = json.loads(sys.argv[1])

def enter(name):
    handle = os.open(f"/run/netns/{name}", os.O_RDONLY)
    os.setns(handle, os.CLONE_NEWNET)
    os.close(handle)

doors = []
for line in told["lines"].values():
    enter(line["netns"])
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind((line["address"], told["door"]))
    door.listen(64)
    doors.append(door)
pending = {}
for slug, line in told["lines"].items():
    enter(line["netns"])
    for address, port in told["targets"]:
        knock = socket.socket()
        knock.setblocking(False)
        knock.connect_ex((address, port))
        pending[knock] = (slug, address, port)
met = {}
end = time.monotonic() + told["seconds"]
while pending and time.monotonic() < end:
    for knock in select.select([], list(pending), [], 0.5)[1]:
        error = knock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        said = "open" if not error else errno.errorcode[error]
        met[pending.pop(knock)] = said
for knock, key in pending.items():
    met[key] = "silent"
print(json.dumps([[*key, said] for key, said in met.items()]))
"""


def questions(plan: Plan, host: str) -> Questions:
    """Let a lab's counters knock."""
    if host != WORKSTATION or not plan.site.is_lab:
        return {}
    return {"knocks": Question(program(plan), aside=True)}


def counter_address(plan: Plan, slug: str) -> str:
    """Return where a town's terminal is."""
    return str(LabNetwork(plan.site.netns, plan.inventory).counter(slug).terminal)


def program(plan: Plan) -> str:
    """Return the command by which every counter knocks at every other and at every host."""
    network = LabNetwork(plan.site.netns, plan.inventory)
    lines = {
        town.slug: {
            "netns": network.counter(town.slug).netns,
            "address": counter_address(plan, town.slug),
        }
        for town in plan.towns
    }
    targets = [(line["address"], DOOR) for line in lines.values()]
    targets += [(address, port) for address, _ in hosts(plan) for port in DOORS]
    told = {"lines": lines, "targets": targets, "door": DOOR, "seconds": 4}
    return shlex.join([sys.executable, "-c", PROGRAM, json.dumps(told)])


def hosts(plan: Plan) -> list[tuple[str, str]]:
    """Return address and name of every host in the city, and of the administrator's seat."""
    names = [host for host in plan.inventory.hosts if plan.stands_in_city(host)]
    found = [(str(plan.platform.host_addresses[name].city), name) for name in names]
    return [*found, (str(plan.platform.workstation_addresses.city), WORKSTATION)]


@cache
def _met(text: str) -> dict[tuple[str, str, int], str]:
    return {(slug, address, port): said for slug, address, port, said in json.loads(text)}


def met(plan: Plan, everywhere: Everywhere) -> dict[tuple[str, str, int], str]:
    """Return what each knock met; not verified where nobody stands at a counter."""
    if not plan.site.is_lab:
        not_verified("nobody here stands at a counter: knock from a terminal")
    said = everywhere[WORKSTATION]["knocks"]
    hold(said.rc == 0, "counters that knock", said.errors, "run `koseki lab up` once more")
    return _met(said.text)


def test_no_line_leads_to_another(
    plan: Plan, everywhere: Everywhere, visit: tuple[str, str]
) -> None:
    """A counter that listens hears its own line, and no packet of another town's (K-01).

    An open door at home shows that the silence abroad is the line's, not a closed door's.
    """
    visitor, visited = visit
    found = met(plan, everywhere)
    there = counter_address(plan, visited)
    home = found.get((visited, there, DOOR))
    expect(home, OPEN, f"nobody listens at the counter of {visited}: verify once more")
    expect(
        found.get((visitor, there, DOOR)),
        SILENT,
        "the lines' carrier routes between municipalities: have it closed",
    )


def test_a_line_leads_to_its_own_doors_alone(
    plan: Plan, everywhere: Everywhere, town: Municipality
) -> None:
    """Of all hosts and doors of the city only those that the plan lists for counters (K-01)."""
    found = met(plan, everywhere)
    seen = {
        (name, port)
        for address, name in hosts(plan)
        for port in DOORS
        if found.get((town.slug, address, port)) == OPEN
    }
    wanted = {
        (name, port)
        for flow in plan.platform.flows
        if TERMINALS in flow.from_
        for name in plan.hosts_in(*flow.to)
        for port in flow.ports
    }
    expect(seen, wanted, "run `koseki apply --only baseline`, then verify again")
