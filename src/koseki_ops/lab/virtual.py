"""A machine of the lab that boots a kernel of its own from a disk, under QEMU.

What a container cannot show is seen here: the boot loader, the kernel's parameters, its audit.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_atomic
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import run
from koseki_ops.lab.machine import POWER_OFF_SECONDS, Machine
from koseki_ops.lab.process import Process

QEMU = "qemu-system-x86_64"
MEMORY_MIB, PROCESSORS = 1024, 2
OVMF = Path("/usr/share/OVMF")
KVM, TUN = Path("/dev/kvm"), Path("/dev/net/tun")
FIRMWARES = ("uefi", "bios")
# What QEMU calls the disk.
DISK = "disk"
STICK_BYTES = 16 << 20
# A machine under emulation takes a minute to greet, several on a busy computer.
PATIENCE_SECONDS = 600
PROBE_SECONDS = 30
# What the first boot writes above the login prompt.
HOST_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{68}")
USERLAND = b"systemd[1]"
SOCKETS = Path("/run/koseki")


@dataclass(frozen=True)
class VirtualMachine(Machine):
    """A host of the lab with a disk of its own.

    disk: the image that it starts from, which is never written to; `folder` holds what differs.
    """

    disk: Path
    patience: ClassVar[float] = PATIENCE_SECONDS

    @property
    def firmware(self) -> str:
        """What it boots by: `uefi`, or `bios` after `use_firmware`."""
        note = self.folder / "firmware"
        return note.read_text(encoding="ascii") if note.exists() else FIRMWARES[0]

    def use_firmware(self, firmware: str) -> None:
        """Boot by another firmware from the next start on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "firmware").write_text(firmware, encoding="ascii")

    @property
    def host_key(self) -> str | None:
        """The public host key that stands on its console, None before its first boot has ended."""
        if not self.log.exists():
            return None
        found = HOST_KEY.search(self.log.read_text(encoding="utf-8", errors="replace"))
        return found[0] if found else None

    @property
    def _monitor(self) -> Path:
        return SOCKETS / f"{self.nspawn_name}.qmp"

    def boot(self, layers: Sequence[Path]) -> Process:  # noqa: ARG002 - a container's layers
        """Start the machine."""
        self.folder.mkdir(parents=True, exist_ok=True)
        own = self.folder / "disk.qcow2"
        if not own.exists():
            backing = ["-b", str(self.disk.resolve()), "-F", "qcow2"]
            run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(own)])
        stick = self.folder / "stick.img"
        if not stick.exists():
            with stick.open("wb") as file:
                file.truncate(STICK_BYTES)
        SOCKETS.mkdir(parents=True, exist_ok=True)
        argv = [*_machine(accelerator(self.disk)), *self._firmware()]
        argv += self._devices(own, stick)
        argv += ["-qmp", f"unix:{self._monitor},server=on,wait=off"]
        with self.log.open("ab") as log:
            started = subprocess.Popen(
                self.network.enter(argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return Process.of(started.pid)

    def _firmware(self) -> list[str]:
        if self.firmware != "uefi":
            return []
        # It knows Microsoft's keys, as a hypervisor's does, and starts nothing that is not signed.
        kept = self.folder / "firmware.fd"
        if not kept.exists():
            shutil.copyfile(OVMF / "OVMF_VARS_4M.ms.fd", kept)
        code = OVMF / "OVMF_CODE_4M.secboot.fd"
        return [
            *("-global", "driver=cfi.pflash01,property=secure,value=on"),
            *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"),
            *("-drive", f"if=pflash,unit=1,format=raw,file={kept}"),
        ]

    def _devices(self, disk: Path, stick: Path) -> list[str]:
        number = self.network.inventory.hosts.index(self.host)
        return [
            *("-drive", f"if=virtio,id={DISK},format=qcow2,file={disk}"),
            *("-netdev", f"tap,id=line,ifname={self._line(number)},script=no,downscript=no"),
            *("-device", f"virtio-net-pci,netdev=line,mac=52:54:00:6b:6f:{number:02x}"),
            # Somebody has put a stick into the machine: it must stay out of reach.
            *("-device", "qemu-xhci"),
            *("-drive", f"if=none,id=stick,format=raw,file={stick}"),
            *("-device", "usb-storage,drive=stick"),
            *("-chardev", f"file,id=console,append=on,path={self.log}"),
            *("-serial", "chardev:console"),
        ]

    def _line(self, number: int) -> str:
        """Return the name of the machine's link, plugged into its bridge."""
        name = f"vm{number}"
        links = json.loads(run(["ip", "-n", self.network.netns, "-json", "link", "show"]))
        if name not in {link["ifname"] for link in links}:
            here = ["ip", "-n", self.network.netns]
            run([*here, "tuntap", "add", name, "mode", "tap"])
            run([*here, "link", "set", name, "master", self.network.bridge_of(self.host), "up"])
        return name

    def kill(self, supervisor: Process) -> None:
        """Cut the machine's power."""
        supervisor.signal(signal.SIGKILL)
        supervisor.wait(5)

    def power_off(self, supervisor: Process) -> None:
        """Press its power button; insist when it takes too long."""
        self._command({"execute": "system_powerdown"})
        if not supervisor.wait(2 * POWER_OFF_SECONDS):
            supervisor.end(1)

    def enlarge(self, size: int) -> None:
        """Make the disk of the running machine larger, as a hypervisor does. size: in bytes."""
        self._command({"execute": "block_resize", "arguments": {"device": DISK, "size": size}})

    def _command(self, command: Mapping[str, object]) -> None:
        """Give QEMU's monitor a command (QMP); KosekiError when it refuses."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as monitor:
            monitor.connect(str(self._monitor))
            with monitor.makefile("rw", encoding="utf-8") as lines:
                for request in ({"execute": "qmp_capabilities"}, command):
                    lines.write(json.dumps(request) + "\n")
                    lines.flush()
                    # What happens meanwhile is told in between, and the greeting comes first.
                    answer: dict[str, object] = {}
                    while not answer.keys() & {"return", "error"}:
                        answer = json.loads(lines.readline() or '{"error": "it is gone"}')
                    if "error" in answer:
                        raise KosekiError(
                            _("QEMU refused a command for {host}: {execute}").format(
                                host=self.host, execute=request["execute"]
                            ),
                            str(answer["error"]),
                            _("read {log}").format(log=self.log),
                        )

    def enter(self, supervisor: Process, argv: Sequence[str]) -> list[str]:  # noqa: ARG002
        """Refuse: into a virtual machine leads SSH alone."""
        raise KosekiError(
            _("{host} is a virtual machine").format(host=self.host),
            " ".join(argv)[:60],
            _("use SSH: `ssh {host}`").format(host=self.host),
        )


def _machine(accelerated: str) -> list[str]:
    """Return a computer without anything in it. accelerated: `kvm` or `tcg`.

    An emulated one has one processor: with two, its firmware sometimes waited for the second for
    ever after a restart (the first in a loop, the second halted).
    """
    kvm = accelerated == "kvm"
    processor, processors = ("host", PROCESSORS) if kvm else ("max", 1)
    accel = "kvm" if kvm else "tcg,thread=multi"
    return [
        QEMU,
        "-nodefaults",
        "-no-user-config",
        *("-display", "none", "-machine", "q35,smm=on", "-accel", accel, "-cpu", processor),
        *("-smp", str(processors), "-m", str(MEMORY_MIB)),
        *("-object", "rng-random,id=chance,filename=/dev/urandom"),
        *("-device", "virtio-rng-pci,rng=chance"),
    ]


@cache
def accelerator(disk: Path) -> str:
    """Return `kvm` when this very disk reaches its userland by it, `tcg` otherwise.

    That there is a device says little: where this computer is virtual itself, a kernel may die in
    it. The answer is kept until this computer starts anew.
    """
    note = SOCKETS / "accelerator"
    if note.exists():
        return note.read_text(encoding="ascii")
    found = "kvm" if KVM.exists() and os.access(KVM, os.R_OK | os.W_OK) and _lives(disk) else "tcg"
    write_atomic(note, found)
    return found


def _lives(disk: Path) -> bool:
    with tempfile.TemporaryDirectory(prefix="koseki-probe-") as name:
        console = Path(name) / "console"
        argv = [*_machine("kvm"), "-no-reboot", "-serial", f"file:{console}"]
        argv += ["-drive", f"if=virtio,format=qcow2,snapshot=on,file={disk}"]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + PROBE_SECONDS
            while time.monotonic() < end and process.poll() is None:
                if console.exists() and USERLAND in console.read_bytes():
                    return True
                time.sleep(0.5)
            return False
        finally:
            process.kill()
            process.wait()
