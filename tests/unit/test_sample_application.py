"""The stand-in's rules of text: characters are what was registered, never what looks alike."""

from __future__ import annotations

import pytest

from koseki_sample.invented import SURVIVORS, registers
from koseki_sample.text import starts_with, units

COUNT = 500


def test_a_selector_belongs_to_its_character() -> None:
    """葛󠄂 is one character with its selector; 葛葛 are two."""
    assert units("葛\U000e0102葛村") == ["葛\U000e0102", "葛", "村"]
    assert "".join(units("\U000e0102葛\U000e0102\U000e0100")) == "\U000e0102葛\U000e0102\U000e0100"


@pytest.mark.parametrize(("typed", "pattern"), [("葛", "葛%"), ("50%_\\", "50\\%\\_\\\\%")])
def test_what_is_typed_is_no_pattern(typed: str, pattern: str) -> None:
    """Signs that LIKE would take for its own are looked for as they are."""
    assert starts_with(typed) == pattern


def test_invented_registers_are_the_same_every_time() -> None:
    """Two loads can be compared; each municipality has its own, with every survivor among them."""
    once = list(registers("202053", COUNT))
    assert once == list(registers("202053", COUNT))
    assert once != list(registers("204170", COUNT))
    families = {family for _, family, *_ in once}
    assert {family for family, _ in SURVIVORS} <= families
