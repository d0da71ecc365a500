"""Measure the platform's figures on this machine and print them as a table: `make bench`.

Ratios are taken within one run, since machines differ and are shared. A figure that is not reached
stands in the table like the others. Runs on a lab of its own and leaves nothing behind.
"""

from __future__ import annotations

import os
import shlex
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click

from koseki_ops.bench import costs, duplicates, engines, image, link
from koseki_ops.bench.table import Row, at_least, at_most, spread
from koseki_ops.core.progress import OnProgress, Progress
from koseki_ops.core.subprocesses import ask
from koseki_ops.drift.judge import manifest
from koseki_ops.drift.judge.sweep import sweep
from koseki_ops.drift.model import Verdict
from koseki_ops.drift.observe import probe
from koseki_ops.drift.observe.transport import ask_all
from koseki_ops.engines import ansible_run
from koseki_ops.engines import apply as engine
from koseki_ops.engines.ansible_run import environment
from koseki_ops.lab import counters, recording, releases, writers
from koseki_ops.lab.lab import Lab
from koseki_ops.lab.plan import certificate, municipality, own_file
from koseki_ops.plan.site import Site
from koseki_ops.supply.mirror import build_mirror
from koseki_ops.trust.secrets import init_secrets
from koseki_ops.verify.results import FAILED
from koseki_ops.verify.runner import verify

LAB = "bench"
CONVERGED = "converged"
SLUG, LEAVES = "iida", "urugi"
KOSEKI = str(Path(sys.executable).with_name("koseki"))
REGISTERS, SEARCHES = 50_000, 500
# Seconds between two questions of one of fourteen counters: 5/s in all, and somewhat above 500/s.
COUNTERS_EACH, SEARCH_EACH = 14 / 5, 14 / 520
# Seconds of counters at work before and after a switch.
SWITCH_PAUSE = 3
LOST, WITNESS = "primary1", "application1"
PARTS = (
    "lab",
    "green",
    "apply",
    "verify",
    "counters",
    "joining",
    "switching",
    "drift",
    "drift-fleet",
    "drift-soak",
    "memory",
    "link",
    "image",
    "costs",
    "duplicates",
    "outage",
    "fresh",
)
# These make what they measure; the others stand on what `green` has made.
ALONE = frozenset({"lab", "drift-fleet", "image", "costs", "duplicates", "fresh"})
# How often a writer's row comes under the sweeps of the soak, in seconds, and how long a member may
# take to come back there.
SOAK_PAUSE, SOAK_RETURN_SECONDS = 0.05, 180
SETTLE_SECONDS = 90
# What tells of the biggest process of a probe: its peak, in KiB.
PEAK = (
    "import resource, subprocess, sys; "
    "subprocess.run(['sh'], stdin=sys.stdin, stdout=subprocess.DEVNULL, "
    "stderr=subprocess.DEVNULL, check=True); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)
# Patroni's defaults, as `patronictl edit-config` takes them.
PATRONI_DEFAULTS = ("ttl=30", "loop_wait=10", "retry_timeout=10", "primary_start_timeout=300")


class Bench:
    """Measures on one lab; each method returns rows of the table."""

    def __init__(self, on_progress: OnProgress, runs: int, bound: float, sweeps: int) -> None:
        """Prepare secrets and mirror; start nothing."""
        self.site, self.on_progress, self.runs = Site.open(name=LAB), on_progress, runs
        self.bound, self.sweeps = bound, sweeps
        init_secrets(self.site)
        build_mirror(self.site, on_progress)
        self.lab = Lab(self.site, on_progress)

    def timed(self, act: Callable[[], object]) -> float:
        """Return how long something takes, in seconds."""
        begun = time.monotonic()
        act()
        return time.monotonic() - begun

    def up(self) -> list[Row]:
        """From the command to SSH on all hosts, base tree built."""
        self.lab.down()
        self.lab.up()
        times = []
        for _ in range(self.runs):
            self.lab.down()
            times.append(self.timed(self.lab.up))
        return [at_most("`koseki lab up` to SSH on all six", 3, times)]

    def green(self) -> list[Row]:
        """From bare hosts to a green verification; leaves the snapshot that others restore."""
        self.lab.down()

        def all_of_it() -> None:
            self.lab.up()
            self._apply()
            self._green()

        seconds = self.timed(all_of_it)
        self.lab.snapshot(CONVERGED)
        self._settled()
        return [at_most("bare lab to green verification, mirror built", 300, [seconds])]

    def _apply(self) -> None:
        result = engine.apply(self.site, engine.Plan(), self.on_progress)
        if result.failed:
            errors = [error for host in result.hosts.values() for error in host.errors]
            raise click.ClickException(f"apply failed: {errors[:1]}")

    def _green(self) -> None:
        results = verify(self.site, (), ())
        if results.count(FAILED):
            raise click.ClickException(f"{results.count(FAILED)} checks failed: koseki verify")

    def no_change(self) -> list[Row]:
        """Apply when nothing is to be done, beside the stock engines on the same content."""
        self._apply()
        ours = [self.timed(self._apply) for _ in range(self.runs)]
        stock = self.timed(self._stock_ansible) + self.timed(self._stock_pyinfra)
        ratio = stock / statistics.median(ours)
        return [
            at_most("`koseki apply`, nothing to change", 60, ours),
            at_least(
                "stock `ansible-playbook` plus stock `pyinfra`, same content, against it",
                4,
                ratio,
                f"{stock:.0f} s",
            ),
        ]

    def _stock_ansible(self) -> None:
        """Run as shipped: no pipelining, five forks, the linear strategy."""
        variables = environment(self.site, accelerated=False) | {
            "ANSIBLE_PIPELINING": "false",
            "ANSIBLE_FORKS": "5",
        }
        argv = ["ansible-playbook", "-i", str(self.site.inventory), engine.PLAYBOOK]
        self._run(argv, variables)

    def _stock_pyinfra(self) -> None:
        """Run by pyinfra's own command line, deploy by deploy."""
        variables = {**os.environ, "KOSEKI_NAME": LAB, "PYTHONPATH": str(self.site.root)}
        for deploy in engine.DEPLOYS:
            program = Path(sys.executable).with_name("pyinfra")
            self._run([str(program), "-y", "--sudo", "@koseki/lab", deploy], variables)

    def _run(self, argv: list[str], variables: dict[str, str]) -> None:
        ask(argv, cwd=self.site.root, env=variables)

    def all_suites(self) -> list[Row]:
        """All suites on all hosts."""
        times = [self.timed(self._green) for _ in range(self.runs)]
        return [at_most("`koseki verify`, all suites", 20, times)]

    def counters(self) -> list[Row]:
        """Let every town's counter search and print through the gateway, all hosts beside them."""
        self._run([KOSEKI, "lab", "registers", "--name", LAB], dict(os.environ))
        own = REGISTERS // len(self.lab.inventory.platform.municipalities)
        counters.work(self.lab, counters.CERTIFICATE, each=COUNTERS_EACH, seconds=8, registers=own)
        prints = counters.work(
            self.lab, counters.CERTIFICATE, each=COUNTERS_EACH, seconds=40, registers=own
        )
        searches = counters.work(self.lab, counters.SEARCH, each=SEARCH_EACH, seconds=40)
        rate = len(searches.took) / searches.elapsed
        asked = {"certificates": prints, "searches": searches}
        failed = {what: seen.wrong for what, seen in asked.items() if seen.wrong}
        return [
            at_most(
                f"certificate through the gateway to PDF, fourteen municipalities at 5/s in all, "
                f"{prints.asked} asked, 95th percentile",
                300,
                [prints.percentile(0.95) * 1000],
                "ms",
            ),
            Row(
                f"searches through the gateway, {REGISTERS} registers, {searches.asked} asked",
                "≥ 500/s",
                f"{rate:.0f}/s, median {searches.percentile(0.5) * 1000:.0f} ms",
                rate >= SEARCHES,
            ),
            at_most("their 99th percentile", 100, [searches.percentile(0.99) * 1000], "ms"),
            Row("requests of these that failed", "none", str(failed or "none"), not failed),
        ]

    def switching(self) -> list[Row]:
        """Switch to another release while every town's counter asks, over a new connection each."""
        (host, *_) = self.lab.inventory.hosts_in("application")
        version = releases.later(1)
        releases.prepare(self.site, version)

        def switch() -> None:
            done = releases.switch(self.site, host, version)
            if done.returncode:
                raise click.ClickException(f"no switch to {version}: {done.stdout[-600:]}")

        with counters.at_work(self.lab, counters.SEARCH, each=0.25, afresh=True) as seen:
            time.sleep(SWITCH_PAUSE)
            seconds = self.timed(switch)
            time.sleep(SWITCH_PAUSE)
        self.lab.restore(CONVERGED)
        self._settled()
        slowest = seen.percentile(1)
        return [
            Row(
                f"a release switched in {seconds:.0f} s while fourteen counters search "
                f"({seen.asked} asked), requests that failed",
                "none",
                f"{seen.wrong or 'none'}; the slowest answer took {slowest:.1f} s",
                not seen.wrong,
            )
        ]

    def joining(self) -> list[Row]:
        """Take a town off the platform and bring it back while the others' counters work."""
        surroundings = dict(os.environ)
        words = ["--name", LAB, LEAVES]
        with (
            tempfile.TemporaryDirectory(prefix="koseki-joining-") as folder,
            own_file(self.site, "municipalities.yml") as plan,
        ):
            _key, pem = certificate(LEAVES, Path(folder))
            municipality(plan, LEAVES, left_on="2026-01-01")
            self._run(
                [KOSEKI, "withdraw", *words, "--to", folder, "--recipient", str(pem)], surroundings
            )
            people = ["--confirmation", "1", "--by", "sousa01", "--approver", "sousa02"]
            self._run([KOSEKI, "withdraw", *words, "--delete", *people], surroundings)
            municipality(plan, LEAVES, left_on=None)
            with counters.at_work(self.lab, each=0.5, afresh=True, without=[LEAVES]) as seen:
                seconds = self.timed(lambda: self._run([KOSEKI, "enroll", *words], surroundings))
        self.lab.restore(CONVERGED)
        self._settled()
        return [
            at_most("`koseki enroll` of one municipality, suites included", 60, [seconds]),
            Row(
                f"requests of the other thirteen meanwhile ({seen.asked} asked)",
                "none failed",
                str(seen.wrong or "none failed"),
                not seen.wrong,
            ),
        ]

    def drift(self) -> list[Row]:
        """Sweep all hosts, beside what one round trip costs and what the engines take to tell."""
        self._apply()
        self._still()
        hosts = self.lab.inventory.hosts
        floor: list[float] = []
        cold: list[float] = []
        for _ in range(self.runs):
            for act, times in ((self._floor, floor), (self._sweep, cold)):
                self.lab.close_connections()
                times.append(self.timed(act))
        warm = [self.timed(self._sweep) for _ in range(self.runs)]
        found = sweep(self.site, self.lab.inventory, hosts)
        checks = found.count(Verdict.HOLDS)
        pipelined = self.timed(lambda: self._ansible_check({"ANSIBLE_FORKS": str(len(hosts))}))
        mitogen = self.timed(lambda: self._ansible_check(ansible_run.mitogen()))
        dry = self.timed(self._pyinfra_dry)
        ratio = statistics.median(cold) / statistics.median(floor)
        return [
            at_most(f"cold sweep of {len(hosts)} hosts, {checks} items, report included", 3, cold),
            at_most(f"against the cold floor ({spread(floor)})", 3, [ratio], "×"),
            at_most("warm sweep", 1.5, warm),
            at_most("probe on a host, CPU", 1, [max(row.cpu_seconds for row in found.hosts)]),
            at_most("its biggest process, memory", 64, [self._peak()], "MiB"),
            at_least(
                "`ansible-playbook --check --diff` of the services, pipelined, forks = hosts, "
                "against a cold sweep of everything",
                40,
                pipelined / statistics.median(cold),
                f"{pipelined:.0f} s",
            ),
            Row(
                "the same under Mitogen; pyinfra's dry run of the baseline",
                "beside it",
                f"{mitogen:.0f} s; {dry:.0f} s",
            ),
        ]

    def fleet(self) -> list[Row]:
        """Sweep and engines side by side, on many light hosts with the same content."""
        return engines.measure(self.site, self.runs, self.bound, self.on_progress)

    def soak(self) -> list[Row]:
        """Sweep an untouched platform again and again under load; nothing on it may be drift.

        Meanwhile a municipality writes, the leader's host dies and comes back, and logs are
        rotated. The writer's own unit is unmanaged, and each sweep that its host answers has to
        say so.
        """
        self._still()
        turns: dict[int, Callable[[], object]] = {
            self.sweeps // 4: lambda: self.lab.kill(self._leader()),
            self.sweeps // 2: self._revive,
            self.sweeps * 3 // 4: self._rotate,
        }
        writer = writers.municipality_writer(self.lab, SLUG)
        writers.start(self.lab, writer, SOAK_PAUSE)
        false: list[str] = []
        not_verified = blind = 0
        try:
            for number in range(self.sweeps):
                if number in turns:
                    turns[number]()
                found = sweep(self.site, self.lab.inventory, self.lab.inventory.hosts)
                drifted = [f for f in found.findings if f.answer is Verdict.DRIFTED]
                ours = [f for f in drifted if writers.UNIT in f.name]
                wrong = [f"{f.host}: {f.kind} {f.name} {f.place}" for f in drifted if f not in ours]
                false += wrong
                blind += not ours
                not_verified += found.count(Verdict.NOT_VERIFIED)
                self.on_progress(
                    f"sweep {number + 1} of {self.sweeps}: {'; '.join(wrong) or 'none'}"
                )
        finally:
            self._revive()
            writers.stop(self.lab, writer)
        rows = len(writers.acknowledged(self.lab, writer))
        named = f": {'; '.join(sorted(set(false))[:5])}" if false else ""
        return [
            Row(
                f"{self.sweeps} sweeps of an untouched platform while a municipality writes, the "
                "leader's host dies and comes back, logs are rotated",
                "no false drift",
                f"{len(false)} false{named}; {not_verified} answers *not verified* meanwhile; the "
                f"writer itself not seen in {blind}; {rows} rows written",
                not false and not blind,
            )
        ]

    def _still(self) -> None:
        """End the watch's own sweep where it runs beside ours; its timer runs on, as it must."""
        for host in self.lab.inventory.hosts_in("watch_hosts"):
            self.lab.exec(host, ["systemctl", "stop", "koseki-drift.service"])

    def _leader(self) -> str:
        ask = ["runuser", "-u", "postgres", "--", "psql", "-XqtA", "-c"]
        for host in self.lab.inventory.hosts_in("databases"):
            done = self.lab.exec(host, [*ask, "SELECT NOT pg_is_in_recovery()"])
            if done.stdout.strip() == "t":
                return host
        raise click.ClickException("no server leads: koseki verify replication")

    def _revive(self) -> None:
        """Start what was killed, and wait until the platform records twice again."""
        for state in self.lab.status():
            if not state.running:
                self.lab.start(state.host)
        self._settled(SOAK_RETURN_SECONDS)

    def _rotate(self) -> None:
        """Rotate what logs a host keeps."""
        for host in self.lab.inventory.hosts:
            self.lab.exec(host, ["journalctl", "--rotate"]).check_returncode()
            there = [
                "sh",
                "-c",
                "! test -x /usr/sbin/logrotate || logrotate -f /etc/logrotate.conf",
            ]
            self.lab.exec(host, there).check_returncode()

    def _peak(self) -> float:
        """Return the peak of the biggest process of the probe, in MiB, where Python can tell it."""
        key = manifest.hash_key(self.site)
        vaults = self.lab.inventory.hosts_in("remote_backup")
        hosts = [host for host in self.lab.inventory.hosts if host not in vaults]
        programs = {host: probe.assemble(key).text for host in hosts}
        command = ("sudo", "-n", "python3", "-c", shlex.quote(PEAK))
        replies = ask_all(self.site, programs, command=command)
        return max(int(reply.out) for reply in replies.values()) / 1024

    def _floor(self) -> None:
        """Ask the same facts by one batched ssh a host, and do nothing with the answers."""
        key = manifest.hash_key(self.site)
        ask_all(self.site, {host: probe.assemble(key).text for host in self.lab.inventory.hosts})

    def _sweep(self) -> None:
        self._run([KOSEKI, "drift", "--name", LAB, "--json"], dict(os.environ))

    def _ansible_check(self, extra: dict[str, str]) -> None:
        variables = environment(self.site, accelerated=False) | extra
        argv = ["ansible-playbook", "-i", str(self.site.inventory), "--check", "--diff"]
        self._run([*argv, engine.PLAYBOOK], variables)

    def _pyinfra_dry(self) -> None:
        variables = {**os.environ, "KOSEKI_NAME": LAB, "PYTHONPATH": str(self.site.root)}
        for deploy in engine.DEPLOYS:
            program = Path(sys.executable).with_name("pyinfra")
            self._run([str(program), "--dry", "--sudo", "@koseki/lab", deploy], variables)

    def memory(self) -> list[Row]:
        """Add up what all hosts hold when nobody asks them anything."""
        time.sleep(20)
        states = self.lab.status()
        total = sum(state.memory_bytes for state in states) / 2**30
        return [at_most("memory of the whole lab, idle", 4, [total], "GiB")]

    def outages(self) -> list[Row]:
        """Kill the leader's host; see how long writes through the proxy are refused."""
        swift = [self._outage(()) for _ in range(5)]
        slow = [self._outage(PATRONI_DEFAULTS) for _ in range(5)]
        return [
            at_most("outage when the leader's host dies, median of five", 22, swift),
            at_most("the worst of these five", 30, [max(swift)]),
            Row("the same five with Patroni's default timings", "for comparison", spread(slow)),
        ]

    def _outage(self, settings: tuple[str, ...]) -> float:
        self.lab.restore(CONVERGED)
        self._settled()
        if settings:
            options = [word for setting in settings for word in ("-s", setting)]
            argv = ["patronictl", "-c", "/etc/patroni/config.yml", "edit-config", "--force"]
            self.lab.exec(LOST, [*argv, "--quiet", *options])
            time.sleep(12)  # every member has gone round its loop once with the new timings
        writer = writers.municipality_writer(self.lab, SLUG)
        writers.start(self.lab, writer)
        time.sleep(6)
        killed = time.time()
        self.lab.kill(LOST)
        end = time.monotonic() + 120
        while time.monotonic() < end:
            rows = writers.acknowledged(self.lab, writer)
            if rows[-1].at > killed + 2:
                break
            time.sleep(1)
        else:
            raise click.ClickException("nobody took over within 120 s: no figure")
        writers.stop(self.lab, writer)
        seconds = writers.outage(writers.acknowledged(self.lab, writer))
        self.on_progress(f"outage {seconds:.1f} s")
        return seconds

    def _settled(self, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until the running servers record twice, and etcd is led as it is day by day."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if recording.records_twice(self.lab) and self._led():
                return
            time.sleep(1)
        raise click.ClickException("the lab does not record twice: koseki verify replication")

    def _led(self) -> bool:
        program = "set -a; . /etc/default/etcd; exec /usr/local/sbin/koseki-etcd-lead"
        return self.lab.exec(WITNESS, ["sh", "-c", program]).returncode == 0

    def fresh(self) -> list[Row]:
        """Run the first of the README's two commands in a clone that has nothing yet."""
        with tempfile.TemporaryDirectory(prefix="koseki-bench-") as folder:
            clone = str(Path(folder) / "clone")
            self._run(["git", "clone", "-q", str(self.site.root), clone], dict(os.environ))
            variables = {k: v for k, v in os.environ.items() if not k.startswith("KOSEKI_")}
            try:
                seconds = self.timed(lambda: self._run(["make", "-C", clone, "demo"], variables))
            finally:
                self._run(["make", "-C", clone, "down"], variables)
        what = "`make demo` in a fresh clone, Debian packages already there"
        return [at_most(what, 720, [seconds])]


@click.command()
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="Only these parts.")
@click.option("--runs", default=3, show_default=True, help="Runs of each quick figure.")
@click.option("--bound", default=60.0, show_default=True, help="Seconds for an engine's run.")
@click.option("--sweeps", default=200, show_default=True, help="Sweeps of the soak.")
def main(only: tuple[str, ...], runs: int, bound: float, sweeps: int) -> None:
    """Measure the figures and print them as a table. Takes about half an hour.

    Example: python -m koseki_ops.bench --only apply --only verify
    """
    # Who ends it, by whatever signal, finds nothing of it left.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    progress = Progress([])
    bench = Bench(progress.report, runs, bound, sweeps)
    parts: dict[str, Callable[[], list[Row]]] = {
        "lab": bench.up,
        "green": bench.green,
        "apply": bench.no_change,
        "verify": bench.all_suites,
        "counters": bench.counters,
        "joining": bench.joining,
        "switching": bench.switching,
        "drift": bench.drift,
        "drift-fleet": bench.fleet,
        "drift-soak": bench.soak,
        "memory": bench.memory,
        "link": lambda: link.measure(bench.lab, bench.runs),
        "image": lambda: image.measure(bench.site, os.environ),
        "costs": lambda: costs.measure(bench.site),
        "duplicates": lambda: duplicates.measure(bench.site),
        "outage": bench.outages,
        "fresh": bench.fresh,
    }
    rows: list[Row] = []
    try:
        needed = {*only} - ALONE
        for part, measure in parts.items():
            if not only or part in only or (part == "green" and needed):
                progress.report(f"measuring: {part}")
                rows += measure()
    finally:
        bench.lab.down()
    table = ["| what | reach | measured | reached |", "|---|---|---|---|", *map(str, rows)]
    text = "\n".join(table) + "\n"
    (bench.site.var / "bench.md").write_text(text, encoding="utf-8")
    click.echo(text)
