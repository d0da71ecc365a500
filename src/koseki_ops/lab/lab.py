"""Six real systemd hosts on this computer, in a network namespace of their own."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_atomic
from koseki_ops.core.language import _
from koseki_ops.core.progress import OnProgress
from koseki_ops.core.subprocesses import run
from koseki_ops.lab import clock, recording
from koseki_ops.lab.cgroup import remove_groups
from koseki_ops.lab.machine import Machine
from koseki_ops.lab.network import LabNetwork
from koseki_ops.lab.process import Process
from koseki_ops.lab.virtual import VirtualMachine
from koseki_ops.plan.inventory import WORKSTATION, Inventory
from koseki_ops.plan.site import Site
from koseki_ops.remote.first_contact import pin
from koseki_ops.remote.ssh_config import close_connections, ensure_site_ssh
from koseki_ops.supply.base_tree import ensure_base_tree, ensure_tree
from koseki_ops.supply.mirror import VAULT_SUITE

__all__ = ["HostState", "Lab", "MachineSet"]

# Where an overlay keeps a file's immutable flag.
PROTECTED = "trusted.overlay.protattr"

# All machines of all labs are one user's to the kernel, and each has some sixteen watchers of files
# (systemd, D-Bus, logs): its usual 128 are too few for two labs.
WATCHERS, WATCHERS_WANTED = Path("/proc/sys/fs/inotify/max_user_instances"), 1024

MIRROR_SERVER, TIME_SERVER = "mirror", "clock"
EVERYBODY = "all"


@dataclass(frozen=True)
class HostState:
    """What the lab knows of a host."""

    host: str
    address: str
    running: bool
    pid: int | None
    memory_bytes: int


@dataclass(frozen=True)
class MachineSet:
    """What a lab's machines are made from.

    hosts: those of the inventory that there are machines of, empty for all; base: the tree that
    they start from, the bare one when there is none; disks: those that are virtual machines, by
    host, each with its own disk.
    """

    hosts: tuple[str, ...] = ()
    base: Path | None = None
    disks: Mapping[str, Path] = field(default_factory=dict)


class Lab:
    """The lab of a site. Every method raises KosekiError with one sentence.

    on_progress: takes a line; machine_set: other machines than the inventory's, all in containers.
    """

    def __init__(
        self,
        site: Site,
        on_progress: OnProgress = lambda _line: None,
        machine_set: MachineSet | None = None,
    ) -> None:
        """Read the inventory; touch nothing."""
        if not site.is_lab:
            raise KosekiError(
                _("only a lab has machines here"), site.name, _("leave --inventory out")
            )
        self.site, self.on_progress = site, on_progress
        self.inventory = Inventory(site.inventory)
        self.machine_set = machine_set or MachineSet()
        self.hosts = list(self.machine_set.hosts) or self.inventory.hosts
        self.network = LabNetwork(site.netns, self.inventory)
        self.state_file = site.state / "lab.json"

    @property
    def netns(self) -> str:
        """The lab's network namespace, which plays the workstation."""
        return self.network.netns

    def machine(self, host: str) -> Machine:
        """Return a host's machine; a group name stands for its only host."""
        hosts = self.inventory.resolve(host)
        if len(hosts) != 1:
            raise KosekiError(
                _("not one host"),
                _("{host} is {hosts}").format(host=host, hosts=", ".join(hosts)),
                _("name one host of `hosts.yml`"),
            )
        folder = self.site.state / "hosts" / hosts[0]
        place = hosts[0], folder, self.network, self.site.checkout_id
        if disk := self.machine_set.disks.get(hosts[0]):
            return VirtualMachine(*place, disk)
        return Machine(*place)

    # State: a file written in one step, so that a crash leaves the old or the new one.

    def _read(self) -> dict[str, Any]:
        if not self.state_file.exists():
            return {"processes": {}, "layers": {}}
        state: dict[str, Any] = json.loads(self.state_file.read_text(encoding="utf-8"))
        return state

    def _write(self, state: dict[str, Any]) -> None:
        write_atomic(self.state_file, json.dumps(state, indent=1))

    def _remember(self, name: str, process: Process | None) -> None:
        state = self._read()
        if process is None:
            state["processes"].pop(name, None)
        else:
            state["processes"][name] = [process.pid, process.start_time]
        self._write(state)

    def _process(self, name: str) -> Process | None:
        entry = self._read()["processes"].get(name)
        process = Process(*entry) if entry else None
        return process if process and process.alive() else None

    def _layers(self, host: str) -> list[Path]:
        return [Path(layer) for layer in self._read()["layers"][host]]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one command at a time change this lab."""
        if os.geteuid() != 0:
            raise KosekiError(
                _("a lab needs root for its network namespace"),
                _("uid {geteuid}").format(geteuid=os.geteuid()),
                _("use `sudo`"),
            )
        self.site.state.mkdir(parents=True, exist_ok=True)
        with (self.site.state / "lab.lock").open("w", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise KosekiError(
                    _("another command is changing this lab"),
                    self.site.name,
                    _("wait until it ends; `fuser {lock}` shows its process").format(
                        lock=lock.name
                    ),
                ) from error
            yield

    # Up and down.

    def up(self) -> None:
        """Start every host that is not running and wait until all answer SSH.

        After an interrupt nothing half-started stays.
        """
        with self._alone():
            layers = self._base_layers()
            begun_here = not self.network.exists()
            try:
                self.network.create()
                self._serve_mirror()
                self._serve_time()
                state = self._read()
                for host in self.hosts:
                    state["layers"].setdefault(host, layers)
                self._write(state)
                self._furnish()
                ensure_site_ssh(self.site, self.inventory)
                self._boot(self.hosts)
            except BaseException:
                if begun_here:
                    self._tear_down()
                raise

    def _base_layers(self) -> list[str]:
        """Return the tree below what each container writes; none where all have disks."""
        if set(self.hosts) <= set(self.machine_set.disks):
            return []
        base = self.machine_set.base or ensure_base_tree(
            self.site, self.inventory, self.on_progress
        )
        return [str(base)]

    def down(self) -> None:
        """End and remove everything of this lab; also after a crash, and when nothing is there.

        Keys, the CA and reports of the site stay.
        """
        with self._alone():
            self._tear_down()

    def _tear_down(self) -> None:
        self.close_connections()
        known = [Process(*entry) for entry in self._read()["processes"].values()]
        # Whoever is in the namespace is ours, even if the state file was lost.
        found = [Process.of(pid) for pid in self.network.pids()]
        supervisors = {*known, *found}
        machines = {child for process in supervisors for child in process.children()}
        for process in supervisors:
            process.kill_tree()
        for process in {*supervisors, *machines}:
            if not process.wait(15):
                raise KosekiError(
                    _("a process of the lab still runs"),
                    _("pid {pid} after 15 s").format(pid=process.pid),
                    _("end it with `kill -9 {pid}`, then run `koseki lab down` again").format(
                        pid=process.pid
                    ),
                )
        for host in self.hosts:
            remove_groups(self.machine(host).nspawn_name)
        self.network.delete()
        # What was true of these hosts is true of none that comes after them.
        for folder in ("hosts", "snapshots", "drift/manifests"):
            path = self.site.state / folder
            if path.exists():
                shutil.rmtree(path)
        if self.site.run_dir.exists():
            shutil.rmtree(self.site.run_dir)
        self.state_file.unlink(missing_ok=True)

    def close_connections(self) -> None:
        """Close the shared connections, which would otherwise linger on dead hosts."""
        close_connections(self.site)

    def _furnish(self) -> None:
        """Give each bare machine its name, address and keys; pin the first contact."""
        ssh = self.site.state / "ssh"
        ssh.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ssh / "root_key"
        if not key.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bare", "-f", str(key)])
        public = key.with_suffix(".pub").read_text(encoding="ascii")
        pinned = ssh / "first_contact_known_hosts"
        bare = [
            host
            for host in self.hosts
            if host not in self.machine_set.disks and not self.machine(host).upper.exists()
        ]
        if not bare:
            return
        with ThreadPoolExecutor() as pool:
            keys = list(pool.map(lambda host: self.machine(host).furnish(public), bare))
        old = pinned.read_text(encoding="ascii").splitlines() if pinned.exists() else []
        kept = [line for line in old if line.split()[0] not in bare]
        lines = kept + [f"{host} {key}" for host, key in zip(bare, keys, strict=True)]
        write_atomic(pinned, "\n".join(lines) + "\n")

    def _boot(self, hosts: Sequence[str]) -> None:
        """Boot the hosts that are not running, side by side, and wait for SSH on all."""
        _allow_watchers()
        waiting: list[tuple[Machine, Process]] = []
        for host in hosts:
            if self._process(host) is None:
                machine = self.machine(host)
                process = machine.boot(self._layers(host))
                self._remember(host, process)
                waiting.append((machine, process))
        failures: list[BaseException] = []

        def wait(machine: Machine, process: Process) -> None:
            try:
                machine.wait_for_ssh(process, machine.patience)
            except (KosekiError, OSError) as error:
                failures.append(error)

        # Plain threads: each enters the lab's network for good, so none may be reused.
        threads = [threading.Thread(target=wait, args=pair, daemon=True) for pair in waiting]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        for machine, _ignored in waiting:
            self._meet(machine)
        if waiting:
            self.on_progress(_("{count} hosts answer SSH").format(count=len(waiting)))

    def _meet(self, machine: Machine) -> None:
        """Do what is due once a machine answers: a container's flags, a virtual one's key.

        The latter was made at its first boot and is read from its console, as a person does.
        """
        if not isinstance(machine, VirtualMachine):
            self._protect(machine.host)
            return
        end = time.monotonic() + machine.patience
        while (key := machine.host_key) is None:
            if time.monotonic() > end:
                raise KosekiError(
                    _("{host} shows no host key").format(host=machine.host),
                    _("no ed25519 key"),
                    _("read {log}").format(log=machine.log),
                )
            time.sleep(0.5)
        pin(self.site, self.inventory, machine.host, key)

    def _protect(self, host: str) -> None:
        """Make immutable again what was so when a snapshot was taken.

        An overlay remembers that flag in an attribute of its upper layer's files, and does not look
        for it once they lie in a lower one.
        """
        for layer in self._layers(host)[:-1]:
            if paths := _immutable_in(layer):
                still = 'for path; do [ ! -e "$path" ] || chattr +i "$path" || exit 1; done'
                self.exec(host, ["sh", "-c", still, "sh", *paths]).check_returncode()

    def _serve_mirror(self) -> None:
        if self._process(MIRROR_SERVER) is not None:
            return
        address = str(self.inventory.platform.workstation_addresses.city)
        port = str(self.inventory.platform.mirror_port)
        serve = [str(Path(sys.executable).with_name("koseki")), "mirror", "serve"]
        with (self.site.state / "mirror.log").open("ab") as log:
            started = subprocess.Popen(
                self.network.enter([*serve, "--bind", address, "--port", port]),
                cwd=self.site.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._remember(MIRROR_SERVER, Process.of(started.pid))

    def _serve_time(self) -> None:
        """Serve time on the control node; a container has no clock that could ask for it."""
        if not self.machine_set.disks or self._process(TIME_SERVER) is not None:
            return
        tree = ensure_tree(self.site, clock.PACKAGES, VAULT_SUITE, self.on_progress)
        address = str(self.inventory.platform.workstation_addresses.city)
        log = self.site.state / "clock.log"
        self._remember(TIME_SERVER, clock.serve(self.network, tree, address, log))

    # One host.

    def _running(self, host: str) -> tuple[Machine, Process]:
        machine = self.machine(host)
        process = self._process(machine.host)
        if process is None:
            raise KosekiError(
                _("{host} is not running").format(host=machine.host),
                self.site.name,
                _("run `koseki lab up`"),
            )
        return machine, process

    def start(self, host: str) -> None:
        """Start one host again."""
        with self._alone():
            if not self.network.exists():
                raise KosekiError(_("the lab is not up"), self.site.name, _("run `koseki lab up`"))
            self._boot([self.machine(host).host])

    def stop(self, host: str) -> None:
        """Power one host off in order."""
        machine, process = self._running(host)
        machine.power_off(process)
        self._remember(machine.host, None)

    def kill(self, host: str) -> None:
        """Cut one host's power: SIGKILL to its init."""
        machine, process = self._running(host)
        machine.kill(process)
        self._remember(machine.host, None)

    def exec(self, host: str, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a program on a host as root, as from its console; return what it printed."""
        return subprocess.run(  # noqa: TID251 - whoever asks looks at the exit code
            self.exec_argv(host, argv), capture_output=True, text=True, check=False
        )

    def exec_argv(self, host: str, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs `argv` on a host."""
        machine, process = self._running(host)
        return machine.enter(process, argv)

    def run(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a program on this computer inside the lab's network, as on the workstation."""
        return subprocess.run(  # noqa: TID251 - whoever asks looks at the exit code
            self.run_argv(argv), capture_output=True, text=True, check=False
        )

    def run_argv(self, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs `argv` inside the lab's network."""
        if not self.network.exists():
            raise KosekiError(_("the lab is not up"), self.site.name, _("run `koseki lab up`"))
        return self.network.enter(list(argv))

    def terminal_argv(self, slug: str, argv: Sequence[str]) -> list[str]:
        """Return the command line that runs `argv` as on a terminal of a municipality."""
        self._need_network()
        return ["nsenter", f"--net=/run/netns/{self.network.counter(slug).netns}", *argv]

    # The lines.

    def _ends(self, name: str) -> list[str]:
        if name == WORKSTATION:
            return [WORKSTATION]
        if name == EVERYBODY:
            return [*self.hosts, WORKSTATION]
        return self.inventory.resolve(name)

    def partition(self, one: str, other: str) -> None:
        """Cut the line between two ends (hosts, groups, workstation, all), both directions."""
        self._need_network()
        for here in self._ends(one):
            for there in self._ends(other):
                if here != there:
                    self.network.cut(here, there)

    def heal(self, one: str | None = None, other: str | None = None) -> None:
        """Undo a cut, or all cuts."""
        self._need_network()
        if one is None or other is None:
            self.network.heal()
            return
        for here in self._ends(one):
            for there in self._ends(other):
                if here != there:
                    self.network.heal(here, there)

    def _need_network(self) -> None:
        if not self.network.exists():
            raise KosekiError(_("the lab is not up"), self.site.name, _("run `koseki lab up`"))

    # Snapshots: what a host has written becomes a layer; nothing is copied.

    def _snapshot_folder(self, name: str) -> Path:
        if not name.replace("-", "").isalnum():
            raise KosekiError(
                _("unusable snapshot name"),
                name,
                _("use letters, digits and -, as in `koseki lab snapshot before-upgrade`"),
            )
        return self.site.state / "snapshots" / name

    def snapshot(self, name: str) -> None:
        """Power all hosts off in order, keep their state under a name, start them again on top."""
        folder = self._snapshot_folder(name)
        if folder.exists():
            raise KosekiError(
                _("a snapshot of that name exists"),
                name,
                _("choose another name for `koseki lab snapshot`"),
            )
        with self._alone():
            self._need_network()
            self.close_connections()
            recording.end(self)
            self._stop_all()
            # Built aside and renamed, so that a crash leaves no half snapshot under the name.
            state = self._read()
            aside = folder.with_name(f".{name}")
            aside.mkdir(parents=True)
            for host in self.hosts:
                self.machine(host).upper.rename(aside / host)
                state["layers"][host] = [str(folder / host), *state["layers"][host]]
            (aside / "layers.json").write_text(json.dumps(state["layers"]), encoding="utf-8")
            aside.rename(folder)
            self._write(state)
            self._empty_uppers()
            self._boot(self.hosts)

    def restore(self, name: str) -> None:
        """Bring all hosts back to a snapshot; what they wrote since is lost."""
        folder = self._snapshot_folder(name)
        if not (folder / "layers.json").exists():
            known = sorted(p.parent.name for p in folder.parent.glob("*/layers.json"))
            raise KosekiError(
                _("no such snapshot"),
                name,
                _("make one with `koseki lab snapshot`; there are: {known}").format(
                    known=", ".join(known) or _("none")
                ),
            )
        with self._alone():
            self.close_connections()
            # A lab that was cloned from another's snapshot begins with this.
            self.network.create()
            self._serve_mirror()
            ensure_site_ssh(self.site, self.inventory)
            self.network.heal()
            for host in self.hosts:
                process = self._process(host)
                if process is not None:
                    self.machine(host).kill(process)
                    self._remember(host, None)
            state = self._read()
            state["layers"] = json.loads((folder / "layers.json").read_text(encoding="utf-8"))
            self._write(state)
            self._empty_uppers()
            self._boot(self.hosts)

    def _stop_all(self) -> None:
        pairs = [(self.machine(host), self._process(host)) for host in self.hosts]
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(m.power_off, p) for m, p in pairs if p is not None]:
                done.result()
        for machine, _ignored in pairs:
            self._remember(machine.host, None)

    def _empty_uppers(self) -> None:
        for host in self.hosts:
            upper = self.machine(host).upper
            if upper.exists():
                shutil.rmtree(upper)
            upper.mkdir(parents=True)

    # What stands.

    def status(self) -> list[HostState]:
        """Return what is known of each host."""
        states = []
        for host in self.hosts:
            process = self._process(host) if self.network.exists() else None
            init = self.machine(host).init(process) if process else None
            states.append(
                HostState(
                    host,
                    str(self.inventory.address_of(host, WORKSTATION)),
                    init is not None,
                    init.pid if init else None,
                    _memory(init.pid) if init else 0,
                )
            )
        return states


def _allow_watchers() -> None:
    """Let this computer's kernel give out as many watchers of files as several labs need."""
    if int(WATCHERS.read_text(encoding="ascii")) < WATCHERS_WANTED:
        WATCHERS.write_text(f"{WATCHERS_WANTED}\n", encoding="ascii")


def _immutable_in(layer: Path) -> list[str]:
    """Return the immutable files of a snapshot's layer, as paths on its host.

    A layer never changes: it is looked through once, and what was found is kept beside it.
    """
    kept = layer.with_name(f"{layer.name}.immutable.json")
    if not kept.exists():
        paths = [f"/{path.relative_to(layer)}" for path in layer.rglob("*") if _was_immutable(path)]
        write_atomic(kept, json.dumps(paths))
    found: list[str] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def _was_immutable(path: Path) -> bool:
    if not path.is_file() or path.is_symlink():
        return False
    return PROTECTED in os.listxattr(path) and b"i" in os.getxattr(path, PROTECTED)


def _memory(init: int) -> int:
    """Return the bytes that a machine's processes hold: the sum of proportional set sizes."""
    namespace = Path(f"/proc/{init}/ns/pid").readlink()
    total = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if (entry / "ns/pid").readlink() != namespace:
                continue
            lines = (entry / "smaps_rollup").read_text(encoding="ascii").splitlines()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended while it was being read
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return total
