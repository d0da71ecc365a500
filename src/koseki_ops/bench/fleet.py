"""A fleet for measurements: many light hosts, an sshd each, that all hold the same content.

No service manager runs on them: what is measured is how many hosts and items can be asked, side by
side by every engine. A host is a mount, process and network namespace over one read-only tree; all
of a fleet, addresses included, lies in namespaces that the fleet made and goes with it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import batched
from pathlib import Path
from typing import Any

import yaml

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.subprocesses import run
from koseki_ops.drift.judge.declared import Declared
from koseki_ops.drift.judge.sweep import after_apply
from koseki_ops.lab.network import namespaces
from koseki_ops.lab.process import Process
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.remote.ssh_config import close_connections, ensure_site_ssh
from koseki_ops.supply.base_tree import ensure_tree
from koseki_ops.trust.secrets import init_secrets
from koseki_ops.trust.ssh_ca import files_of, host_certificate

INVENTORY = "fleet"
CONCERNS = ("base", "baseline", "ansible")
NETWORK = "10.158.64.{}"
PREFIX = 24
AGAIN = "run `python -m koseki_ops.bench --only drift-fleet` again"
ORIGIN, FIRST_HOST = 1, 10
CLONE_NEWNET = 0x40000000
SSH_PORT, SSH_SECONDS = 22, 60
FIRST_UID = 7000
GOSS_FILE = "/root/goss.yaml"
AT_ONCE = 10
# Debian has these on every machine; each counts as one check.
PACKAGES = ("bash", "coreutils", "dpkg", "tar", "openssh-server")
SSHD = """Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
HostCertificate /etc/ssh/ssh_host_ed25519_key-cert.pub
TrustedUserCAKeys /etc/ssh/user_ca.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
MaxStartups 200
MaxSessions 100
Subsystem sftp internal-sftp
"""
# Where nobody manages services there is none to list.
NO_MANAGER = "#!/bin/sh\nexit 0\n"
BOOT = """set -e
hostname "$3"
mount -t overlay overlay -o "$1" "$2"
mount -t proc proc "$2/proc"
mount -t tmpfs -o nosuid,mode=0755 tmpfs "$2/run"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$2/dev/pts"
mkdir "$2/run/sshd"
exec chroot "$2" /usr/sbin/sshd -D -e -f /etc/ssh/sshd_fleet
"""


@dataclass(frozen=True)
class Content:
    """What every host of a fleet owns, the same in each engine's words. items: how many checks.

    Of ten items eight are files, one is an account and one a package that must be there.
    """

    items: int

    @property
    def files(self) -> dict[str, str]:
        """Each file's text by its path."""
        count = self.items * 8 // 10
        return {f"/srv/fleet/{n:04}.conf": f"number = {n}\n" * 8 for n in range(count)}

    @property
    def users(self) -> dict[str, int]:
        """Each account's uid by its name."""
        return {f"fleet{n:03}": FIRST_UID + n for n in range(self.items // 10)}

    @property
    def packages(self) -> list[str]:
        """The packages, as often as they are asked for."""
        count = self.items - len(self.files) - len(self.users)
        return [PACKAGES[n % len(PACKAGES)] for n in range(count)]

    def declared(self, host: str) -> Declared:
        """Return what an engine would declare of it on a host."""
        rows = Declared.of(host)
        for path, text in self.files.items():
            rows.file(path, text.encode(), "0644", "root", "root")
        for name, uid in self.users.items():
            rows.add("user", name, uid=str(uid))
        for name in self.packages:
            rows.package(name)
        return rows

    def playbook(self) -> str:
        """Return it as a playbook: one task for all items of a kind."""
        packages = sorted(set(self.packages))
        tasks: list[dict[str, Any]] = [
            {
                "name": "Own the files",
                "ansible.builtin.copy": {
                    "dest": "{{ item.path }}",
                    "content": "{{ item.text }}",
                    "owner": "root",
                    "group": "root",
                    "mode": "0644",
                },
                "loop": [{"path": path, "text": text} for path, text in self.files.items()],
                "loop_control": {"label": "{{ item.path }}"},
            },
            {
                "name": "Own the accounts",
                "ansible.builtin.user": {
                    "name": "{{ item.name }}",
                    "uid": "{{ item.uid }}",
                    "shell": "/usr/sbin/nologin",
                    "create_home": False,
                },
                "loop": [{"name": name, "uid": uid} for name, uid in self.users.items()],
            },
            {"name": "Own the packages", "ansible.builtin.apt": {"name": packages}},
        ]
        play = {"name": "The fleet", "hosts": "all", "gather_facts": False, "tasks": tasks}
        return yaml.safe_dump([play], sort_keys=False)

    def deploy(self) -> str:
        """Return it as a deploy of pyinfra's."""
        return f"""from io import StringIO

from pyinfra.operations import apt, files, server

for path, text in {self.files!r}.items():
    files.put(name=path, src=StringIO(text), dest=path, user="root", group="root", mode="644")
for name, uid in {self.users!r}.items():
    server.user(name=name, user=name, uid=uid, shell="/usr/sbin/nologin", ensure_home=False)
apt.packages(name="packages", packages={sorted(set(self.packages))!r})
"""

    def assertions(self) -> str:
        """Return it as testinfra's tests: one assertion an item."""
        return f"""from hashlib import sha256

import pytest

FILES = {self.files!r}


@pytest.mark.parametrize("path", FILES)
def test_file(host, path):
    assert host.file(path).sha256sum == sha256(FILES[path].encode()).hexdigest()


@pytest.mark.parametrize("name", {list(self.users)!r})
def test_user(host, name):
    assert host.user(name).exists


@pytest.mark.parametrize("name", {list(enumerate(self.packages))!r}, ids=str)
def test_package(host, name):
    assert host.package(name[1]).is_installed
"""

    def goss(self) -> str:
        """Return it as goss's file of what must be true."""
        file: dict[str, Any] = {
            "file": {
                path: {
                    "exists": True,
                    "mode": "0644",
                    "owner": "root",
                    "group": "root",
                    "sha256": sha256(text.encode()).hexdigest(),
                }
                for path, text in self.files.items()
            },
            "user": {name: {"exists": True, "uid": uid} for name, uid in self.users.items()},
            "package": {name: {"installed": True} for name in self.packages},
        }
        return yaml.safe_dump(file)

    def lay(self, layer: Path, tree: Path) -> None:
        """Write it into a layer above a tree, as a converged host has it."""
        for path, text in self.files.items():
            file = layer / path[1:]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="ascii")
            file.chmod(0o644)
        etc = layer / "etc"
        etc.mkdir(parents=True, exist_ok=True)
        for name, row, mode in (
            ("passwd", "{0}:x:{1}:{1}::/home/{0}:/usr/sbin/nologin", 0o644),
            ("group", "{0}:x:{1}:", 0o644),
            ("shadow", "{0}:!:20000:0:99999:7:::", 0o640),
        ):
            rows = [row.format(user, uid) for user, uid in self.users.items()]
            text = (tree / "etc" / name).read_text(encoding="ascii")
            file = etc / name
            file.touch(mode=0o600)
            file.write_text(text + "".join(f"{line}\n" for line in rows), encoding="ascii")
            file.chmod(mode)


class Fleet:
    """Some hosts with some content; `up` starts them, `down` leaves nothing behind."""

    def __init__(
        self, lab: Site, folder: Path, hosts: int, content: Content, goss: Path | None = None
    ) -> None:
        """Write the inventory into an empty folder.

        lab: whose mirror the tree is made from; goss: its package, which no mirror of ours has.
        """
        self.lab, self.root, self.content, self.goss = lab, folder.resolve(), content, goss
        self.site = Site(self.root, INVENTORY, INVENTORY)
        self.names = [f"node{n:02}" for n in range(1, hosts + 1)]
        self.processes: list[Process] = []
        self._write_inventory()
        init_secrets(self.site)
        self.inventory = Inventory(self.site.inventory)

    def address(self, host: str) -> str:
        """Return a host's address inside the fleet's network."""
        return NETWORK.format(FIRST_HOST + self.names.index(host))

    def _write_inventory(self) -> None:
        values = self.site.inventory / "group_vars" / "all"
        values.mkdir(parents=True)
        shared = Inventory(self.lab.inventory).shared | {
            "automation_account": "root",
            "workstation_addresses": {"city": NETWORK.format(ORIGIN)},
            "host_addresses": {host: {"city": self.address(host)} for host in self.names},
            "waivers": [],
            "operators": [],
        }
        (values / "fleet.yml").write_text(yaml.safe_dump(shared), encoding="utf-8")
        tree = {"all": {"hosts": dict.fromkeys(self.names)}}
        (self.site.inventory / "hosts.yml").write_text(yaml.safe_dump(tree), encoding="utf-8")
        (self.root / "pyproject.toml").touch()
        (self.root / "playbook.yml").write_text(self.content.playbook(), encoding="utf-8")
        (self.root / "deploy.py").write_text(self.content.deploy(), encoding="utf-8")
        (self.root / "test_fleet.py").write_text(self.content.assertions(), encoding="utf-8")

    def enter(self, argv: list[str]) -> list[str]:
        """Return `argv` so that it runs where the fleet can be reached."""
        return ["nsenter", f"--net=/run/netns/{self.site.netns}", *argv]

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread, and what it starts, reach the fleet."""
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.site.netns}", os.O_RDONLY)
        try:
            os.setns(there, CLONE_NEWNET)
            yield
        finally:
            os.setns(back, CLONE_NEWNET)
            os.close(there)
            os.close(back)

    def up(self) -> None:
        """Start all hosts, wait for their sshd, and sign what must be true on them."""
        plan = Inventory(self.lab.inventory).platform
        packages = [name for concern in CONCERNS for name in plan.packages[concern]]
        tree = ensure_tree(self.lab, packages, plan.debian_release, lambda _: None)
        layer = self.root / "layer"
        self.content.lay(layer, tree)
        if self.goss:
            run(["dpkg-deb", "--extract", str(self.goss), str(layer)])
            file = layer / GOSS_FILE[1:]
            file.parent.mkdir(mode=0o700)
            file.write_text(self.content.goss(), encoding="ascii")
        ensure_site_ssh(self.site, self.inventory)
        self._make_network()
        for host in self.names:
            self._boot(host, f"{layer}:{tree}")
        with self.inside():
            for host in self.names:
                self._wait(host)
            self._sign()

    def _make_network(self) -> None:
        own = self.site.netns
        run(["ip", "netns", "add", own])
        lines = ["link set lo up", "link add br0 type bridge", "link set br0 up"]
        lines.append(f"addr add {NETWORK.format(ORIGIN)}/{PREFIX} dev br0")
        for host in self.names:
            run(["ip", "netns", "add", f"{own}-{host}"])
            lines += [
                f"link add {host} type veth peer name eth0 netns {own}-{host}",
                f"link set {host} master br0 up",
            ]
        run(["ip", "-n", own, "-batch", "-"], "\n".join(lines) + "\n")
        for host in self.names:
            address = f"addr add {self.address(host)}/{PREFIX} dev eth0"
            commands = f"link set lo up\n{address}\nlink set eth0 up\n"
            run(["ip", "-n", f"{own}-{host}", "-batch", "-"], commands)

    def _boot(self, host: str, lower: str) -> None:
        folder = self.root / "hosts" / host
        upper, work, root = folder / "upper", folder / "work", folder / "root"
        for place in (upper / "etc/ssh", upper / "usr/bin", work, root):
            place.mkdir(parents=True)
        ssh = upper / "etc/ssh"
        key = ssh / "ssh_host_ed25519_key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host, "-f", str(key)])
        public = key.with_suffix(".pub").read_text(encoding="ascii")
        certified = host_certificate(self.site, self.inventory, host, public)
        key.with_name(f"{key.name}-cert.pub").write_text(certified, encoding="ascii")
        shutil.copyfile(files_of(self.site).user_ca.with_suffix(".pub"), ssh / "user_ca.pub")
        (ssh / "sshd_fleet").write_text(SSHD, encoding="ascii")
        (upper / "etc/hosts").write_text(f"127.0.0.1 localhost {host}\n", encoding="ascii")
        manager = upper / "usr/bin/systemctl"
        manager.write_text(NO_MANAGER, encoding="ascii")
        manager.chmod(0o755)
        overlay = f"lowerdir={lower},upperdir={upper},workdir={work}"
        inner = ["sh", "-c", BOOT, "sh", overlay, str(root), host]
        spaces = ["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
        argv = ["nsenter", f"--net=/run/netns/{self.site.netns}-{host}", "unshare", *spaces]
        with (folder / "log").open("wb") as log:
            started = subprocess.Popen(
                [*argv, "--propagation", "private", *inner],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(Process.of(started.pid))

    def _wait(self, host: str) -> None:
        end = time.monotonic() + SSH_SECONDS
        while True:
            try:
                address = (self.address(host), SSH_PORT)
                with socket.create_connection(address, timeout=1) as connection:
                    if connection.recv(4) == b"SSH-":
                        return
            except OSError as error:
                if time.monotonic() > end:
                    log = self.root / "hosts" / host / "log"
                    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
                    raise KosekiError(
                        f"{host} of the fleet does not come up",
                        (lines or [str(error)])[-1],
                        AGAIN,
                    ) from error
            time.sleep(0.05)

    def _sign(self) -> None:
        engines, bare = frozenset({"services"}), set(self.names)
        # All of them share this machine: asked together, the last would come too late.
        for some in batched(self.names, AT_ONCE):
            declared: Mapping[str, Any] = {
                host: {"services": self.content.declared(host).rows} for host in some
            }
            unreachable = dict(after_apply(self.site, declared, engines, bare, {}, self.names))
            if unreachable:
                raise KosekiError("hosts of the fleet do not answer", str(unreachable), AGAIN)

    def down(self) -> None:
        """End all hosts by their ids and remove their namespaces and folders."""
        close_connections(self.site)
        for process in self.processes:
            process.kill_tree()
        for process in self.processes:
            if not process.wait(SSH_SECONDS):
                raise KosekiError(
                    "a process of the fleet still runs",
                    f"pid {process.pid} after {SSH_SECONDS} s",
                    f"end it with `kill -9 {process.pid}`, then {AGAIN}",
                )
        for name in namespaces():
            if name == self.site.netns or name.startswith(f"{self.site.netns}-"):
                run(["ip", "netns", "delete", name])
        if self.site.run_dir.exists():
            shutil.rmtree(self.site.run_dir)
