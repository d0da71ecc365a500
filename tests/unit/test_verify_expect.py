"""A failed test says what was expected, what was seen and what to do; and it can fail."""

from __future__ import annotations

import pytest

from koseki_ops.verify.expect import CheckFailed, check, expect


def test_what_is_equal_holds() -> None:
    """What is equal holds."""
    expect({"a": 1}, {"a": 1}, "remedy")
    check([1], "something", [1], "remedy")


def test_what_differs_does_not() -> None:
    """What differs does not, and says all three things."""
    with pytest.raises(CheckFailed) as caught:
        expect("P", "L", "lock it", "ssh", "primary1")
    assert (caught.value.expected, caught.value.seen) == ("L", "P")
    assert (caught.value.remedy, caught.value.unit, caught.value.host) == (
        "lock it",
        "ssh",
        "primary1",
    )
    for word in ("expected: L", "seen:     P", "remedy:   lock it"):
        assert word in str(caught.value)


def test_of_two_mappings_only_what_differs_is_shown() -> None:
    """Of two mappings only what differs is shown, a missing key too."""
    with pytest.raises(CheckFailed) as caught:
        expect({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}, "remedy")
    assert (caught.value.expected, caught.value.seen) == ("b: 3; c: 4", "b: 2; c: absent")


def test_nothing_is_said_in_words() -> None:
    """An empty value is readable."""
    with pytest.raises(CheckFailed) as caught:
        expect([], ["x"], "remedy")
    assert caught.value.seen == "nothing"


@pytest.mark.parametrize("empty", [[], "", None, False, 0])
def test_a_condition_on_nothing_does_not_hold(empty: object) -> None:
    """An empty answer never counts as a property that holds."""
    with pytest.raises(CheckFailed):
        check(empty, "something", empty, "remedy")


def test_of_two_sets_only_what_differs_is_shown() -> None:
    """Of two sets only what differs is shown, with the plan's count."""
    with pytest.raises(CheckFailed) as caught:
        expect({"a", "b"}, {"a", "c"}, "remedy")
    assert (caught.value.expected, caught.value.seen) == ("2 of the plan", "too many b; missing c")
