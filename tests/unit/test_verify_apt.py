"""What apt takes for yes is told from what it takes for no."""

from __future__ import annotations

import pytest

from koseki_ops.verify.apt import NO, switched_on

NAME = "APT::Periodic::Unattended-Upgrade"


@pytest.mark.parametrize("value", ["1", "7", "1d", "always", "yes", "on", "True", "with", " 1 "])
def test_yes(value: str) -> None:
    """Every seventh day is a yes, too."""
    line = f'{NAME} "{value}";'
    assert switched_on([line]) == [line]


@pytest.mark.parametrize("value", [*sorted(NO), "0", "00", "", "False", "NO"])
def test_no(value: str) -> None:
    """Nothing, zero and apt's own words."""
    assert switched_on([f'{NAME} "{value}";']) == []


def test_what_cannot_be_read_is_not_known_to_be_off() -> None:
    """An unknown form of line is told."""
    assert switched_on(["E: no configuration"]) == ["E: no configuration"]
