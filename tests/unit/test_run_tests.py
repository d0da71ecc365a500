"""The run of all tests, with stand-ins for its stages: order, exit codes, nothing that stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import costs
from koseki_ops.plan.site import Site

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tools/run-tests"
SECONDS = 30
# Where the shell lies that is ours, and not recorded.
OWN = ("host_programs", "roles", "src", "tools")
# The program with other stages and less patience, as a process of its own.
DRIVER = """
import json, signal, sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

told = json.loads(sys.argv[1])
sys.dont_write_bytecode = True
spec = spec_from_loader("run_tests", SourceFileLoader("run_tests", told["program"]))
run_tests = sys.modules["run_tests"] = module_from_spec(spec)
spec.loader.exec_module(run_tests)
stages = {
    name: run_tests.Stage(
        tuple(run_tests.Command(("sh", "-euc", script)) for script in scripts),
        ("secrets",) if name != "secrets" and "secrets" in told["scripts"] else (),
        static=name in ("lint", "unit"),
        gib=0 if name in ("lint", "unit", "secrets") else told["gib"],
        begins_within=100 if name == "pair" else 0,
    )
    for name, scripts in told["scripts"].items()
}
ladder = [(signal.SIGINT, 0.3), (signal.SIGTERM, 0.3), (signal.SIGKILL, 10)]
sys.exit(run_tests.main(told["names"], Path(told["root"]), stages, ladder))
"""
# `koseki lab down`, and nothing else of it.
KOSEKI = """#!/bin/sh -eu
echo "$KOSEKI_ROOT $*" >>lab-down
rm -r "$KOSEKI_ROOT/var/$4/lab.json"
"""
NOTE = "echo $$ >>pids;"
# Ends when it is asked to, as pytest does.
LONG = f"{NOTE} exec sleep 60"
# Neither it nor its child hears Ctrl-C, and the child has left the group.
STUBBORN = f"""trap '' INT; {NOTE} setsid sh -c 'echo $$ >>pids; exec sleep 60' & {NOTE} sleep 60"""


def hearing() -> None:
    """Hear every signal: nohup, or a shell's background, hand on that they are not heard."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def loaded() -> ModuleType:
    """Return the program as a module."""
    spec = spec_from_loader("run_tests", SourceFileLoader("run_tests", str(PROGRAM)))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["run_tests"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


run_tests = loaded()


@dataclass
class Checkout:
    """A folder in which a run finds `koseki` and what its stages left there."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    begun: list[subprocess.Popen[str]] = field(default_factory=list)

    def begin(
        self,
        stages: dict[str, str],
        *names: str,
        gib: float = 0.001,
        **popen: Any,  # noqa: ANN401 - Popen's
    ) -> subprocess.Popen[str]:
        """Start a run of stages, each a script; names: those asked for, if not all but secrets."""
        told = {
            "program": str(PROGRAM),
            "root": str(self.root),
            "scripts": {name: [script] for name, script in stages.items()},
            "names": names or [name for name in stages if name != "secrets"],
            "gib": gib,
        }
        running = subprocess.Popen(
            [sys.executable, "-IS", "-c", DRIVER, json.dumps(told)],
            env={**os.environ, "TMPDIR": str(self.root), **self.environment},
            **{
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                "start_new_session": True,
                "preexec_fn": hearing,
                **popen,
            },
        )
        self.begun.append(running)
        return running

    def run(self, stages: dict[str, str], *names: str, gib: float = 0.001) -> tuple[int, str, str]:
        """Run stages to their end; return the exit code and what was said."""
        running = self.begin(stages, *names, gib=gib)
        out, err = running.communicate(timeout=SECONDS)
        return running.returncode, out, err

    def lines(self, name: str) -> list[str]:
        """Return a file's lines, none when there is no such file."""
        path = self.root / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def alive(self) -> list[int]:
        """Return which of the processes that left their ids in `pids` have not ended."""
        return [pid for pid in map(int, self.lines("pids")) if run_tests.process(pid) in living()]

    def lab(self, name: str, folder: str = ".", **machines: tuple[int, int]) -> Path:
        """Leave a lab's state behind."""
        state = self.root / folder / "var" / name / "lab.json"
        state.parent.mkdir(parents=True, exist_ok=True)
        state.write_text(json.dumps({"processes": machines, "layers": {}}), encoding="utf-8")
        return state


def living() -> list[Any]:
    """Return the processes that have not ended."""
    return list(run_tests.processes())


def wait_for(question: Callable[[], object]) -> None:
    """Ask until the answer is true."""
    end = time.monotonic() + SECONDS
    while not question():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    """A checkout without a lab; whatever a test started there is gone afterwards."""
    koseki = tmp_path / ".venv/bin/koseki"
    koseki.parent.mkdir(parents=True)
    koseki.write_text(KOSEKI, encoding="utf-8")
    koseki.chmod(0o755)
    found = Checkout(tmp_path)
    yield found
    for running in found.begun:
        running.kill()
    # Whatever a fault of the program left holds the pipes that are read to their end.
    for left, mark in run_tests.marks():
        if mark.startswith(f"{tmp_path}:"):
            os.kill(left.pid, signal.SIGKILL)
    for running in found.begun:
        running.communicate()


def test_static_stages_run_beside_the_provisioning(checkout: Checkout) -> None:
    """Each waits for the other; what the static ones said comes whole, before the drills begin."""
    stages = {
        "secrets": "echo prepared; touch first",
        "lint": "test -e first; touch here; until [ -e there ]; do sleep 0.02; done; echo linted",
        "unit": "echo counted",
        "provision": "touch there; until [ -e here ]; do sleep 0.02; done; echo provisioned",
        "drills": "cat var/reports/stages.jsonl >seen; echo drilled",
    }
    code, out, err = checkout.run(stages)
    assert (code, err) == (0, "")
    assert out.split("\n== provision")[0].endswith("(var/reports/static.log)\n")
    said = [line.split(" (")[0] for line in out.splitlines() if line]
    assert said == [
        *("== secrets", "prepared", "lint, unit run beside what follows; shown at its end"),
        *("== provision", "provisioned", "== lint", "linted", "== unit", "counted"),
        *("== drills", "drilled"),
    ]
    rows = costs.read(checkout.root / costs.STAGES)
    assert [row["stage"] for row in rows][-1] == "drills"
    assert sorted(row["stage"] for row in rows) == sorted(stages)
    assert {row["exit"] for row in rows} == {0}
    # The drills find what came before them, for the table that they print.
    assert len(checkout.lines("seen")) == len(stages) - 1


@pytest.mark.parametrize(("began", "made"), [(None, True), (0, True), (90, True), (110, False)])
def test_a_stage_without_time_is_told_as_not_made(
    checkout: Checkout, began: int | None, made: bool
) -> None:
    """Nothing of it begins, the run goes on, and its table says so; without a limit all is made."""
    if began is not None:
        checkout.environment[run_tests.BEGAN] = str(time.time() - began)
    code, out, err = checkout.run({"images": "true", "pair": "touch made", "drills": "true"})
    assert (code, err) == (0, "")
    assert (checkout.root / "made").exists() is made
    assert ("pair is NOT MADE" in out) is not made
    assert ("make test-images" in out) is not made
    rows = [row["stage"] for row in costs.read(checkout.root / costs.STAGES)]
    assert rows == ["images", "pair" if made else "pair (not made)", "drills"]


def test_settings_of_the_caller_are_not_the_tests() -> None:
    """CI's begin, an administrator's lab: whatever a unit test starts would inherit them."""
    test = f"{__file__}::test_a_stage_without_time_is_told_as_not_made"
    settings = {"KOSEKI_NAME": "mine", "KOSEKI_ROOT": "/nowhere", run_tests.BEGAN: "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        check=False,
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout


def test_what_a_stage_needs_comes_first_once_also_when_it_is_named(checkout: Checkout) -> None:
    """Whoever names all of them means the same run."""
    stages = {"secrets": "echo $$ >>prepared", "provision": "test -e prepared"}
    assert checkout.run(stages, "provision", "secrets")[0] == 0
    assert len(checkout.lines("prepared")) == 1


@pytest.mark.parametrize(
    ("red", "code"), [("lint", 3), ("provision", 5), ("unit", 128 + signal.SIGTERM)]
)
def test_a_stage_that_fails_ends_the_run(checkout: Checkout, red: str, code: int) -> None:
    """Its exit code is the run's; the lane beside it is ended, and nothing later begins."""
    end = f"until [ -e pids ]; do sleep 0.02; done; echo a reason; exit {code}"
    if code > 128:
        end = end.replace("exit", "kill -TERM $$; :")
    stages = {"lint": "true", "unit": LONG, "provision": STUBBORN, "drills": "touch drilled"}
    seen, out, _ = checkout.run({**stages, red: end})
    assert seen == code
    assert out.count("a reason\n") == 1
    assert f"{red} failed: " in out
    assert f"{red} (exit {code})" in out, "the table says which"
    assert checkout.lines("pids")
    assert checkout.alive() == []
    assert not (checkout.root / "drilled").exists()


@pytest.mark.parametrize("moment", ["secrets", "provision", "drills"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(checkout: Checkout, number: signal.Signals, moment: str) -> None:
    """Stubborn ones included, wherever they hid; the labs go after them; 128 + its number."""
    stages = {"secrets": "true", "lint": "true", "provision": "true", "drills": "true"}
    stages[moment] = STUBBORN
    if moment == "provision":
        stages["lint"] = f"{NOTE} {LONG}"
    running = checkout.begin({**stages, "images": "touch later"})
    wait_for(lambda: len(checkout.lines("pids")) >= 2)
    checkout.lab("drills")
    running.send_signal(number)
    out, _ = running.communicate(timeout=SECONDS)
    assert running.returncode == 128 + number
    assert f"{number.name}: ending what was started" in out
    assert checkout.alive() == []
    assert not (checkout.root / "later").exists()
    assert checkout.lines("lab-down") == [f"{checkout.root} lab down --name drills"]


def test_what_is_started_hears_ctrl_c(checkout: Checkout) -> None:
    """A shell starts deaf what it puts into the background; the stages hear, and end in order."""
    hears = "trap 'echo heard >heard; exit 0' INT; echo $$ >>pids; sleep 60 & wait"
    running = checkout.begin(
        {"drills": hears},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    wait_for(lambda: checkout.lines("pids"))
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=SECONDS)
    assert running.returncode == 128 + signal.SIGINT
    assert checkout.lines("heard") == ["heard"]
    assert checkout.alive() == []


def test_under_nohup_the_terminals_end_is_not_heard(checkout: Checkout) -> None:
    """Whoever started it so wants it to go on."""
    running = checkout.begin(
        {"drills": f"{NOTE} until [ -e go ]; do sleep 0.02; done"},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    wait_for(lambda: checkout.lines("pids"))
    running.send_signal(signal.SIGHUP)
    time.sleep(0.1)
    (checkout.root / "go").touch()
    running.communicate(timeout=SECONDS)
    assert running.returncode == 0


@pytest.mark.parametrize("ends", [os.pipe, os.openpty])
def test_a_reader_that_is_gone_ends_the_run(
    checkout: Checkout, ends: Callable[[], tuple[int, int]]
) -> None:
    """A pipe's end or a terminal's: as for any program in a pipe; and still nothing stays."""
    reader, writer = ends()
    stages = {"unit": f"{NOTE} setsid sleep 60 & echo $! >>pids", "drills": LONG}
    running = checkout.begin(stages, stdout=writer)
    os.close(writer)
    os.close(reader)
    running.wait(timeout=SECONDS)
    assert running.returncode == 128 + signal.SIGPIPE
    assert checkout.alive() == []


def test_labs_go_before_and_after(checkout: Checkout) -> None:
    """Those that tests use, at second roots, too; another lab of this checkout stays."""
    for name in ("drills", "images-image", "mine"):
        checkout.lab(name)
    checkout.lab("drills", "var/roots/second")
    here = "mkdir var/drills-here; echo '{\"processes\": {}}' >var/drills-here/lab.json"
    code, _, err = checkout.run({"drills": f"cp lab-down before; {here}"})
    assert (code, err) == (0, "")
    second = checkout.root / "var/roots/second"
    assert checkout.lines("before") == [
        f"{checkout.root} lab down --name drills",
        f"{checkout.root} lab down --name images-image",
        f"{second} lab down --name drills",
    ]
    assert checkout.lines("lab-down")[3:] == [f"{checkout.root} lab down --name drills-here"]
    assert [path.parent.name for path in checkout.root.glob("var/*/lab.json")] == ["mine"]


def test_static_stages_touch_no_lab(checkout: Checkout) -> None:
    """Whoever works with a lab may test what needs none, beside a run with labs, too."""
    state = checkout.lab("drills")
    assert checkout.run({"lint": "true"})[0] == 0
    running = checkout.begin({"drills": f"{NOTE} until [ -e go ]; do sleep 0.02; done"})
    wait_for(lambda: checkout.lines("pids"))
    assert not state.exists()
    assert checkout.run({"lint": "true"})[0] == 0
    code, _, err = checkout.run({"drills": "touch beside"})
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("run-tests: another run of this checkout has its labs (")
    assert not (checkout.root / "beside").exists()
    (checkout.root / "go").touch()
    assert running.wait(timeout=SECONDS) == 0
    # The ledger was the longer run's alone.
    assert [row["stage"] for row in costs.read(checkout.root / costs.STAGES)] == ["drills"]
    linting = checkout.begin({"lint": "touch linting; until [ -e linted ]; do sleep 0.02; done"})
    wait_for((checkout.root / "linting").exists)
    assert checkout.run({"drills": "true"})[0] == 0
    (checkout.root / "linted").touch()
    assert linting.wait(timeout=SECONDS) == 0


def test_a_lab_that_is_kept_stays_whole(checkout: Checkout) -> None:
    """Its machines go on, in groups of their own; what else is left of the run does not."""
    checkout.environment[run_tests.KEEP] = "1"
    begin = (
        "setsid sleep 60 & echo $! >>machine; setsid sleep 60 & echo $! >>pids; "
        "until [ -e go ]; do sleep 0.02; done"
    )
    running = checkout.begin({"drills": begin})
    wait_for(lambda: checkout.lines("machine") and checkout.lines("pids"))
    machine = run_tests.process(checkout.lines("machine")[0])
    wait_for(lambda: run_tests.process(machine.pid).group == machine.pid)
    machine = run_tests.process(machine.pid)
    state = checkout.lab("drills", primary1=(machine.pid, machine.start))
    (checkout.root / "go").touch()
    try:
        assert running.wait(timeout=SECONDS) == 0
        assert checkout.alive() == []
        assert state.exists()
        assert checkout.run({"drills": "true"})[0] == 0
        assert machine in living()
    finally:
        os.kill(machine.pid, signal.SIGKILL)


def test_after_a_killed_run_the_next_one_starts_clean(checkout: Checkout) -> None:
    """What the killed one left is ended and taken down before anything begins."""
    running = checkout.begin({"lint": LONG, "provision": STUBBORN})
    wait_for(lambda: len(checkout.lines("pids")) >= 4)
    checkout.lab("drills")
    running.kill()
    running.wait()
    assert len(checkout.alive()) >= 3
    begin = "cp lab-down before; touch begun; until [ -e go ]; do sleep 0.02; done"
    running = checkout.begin({"drills": begin})
    wait_for((checkout.root / "begun").exists)
    assert checkout.alive() == []
    assert checkout.lines("before") == [f"{checkout.root} lab down --name drills"]
    (checkout.root / "go").touch()
    assert running.wait(timeout=SECONDS) == 0


def test_a_lab_that_does_not_go_is_no_success(checkout: Checkout) -> None:
    """Neither at the end, nor is anything begun beside it."""
    (checkout.root / ".venv/bin/koseki").write_text("#!/bin/sh\nexit 2\n", encoding="ascii")
    state = "mkdir -p var/drills; echo '{\"processes\": {}}' >var/drills/lab.json"
    assert checkout.run({"drills": state})[0] == 1
    code, out, err = checkout.run({"drills": "touch begun"})
    assert code == 2
    assert "a lab does not go (drills: exit 2)" in out
    assert err.startswith("run-tests: a lab that an earlier run left does not go (")
    assert not (checkout.root / "begun").exists()


def test_too_little_room_is_one_sentence(checkout: Checkout) -> None:
    """It is said before anything begins."""
    code, out, err = checkout.run({"secrets": "touch begun", "drills": "touch begun"}, gib=10**6)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "these tests need more room (" in err
    assert "1e+06 GiB needed" in err
    assert not (checkout.root / "begun").exists()
    assert checkout.run({"lint": "true"}, gib=10**6)[0] == 0


def test_a_program_that_is_missing_is_one_sentence(checkout: Checkout) -> None:
    """And what ran beside it is ended."""
    checkout.environment["PATH"] = str(checkout.root)
    code, _, err = checkout.run({"lint": "true"})
    assert (code, err) == (2, "run-tests: a program is missing (sh): run tools/set-up\n")


def test_stages_without_drills_end_with_a_table(checkout: Checkout) -> None:
    """Each stage with its seconds and cores, and their sum."""
    _, out, _ = checkout.run({"secrets": "true", "lint": "sleep 0.2", "unit": "true"})
    assert [line.split()[0] for line in out.splitlines()[-5:]] == [
        *("stage", "secrets", "lint", "unit", "all"),
    ]


def test_unknown_stages_are_refused() -> None:
    """The sentence names those that there are."""
    with pytest.raises(run_tests.RefusedError, match=r"no such stage \(lnt\): choose .*lint.*"):
        run_tests.chosen(["lint", "lnt"], run_tests.STAGES)


def test_what_is_asked_for() -> None:
    """Nothing is `make test`; molecule is the provisioning; each stage once; needs are known."""
    stages = run_tests.STAGES
    assert run_tests.chosen([], stages) == list(run_tests.DEFAULT)
    assert run_tests.chosen(["molecule", "drills", "provision"], stages) == ["provision", "drills"]
    assert {need for stage in stages.values() for need in stage.needs} <= set(stages)
    for stage in stages.values():
        # Only a stage with a lab asks for room; beside the provisioning runs none of these.
        assert bool(stage.gib) == bool(stage.temporary_gib)
        assert not (stage.static and stage.gib)


def test_every_program_is_linted() -> None:
    """Programs without a suffix are found by their first line; this one is among them."""
    found = run_tests.words_of(run_tests.command("ruff check", programs="python3$"))
    assert "tools/run-tests" in found
    shell = run_tests.words_of(run_tests.command("shellcheck", programs="sh$"))
    assert "tools/set-up" in shell
    # What is only ever sent as text has that line, too; a profile's part is read by any shell.
    rest = {str(path.relative_to(ROOT)) for part in OWN for path in (ROOT / part).rglob("*.sh")}
    assert rest - set(shell) == set()


@pytest.mark.parametrize(
    "text", ['if [ x = "$(cat f)" ]; then echo; fi', "f() { cat; }\nif f; then echo; fi"]
)
def test_a_status_that_is_lost_is_linted(tmp_path: Path, text: str) -> None:
    """The checkout's own settings ask for it: a program that could not say is not one that did."""
    (tmp_path / "program").write_text(f"#!/bin/sh\nset -eu\n{text}\n", encoding="ascii")
    shutil.copy(ROOT / ".shellcheckrc", tmp_path)
    done = subprocess.run(["shellcheck", "program"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"SC231" in done.stdout


def test_a_checkout_that_git_cannot_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an archive that somebody unpacked: one sentence, and no program is left out unseen."""
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    with pytest.raises(run_tests.RefusedError, match="not a git repository"):
        run_tests.words_of(run_tests.command("shellcheck", programs="sh$"))


def test_a_checkout_has_one_name(tmp_path: Path) -> None:
    """The namespaces that a run looks for are those that labs make."""
    assert run_tests.checkout_id(tmp_path) == Site(tmp_path, "lab", "lab").checkout_id
