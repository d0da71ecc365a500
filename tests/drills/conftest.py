"""Labs of the drills' own: provisioned once, one for each process that drills, restored when due.

A drill starts from a platform that is whole (it records twice, a sweep finds nothing) and leaves it
so, which is looked at after each; one that writes data, changes roles or the plan says so
(`@pytest.mark.leaves`), and whoever comes next finds the lab restored.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fcntl import LOCK_EX, LOCK_SH, flock
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from xdist.scheduler import LoadScopeScheduling

import costs
from drills import evidence
from drills.corelock import cores
from drills.ledger import LEDGER
from koseki_ops.drift.judge import manifest as manifests
from koseki_ops.drift.judge.sweep import sweep
from koseki_ops.drift.model import Sweep
from koseki_ops.engines import ansible_run
from koseki_ops.lab import recording
from koseki_ops.lab.clone import clone
from koseki_ops.lab.lab import Lab
from koseki_ops.plan.revision import inputs_of
from koseki_ops.plan.site import Site, project_root
from koseki_ops.verify.runner import Reports

# Of a minute: whatever ends then is looked at three seconds later.
SECOND = 57
LAB_NAME = os.environ.get("KOSEKI_DRILL_LAB", "drills")
CONVERGED = "converged"
# A lab with invented registers in every town: what drills at the counters share.
REGISTERS, REGISTERS_COUNT = "registers", 560
SECONDS_TO_SETTLE = 420
# What the clock starts on the hosts, as systemctl's patterns.
OURS = "'koseki-*' 'pgbackrest-*'"
# The suites that a lost leader, a restart or a restore can turn red.
DISTURBED = (
    "application", "backup", "certificates", "databases", "etcd", "gateway", "link", "replication",
    "requests", "schedule", "takeover", "time", "vault",
)  # fmt: skip
# Cores that a command keeps busy; what is not listed holds none.
TWO_CORES = ("apply", "verify", "restore", "enroll", "withdraw")
BUSY = dict.fromkeys(TWO_CORES, 2) | dict.fromkeys(("restart", "drift", "lab"), 1)
ONLY_BASELINE = ("--only", "baseline")
HERE = Path(__file__).parent
# The longest first, so that two processes end at about the same time; what shares a state of the
# lab stays in one process. A file that is not named comes last.
GROUPS = (
    ("test_schedule", "test_apply", "test_suites_turn_red", "test_requests"),
    ("test_failover",),
    ("test_drift",),
    ("test_counter", "test_garbage", "test_takeover", "test_restore"),
    ("test_joining",),
    ("test_link",),
    ("test_double_recording",),
    ("test_application",),
    ("test_backup",),
    ("test_lab",),
    ("test_restart",),
)
# A shell starts what it puts into the background deaf to Ctrl-C, and the drills with it.
HEARING = ["env", "--default-signal=INT"]
OUTCOME = pytest.StashKey[str]()


# Commands.


# What an administrator may have set for other programs: each changed once what was applied or
# verified (`koseki_ops.core.environment`). All drills run like that, and with such a umask.
SET_FOR_OTHERS = {
    "ANSIBLE_RUN_TAGS": "nothing",
    "ANSIBLE_STRATEGY": "debug",
    "PYTEST_ADDOPTS": "-k nothing",
    "PYTHONOPTIMIZE": "2",
    "PYTHONPATH": "/nowhere",
    "GIT_DIR": "/nowhere",
    "PGHOST": "/nowhere",
    "SSH_AUTH_SOCK": "/nowhere",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "LC_ALL": "ja_JP.eucJP",
    "TZ": "Pacific/Kiritimati",
}
UMASK = 0o077


def environment(site: Site) -> dict[str, str]:
    """Return what `koseki` is started with to mean a site."""
    # In the language in which the drills read what it says.
    own = {"KOSEKI_NAME": site.name, "KOSEKI_ROOT": str(site.root), "KOSEKI_LANG": "en"}
    return {**os.environ, **SET_FOR_OTHERS, **own}


def program() -> str:
    """Return where `koseki` lies."""
    return str(Path(sys.executable).with_name("koseki"))


@contextmanager
def at_work(*arguments: str) -> Iterator[None]:
    """Hold the cores that a `koseki` with these arguments keeps busy, and count what it does."""
    verb, busy = arguments[0], BUSY.get(arguments[0], 0)
    baseline = " ".join(ONLY_BASELINE) in " ".join(arguments)
    what = {
        "apply": ("baseline " if baseline else "")
        + ("check" if "--check" in arguments else "apply"),
        "verify": "suites" if [word for word in arguments[1:] if word[0] != "-"] else "verify",
        "drift": "sweep",
        "restore": "rehearsal",
        "restart": "playbook",
        "enroll": "apply",
        "withdraw": "apply",
    }.get(verb)
    with cores(1 if baseline else busy):
        if what:
            LEDGER.count(what)
        yield


def koseki(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `koseki` on a lab as an administrator would, and return what it said."""
    with at_work(*arguments):
        return subprocess.run(
            [program(), *arguments],
            env=environment(site),
            umask=UMASK,
            cwd=site.root,
            capture_output=True,
            text=True,
            check=False,
        )


@contextmanager
def beside(site: Site, *arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:  # noqa: ANN401 - Popen's own
    """Run `koseki` on a lab while something else is done."""
    with (
        at_work(*arguments),
        subprocess.Popen(
            [program(), *arguments],
            env=environment(site),
            umask=UMASK,
            cwd=site.root,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        ) as running,
    ):
        yield running


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

    def miss_runs(self, host: str, timers: str = "*") -> None:
        """Let a host believe that it missed its runs for a week; it makes up for them at boot."""
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

    def sweep(self) -> Sweep:
        """Look for drift on all hosts."""
        inventory = self.lab.inventory
        with cores(1):
            LEDGER.count("sweep")
            return sweep(self.site, inventory, inventory.hosts)

    def green(self, *suites: str) -> None:
        """Verify until it is green, these suites or all; fail the drill with what stayed red.

        After a change of leader or a restore the hosts first find their order and make up for the
        runs that they missed, as they would after a power cut.
        """
        settled(self)
        said = [""]

        def holds() -> bool:
            done = self.koseki("verify", *suites, check=False)
            said.append(done.stdout)
            return done.returncode == 0

        wait_for(holds, "green", SECONDS_TO_SETTLE, 5, lambda: said[-1])


# Waits.


def wait_for(
    question: Callable[[], object],
    what: str,
    seconds: float = 90,
    pause: float = 1,
    seen: Callable[[], str] = str,
) -> None:
    """Ask until the answer is true; fail the drill when time is up, with what was seen last.

    seconds: of patience, without the time in which the machine's cores were waited for.
    """
    end, waited = time.monotonic() + seconds, LEDGER.waited
    with LEDGER.polling():
        while not question():
            late = time.monotonic() - (LEDGER.waited - waited) > end
            assert not late, f"{what}: not within {seconds:.0f} s\n{seen()}"
            time.sleep(pause)


def settled(platform: Platform) -> None:
    """Wait until one member leads and the other records synchronously.

    The servers are asked until they do: that is quick. What Patroni lists follows a moment later.
    """
    wait_for(lambda: recording.records_twice(platform.lab), "double recording", pause=0.3)

    def listed() -> bool:
        rows = platform.cluster().values()
        roles = sorted(str(row["Role"]) for row in rows)
        states = {str(row["State"]) for row in rows}
        return roles == ["Leader", "Sync Standby"] and states <= {"running", "streaming"}

    wait_for(listed, "the cluster's list")
    assert recording.records_twice(platform.lab), "it recorded twice, and does not any more"


def soon(seconds: float) -> datetime:
    """Return a moment at least so far away, right before the hosts' timers look, each minute."""
    end = datetime.now(UTC) + timedelta(seconds=seconds)
    return end.replace(second=SECOND) if end.second < SECOND else soon(seconds + 60 - SECOND)


def leader_lost(platform: Platform, at: str, seconds: float, *arguments: str) -> None:
    """Run `koseki`; some seconds after a line of its progress cut the leader's power, then mend it.

    The command may fail: with who was lost, an exit code that is one of ours, and no traceback.
    """
    leader, said = platform.leader(), list[str]()
    assert leader is not None
    with beside(platform.site, *arguments, stdout=subprocess.PIPE) as running:
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


def playbook(platform: Platform, name: str, *arguments: str) -> None:
    """Run one of the playbooks by plain Ansible, as docs/operations/daily.md says."""
    with cores(1):
        LEDGER.count("playbook")
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


# The labs.


def first_site() -> Site:
    """Return the site whose lab is provisioned; other processes drill on clones of it."""
    return Site.open(name=LAB_NAME)


@dataclass
class Held:
    """A lab and what it holds now: `converged`, `registers`, or nothing to rely on."""

    platform: Platform
    state: str = ""

    def bring(self, state: str) -> None:
        """Restore the lab, and write what the state is named for."""
        platform, self.state = self.platform, ""
        kept = platform.site.drift
        with cores(2):
            LEDGER.count("restore")
            platform.lab.restore(CONVERGED)
            # What must be true of the hosts belongs to the state they are restored to.
            shutil.rmtree(kept)
            shutil.copytree(kept.with_name(f"drift-{CONVERGED}"), kept)
            settled(platform)
        if state == REGISTERS:
            platform.koseki("lab", "registers", "--count", str(REGISTERS_COUNT))
        self.state = state


@pytest.fixture(scope="session")
def held() -> Iterator[Held]:
    """This process's lab; removed at the end."""
    site, worker = first_site(), os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    roots = {f"gw{n}": site.var / "roots" / f"gw{n}" for n in range(1, _workers())}
    site.state.mkdir(parents=True, exist_ok=True)
    with (site.state / "layers.lock").open("ab") as layers:
        with (site.state / "provisioning.lock").open("ab") as lock:
            flock(lock, LOCK_EX)
            if not _cloned(site):
                _clone(site, roots.values())
        if worker in roots:
            # The first lab's layers stay for as long as any clone reads them.
            flock(layers, LOCK_SH)
            os.environ["KOSEKI_ROOT"] = str(roots[worker])
            site = first_site()
        lab = Lab(site)
        try:
            yield Held(Platform(site, lab), _state_of(site) if worker not in roots else "")
        finally:
            if "KOSEKI_KEEP_DRILL_LAB" not in os.environ:
                flock(layers, LOCK_SH if worker in roots else LOCK_EX)
                lab.down()


def _workers() -> int:
    return int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def _cloned(site: Site) -> bool:
    """Say whether another process of this run has provisioned and cloned already; note that."""
    note, run = site.state / "cloned", os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    if note.exists() and note.read_text(encoding="ascii") == run:
        return True
    note.write_text(run, encoding="ascii")
    return False


def _clone(site: Site, roots: Iterable[Path]) -> None:
    """Provision the first lab, unless one of this very plan stands, and clone it for the others."""
    if not _provisioned(site):
        # As everybody else provisions: by the scenarios, from bare hosts.
        done = subprocess.run([site.root / "tools/run-molecule"], cwd=site.root, check=False)
        assert done.returncode == 0, "the lab could not be provisioned"
    kept = site.drift
    if _state_of(site, drill=False):
        shutil.copytree(kept, kept.with_name(f"drift-{CONVERGED}"), dirs_exist_ok=True)
    for root in roots:
        clone(site, CONVERGED, root)


def _layers(site: Site) -> Path:
    return site.state / "snapshots" / CONVERGED / "layers.json"


def _provisioned(site: Site) -> bool:
    """Say whether a lab stands that was made from what lies here now."""
    if not _layers(site).exists() or not Lab(site).network.exists():
        return False
    made = manifests.read(site, "primary1")
    return made is not None and made.inputs.tree == inputs_of(site).tree


def _state_of(site: Site, *, drill: bool = True) -> str:
    """Return what the first lab holds: `converged` until somebody drills there, which is noted."""
    note, made = site.state / "drilled", str(_layers(site).stat().st_mtime_ns)
    if note.exists() and note.read_text(encoding="ascii") == made:
        return ""
    if drill:
        note.write_text(made, encoding="ascii")
    return CONVERGED


def _lent(held: Held, state: str, request: pytest.FixtureRequest) -> Iterator[Platform]:
    """Lend a lab that holds a state; afterwards it is whole, or restored before the next drill."""
    if held.state != state:
        held.bring(state)
    yield held.platform
    passed = request.node.stash.get(OUTCOME, "") == "passed"
    held.state, before = "", held.state
    if passed and not request.node.get_closest_marker("leaves"):
        whole(held.platform)
        held.state = before


def whole(platform: Platform) -> None:
    """Wait until it records twice and a sweep finds nothing."""
    wait_for(lambda: recording.records_twice(platform.lab), "double recording")
    found: list[str] = []

    def clean() -> bool:
        rows = platform.sweep().findings
        found[:] = [f"{f.host} {f.kind} {f.name} {f.place}: {f.cause} {f.why}" for f in rows]
        return not found

    wait_for(clean, "a sweep that finds nothing", seen=lambda: "\n".join(found))


@pytest.fixture
def platform(held: Held, request: pytest.FixtureRequest) -> Iterator[Platform]:
    """The lab as its provisioning left it, healthy and double recording."""
    yield from _lent(held, CONVERGED, request)


@pytest.fixture
def registers(held: Held, request: pytest.FixtureRequest) -> Iterator[Platform]:
    """The same with invented registers in every town; drills in it add to them."""
    yield from _lent(held, REGISTERS, request)


# What is told of the drills.


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note what a drill costs: its fixtures too, and what is looked at after it."""
    LEDGER.begin()
    done = yield
    costs.append(_ledger(), LEDGER.end(name_of(item), item.stash.get(OUTCOME, "failed")))
    return done


def name_of(item: pytest.Item) -> str:
    """Return a drill's id, `test_lab.py::test_two_labs`."""
    return item.nodeid.rpartition("/")[2]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep a drill's outcome, and what the hosts say when it failed."""
    report = yield
    if report.when == "call" or report.failed:
        item.stash[OUTCOME] = report.outcome
    lent = [
        value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Platform)
    ]
    if report.failed and lent:
        name = re.sub(r"[^\w.-]+", "_", f"{name_of(item)}.{call.when}")
        folder = lent[0].site.state / "reports" / name
        report.sections.append(
            ("what the hosts said", evidence.keep(lent[0].site, lent[0].lab, folder))
        )
    return report


def place_of(stem: str) -> tuple[int, int]:
    """Return a drill file's group, and its place in it."""
    places = {name: (n, m) for n, group in enumerate(GROUPS) for m, name in enumerate(group)}
    return places.get(stem, (len(GROUPS), 0))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the drills into the order of the groups."""
    items.sort(key=lambda item: place_of(item.path.stem))


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist carries no types
    """Each group is drilled in one process; the next group goes to whoever is free first."""

    def _split_scope(self, nodeid: str) -> str:
        return str(place_of(Path(nodeid.partition("::")[0]).stem)[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:  # noqa: ANN401 - xdist's own type
    """Schedule by groups; xdist's own (`loadgroup`) does nothing under pytest 9.2."""
    return GroupScheduling(config, log)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin the ledger anew; only where the run is led from."""
    ledger = _ledger()
    if not hasattr(session.config, "workerinput"):
        ledger.unlink(missing_ok=True)


@cache
def _ledger() -> Path:
    """Return the first root's ledger; asked before this process turns to a root of its own."""
    return project_root() / costs.DRILLS


def _undeclared() -> list[str]:
    """Return what the drills cost that their files do not declare.

    Restores are not declared there but by who makes them necessary, and who comes next pays.
    """
    rows = costs.read(_ledger())
    for row in rows:
        row["counts"].pop("restore", None)
    return costs.undeclared(yaml.safe_load((HERE / "costs.yml").read_text(encoding="utf-8")), rows)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hold what the drills cost to what their files declare."""
    if not hasattr(session.config, "workerinput") and _undeclared():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what the run cost, by stage and file, before pytest's own last line."""
    terminalreporter.section("what it cost")
    stages = costs.read(project_root() / costs.STAGES)
    terminalreporter.write_line(costs.table(stages, costs.read(_ledger())))
    for line in _undeclared():
        terminalreporter.write_line(line, red=True)
