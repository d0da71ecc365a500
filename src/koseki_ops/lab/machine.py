"""One machine of the lab: systemd-nspawn over an overlay of the base tree."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import run
from koseki_ops.lab.cgroup import make_groups
from koseki_ops.lab.network import LabNetwork
from koseki_ops.lab.process import Process

SSH_PORT = 22
POWER_OFF_SECONDS = 40
CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Machine:
    """A host of the lab.

    folder: holds `upper` (what differs from the layers below), `work` and `root` (the mount
    point, seen by the machine alone).
    """

    host: str
    folder: Path
    network: LabNetwork
    checkout_id: str
    # How long it may take until it answers SSH, in seconds.
    patience: ClassVar[float] = 60

    @property
    def upper(self) -> Path:
        """What this machine has written."""
        return self.folder / "upper"

    @property
    def log(self) -> Path:
        """The machine's console."""
        return self.folder / "console.log"

    @property
    def nspawn_name(self) -> str:
        """A name that no other lab on this computer uses."""
        return f"{self.network.netns}-{self.host}"

    def furnish(self, root_key: str) -> str:
        """Write what an installer would have left: name, address, one root key, host keys.

        Returns the host's public key, so that the first contact is pinned.
        """
        etc, home = self.upper / "etc", self.upper / "root/.ssh"
        for folder in (etc / "systemd/network", etc / "ssh", home):
            folder.mkdir(parents=True, exist_ok=True)
        for private in (home, home.parent):
            private.chmod(0o700)
        (etc / "hostname").write_text(f"{self.host}\n", encoding="ascii")
        (etc / "machine-id").write_text("", encoding="ascii")
        (etc / "systemd/network/10-host0.network").write_text(
            self.network.link_file(self.host), encoding="ascii"
        )
        (home / "authorized_keys").write_text(root_key, encoding="ascii")
        key = etc / "ssh/ssh_host_ed25519_key"
        if not key.exists():
            comment = f"root@{self.host}"
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(key)])
        return key.with_suffix(".pub").read_text(encoding="ascii").strip()

    def boot(self, layers: Sequence[Path]) -> Process:
        """Start the machine over `layers` (topmost first, the base tree last)."""
        work, root = self.folder / "work", self.folder / "root"
        if work.exists():
            shutil.rmtree(work)  # an ended mount leaves a folder of the kernel's there
        for folder in (self.upper, work, root):
            folder.mkdir(parents=True, exist_ok=True)
        overlay = f"lowerdir={':'.join(map(str, layers))},upperdir={self.upper},workdir={work}"
        # The mount lives in a mount namespace of the machine's own: it goes when the machine goes,
        # also after a crash.
        enter = "".join(
            f"echo $$ >{shlex.quote(str(group))}/cgroup.procs && "
            for group in make_groups(self.nspawn_name)
        )
        script = f'{enter}mount -t overlay overlay -o "$1" "$2" && shift 2 && exec "$@"'
        nspawn = [
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--boot",
            "--console=pipe",
            # The host itself owns what nspawn would otherwise copy from this computer.
            "--timezone=off",
            "--resolv-conf=off",
            f"--machine={self.nspawn_name}",
            f"--hostname={self.host}",
            f"--network-bridge={self.network.bridge_of(self.host)}",
            f"--directory={root}",
        ]
        inner = ["sh", "-c", script, "sh", overlay, str(root), *nspawn]
        argv = self.network.enter(["unshare", "--mount", "--propagation", "private", *inner])
        with self.log.open("ab") as log:
            started = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return Process.of(started.pid)

    def wait_for_ssh(self, supervisor: Process, seconds: float) -> None:
        """Wait until sshd greets; raise KosekiError with the console's last line otherwise."""
        address = self.network.inventory.address_of(self.host, "workstation")
        end = time.monotonic() + seconds
        # This thread alone enters the lab's network; it ends with this function's caller.
        handle = os.open(f"/run/netns/{self.network.netns}", os.O_RDONLY)
        try:
            os.setns(handle, CLONE_NEWNET)
        finally:
            os.close(handle)
        while True:
            try:
                with socket.create_connection((address, SSH_PORT), timeout=1) as connection:
                    if connection.recv(4) == b"SSH-":
                        return
            except OSError:
                pass  # not up yet: the loop's end says so when it stays that way
            if not supervisor.alive() or time.monotonic() > end:
                console = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
                raise KosekiError(
                    _("{host} does not come up").format(host=self.host),
                    console[-1] if console else _("empty console"),
                    _("read {log}").format(log=self.log),
                )
            time.sleep(0.05)

    def init(self, supervisor: Process) -> Process | None:
        """Return the machine's own init, as this computer sees it."""
        for child in supervisor.children():
            for candidate in (child, *child.children()):
                try:
                    status = Path(f"/proc/{candidate.pid}/status").read_text(encoding="utf-8")
                except (FileNotFoundError, ProcessLookupError):
                    continue
                inside = next(line for line in status.splitlines() if line.startswith("NSpid:"))
                if inside.split()[-1] == "1":
                    return candidate
        return None

    def kill(self, supervisor: Process) -> None:
        """End the machine as a power cut does: SIGKILL to its init."""
        init = self.init(supervisor)
        if init is not None:
            init.signal(signal.SIGKILL)
        if not supervisor.wait(5):
            supervisor.kill_tree()
            supervisor.wait(5)

    def power_off(self, supervisor: Process) -> None:
        """End the machine in order; insist when it takes too long."""
        supervisor.end(POWER_OFF_SECONDS)

    def enter(self, supervisor: Process, argv: Sequence[str]) -> list[str]:
        """Return `argv` so that it runs on the machine as root, as from its console."""
        init = self.init(supervisor)
        if init is None:
            raise KosekiError(
                _("{host} is not running").format(host=self.host),
                _("no init"),
                _("run `koseki lab start`"),
            )
        environment = ["env", "-i", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"]
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        inside = ["nsenter", "--target", str(init.pid), "--mount", "--uts", "--ipc", "--net"]
        return [*inside, "--pid", "--cgroup", "--root", "--wdns=/", *environment, path, *argv]
