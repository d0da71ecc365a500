"""The lab itself: it comes in seconds, leaves nothing behind, and touches no other lab."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills.conftest import HEARING, LAB_NAME, environment, koseki, program, wait_for
from koseki_ops.lab.cgroup import groups_of
from koseki_ops.lab.clone import clone
from koseki_ops.lab.lab import Lab
from koseki_ops.plan.site import Site

HERE, BESIDE = f"{LAB_NAME}-here", f"{LAB_NAME}-beside"


@pytest.fixture
def labs() -> Iterator[tuple[Lab, Lab]]:
    """Two labs of this checkout, both down before and after."""
    pair = (Lab(Site.open(name=HERE)), Lab(Site.open(name=BESIDE)))
    for lab in pair:
        lab.down()
    yield pair
    for lab in pair:
        lab.down()


def remains(site: Site) -> list[str]:
    """Return what is left of a lab here: processes, mounts, namespaces, control groups, folders."""
    found = []
    folder = str(site.state / "hosts")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace")
            mounts = (entry / "mounts").read_text(encoding="utf-8")
        except (FileNotFoundError, ProcessLookupError, PermissionError, OSError):
            continue  # it ended while it was being read
        if site.netns in words:
            found.append(f"process {entry.name}: {words[:80]}")
        if folder in mounts:
            found.append(f"mount seen by process {entry.name}")
    named = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    if site.netns in named.split():
        found.append(f"namespace {site.netns}")
    found += [
        f"control group {path}"
        for host in Lab(site).inventory.hosts
        for path in groups_of(Lab(site).machine(host).nspawn_name)
        if path.exists()
    ]
    left = (*site.state.glob("hosts"), *site.state.glob("snapshots"), site.state / "lab.json")
    return found + [str(path) for path in (*left, site.run_dir) if path.exists()]


def answers(lab: Lab, address: str, host: str) -> bool:
    """Say whether a host gets sshd's greeting from an address; bare hosts have bash alone."""
    script = f"exec 3<>/dev/tcp/{address}/22 && head -c 4 <&3"
    return lab.exec(host, ["timeout", "2", "bash", "-c", script]).stdout == "SSH-"


@pytest.mark.drill
def test_two_labs_side_by_side(labs: tuple[Lab, Lab]) -> None:
    """Each has its own hosts on the same addresses; a cut in one is none in the other."""
    here, beside = labs
    for lab in labs:
        lab.up()
        assert [row.host for row in lab.status() if not row.running] == []
    here.exec("primary1", ["touch", "/root/here"])
    assert beside.exec("primary1", ["test", "-e", "/root/here"]).returncode == 1
    address = str(here.inventory.address_of("secondary1", "primary1"))
    here.partition("primary1", "secondary1")
    assert not answers(here, address, "primary1")
    assert answers(beside, address, "primary1")
    here.heal()
    assert answers(here, address, "primary1")
    assert remains(here.site), "the search for remains sees nothing at all"
    here.down()
    assert remains(here.site) == []
    assert [row.host for row in beside.status() if not row.running] == []
    beside.down()
    assert remains(beside.site) == []


@pytest.mark.drill
def test_a_host_that_goes_takes_nobody_elses_way(labs: tuple[Lab, Lab]) -> None:
    """Whichever host loses its power, the others reach the datacenter by the router at once."""
    here, _ = labs
    here.up()
    vault = str(here.inventory.address_of("remote-backup1", "primary1"))

    def goes_on(asking: str, lost: str) -> None:
        assert answers(here, vault, asking)
        here.kill(lost)
        assert answers(here, vault, asking), f"{asking} without {lost}"

    goes_on("primary1", "registry-link1")
    here.start("registry-link1")
    assert answers(here, vault, "primary1")
    for lost in ("primary1", "secondary1", "application1", "workstation1"):
        goes_on("registry-link1", lost)


@pytest.mark.drill
@pytest.mark.parametrize("moment", [0.4, 1.0, 1.8])
def test_nothing_stays_of_a_crash(labs: tuple[Lab, Lab], moment: float) -> None:
    """`lab up` is killed at some moment; `lab down` still finds everything."""
    site = labs[0].site
    with subprocess.Popen(
        [*HEARING, program(), "lab", "up", "--name", site.name],
        cwd=site.root,
        env=environment(site),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as up:
        time.sleep(moment)
        up.kill()
    koseki(site, "lab", "down")
    assert remains(site) == []


@pytest.mark.drill
def test_an_interrupt_takes_back_what_it_began(labs: tuple[Lab, Lab]) -> None:
    """Ctrl-C during `lab up`: one sentence, exit 2, nothing left; the next one comes up."""
    site = labs[0].site
    with subprocess.Popen(
        [*HEARING, program(), "lab", "up", "--name", site.name],
        cwd=site.root,
        env=environment(site),
        stderr=subprocess.PIPE,
        text=True,
    ) as up:
        wait_for(lambda: site.state.joinpath("hosts").exists(), "the first host")
        up.send_signal(signal.SIGINT)
        said = up.communicate()[1]
    assert (up.returncode, said.splitlines()[-1][:20]) == (2, "koseki: interrupted:")
    assert "Traceback" not in said
    assert remains(site) == []
    koseki(site, "lab", "up")


@pytest.mark.drill
def test_a_snapshot_is_a_place_to_return_to(labs: tuple[Lab, Lab]) -> None:
    """What was written before is there again, what came later is not, immutable stays so."""
    lab = labs[0]
    lab.up()
    before = "echo kept >/root/kept && chattr +i /root/kept"
    lab.exec("primary1", ["sh", "-c", before]).check_returncode()
    lab.snapshot("before")
    change = "echo later >/root/later; echo changed >/root/kept"
    assert lab.exec("primary1", ["sh", "-c", change]).returncode, "immutable was forgotten"
    lab.kill("primary1")
    lab.restore("before")
    assert lab.exec("primary1", ["cat", "/root/kept"]).stdout == "kept\n"
    assert lab.exec("primary1", ["test", "-e", "/root/later"]).returncode == 1


@pytest.mark.drill
def test_a_clone_starts_on_the_others_snapshot(labs: tuple[Lab, Lab]) -> None:
    """Another root, the same site: its hosts begin there, and nothing of theirs comes back."""
    lab = labs[0]
    lab.up()
    written = "echo kept >/root/kept && chattr +i /root/kept"
    lab.exec("primary1", ["sh", "-c", written]).check_returncode()
    lab.snapshot("before")
    root = lab.site.var / "roots" / HERE
    twin = Lab(clone(lab.site, "before", root))
    try:
        twin.restore("before")
        assert twin.exec("primary1", ["cat", "/root/kept"]).stdout == "kept\n"
        assert twin.exec("primary1", ["sh", "-c", "echo x >/root/kept"]).returncode
        twin.exec("primary1", ["touch", "/root/later"]).check_returncode()
        assert lab.exec("primary1", ["test", "-e", "/root/later"]).returncode == 1
        # A root that was left behind with its lab running is replaced.
        assert clone(lab.site, "before", root).state == twin.site.state
        assert remains(twin.site) == [str(twin.site.state / "snapshots")]
    finally:
        twin.down()
    assert [row.host for row in lab.status() if not row.running] == []


@pytest.mark.drill
def test_exec_gives_the_programs_own_answer(labs: tuple[Lab, Lab]) -> None:
    """Output, errors and exit code are the program's; a host that is down is a sentence."""
    lab = labs[0]
    lab.up()
    done = koseki(lab.site, "lab", "exec", "primary1", "--", "sh", "-c", "echo out; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    lab.kill("primary1")
    done = koseki(lab.site, "lab", "exec", "primary1", "--", "true")
    assert (done.returncode, done.stderr[:28]) == (2, "koseki: primary1 is not runn")


@pytest.mark.drill
def test_a_bare_host_is_asked_without_a_fault(labs: tuple[Lab, Lab]) -> None:
    """`apply --check` on hosts as an installer leaves them says what is due and changes nothing."""
    lab = labs[0]
    lab.up()
    done = koseki(lab.site, "apply", "--check", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["changed"] > 0
    assert lab.exec("primary1", ["id", "automation"]).returncode == 1
