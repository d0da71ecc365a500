"""Measure the sweep and the engines side by side: the same hosts, the same content, one run.

Every command is given a bound: an engine that needs longer is ended, and the table says that it
needed more than that. A host of the fleet has no service manager, see `koseki_ops.bench.fleet`.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from koseki_ops.bench.fleet import GOSS_FILE, INVENTORY, Content, Fleet
from koseki_ops.bench.table import Row, at_least, at_most
from koseki_ops.core.progress import OnProgress
from koseki_ops.drift.judge import manifest
from koseki_ops.drift.observe import probe
from koseki_ops.drift.observe.transport import Bounds, ask_all
from koseki_ops.engines.ansible_run import mitogen
from koseki_ops.plan.site import Site
from koseki_ops.remote.ssh_config import close_connections
from koseki_ops.supply.mirror import download

ITEMS, TENFOLD = 50, 500
FEW, SOME, MANY = 5, 20, 50
PATIENCE = 4
# What stock Ansible starts with.
STOCK_FORKS = 5
CHANGED = re.compile(r"changed=[1-9]|failed=[1-9]|unreachable=[1-9]|No host matches")
FLOOR_COLD, FLOOR_WARM = "floor, cold", "floor, warm"
SWEEP_COLD, SWEEP_WARM = "`koseki drift`, cold", "`koseki drift`, warm"
STOCK, PIPELINED = "Ansible, stock", "Ansible, pipelined, forks = hosts"
MITOGEN, PYINFRA, TESTINFRA = "Ansible under Mitogen", "pyinfra, dry run", "testinfra as shipped"
GOSS = "goss, one ssh a host"


@dataclass(frozen=True)
class Cost:
    """What a question cost this machine: seconds of time and of CPU; ended: at its bound."""

    seconds: float
    cpu: float
    ended: bool = False

    def __str__(self) -> str:
        """Give it as a cell of the table."""
        more = "> " if self.ended else ""
        return f"{more}{self.seconds:.1f} s, CPU {self.cpu:.1f} s"


Costs = Mapping[str, Cost]


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of all that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def cost_of(act: Callable[[], bool]) -> Cost:
    """Measure an act that says whether it was ended at its bound."""
    begun, used = time.monotonic(), cpu_seconds()
    ended = act()
    return Cost(time.monotonic() - begun, cpu_seconds() - used, ended)


def median(costs: list[Cost]) -> Cost:
    """Return the medians of some measurements, time and CPU each on its own."""
    return Cost(
        statistics.median(cost.seconds for cost in costs),
        statistics.median(cost.cpu for cost in costs),
        any(cost.ended for cost in costs),
    )


def bounded(argv: list[str], cwd: Path, variables: Mapping[str, str], seconds: float) -> bool:
    """Run a program; end it and its children after a while, and say whether that was needed.

    Raises click.ClickException when it fails, or finds something to change: then it did not see
    the same content.
    """
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env=dict(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate()
            return True
        except BaseException:
            # Whoever interrupts the bench does not want the engine to go on without it.
            os.killpg(process.pid, signal.SIGTERM)
            raise
    if process.returncode or CHANGED.search(output):
        raise click.ClickException(f"{' '.join(argv[2:5])} failed: {output[-600:]}")
    return False


class FleetBench:
    """Measures one fleet; bound: seconds that a command may take."""

    def __init__(self, fleet: Fleet, runs: int, bound: float, on_progress: OnProgress) -> None:
        """Use a fleet that is up."""
        self.fleet, self.runs, self.bound, self.on_progress = fleet, runs, bound, on_progress
        self.site = fleet.site
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("KOSEKI_", "ANSIBLE_"))}
        # What an administrator's shell has: Python keeps what it has compiled.
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        self.variables = kept | {
            "KOSEKI_ROOT": str(fleet.root),
            "ANSIBLE_SSH_ARGS": f"-F {self.site.ssh_config}",
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_VAULT_PASSWORD_FILE": str(self.site.vault_password_file),
        }

    def floor(self, hosts: list[str]) -> bool:
        """Ask the facts that a sweep reads by one batched ssh a host; do nothing with them."""
        key = manifest.hash_key(self.site)
        with self.fleet.inside():
            programs = {host: probe.assemble(key).text for host in hosts}
            ask_all(self.site, programs, Bounds(seconds=self.bound))
        return False

    def sweep(self, hosts: list[str]) -> bool:
        """Run the command, as a person does."""
        limits = [word for host in hosts for word in ("--limit", host)]
        return self._run(
            ["koseki", "drift", "-i", INVENTORY, "--json", "--wait", str(self.bound), *limits]
        )

    def ansible(self, hosts: list[str], extra: Mapping[str, str]) -> bool:
        """Run the playbook in check mode."""
        argv = ["ansible-playbook", "-i", str(self.site.inventory), "--check", "--diff"]
        return self._run([*argv, "--limit", ",".join(hosts), "playbook.yml"], extra)

    def pyinfra(self, hosts: list[str]) -> bool:
        """Let pyinfra say what it would change."""
        # One pattern each: several in one match nobody, and pyinfra is content with that.
        limits = [word for host in hosts for word in ("--limit", host)]
        return self._run(
            ["pyinfra", "--dry", "--sudo", *limits, f"@koseki/{INVENTORY}", "deploy.py"]
        )

    def testinfra(self, hosts: list[str]) -> bool:
        """Run one assertion an item over testinfra's own ssh backend."""
        backends = ",".join(f"ssh://{host}" for host in hosts)
        argv = ["pytest", "-q", "-c", "/dev/null", f"--rootdir={self.fleet.root}"]
        argv += ["-p", "no:cacheprovider", f"--hosts={backends}"]
        return self._run([*argv, f"--ssh-config={self.site.ssh_config}", "test_fleet.py"])

    def goss(self, hosts: list[str]) -> bool:
        """Let goss judge on every host at once; each reads a file that was brought there before."""
        command = ("goss", "-g", GOSS_FILE, "validate", "--format", "silent")
        with self.fleet.inside():
            bounds = Bounds(seconds=self.bound)
            replies = ask_all(self.site, dict.fromkeys(hosts, ""), bounds, command)
        unreachable = {
            host: reply.unreachable_reason
            for host, reply in replies.items()
            if reply.unreachable_reason
        }
        if unreachable:
            raise click.ClickException(f"goss failed: {unreachable}")
        return False

    def _run(self, argv: list[str], extra: Mapping[str, str] | None = None) -> bool:
        program = str(Path(sys.executable).with_name(argv[0]))
        argv = self.fleet.enter([program, *argv[1:]])
        return bounded(argv, self.fleet.root, {**self.variables, **(extra or {})}, self.bound)

    def quick(self, count: int) -> dict[str, Cost]:
        """Measure floor and sweep on some hosts, cold and warm in turn."""
        hosts = self.fleet.names[:count]
        found: dict[str, list[Cost]] = {}
        for _ in range(self.runs):
            for cold, warm, act in (
                (FLOOR_COLD, FLOOR_WARM, self.floor),
                (SWEEP_COLD, SWEEP_WARM, self.sweep),
            ):
                close_connections(self.site)
                for name in (cold, warm):
                    found.setdefault(name, []).append(cost_of(partial(act, hosts)))
        return {name: median(costs) for name, costs in found.items()}

    def engines(self, count: int, *, stock: bool) -> dict[str, Cost]:
        """Measure the engines on some hosts, once each, their connections up."""
        hosts = self.fleet.names[:count]
        forks = {"ANSIBLE_FORKS": str(count)}
        acts: dict[str, Callable[[], bool]] = {
            PIPELINED: lambda: self.ansible(hosts, forks),
            MITOGEN: lambda: self.ansible(hosts, forks | mitogen()),
            PYINFRA: lambda: self.pyinfra(hosts),
            TESTINFRA: lambda: self.testinfra(hosts),
            GOSS: lambda: self.goss(hosts),
        }
        if stock:
            plain = {"ANSIBLE_PIPELINING": "false", "ANSIBLE_FORKS": str(STOCK_FORKS)}
            acts = {STOCK: lambda: self.ansible(hosts, plain)} | acts
        found = {}
        for name, act in acts.items():
            found[name] = cost_of(act)
            self.on_progress(f"{count} hosts: {name}: {found[name]}")
        return found


def compared(count: int, items: int, costs: Costs) -> list[Row]:
    """Return a row for each engine, against the sweep in the same state of its connections."""
    rows = []
    for name, cost in costs.items():
        against = costs[FLOOR_COLD if name == SWEEP_COLD else SWEEP_WARM]
        other = "cold floor" if name == SWEEP_COLD else "warm sweep"
        ratio = f", {cost.seconds / against.seconds:.1f}× the {other}"
        if name in {FLOOR_COLD, FLOOR_WARM, SWEEP_WARM}:
            ratio = ""
        rows.append(Row(f"{count} hosts × {items} items: {name}", "beside it", f"{cost}{ratio}"))
    return rows


def reached(small: Costs, many: Costs, tenfold: Costs) -> list[Row]:
    """Return the rows that have a figure to reach. small: few hosts, once the checks."""
    cold, warm = small[SWEEP_COLD], small[SWEEP_WARM]
    engine = small[PIPELINED]
    return [
        at_most(f"cold sweep of {FEW} hosts of the fleet", 3, [cold.seconds]),
        at_most("against the cold floor", 3, [cold.seconds / small[FLOOR_COLD].seconds], "×"),
        at_most("warm sweep", 1.5, [warm.seconds]),
        at_least(
            f"`ansible-playbook --check --diff`, pipelined, forks = hosts, {ITEMS} items a host, "
            "against the warm sweep",
            40,
            engine.seconds / warm.seconds,
            str(engine),
        ),
        at_least(
            f"the same with {TENFOLD} items a host",
            40,
            tenfold[PIPELINED].seconds / tenfold[SWEEP_WARM].seconds,
            str(tenfold[PIPELINED]),
        ),
        at_most(
            f"{TENFOLD} items a host against {ITEMS}, warm",
            1.5,
            [tenfold[SWEEP_WARM].seconds / warm.seconds],
            "×",
        ),
        at_most(
            f"{MANY} hosts against {FEW}, cold", 8, [many[SWEEP_COLD].seconds / cold.seconds], "×"
        ),
        at_most(
            f"{MANY} hosts against {FEW}, warm", 8, [many[SWEEP_WARM].seconds / warm.seconds], "×"
        ),
    ]


def measure(lab: Site, runs: int, bound: float, on_progress: OnProgress) -> list[Row]:
    """Return all rows. lab: the site whose mirror the fleets' tree is made from."""
    found: dict[tuple[int, int], Costs] = {}
    with tempfile.TemporaryDirectory(prefix="koseki-goss-") as place:
        goss = download(lab, "goss", Path(place))
        for items in (ITEMS, TENFOLD):
            with tempfile.TemporaryDirectory(prefix="koseki-fleet-") as folder:
                fleet = Fleet(lab, Path(folder), MANY, Content(items), goss)
                try:
                    fleet.up()
                    on_progress(f"{MANY} hosts with {items} items each answer SSH")
                    for count in (FEW, SOME, MANY):
                        found[items, count] = _at(fleet, count, runs, bound, on_progress)
                finally:
                    fleet.down()
    rows = [row for (items, count), costs in found.items() for row in compared(count, items, costs)]
    return [*reached(found[ITEMS, FEW], found[ITEMS, MANY], found[TENFOLD, FEW]), *rows]


def _at(
    fleet: Fleet, count: int, runs: int, bound: float, on_progress: OnProgress
) -> dict[str, Cost]:
    """Measure on some hosts; with ten times the items engines on few hosts only."""
    first = count == FEW and fleet.content.items == ITEMS
    # Where a ratio is to be reached, the engine is waited for.
    bench = FleetBench(fleet, runs, bound * (PATIENCE if first else 1), on_progress)
    costs = bench.quick(count)
    on_progress(f"{count} hosts: {costs[SWEEP_COLD]} cold, {costs[SWEEP_WARM]} warm")
    if count == FEW or fleet.content.items == ITEMS:
        costs |= bench.engines(count, stock=first)
    return costs
