"""Each suite is seen red: what is broken is seen by the tests that guard it, and by no other.

A test that cannot fail is a defect. The breaks are a table, `breaks.yml`; `rounds.py` says which of
them are applied together, and how each is still told from the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from drills.conftest import CONVERGED, Held, Platform, settled, whole
from drills.rounds import Break, broken, load, misjudged, rounds_of
from koseki_ops.plan.site import Site
from koseki_ops.verify.results import FAILED, Results
from koseki_ops.verify.runner import Reports, known_suites

BREAKS = load(Path(__file__).with_name("breaks.yml"))
LEADER = "leader"


@dataclass(frozen=True)
class Findings:
    """What all rounds found: each verification's results, and by test what was not right."""

    results: Sequence[Results]
    wrong: dict[str, str]


@pytest.fixture(scope="module")
def healthy(held: Held) -> Iterator[Platform]:
    """The provisioned lab as its provisioning left it, once for all breaks: each is mended."""
    if held.state != CONVERGED:
        held.bring(CONVERGED)
    held.state = ""
    settled(held.platform)
    yield held.platform
    whole(held.platform)
    held.state = CONVERGED


@pytest.fixture(scope="module")
def findings(healthy: Platform) -> Findings:
    """Round by round: some things are broken, every suite is asked once, all is mended again."""
    leader = healthy.leader()
    assert leader is not None

    def run(host: str, script: str) -> None:
        healthy.sh(leader if host == LEADER else host, script)

    # From the verification that ended the provisioning.
    before = outcomes(results_in(healthy.site.state / "verified.json"))
    rounds, results = rounds_of(BREAKS), list[Results]()
    for breaks in rounds:
        with broken(breaks, run):
            done = healthy.koseki("verify", check=False)
            assert done.returncode == 1, f"{[row.suite for row in breaks]}\n{done.stdout}"
            results.append(results_in(Reports.of(healthy.site).results))
    return Findings(results, misjudged(rounds, [outcomes(found) for found in results], before))


def results_in(path: Path) -> Results:
    """Return what a verification found."""
    return Results.from_json(json.loads(path.read_text(encoding="utf-8")))


def outcomes(results: Results) -> dict[str, str]:
    """Return how each test ended, by id."""
    return {test.id: test.outcome for test in results.tests}


def test_there_is_a_break_for_every_suite() -> None:
    """A new suite brings its own proof that it can fail."""
    assert sorted(row.suite for row in BREAKS) == known_suites(Site.open())


@pytest.mark.drill
@pytest.mark.parametrize("row", BREAKS, ids=[row.suite for row in BREAKS])
def test_exactly_the_right_test_fails(findings: Findings, row: Break) -> None:
    """What must see a break is red while it is there, in exactly its rounds, and green without."""
    wrong = [findings.wrong[test] for test in row.reddens if test in findings.wrong]
    assert not wrong, "\n".join(wrong)


@pytest.mark.drill
def test_nothing_else_turns_red(findings: Findings) -> None:
    """Of all other tests of all suites none is red, silent or left out because of a break."""
    known = {test for row in BREAKS for test in row.reddens}
    others = [said for test, said in findings.wrong.items() if test not in known]
    assert not others, "\n".join(others)


@pytest.mark.drill
def test_whatever_is_red_says_what_to_do(findings: Findings) -> None:
    """Each failure says what was expected, what was seen, and a remedy."""
    failed = [test for results in findings.results for test in results.with_outcome(FAILED)]
    assert failed
    assert [test.id for test in failed if not (test.expected and test.seen and test.remedy)] == []


@pytest.mark.drill
def test_all_is_green_once_it_is_mended(healthy: Platform, findings: Findings) -> None:
    """Each break is taken back whole: the next verification of everything is green."""
    assert findings.results
    healthy.koseki("verify")
