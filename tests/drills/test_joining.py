"""A town leaves with its data, is deleted, and joins anew; the other thirteen go on (K-02)."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from drills.conftest import Platform, leader_lost
from koseki_ops.lab import counters
from koseki_ops.lab.plan import certificate, municipality, own_file
from koseki_ops.trust.terminals import stand_ins_of

SLUG = "urugi"
DATABASE = f"koseki_{SLUG}"


def attempt(platform: Platform) -> str:
    """Return what the town's own terminal gets: a status, or 000 when there is none."""
    key = stand_ins_of(platform.site) / f"{SLUG}-01"
    address = platform.lab.inventory.shared["host_addresses"]["application1"]["city"]
    argv = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5"]
    argv += ["--cacert", str(platform.site.state / "pki/ca.crt"), "--cert", f"{key}.crt"]
    argv += ["--key", f"{key}.key", f"https://{address}/health"]
    done = subprocess.run(
        platform.lab.terminal_argv(SLUG, argv), capture_output=True, text=True, check=False
    )
    return done.stdout


def count(platform: Platform) -> int:
    """Return how many registers the town's database holds."""
    ask = f"runuser -u postgres -- psql -XqtA -d {DATABASE} -c"
    return int(platform.sh(str(platform.leader()), f"{ask} 'TABLE koseki.registers' | wc -l"))


@pytest.mark.drill
@pytest.mark.leaves
def test_a_municipality_leaves_with_its_data_and_joins_anew(
    registers: Platform, tmp_path: Path
) -> None:
    """Closed and sealed, handed over whole, deleted when confirmed; in again, whoever dies."""
    platform = registers
    there = count(platform)
    assert there > 0
    key, pem = certificate(SLUG, tmp_path)
    assert attempt(platform) == "200"

    others = counters.at_work(platform.lab, each=1.0, afresh=True, without=[SLUG])
    with own_file(platform.site, "municipalities.yml") as plan, others as seen:
        municipality(plan, SLUG, left_on="2026-01-01")
        said = platform.report("withdraw", SLUG, "--to", str(tmp_path), "--recipient", str(pem))
        assert (said["failed"], said["export"]["rows"]["koseki.registers"]) == (0, there)
        assert attempt(platform) in {"000", "403"}
        closed = platform.lab.exec(
            str(platform.leader()),
            ["runuser", "-u", "postgres", "--", "psql", "-d", DATABASE, "-c", "SELECT 1"],
        )
        assert "not currently accepting connections" in closed.stderr
        handed_over(said["export"], key, pem)
        platform.koseki("drift")

        said = platform.report(
            "withdraw", SLUG, "--delete", "--confirmation", "確認-1", "--by", "sousa01",
            "--approver", "sousa02",
        )  # fmt: skip
        assert said["failed"] == 0
        refused = platform.koseki("enroll", SLUG, check=False)
        assert (refused.returncode, "has left" in refused.stderr) == (2, True)

    assert (seen.wrong, len(seen.took) > 100) == ({}, True)

    others = counters.at_work(platform.lab, each=1.0, afresh=True, without=[SLUG])
    with own_file(platform.site, "municipalities.yml") as plan:
        municipality(plan, SLUG, left_on=None)
        # The leader's power is cut while it joins; what was begun is ended by the same command.
        leader_lost(platform, "services: Deploy the municipalities' databases", 2, "enroll", SLUG)
        with others as seen:
            assert platform.report("enroll", SLUG)["failed"] == 0
        assert attempt(platform) == "200"
        assert count(platform) == 0
        assert platform.report("enroll", SLUG)["changed"] == 0
    assert seen.wrong == {}
    assert len(seen.took) > 100


def handed_over(export: dict[str, str], key: Path, pem: Path) -> None:
    """Open what was handed over with the town's key, as it would, and hold it to what was said."""
    file = Path(export["file"])
    told = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    opening = ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", str(file)]
    opening += ["-inkey", str(key), "-recip", str(pem)]
    content = subprocess.run(opening, check=True, capture_output=True).stdout
    assert hashlib.sha256(content).hexdigest() == told["content_sha256"]
    assert b"CREATE TABLE koseki.registers" in content
