"""Takeovers: only where the clause is, and no number is lost (K-06)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.site import Site
from koseki_ops.registers.requests.service import RegisterService
from koseki_ops.registers.takeovers.service import TakeoverSpec, clause, declare, reconcile

GOOD = TakeoverSpec(
    "大鹿村", "sousa01", "sousa02", "回線途絶", datetime.now(UTC) + timedelta(hours=2)
)


@pytest.fixture(scope="module")
def registers() -> RegisterService:
    """The plan's own desk."""
    return RegisterService.of(Site.open("iida"))


def test_one_municipality_has_the_clause(registers: RegisterService) -> None:
    """By slug, name or code; and every other one of the plan is refused."""
    assert {clause(registers, name)[0].slug for name in ("oshika", "大鹿村", "204170")} == {
        "oshika"
    }
    others = [row.slug for row in registers.platform.municipalities if row.slug != "oshika"]
    assert len(others) == 13
    for slug in others:
        with pytest.raises(KosekiError, match="allows no takeover"):
            clause(registers, slug)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"municipality": "松川村"}, "no municipality of this name has joined"),
        ({"approver": "sousa01"}, "does not approve"),
        ({"approver": "sousa03"}, "not a valid operator today"),
        ({"declared_by": "root"}, "not a valid operator today"),
        ({"cause": " "}, "--cause is not one line"),
        (
            {"until": datetime.now(UTC) - timedelta(seconds=1)},
            "the expiry is in the past or too far ahead",
        ),
        (
            {"until": datetime.now(UTC) + timedelta(hours=169)},
            "the expiry is in the past or too far ahead",
        ),
    ],
)
def test_a_declaration_that_is_not_whole_is_refused(
    registers: RegisterService, change: dict[str, Any], said: str
) -> None:
    """Before the leader hears of it: nothing is asked over the network."""
    with pytest.raises(KosekiError, match=said):
        declare(registers, replace(GOOD, **change), "root")


def test_numbers_reconcile_or_are_named() -> None:
    """A gap, a lost last number, one too many, one issued when nothing was declared."""
    assert reconcile(0, [], []) == []
    assert reconcile(3, [3, 1, 2], []) == []
    assert reconcile(3, [1, 3], []) == ["number 2 was taken and has no document"]
    assert reconcile(3, [1, 2], []) == ["number 3 was taken and has no document"]
    assert reconcile(1, [1, 2], []) == ["number 2 was never taken"]
    assert reconcile(1, [1], [1]) == ["number 1 was issued outside of its takeover"]
