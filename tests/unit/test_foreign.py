"""What came from elsewhere is read or refused: no input ends a reader otherwise (S08)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.mutations import TOKENS, Edit, edited
from fuzz.targets import TARGETS

pytestmark = pytest.mark.uncounted
EXAMPLES = 100
EDITS = st.lists(
    st.builds(
        Edit,
        st.floats(0, 1),
        st.one_of(st.integers(0, 8), st.integers(0, 4000)),
        st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8), st.integers(0, 3).map(bytes)),
    ),
    min_size=0,
    max_size=4,
)


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_are_taken(name: str) -> None:
    """A seed that is refused leads a search nowhere."""
    for seed in TARGETS[name].seeds:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_answers_or_refuses(name: str) -> None:
    """Whatever is raised instead of a refusal would have been a traceback somewhere."""
    target = TARGETS[name]

    @settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), deadline=None)
    @given(st.sampled_from(target.seeds), EDITS)
    def nearly_right(seed: bytes, edits: list[Edit]) -> None:
        target(edited(seed, edits))

    @settings(max_examples=EXAMPLES // 3, suppress_health_check=list(HealthCheck), deadline=None)
    @given(st.binary(max_size=2000))
    def anything(data: bytes) -> None:
        target(data)

    nearly_right()
    anything()
