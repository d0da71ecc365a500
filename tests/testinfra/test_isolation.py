"""Isolation: no town's line leads to another's, nor to any door that is not its own (K-01).

182 pairs of towns are tried at each of five layers. Here is the network; the others are where
what they connect to is: the gateway in `gateway`, socket, process and key in `application`, the
database in `databases`, the file exchange in `link`. In a lab every counter listens and every other
knocks; elsewhere nobody here stands at a counter.
"""

from __future__ import annotations

from koseki_ops.core.language import _
from koseki_ops.lab.network import LabNetwork
from koseki_ops.plan.inventory import TERMINALS, WORKSTATION
from koseki_ops.plan.model import Municipality
from koseki_ops.verify.batch import ANSWER_SECONDS, Question
from koseki_ops.verify.connections import (
    OPEN,
    SHUT,
    UNREACHABLE,
    door,
    from_origin,
    outcomes_on_lines,
)
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Everywhere, Questions

# What a counter's programs listen at for this; the firewall of no host speaks of it.
DOOR = 4443
# Doors that hosts have for each other, and one that nobody has.
DOORS = (22, 443, 2022, 2379, 5432, 8008, 8080, DOOR)
# How long a packet that is dropped is waited for, and one that should be answered.
SILENT_SECONDS = 4


def questions(plan: Plan, host: str) -> Questions:
    """Let a lab's counters connect."""
    if host != WORKSTATION or not plan.site.is_lab:
        return {}
    return {"attempts": Question(program(plan), aside=True)}


def counter_address(plan: Plan, slug: str) -> str:
    """Return where a town's terminal is."""
    return str(LabNetwork(plan.site.netns, plan.inventory).counter(slug).terminal)


def program(plan: Plan) -> str:
    """Return the command by which every counter connects to every other and at every host.

    A door is open on every line meanwhile.
    """
    network = LabNetwork(plan.site.netns, plan.inventory)
    lines = {
        municipality.slug: network.counter(municipality.slug).netns for municipality in plan.joined
    }
    doors = {
        municipality.slug: counter_address(plan, municipality.slug) for municipality in plan.joined
    }
    jobs = [door(lines[slug], address, DOOR) for slug, address in doors.items()]
    listed = listed_doors(plan)
    for slug, netns in lines.items():
        targets = [(address, DOOR, address == doors[slug]) for address in doors.values()]
        targets += [
            (address, port, (name, port) in listed)
            for address, name in hosts(plan)
            for port in DOORS
        ]
        jobs += [
            f"{address},tcp,{port},{ANSWER_SECONDS if is_open else SILENT_SECONDS},{netns}"
            for address, port, is_open in targets
        ]
    return from_origin(jobs)


def listed_doors(plan: Plan) -> set[tuple[str, int]]:
    """Return the hosts and doors that the plan lists for counters."""
    return {
        (name, port)
        for flow in plan.platform.flows
        if TERMINALS in flow.from_
        for name in plan.hosts_in(*flow.to)
        for port in flow.ports
    }


def hosts(plan: Plan) -> list[tuple[str, str]]:
    """Return address and name of every host in the city, and of the control node."""
    names = [host for host in plan.inventory.hosts if plan.stands_in_city(host)]
    found = [(str(plan.platform.host_addresses[name].city), name) for name in names]
    return [*found, (str(plan.platform.workstation_addresses.city), WORKSTATION)]


def met(plan: Plan, everywhere: Everywhere) -> dict[tuple[str, str, int], str]:
    """Return what each attempt met; not verified where nobody stands at a counter."""
    if not plan.site.is_lab:
        not_verified(_("nobody here stands at a counter: try from a terminal"))
    said = everywhere[WORKSTATION]["attempts"]
    check(
        said.rc == 0,
        _("attempts from the counters"),
        said.errors,
        _("run `koseki lab up` once more"),
    )
    found = _by_municipality(said.text, LabNetwork(plan.site.netns, plan.inventory), plan)
    missing = [key for key, word in found.items() if word not in {OPEN, *SHUT}]
    expect(missing, [], _("run `koseki verify isolation`: not every attempt was made"))
    return found


def _by_municipality(text: str, network: LabNetwork, plan: Plan) -> dict[tuple[str, str, int], str]:
    municipalities = {
        network.counter(municipality.slug).netns: municipality.slug for municipality in plan.joined
    }
    return {
        (municipalities[netns], address, port): said
        for (netns, address, port), said in outcomes_on_lines(text).items()
    }


def test_no_line_leads_to_another(
    plan: Plan, everywhere: Everywhere, pair: tuple[str, str]
) -> None:
    """A counter that listens hears its own line, and no packet of another town's (K-01).

    An open door at home shows that the silence abroad is the line's, not a closed door's.
    """
    source, target = pair
    found = met(plan, everywhere)
    there = counter_address(plan, target)
    home = found.get((target, there, DOOR))
    expect(
        home,
        OPEN,
        _("run `koseki verify isolation`: nobody listened at the counter of {target}").format(
            target=target
        ),
    )
    expect(
        found.get((source, there, DOOR)),
        UNREACHABLE,
        _("by hand: the lines' carrier routes between municipalities: have it closed"),
    )


def test_a_line_leads_to_its_own_doors_alone(
    plan: Plan, everywhere: Everywhere, municipality: Municipality
) -> None:
    """Of all hosts and doors of the city only those that the plan lists for counters (K-01)."""
    found = met(plan, everywhere)
    seen = {
        (name, port)
        for address, name in hosts(plan)
        for port in DOORS
        if found.get((municipality.slug, address, port)) == OPEN
    }
    expect(seen, listed_doors(plan), _("run `koseki apply --only baseline`, then verify again"))
