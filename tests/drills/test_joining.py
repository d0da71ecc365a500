"""A town leaves with its data, is deleted, and joins anew; the other thirteen go on (K-02)."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from drills.conftest import Platform
from koseki_ops.terminals import stand_ins_of

TOWN = "urugi"
DATABASE = f"koseki_{TOWN}"
REGISTERS = 40
# Asks about once a second, over a new connection each time, until it is told to stop.
CUSTOMER = """
until [ -e "$1" ]; do
    curl --silent --output /dev/null --write-out '%{http_code}\\n' --max-time 20 \
        --cacert "$2" --cert "$3.crt" --key "$3.key" "$4" || echo "curl $?"
    sleep 0.7
done
"""


@pytest.fixture
def plan(platform: Platform) -> Iterator[Path]:
    """The lab's list of municipalities as a file of its own, put back at the end."""
    path = platform.site.inventory / "group_vars/all/municipalities.yml"
    link, content = path.readlink(), path.read_text(encoding="utf-8")
    path.unlink()
    path.write_text(content, encoding="utf-8")
    try:
        yield path
    finally:
        path.unlink()
        path.symlink_to(link)


def leaves(path: Path, day: str | None) -> None:
    """Write into the plan when the town leaves."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    row = next(row for row in content["municipalities"] if row["slug"] == TOWN)
    row["left_on"] = day
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def asked(platform: Platform, slug: str) -> list[str]:
    """Return what curl is told to ask the gateway as a town's own terminal."""
    site, shared = platform.site, platform.lab.inventory.shared
    key = stand_ins_of(site) / f"{slug}-01"
    address = shared["host_addresses"]["application1"]["city"]
    return [str(site.state / "pki/ca.crt"), str(key), f"https://{address}/health"]


@contextmanager
def customers(platform: Platform, folder: Path) -> Iterator[dict[str, list[str]]]:
    """Let the counters of all other towns ask meanwhile; afterwards: each town's answers."""
    stop, answers = folder / "stop", dict[str, list[str]]()
    towns = [row["slug"] for row in platform.lab.inventory.shared["municipalities"]]
    at_work = {
        slug: subprocess.Popen(
            platform.lab.terminal_argv(
                slug, ("sh", "-c", CUSTOMER, "customer", str(stop), *asked(platform, slug))
            ),
            stdout=subprocess.PIPE,
            text=True,
        )
        for slug in towns
        if slug != TOWN
    }
    try:
        yield answers
    finally:
        stop.touch()
        for slug, process in at_work.items():
            answers[slug] = process.communicate(timeout=60)[0].split("\n")[:-1]
        stop.unlink()


def knock(platform: Platform) -> str:
    """Return what the town's own terminal gets: a status, or why there is none."""
    authority, key, url = asked(platform, TOWN)
    argv = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5"]
    argv += ["--cacert", authority, "--cert", f"{key}.crt", "--key", f"{key}.key", url]
    done = subprocess.run(
        platform.lab.terminal_argv(TOWN, argv), capture_output=True, text=True, check=False
    )
    return done.stdout


def count(platform: Platform) -> int:
    """Return how many registers the town's database holds."""
    ask = f"runuser -u postgres -- psql -XqtA -d {DATABASE} -c"
    return int(platform.sh(str(platform.leader()), f"{ask} 'TABLE koseki.registers' | wc -l"))


@pytest.mark.drill
def test_a_town_leaves_with_its_data_and_joins_anew(platform: Platform, plan: Path, tmp_path: Path):
    """Closed and sealed, handed over whole, deleted when confirmed, in again with one command."""
    platform.koseki("lab", "registers", "--count", str(REGISTERS * 14))
    there = count(platform)
    assert there > 0
    key, certificate = tmp_path / "town.key", tmp_path / "town.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9"]
    make += ["-subj", f"/CN={TOWN}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    assert knock(platform) == "200"

    leaves(plan, "2026-01-01")
    with customers(platform, tmp_path) as answers:
        said = platform.report(
            "withdraw", TOWN, "--to", str(tmp_path), "--recipient", str(certificate)
        )
        assert (said["failed"], said["export"]["rows"]["koseki.registers"]) == (0, there)
        assert knock(platform) in {"000", "403"}
        closed = platform.lab.exec(
            str(platform.leader()),
            ["runuser", "-u", "postgres", "--", "psql", "-d", DATABASE, "-c", "SELECT 1"],
        )
        assert "not currently accepting connections" in closed.stderr
        handed_over(said["export"], key, certificate)
        platform.koseki("drift")

        said = platform.report(
            "withdraw", TOWN, "--delete", "--confirmation", "確認-1", "--by", "sousa01",
            "--approver", "sousa02",
        )  # fmt: skip
        assert said["failed"] == 0
        refused = platform.koseki("enroll", TOWN, check=False)
        assert (refused.returncode, "has left" in refused.stderr) == (2, True)

        leaves(plan, None)
        said = platform.report("enroll", TOWN)
        assert said["failed"] == 0
    assert knock(platform) == "200"
    assert count(platform) == 0
    refused_answers = {
        slug: wrong for slug, seen in answers.items() if (wrong := set(seen) - {"200"})
    }
    assert refused_answers == {}
    assert min(map(len, answers.values())) > 20
    assert platform.report("enroll", TOWN)["changed"] == 0
    platform.green()


def handed_over(export: dict[str, str], key: Path, certificate: Path) -> None:
    """Open what was handed over with the town's key, as it would, and hold it to what was said."""
    file = Path(export["file"])
    told = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    assert told["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    opening = ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", str(file)]
    opening += ["-inkey", str(key), "-recip", str(certificate)]
    content = subprocess.run(opening, check=True, capture_output=True).stdout
    assert hashlib.sha256(content).hexdigest() == told["content_sha256"]
    assert b"CREATE TABLE koseki.registers" in content
