"""Requests that no counter sends: clean refusals, no word of other towns (K-01).

Ten thousand that are malformed, and what is composed from the stand-in's own description, right and
wrong: that description is true of the running instance.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from drills.conftest import Platform
from drills.garbage import judged
from koseki_ops.lab import counters
from koseki_ops.supply.release import STAND_IN
from koseki_ops.trust.terminals import stand_ins_of
from koseki_sample.routes import ROUTES

PROGRAM = Path(__file__).with_name("garbage.py")
# Town by town, side by side, since each waits for answers most of the time.
SLUGS = (
    "takamori", "neba", "shimojo", "yasuoka", "takagi", "toyooka", "anan", "achi", "hiraya",
    "urugi",
)  # fmt: skip
COUNT = 1_000
# The town whose instance is held to its description, where nobody has filed anything before: what
# is composed has to meet routes that only an open filing answers well. How many requests an
# operation gets at most at random, beside those for each border of what is described; how many a
# second, and how long all of it may take, in seconds.
DESCRIBED, EXAMPLES, RATE, SECONDS = "matsukawa", 100, 40, 120
# Each of these compares an answer with what the description says of it.
CHECKS = (
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
)


def gateway(platform: Platform) -> str:
    """Return the gateway's address."""
    return str(platform.lab.inventory.shared["host_addresses"]["application1"]["city"])


def words_of_others(platform: Platform, slug: str) -> list[str]:
    """Return names and codes of every town but this one."""
    others = [row for row in platform.lab.inventory.shared["municipalities"] if row["slug"] != slug]
    return [str(row[column]) for row in others for column in ("name", "code6")]


def thrown(platform: Platform, slug: str) -> dict[str, object]:
    """Let a town's terminal send its share; return what it saw."""
    told = {
        "address": gateway(platform),
        "authority": str(platform.site.state / "pki/ca.crt"),
        "key": str(stand_ins_of(platform.site) / f"{slug}-01"),
        "others": words_of_others(platform, slug),
        "seed": SLUGS.index(slug),
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
def test_garbage_is_refused_cleanly(registers: Platform) -> None:
    """No 5xx but the gateway's own refusal, no name or code of another town, and all goes on."""
    with ThreadPoolExecutor(len(SLUGS)) as pool:
        found = list(pool.map(lambda slug: thrown(registers, slug), SLUGS))
    assert [row["bad"] for row in found] == [[]] * len(SLUGS), found
    answered = counters.work(registers.lab, counters.HEALTH, each=0.5, seconds=3, afresh=True)
    assert answered.wrong == {}
    assert answered.took
    registers.koseki("verify", "application", "gateway")


@pytest.mark.drill
def test_described_requests_get_described_answers(registers: Platform, tmp_path: Path) -> None:
    """Composed from the description by Schemathesis, on a town's line with its certificate."""
    key = stand_ins_of(registers.site) / f"{DESCRIBED}-01"
    seen = tmp_path / "seen.har"
    argv = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("run", str(registers.site.root / STAND_IN / "openapi.yml")),
        *("--url", f"https://{gateway(registers)}", "--max-redirects", "0"),
        *("--tls-verify", str(registers.site.state / "pki/ca.crt")),
        *("--request-cert", f"{key}.crt", "--request-cert-key", f"{key}.key"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES)),
        # Slower than the gateway lets a terminal be, so that it is the application that answers.
        *("--rate-limit", f"{RATE}/s"),
        *("--seed", "17", "--generation-database", "none", "--continue-on-failure"),
        *("--checks", ",".join(CHECKS), "--no-color"),
        *("--report", "har", "--report-har-path", str(seen)),
    ]
    done = subprocess.run(
        registers.lab.terminal_argv(DESCRIBED, argv),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    entries = json.loads(seen.read_text(encoding="utf-8"))["log"]["entries"]
    others = words_of_others(registers, DESCRIBED)
    bad = [
        f"{row['request']['method']} {row['request']['url']}: {found}"
        for row in entries
        if (found := judged(str(row["response"]["status"]), body_of(row), others))
    ]
    assert not bad, bad[:10]
    assert 200 < len(entries) < 3_000
    # Whatever can be asked was answered as it is when all is well, too.
    well = {
        (row["request"]["method"], urlsplit(row["request"]["url"]).path)
        for row in entries
        if row["response"]["status"] in {HTTPStatus.OK, HTTPStatus.SEE_OTHER}
    }
    missing = [
        route
        for route in ROUTES
        if not any(route.method == way and route.pattern().fullmatch(path) for way, path in well)
    ]
    assert not missing


def body_of(row: dict[str, Any]) -> str:
    """Return an answer's body as its HAR file holds it."""
    return str(row["response"]["content"].get("text", ""))
