"""Breaks that are applied together are told apart by what turns red, and are all mended again."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from drills.rounds import Break, Outcomes, broken, codes, load, misjudged, rounds_of
from koseki_ops.core.errors import KosekiError
from koseki_ops.verify.results import FAILED, PASSED, SKIPPED

TABLE = Path(__file__).parents[1] / "drills" / "breaks.yml"
# Three bits, and a test that no break is about.
TABLE_OF_FOUR = [
    Break(name, host, f"break {name}", f"mend {name}", f"test_{name}", also)
    for name, host, also in (
        ("flows", "one", ()),
        ("gateway", "one", ("test_beside",)),
        ("link", "two", ("test_beside",)),
        ("vault", "three", ()),
    )
]
OTHER = "test_other"
ALL = [*(row.fails for row in TABLE_OF_FOUR), "test_beside", OTHER]


def tables() -> list[list[str]]:
    """Return hosts of breaks: from one break to forty, crowded on one host or spread out."""
    chance = random.Random(13)  # noqa: S311 - the same tables at each run
    return [
        [f"host{chance.randrange(hosts)}" for _ in range(count)]
        for count in range(1, 41)
        for hosts in (1, 2, 6)
    ]


def as_it_should_be() -> list[dict[str, str]]:
    """Return what each round of the four sees when all is right."""
    return [
        {test: FAILED if test in reddened else PASSED for test in ALL}
        for reddened in (
            {test for row in breaks for test in row.reddens} for breaks in rounds_of(TABLE_OF_FOUR)
        )
    ]


def judged(seen: list[dict[str, str]], healthy: Outcomes | None = None) -> dict[str, str]:
    """Return what is wrong with what the rounds of the four saw."""
    return misjudged(rounds_of(TABLE_OF_FOUR), seen, healthy or dict.fromkeys(ALL, PASSED))


def test_any_two_breaks_are_told_apart_by_their_rounds() -> None:
    """Each has a code, no two the same; on one host neither has all the rounds of the other."""
    for hosts in tables():
        told = codes(hosts)
        assert len(set(told)) == len(hosts)
        assert min(told) > 0
        for (one, here), (other, there) in itertools.combinations(zip(told, hosts, strict=True), 2):
            assert here != there or one & other not in {one, other}, hosts


def test_no_round_is_empty() -> None:
    """A round in which nothing is broken would prove nothing and still cost its time."""
    for hosts in tables():
        rows = [Break(str(n), host, "", "", str(n)) for n, host in enumerate(hosts)]
        rounds = rounds_of(rows)
        assert all(rounds), hosts
        assert {row for breaks in rounds for row in breaks} == set(rows)


def test_the_table_takes_as_few_rounds_as_can_tell_it_apart() -> None:
    """Five for up to thirty-one suites, nine of which are broken on one host."""
    table = load(TABLE)
    assert len(rounds_of(table)) == len(table).bit_length()


def test_no_test_stands_for_two_breaks() -> None:
    """A test that a second break reddens as well would not show that its own does."""
    table = load(TABLE)
    fails = [row.fails for row in table]
    assert len(set(fails)) == len(fails)
    assert [row.suite for row in table if set(row.also) & set(fails)] == []
    assert [row.suite for row in table if not row.fails.startswith(f"test_{row.suite}.py::")] == []


def test_what_is_red_in_its_rounds_alone_is_right() -> None:
    """Red while its break is there, green otherwise; by the way in the rounds of both breaks."""
    seen = as_it_should_be()
    assert judged(seen) == {}
    rounds = rounds_of(TABLE_OF_FOUR)
    both = [any(row.also for row in breaks) for breaks in rounds]
    assert [outcomes["test_beside"] == FAILED for outcomes in seen] == both


@pytest.mark.parametrize("test", ["test_flows", "test_beside"])
def test_a_break_that_does_nothing_is_told_with_its_rounds(test: str) -> None:
    """What stays green is named, in each round in which it should have been red."""
    seen = as_it_should_be()
    rounds = [number for number, outcomes in enumerate(seen, 1) if outcomes[test] == FAILED]
    found = judged([outcomes | {test: PASSED} for outcomes in seen])
    assert list(found) == [test]
    said = ", ".join(f"passed in round {number}" for number in rounds)
    assert found[test] == f"{test} is {said}"


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.combinations([row.fails for row in TABLE_OF_FOUR], 2))
)
def test_breaks_that_turn_each_others_test_red_are_told(one: str, other: str) -> None:
    """Any two that are swapped are both named."""
    swapped = [
        outcomes | {one: outcomes[other], other: outcomes[one]} for outcomes in as_it_should_be()
    ]
    assert set(judged(swapped)) == {one, other}


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("test", ALL)
def test_any_other_red_is_told_by_test_and_round(test: str, number: int) -> None:
    """In whichever round: if nothing there is said to redden it, it is named with the round."""
    seen = as_it_should_be()
    turned = PASSED if seen[number - 1][test] == FAILED else FAILED
    seen[number - 1][test] = turned
    found = judged(seen)
    assert list(found) == [test]
    assert found[test].startswith(f"{test} is {turned} in round {number}")


@pytest.mark.parametrize("row", TABLE_OF_FOUR, ids=[row.suite for row in TABLE_OF_FOUR])
def test_the_break_behind_a_strange_red_is_named(row: Break) -> None:
    """What is red wherever one break is, and nowhere else, is told with that break's suite."""
    seen = as_it_should_be()
    for number, breaks in enumerate(rounds_of(TABLE_OF_FOUR)):
        seen[number][OTHER] = FAILED if row in breaks else PASSED
    assert judged(seen)[OTHER].endswith(f": as if by the break of {row.suite}")


@pytest.mark.parametrize("outcome", [SKIPPED, None])
def test_a_test_that_falls_silent_is_told(outcome: str | None) -> None:
    """Not verified, or not even there, is not green; where it always is so, it may stay so."""
    seen = as_it_should_be()
    if outcome is None:
        del seen[0][OTHER]
    else:
        seen[0][OTHER] = outcome
    assert list(judged(seen)) == [OTHER]
    if outcome:
        assert judged(seen, dict.fromkeys(ALL, PASSED) | {OTHER: SKIPPED}) == {}


def test_an_id_that_no_suite_has_is_told() -> None:
    """A row of the table with a misspelt test is red in its rounds, for the test is not there."""
    found = misjudged([[Break("a", "one", "", "", "test_misspelt")]], [{OTHER: PASSED}], {})
    assert found == {"test_misspelt": "test_misspelt is absent in round 1"}


def test_all_is_mended_in_reverse_order() -> None:
    """What was broken last is mended first, since it may stand on what was broken before."""
    done: list[tuple[str, str]] = []
    with broken(TABLE_OF_FOUR[:2], lambda *words: done.append(words)):
        assert done == [("one", "break flows"), ("one", "break gateway")]
    assert done[2:] == [("one", "mend gateway"), ("one", "mend flows")]


@pytest.mark.parametrize("unwell", ["break gateway", "in between"])
@pytest.mark.parametrize("mend_fails", [False, True])
def test_what_fails_half_way_is_mended_all_the_same(unwell: str, *, mend_fails: bool) -> None:
    """Each mend has its turn, the half-done break's too, and what went wrong first is told."""
    done: list[str] = []

    def run(_host: str, script: str) -> None:
        done.append(script)
        if script == unwell:
            raise KosekiError("a half", script, "nothing")
        assert not (mend_fails and script == "mend gateway"), "the mend failed"

    with pytest.raises((KosekiError, AssertionError)) as met, broken(TABLE_OF_FOUR[:2], run):
        run("one", "in between")
    assert "a half" in str(met.value)
    assert done[-2:] == ["mend gateway", "mend flows"]
    notes = getattr(met.value, "__notes__", [])
    assert ["the mend failed" in note for note in notes] == [True] * mend_fails


def test_a_mend_that_fails_is_an_error_of_its_own() -> None:
    """The others are mended, and then it is told."""
    done: list[str] = []

    def run(_host: str, script: str) -> None:
        done.append(script)
        assert script != "mend gateway", "the mend failed"

    with pytest.raises(AssertionError, match="the mend failed"), broken(TABLE_OF_FOUR[:2], run):
        pass
    assert done[-1] == "mend flows"
