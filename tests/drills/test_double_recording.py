"""What 正 does without 副: `preferred` goes on alone, `required` waits (K-03). Both are the plan's.

No acknowledged row is missing either way; the plan's word is brought by the ordinary playbook.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from drills.conftest import Platform, playbook, settled, wait_for
from koseki_ops.lab import writers

SLUG = "iida"
LEADS, RECORDS_ALONG = "primary1", "secondary1"
# 副 is missed when its key in etcd has run out (20 s) and Patroni has gone round its loop: until
# then writes wait either way, and whoever goes on alone does so soon after.
MISSED_SECONDS = 45


@pytest.fixture
def writer(platform: Platform) -> Iterator[writers.Writer]:
    """A municipality that writes through the proxy all the while."""
    municipality = writers.municipality_writer(platform.lab, SLUG)
    yield municipality
    writers.stop(platform.lab, municipality)
    writers.clear(platform.lab, LEADS, SLUG, municipality)


@pytest.mark.drill
@pytest.mark.parametrize(
    ("word", "goes_on"),
    [("preferred", True), pytest.param("required", False, marks=pytest.mark.leaves)],
)
def test_the_second_recording_is_lost(
    platform: Platform, writer: writers.Writer, word: str, *, goes_on: bool
) -> None:
    """The word of the plan decides; when 副 is back both record again, and nothing is missing."""
    lab = platform.lab
    playbook(platform, "deploy-postgresql", "--extra-vars", f"double_recording={word}")
    settled(platform)
    writers.start(lab, writer)
    wait_for(lambda: writers.acknowledged(lab, writer), "the first rows")

    lab.kill(RECORDS_ALONG)
    killed_at = time.time()
    time.sleep(MISSED_SECONDS)
    assert writers.acknowledged_since(lab, writer, killed_at) is goes_on

    lab.start(RECORDS_ALONG)
    settled(platform)
    back_at = time.time()
    wait_for(lambda: writers.acknowledged_since(lab, writer, back_at), "writes go on", 60)
    rows = {row.number for row in writers.acknowledged(lab, writer)}
    assert platform.leader() == LEADS
    assert rows - writers.present(lab, LEADS, SLUG, writer) == set()
