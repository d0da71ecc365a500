"""Image and lab are one thing: images and containers make the same platform.

One image, of the server that everything begins on, and five containers in every run of CI; two
images and four containers, and the loss of their leader, in `make test-images`. Which of both CI
runs is decided in `proven.py`.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from drills.conftest import wait_for
from images import proven
from images.conftest import Maker
from koseki_ops.image import seal
from koseki_ops.image.build import open_build_lab
from koseki_ops.lab.lab import Lab, MachineSet
from koseki_ops.plan.site import Site

PAIR = ("primary1", "secondary1")
CLUSTER, LOSS = "the cluster", "the loss of its leader"
DOUBLE_RECORDING = {"Leader, running", "Sync Standby, streaming"}
# What two hosts have with each other and with the rest; what one shows by itself shows its check.
# One at a time: all at once, or the suite `databases` with its hundreds of doors, and an emulated
# server is too busy to answer the proxy's question who leads.
SUITES = ("backup", "certificates", "etcd", "kernel", "locks", "replication")
# After the loss all of it, and what stands on the pair.
LASTING = (*SUITES, "accounts", "application", "link", "requests", "time")
# Emulation is ten times slower than the machine it runs on.
SECONDS_TO_LEAD, SECONDS_TO_SETTLE, SECONDS_TO_ANSWER = 300, 900, 120


@dataclass(frozen=True)
class Pair:
    """The lab's plan with a database server or both booted from images.

    held: what was shown of them so far.
    """

    site: Site
    lab: Lab
    began: float = field(default_factory=time.monotonic)
    held: set[str] = field(default_factory=set)

    def note(self, what: str) -> None:
        """Leave in the test's output how far it is."""
        print(f"{time.monotonic() - self.began:6.0f} s  {what}")

    def ask(self, host: str, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as root on a host, by SSH as an operator does."""
        way = ["ssh", "-F", str(self.site.ssh_config), host, f"sudo -n {command}"]
        return subprocess.run(
            way, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=False
        )

    def members(self, witness: str) -> list[dict[str, Any]]:
        """Return the cluster's members as a host sees them; none while it does not answer."""
        done = self.ask(witness, "patronictl -c /etc/patroni/config.yml list -f json")
        rows: list[dict[str, Any]] = [] if done.returncode else json.loads(done.stdout)
        return rows

    def roles(self, witness: str) -> dict[str, str]:
        """Return each member's role and state as a host sees them; empty while none answers."""
        return {row["Member"]: f"{row['Role']}, {row['State']}" for row in self.members(witness)}


@contextmanager
def _platform(maker: Maker, disks: Mapping[str, Path]) -> Iterator[Pair]:
    """Yield the pair, these of it under emulation, all other hosts in containers.

    One apply makes it, as on bare hosts.
    """
    site = open_build_lab(maker.site)
    lab = Lab(site, machine_set=MachineSet(disks=disks))
    lab.down()
    try:
        lab.up()
        found = Pair(site, lab)
        applied = Maker(site).koseki("apply", "--json")
        assert applied.returncode == 0, applied.stdout + applied.stderr
        print(applied.stderr)
        found.note("applied")
        yield found
    finally:
        lab.down()


@pytest.fixture
def half(maker: Maker, image: Path) -> Iterator[Pair]:
    """The pair of the first server's image and a container."""
    with _platform(maker, {PAIR[0]: image}) as found:
        yield found


@pytest.fixture(scope="module")
def pair(maker: Maker, image: Path) -> Iterator[Pair]:
    """The pair of two images; when all of it held, what it is made of is noted."""
    root = maker.site.root
    made_of, commit = proven.digest(root), seal.origin_of(maker.site).commit
    with _platform(maker, {PAIR[0]: image, PAIR[1]: maker.image_of(PAIR[1])}) as found:
        yield found
    # What was changed meanwhile was not tried, and what is in no commit is nobody else's.
    if commit.endswith("+") or proven.digest(root) != made_of:
        found.note("not noted: something is in no commit, or was changed meanwhile")
    elif found.held == {CLUSTER, LOSS}:
        proven.note(root, made_of, commit)


@pytest.mark.image
def test_an_image_and_a_container_make_the_cluster(half: Pair) -> None:
    """As two images do; and on the image the database was made, led and copied from the start."""
    _make_the_cluster(half)
    image = next(row for row in half.members(PAIR[0]) if row["Member"] == PAIR[0])
    # Each change of the leader begins another timeline: there was none.
    assert (image["Role"], image["TL"]) == ("Leader", 1)


@pytest.mark.image
def test_two_images_make_the_cluster(pair: Pair) -> None:
    """They record twice, with the lab's witness; what they have with the others holds."""
    _make_the_cluster(pair)
    pair.held.add(CLUSTER)


def _make_the_cluster(pair: Pair) -> None:
    build_lab = Maker(pair.site)
    seen = pair.roles("primary1")
    assert set(seen) == set(PAIR)
    assert set(seen.values()) == DOUBLE_RECORDING
    _green(build_lab, SUITES)
    pair.note("verified")
    swept = build_lab.koseki("drift", "--wait", str(SECONDS_TO_ANSWER), "--json")
    assert swept.returncode == 0, swept.stdout + swept.stderr
    pair.note("swept")


@pytest.mark.image
def test_the_lost_leader_comes_back(pair: Pair) -> None:
    """Its power is cut: the other image leads, and takes it in again when it is back."""
    seen = pair.roles("primary1")
    leader = next(member for member, role in seen.items() if role.startswith("Leader"))
    other = next(member for member in PAIR if member != leader)
    pair.lab.kill(leader)
    # The witness is a container; with it the member that is left has the majority.
    wait_for(
        lambda: pair.roles(other).get(other, "").startswith("Leader"),
        f"{other} leads",
        SECONDS_TO_LEAD,
    )
    pair.note(f"{other} leads")
    pair.lab.start(leader)
    wait_for(
        lambda: set(pair.roles(other).values()) == DOUBLE_RECORDING,
        f"{leader} follows",
        SECONDS_TO_SETTLE,
    )
    pair.note(f"{leader} follows")
    _green(Maker(pair.site), LASTING)
    pair.note("verified again")
    pair.held.add(LOSS)


def _green(build_lab: Maker, suites: tuple[str, ...]) -> None:
    """Verify one suite after the other until each is green: the hosts first find their order."""
    end = time.monotonic() + SECONDS_TO_SETTLE
    for suite in suites:
        while (done := build_lab.koseki("verify", suite, "--json")).returncode:
            assert time.monotonic() < end, done.stdout + done.stderr
            time.sleep(10)
        told = json.loads(done.stdout.splitlines()[-1])
        assert told["failed"] == 0
        assert told["passed"] > 0
