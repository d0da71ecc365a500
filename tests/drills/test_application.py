"""A release is switched under traffic without a failed request, and a bad one goes back (K-08)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drills.conftest import Platform
from koseki_ops import ansible_run, release

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


def prepared(platform: Platform, version: str, serve: str | None = None) -> None:
    """Build and sign the stand-in under another version; serve: what its program is instead."""
    site = platform.site
    source = release.folder_of(site) / f"source-{version}"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(site.root / release.STAND_IN, source)
    said = source / release.SOURCE_FILE
    text = said.read_text(encoding="utf-8")
    said.write_text(text.replace("version: 1.3.0", f"version: {version}"), encoding="utf-8")
    if serve is not None:
        (source / "bin/serve").write_text(serve, encoding="utf-8")
    archive = release.build(source, release.folder_of(site))
    release.sign(archive, release.make_key(site))


def switch(platform: Platform, version: str) -> subprocess.CompletedProcess[str]:
    """Ask for a version as the plan would."""
    wanted = {"name": release.STAND_IN_NAME, "version": version, "allow_downgrade": False}
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("--inventory", str(platform.site.inventory), "--limit", HOST),
            *("--extra-vars", json.dumps({"application_release": wanted})),
            "playbooks/run-application.yml",
        ],
        cwd=platform.site.root,
        env=ansible_run.environment(platform.site),
        capture_output=True,
        text=True,
        check=False,
    )
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
def test_releases_come_and_go_without_a_failed_request(platform: Platform):
    """Forward under traffic; a release that does not start goes back; an older one is refused."""
    prepared(platform, "1.3.1")
    prepared(platform, "1.3.2", serve="#!/bin/sh\nexit 1\n")
    platform.sh(HOST, f"cat >/run/koseki-asker.py <<'PYTHON'\n{ASKER}\nPYTHON")
    unit = "systemd-run --quiet --collect --unit=koseki-asker"
    platform.sh(HOST, f"{unit} python3 /run/koseki-asker.py")
    time.sleep(1)
    forward = switch(platform, "1.3.1")
    assert forward.returncode == 0, forward.stdout[-2000:]
    assert running(platform) == {"1.3.1"}
    bad = switch(platform, "1.3.2")
    assert bad.returncode != 0
    assert "1.3.2 is not healthy" in bad.stdout, bad.stdout[-2000:]
    assert "every instance runs 1.3.1 again" in bad.stdout, bad.stdout[-2000:]
    assert running(platform) == {"1.3.1"}
    row = last_row(platform)
    assert (row["action"], row["version"], row["from"]) == ("roll-back", "1.3.1", "1.3.2")
    platform.sh(HOST, "systemctl stop koseki-asker")
    counted = json.loads(platform.sh(HOST, "cat /run/koseki-asker.json"))
    assert counted["failed"] == []
    assert counted["asked"] > 100
    older = switch(platform, "1.3.0")
    assert older.returncode != 0
    assert "1.3.1 is running and 1.3.0 is older" in older.stdout, older.stdout[-2000:]
    assert running(platform) == {"1.3.1"}
