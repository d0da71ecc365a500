"""The expectations follow the inventory, hand-checked against Iida's plan."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.plan.site import Site
from koseki_ops.verify.expectations import Plan, pairs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def plan() -> Plan:
    """Iida's plan on a day when all have joined."""
    return Plan.of(Site(ROOT, "iida", "iida"), date(2026, 11, 1))


def ports(plan: Plan, source: str, target: str) -> set[tuple[str, int]]:
    """Return what is listed from one end to another."""
    return {(row.protocol, row.port) for row in plan.listed(source, target)}


def test_flows_between_two_hosts_are_those_of_all_their_groups(plan: Plan) -> None:
    """Flows between two hosts are those of all their groups."""
    assert ports(plan, "secondary1", "primary1") == {
        ("tcp", 2379),
        ("tcp", 2380),
        ("tcp", 5432),
        ("tcp", 8008),
    }
    assert ports(plan, "application1", "primary1") == ports(plan, "secondary1", "primary1")
    assert ports(plan, "registry-link1", "primary1") == {("tcp", 5432), ("tcp", 8008)}
    assert ports(plan, "primary1", "remote-backup1") == {("tcp", 22)}


def test_the_datacenter_opens_nothing(plan: Plan) -> None:
    """The datacenter opens nothing."""
    assert [plan.listed("remote-backup1", end) for end in plan.endpoints] == [
        [] for _ in plan.endpoints
    ]


def test_the_workstation_is_an_end_of_flows(plan: Plan) -> None:
    """The workstation is an end of flows."""
    assert ports(plan, WORKSTATION, "remote-backup1") == {("tcp", 22)}
    assert ports(plan, "primary1", WORKSTATION) == {("tcp", 8080), ("udp", 123)}


def test_municipalities_join_on_their_day(plan: Plan) -> None:
    """Towns join on their day."""
    counts = []
    for day in ("2015-10-31", "2015-11-01", "2017-10-31", "2017-11-01"):
        platform = plan.platform.model_copy(update={"effective_date": date.fromisoformat(day)})
        that_day = Plan(plan.site, plan.inventory, platform, plan.today)
        counts.append(len(that_day.joined))
        assert len(that_day.joined) + len(that_day.waiting) == 14
    assert counts == [0, 8, 8, 14]


def test_an_operator_is_valid_within_the_dates_only(plan: Plan) -> None:
    """An operator is valid within the dates only."""
    first = plan.platform.operators[0]
    assert plan.is_valid(first)
    late = Plan(plan.site, plan.inventory, plan.platform, date(2031, 4, 1))
    assert not late.is_valid(first)
    assert [row.id for row in plan.operators_on("remote-backup1")] == ["sousa01"]


def test_packages_follow_the_hosts_groups(plan: Plan) -> None:
    """Packages follow the hosts groups."""
    assert "patroni" in plan.packages_for("primary1")
    assert "haproxy" in plan.packages_for("registry-link1")
    assert "etcd-server" not in plan.packages_for("registry-link1")
    assert "python3" not in plan.packages_for("remote-backup1")


def test_the_clock_follows_the_nearest_groups_row(plan: Plan) -> None:
    """The clock follows the nearest groups row."""
    assert plan.time_sources_of("primary1") == ["10.20.10.5"]
    assert plan.time_sources_of("remote-backup1") == []


def test_an_unknown_host_is_named(plan: Plan) -> None:
    """An unknown host is named."""
    with pytest.raises(KosekiError, match="nowhere1"):
        plan.hosts_in("nowhere1")


def test_fourteen_municipalities_make_182_attempts(plan: Plan) -> None:
    """Fourteen towns make 182 attempts."""
    assert len(pairs(municipality.slug for municipality in plan.joined)) == 182
