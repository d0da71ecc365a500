"""A lab of the drills' own: provisioned once, then restored before each drill in seconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from koseki_ops import ansible_run
from koseki_ops.drift.manifest import folder as drift_folder
from koseki_ops.lab import Lab, writers
from koseki_ops.site import Site
from koseki_ops.verify.runner import Reports

# Of a minute: whatever ends then is looked at three seconds later.
SECOND = 57
LAB_NAME = os.environ.get("KOSEKI_DRILL_LAB", "drills")
CONVERGED = "converged"
SECONDS_TO_SETTLE = 420
# What the clock starts on the hosts, as systemctl's patterns.
OURS = "'koseki-*' 'pgbackrest-*'"
# The platform is provisioned as by a nervous administrator: what was broken off in the ground, in
# the packages and in the cluster's first minute is healed by the next apply.
INTERRUPTED_AFTER = (6, 15, 20)
# A shell starts what it puts into the background deaf to Ctrl-C, and the drills with it.
HEARING = ["env", "--default-signal=INT"]


def koseki(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `koseki` on a lab as an administrator would, and return what it said."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("koseki")), *arguments],
        env={**os.environ, "KOSEKI_NAME": site.name},
        cwd=site.root,
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass(frozen=True)
class Platform:
    """A provisioned lab, and `koseki` as an administrator would call it."""

    site: Site
    lab: Lab

    def koseki(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `koseki` on this lab; with check, anything but exit 0 fails the drill."""
        done = koseki(self.site, *arguments)
        if check:
            assert done.returncode == 0, f"koseki {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done

    def report(self, *arguments: str, check: bool = True) -> dict[str, Any]:
        """Run a reporting command and return the JSON object of its last line."""
        return self.last_json(self.koseki(*arguments, "--json", check=check))

    @staticmethod
    def last_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
        """Return the JSON object of a command's last line."""
        last: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return last

    def failures(self) -> list[str]:
        """Return the ids of the tests that failed in the last verification."""
        results = json.loads(Reports.of(self.site).results.read_text(encoding="utf-8"))
        return [test["id"] for test in results["tests"] if test["outcome"] == "failed"]

    def sh(self, host: str, script: str, check: bool = True) -> str:
        """Run a shell script as root on a host, by its console, and return what it printed."""
        done = self.lab.exec(host, ["sh", "-c", script])
        if check:
            assert done.returncode == 0, f"{host}: {script}\n{done.stdout}{done.stderr}"
        return str(done.stdout)

    def at_work(self, host: str, units: str = OURS) -> bool:
        """Say whether anything that the clock starts is not at its end yet; units: which of it."""
        listed = "systemctl list-units --plain --no-legend --state=activating"
        return bool(self.sh(host, f"{listed} {units}"))

    def slept_through(self, host: str, timers: str = "*") -> None:
        """Let a host believe that it missed its beats for a week; it makes up for them at boot."""
        stamps = f"/var/lib/systemd/timers/stamp-{timers}"
        self.sh(host, f"touch -d '-8 days' {stamps}; sync")

    def cluster(self) -> dict[str, dict[str, object]]:
        """Return Patroni's members by name, as whichever database host answers sees them."""
        for host in ("primary1", "secondary1"):
            done = self.lab.exec(
                host, ["patronictl", "-c", "/etc/patroni/config.yml", "list", "-f", "json"]
            )
            if done.returncode == 0:
                return {member["Member"]: member for member in json.loads(done.stdout)}
        return {}

    def leader(self) -> str | None:
        """Return the member that leads, or None while there is none."""
        leaders = [name for name, row in self.cluster().items() if row["Role"] == "Leader"]
        return leaders[0] if len(leaders) == 1 else None

    def green(self) -> None:
        """Verify everything until it is green; fail the drill with what stayed red.

        After a change of leader or a restore the hosts first find their order and make up for the
        beats that they missed, as they would after a power cut.
        """
        end = time.monotonic() + SECONDS_TO_SETTLE
        while (done := self.koseki("verify", check=False)).returncode:
            assert time.monotonic() < end, f"not green {SECONDS_TO_SETTLE} s later\n{done.stdout}"
            time.sleep(5)


def wait_for(question: Callable[[], object], what: str, seconds: float = 90) -> None:
    """Ask once a second until the answer is true; fail the drill when time is up."""
    end = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(1)


def leader_lost(platform: Platform, at: str, seconds: float, *arguments: str) -> None:
    """Run `koseki`; some seconds after a line of its progress cut the leader's power, then mend it.

    The command may fail: with who was lost, an exit code that is one of ours, and no traceback.
    """
    leader, said = platform.leader(), list[str]()
    assert leader is not None
    with subprocess.Popen(
        [str(Path(sys.executable).with_name("koseki")), *arguments],
        env={**os.environ, "KOSEKI_NAME": platform.site.name},
        cwd=platform.site.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        while at not in (line := running.stderr.readline()):
            assert line, f"it ended before {at!r}: {said}"
            said.append(line)
        time.sleep(seconds)
        assert running.poll() is None, f"it ended within {seconds} s of {at!r}"
        platform.lab.kill(leader)
        said += running.communicate()
    text = "".join(said)
    assert running.returncode in {0, 1, 2}, text
    assert running.returncode == 0 or leader in text, text
    assert "Traceback" not in text, text
    platform.lab.start(leader)
    settled(platform)


def soon(seconds: float) -> datetime:
    """Return a moment at least so far away, right before the hosts' timers look, each minute."""
    end = datetime.now(UTC) + timedelta(seconds=seconds)
    return end.replace(second=SECOND) if end.second < SECOND else soon(seconds + 60 - SECOND)


def interrupted_apply(platform: Platform, seconds: float) -> None:
    """Begin an apply and press Ctrl-C after some time: one sentence, exit 2, no traceback."""
    with subprocess.Popen(
        [*HEARING, str(Path(sys.executable).with_name("koseki")), "apply"],
        env={**os.environ, "KOSEKI_NAME": platform.site.name},
        cwd=platform.site.root,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as apply:
        time.sleep(seconds)
        os.killpg(apply.pid, signal.SIGINT)
        said = apply.communicate()[1]
    assert apply.returncode == 2, said
    assert said.splitlines()[-1].startswith("koseki: interrupted"), said
    assert "Traceback" not in said, said


@pytest.fixture(scope="session")
def converged() -> Iterator[Platform]:
    """The lab, provisioned from bare hosts and kept as a snapshot; removed at the end."""
    site = Site.open(name=LAB_NAME)
    lab = Lab(site)
    platform = Platform(site, lab)
    lab.down()
    try:
        lab.up()
        for seconds in INTERRUPTED_AFTER:
            interrupted_apply(platform, seconds)
        platform.koseki("apply")
        platform.koseki("verify")
        lab.snapshot(CONVERGED)
        # What must be true of the hosts belongs to the state they are restored to.
        shutil.copytree(
            drift_folder(site), drift_folder(site).with_name("drift-converged"), dirs_exist_ok=True
        )
        yield platform
    finally:
        if "KOSEKI_KEEP_DRILL_LAB" not in os.environ:
            lab.down()


@pytest.fixture
def platform(converged: Platform) -> Platform:
    """The provisioned lab as it was when its provisioning ended, healthy and double recording."""
    converged.lab.restore(CONVERGED)
    kept = drift_folder(converged.site)
    shutil.rmtree(kept)
    shutil.copytree(kept.with_name("drift-converged"), kept)
    settled(converged)
    return converged


def playbook(platform: Platform, name: str, *arguments: str) -> None:
    """Run one of the playbooks by plain Ansible, as its README line says."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "--inventory",
            str(platform.site.inventory),
            *arguments,
            f"playbooks/{name}.yml",
        ],
        cwd=platform.site.root,
        env=ansible_run.environment(platform.site),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-500:]


def settled(platform: Platform) -> None:
    """Wait until one member leads and the other records synchronously."""

    def double_recording() -> bool:
        roles = sorted(str(row["Role"]) for row in platform.cluster().values())
        states = {str(row["State"]) for row in platform.cluster().values()}
        return (
            roles == ["Leader", "Sync Standby"]
            and states <= {"running", "streaming"}
            and writers.records_twice(platform.lab)
        )

    wait_for(double_recording, "double recording")
