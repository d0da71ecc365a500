"""Who of the plan counts on a day: municipalities, those who stand in for one, operators."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from koseki_ops.plan.model import Municipality, Operator


def active(municipalities: Iterable[Municipality], day: date) -> list[Municipality]:
    """Return the municipalities that have joined by a day and not left (K-02)."""
    return [row for row in municipalities if row.is_active(day)]


def left(municipalities: Iterable[Municipality], day: date) -> list[Municipality]:
    """Return the municipalities that have left by a day."""
    return [row for row in municipalities if row.has_left(day)]


def cut_off(joined: Iterable[Municipality]) -> list[tuple[Municipality, Municipality]]:
    """Return for whom somebody may issue in a failure (K-06), each with who issues.

    joined: those that have joined. Empty unless both have.
    """
    rows = list(joined)
    hosts = [row for row in rows if row.host]
    return [(row, hosts[0]) for row in rows if row.takeover and hosts]


def operators_on(operators: Iterable[Operator], names: Iterable[str], day: date) -> list[str]:
    """Return the ids of the operators who may work that day on a host of these names and groups."""
    known = set(names)
    return [row.id for row in operators if row.is_valid(day) and known & set(row.hosts)]
