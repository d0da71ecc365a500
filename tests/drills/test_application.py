"""A release is switched under traffic without a failed request, and a bad one goes back (K-08)."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from drills.conftest import Platform, leader_lost
from drills.corelock import cores
from drills.ledger import LEDGER
from koseki_ops.lab import releases
from koseki_ops.lab.plan import own_file

HOST = "application1"
# Asks three municipalities without pause, as their counters would, and counts what fails.
ASKER = """
import http.client, json, signal, socket, sys, time
stop = False
def end(*_):
    global stop
    stop = True
signal.signal(signal.SIGTERM, end)
asked, failed = 0, []
while not stop:
    for slug in ("iida", "takamori", "oshika"):
        for path in ("/?kana=%E3%81%82", "/health"):
            connection = http.client.HTTPConnection("localhost", timeout=60)
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(60)
            try:
                connection.sock.connect(f"/run/koseki/application/{slug}.sock")
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    failed.append(f"{slug} {path}: {answer.status}")
            except (OSError, http.client.HTTPException) as error:
                failed.append(f"{slug} {path}: {error!r}")
            asked += 1
            time.sleep(0.01)
with open("/run/koseki-asker.json", "w") as file:
    json.dump({"asked": asked, "failed": failed}, file)
"""


def switch(platform: Platform, version: str) -> subprocess.CompletedProcess[str]:
    """Ask for a version as the plan would."""
    with cores(1):
        LEDGER.count("playbook")
        done = releases.switch(platform.site, HOST, version)
    # Ansible breaks long sentences over lines.
    done.stdout = " ".join(done.stdout.split())
    return done


def running(platform: Platform) -> set[str]:
    """Return the versions that instances run, and what ails any of them."""
    seen = json.loads(platform.sh(HOST, "koseki-release status"))["instances"]
    return {row["version"] for row in seen.values()} | {row["ails"] for row in seen.values()} - {""}


def last_row(platform: Platform) -> dict[str, str]:
    """Return the last row of the change record."""
    rows = platform.sh(HOST, "cat /var/lib/koseki/releases/record.jsonl").splitlines()
    row: dict[str, str] = json.loads(rows[-1])
    return row


@pytest.mark.drill
@pytest.mark.leaves
def test_releases_come_and_go_without_a_failed_request(platform: Platform) -> None:
    """Forward under traffic; a release that does not start goes back; an older one is refused."""
    good, wrong = releases.later(1), releases.later(2)
    releases.prepare(platform.site, good)
    releases.prepare(platform.site, wrong, serve="#!/bin/sh\nexit 1\n")
    platform.sh(HOST, f"cat >/run/koseki-asker.py <<'PYTHON'\n{ASKER}\nPYTHON")
    unit = "systemd-run --quiet --collect --unit=koseki-asker"
    platform.sh(HOST, f"{unit} python3 /run/koseki-asker.py")
    time.sleep(1)
    forward = switch(platform, good)
    assert forward.returncode == 0, forward.stdout[-2000:]
    assert running(platform) == {good}
    bad = switch(platform, wrong)
    assert bad.returncode != 0
    assert f"{wrong} is not healthy" in bad.stdout, bad.stdout[-2000:]
    assert f"every instance runs {good} again" in bad.stdout, bad.stdout[-2000:]
    assert running(platform) == {good}
    row = last_row(platform)
    assert (row["action"], row["version"], row["from"]) == ("roll-back", good, wrong)
    platform.sh(HOST, "systemctl stop koseki-asker")
    counted = json.loads(platform.sh(HOST, "cat /run/koseki-asker.json"))
    assert counted["failed"] == []
    assert counted["asked"] > 100
    older = switch(platform, releases.VERSION)
    assert older.returncode != 0
    assert f"{good} is running and {releases.VERSION} is older" in older.stdout, older.stdout[
        -2000:
    ]
    assert running(platform) == {good}


@pytest.mark.drill
@pytest.mark.leaves
def test_the_leader_is_lost_while_a_release_comes(platform: Platform) -> None:
    """Its schema is applied once in every town, its program runs, as if nothing had been (K-03)."""
    version = releases.later(1)
    schema = ("0003-drill.sql", "CREATE TABLE koseki.drill (id int);\n")
    releases.prepare(platform.site, version, schema=schema)
    with own_file(platform.site, "application.yml") as plan:
        text = plan.read_text(encoding="utf-8")
        plan.write_text(text.replace(releases.VERSION, version), encoding="utf-8")
        leader_lost(platform, "services: Bring the schema of the release", 1.5, "apply")
        assert platform.report("apply")["failed"] == 0
        assert running(platform) == {version}
        applied = "SELECT count(*), max(number) FROM platform.schema_files"
        for row in platform.lab.inventory.shared["municipalities"]:
            ask = f"runuser -u postgres -- psql -XqtA -d koseki_{row['slug']} -c '{applied}'"
            assert platform.sh(str(platform.leader()), ask).strip() == "3|3", row["slug"]
        assert "changed=0" in switch(platform, version).stdout
        platform.koseki("verify", "application", "databases")
