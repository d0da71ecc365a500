"""Ten thousand malformed requests at the gateway: clean refusals, no word of others (K-01)."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from drills.conftest import Platform
from koseki_ops.lab import counters
from koseki_ops.terminals import stand_ins_of

PROGRAM = Path(__file__).with_name("garbage.py")
# Town by town, side by side, since each waits for answers most of the time.
TOWNS = (
    "takamori", "neba", "shimojo", "yasuoka", "takagi", "toyooka", "anan", "achi", "hiraya",
    "urugi",
)  # fmt: skip
COUNT = 1_000


def thrown(platform: Platform, slug: str) -> dict[str, object]:
    """Let a town's terminal send its share; return what it saw."""
    shared = platform.lab.inventory.shared
    others = [row for row in shared["municipalities"] if row["slug"] != slug]
    told = {
        "address": str(shared["host_addresses"]["application1"]["city"]),
        "authority": str(platform.site.state / "pki/ca.crt"),
        "key": str(stand_ins_of(platform.site) / f"{slug}-01"),
        "others": [row[column] for row in others for column in ("name", "code6")],
        "seed": TOWNS.index(slug),
        "count": COUNT,
    }
    done = subprocess.run(
        platform.lab.terminal_argv(slug, [sys.executable, str(PROGRAM), json.dumps(told)]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.drill
def test_garbage_is_refused_cleanly(platform: Platform):
    """No 5xx but the gateway's own refusal, no name or code of another town, and all goes on."""
    with ThreadPoolExecutor(len(TOWNS)) as towns:
        found = list(towns.map(lambda slug: thrown(platform, slug), TOWNS))
    assert [row["bad"] for row in found] == [[]] * len(TOWNS), found
    answered = counters.work(platform.lab, counters.HEALTH, each=0.5, seconds=3, afresh=True)
    assert answered.wrong == {}
    assert answered.took
    platform.koseki("verify", "application", "gateway")
