"""An image under test: booted, joined, verified, restarted, cut off in the middle of its writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_atomic
from koseki_ops.core.language import _
from koseki_ops.core.progress import OnProgress
from koseki_ops.core.subprocesses import ask
from koseki_ops.engines import apply, pyinfra_run
from koseki_ops.image import seal
from koseki_ops.image.boot_check import BootCheck, Stage
from koseki_ops.image.build import DEPLOYS, open_build_lab, refuse_failure
from koseki_ops.image.report import render
from koseki_ops.image.volumes import MIB, layout_of
from koseki_ops.lab.lab import Lab, MachineSet
from koseki_ops.lab.virtual import FIRMWARES, VirtualMachine, accelerator
from koseki_ops.plan.site import Site
from koseki_ops.remote.run import argv
from koseki_ops.verify.runner import Reports, verify

# What one host can show without the others, and what may be lost by a restart.
SUITES = ("accounts", "kernel", "locks", "packages", "ssh", "time")
LASTING = ("kernel", "locks", "time")
BOOT_ID = "/proc/sys/kernel/random/boot_id"
# Each line reaches the disk before it is told: what was told must be there after the cut.
WRITTEN = "/var/lib/koseki/on-trial"
WRITE = (
    "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); echo $i >>{path}; sync --data {path}; "
    "echo $i; done"
)
WRITING_SECONDS = 5.0
# A disk that was enlarged, and how the last volume takes the rest of it: docs/images.md says the
# same to whoever does it on a hypervisor.
ENLARGED_BY = 256 * MIB
GROW = """\
disk=/dev/$(lsblk -no PKNAME "$(findmnt -no SOURCE /)")
last=$(lsblk -nrpo NAME "$disk" | tail -n 1)
echo ", +" | sfdisk --quiet --no-reread --no-tell-kernel --force -N "${last##*[!0-9]}" "$disk"
partx --update "$disk"
resize2fs "$last"
"""
SSH_SECONDS = 60
REPORT = "report.html"


def check(site: Site, image: Path, on_progress: OnProgress) -> BootCheck:
    """Boot an image, try it, and leave what was found beside it.

    Raises KosekiError when it may not be used, does not boot or does not answer; a test that does
    not hold is in what is returned.
    """
    description = seal.verify(site, image)
    apply.prepare(site, Lab(site.build_lab).inventory)
    host, build_lab = description.host, open_build_lab(site)
    with apply.one_at_a_time(build_lab):
        lab = Lab(build_lab, on_progress, MachineSet((host,), disks={host: image}))
        lab.down()
        boot_test = _BootTest(
            lab, host, BootCheck(image, description, accelerator(image)), on_progress
        )
        try:
            return boot_test.run()
        finally:
            boot_test.keep_console()
            lab.down()


class _BootTest:
    """A test of an image while it runs."""

    def __init__(self, lab: Lab, host: str, boot_check: BootCheck, on_progress: OnProgress) -> None:
        self.lab, self.host, self.boot_check, self.on_progress = lab, host, boot_check, on_progress
        self.reports = boot_check.image.with_suffix(".check")
        self.console = self.reports / "console.log"

    def keep_console(self) -> None:
        """Keep what the machine showed: it goes with the lab, and tells why one did not come up."""
        shown = self.lab.machine(self.host).log
        if shown.exists():
            write_atomic(self.console, shown.read_bytes())

    def run(self) -> BootCheck:
        """Go through every stage in order; keep what was found."""
        if self.reports.exists():
            shutil.rmtree(self.reports)
        self.reports.mkdir()
        with self._stage("first boot by UEFI") as stage:
            self.lab.up()
            stage.text = "it made its own keys and answers"
        with self._stage("joining the platform") as stage:
            self._join()
            stage.text = "the baseline certified it"
        self._suites("as a server", SUITES)
        with self._stage("restart") as stage:
            self._restart()
            stage.text = "it is up again, and its journal has the previous boot"
        self._suites("after a restart", LASTING)
        with self._stage("larger disk") as stage:
            stage.text = self._grow()
        with self._stage("power cut while it writes, boot by BIOS") as stage:
            stage.text = self._cut()
        self._suites("after a power cut", LASTING)
        found = json.dumps(self.boot_check.as_json(), ensure_ascii=False, indent=1)
        write_atomic(self.reports / "check.json", found + "\n")
        page = render(self.boot_check, self.lab.inventory.platform.timezone, time.time())
        write_atomic(self.reports / REPORT, page)
        return self.boot_check

    @contextmanager
    def _stage(self, name: str) -> Iterator[Stage]:
        self.on_progress(_("image: {name}").format(name=name))
        stage = Stage(name, 0.0)
        begun = time.monotonic()
        yield stage
        stage.seconds = time.monotonic() - begun
        self.boot_check.stages.append(stage)

    def _suites(self, name: str, suites: Sequence[str]) -> None:
        with self._stage(f"{name}: {', '.join(suites)}") as stage:
            stage.results = verify(self.lab.site, suites, [self.host])
            if unreachable := stage.results.unreachable:
                raise KosekiError(
                    _("{host} did not answer").format(host=self.host),
                    str(unreachable),
                    _("read {console}").format(console=self.console),
                )
            page = Reports.of(self.lab.site).html.read_bytes()
            write_atomic(self.reports / stage.page, page)

    def _ssh(self, command: str) -> list[str]:
        return argv(self.lab.site, self.host, f"sudo -n sh -c '{command}'")

    def _ask(self, command: str) -> str | None:
        """Return what a command prints on the machine, None when it cannot be asked."""
        try:
            return ask(self._ssh(command), seconds=SSH_SECONDS).text.strip()
        except KosekiError:
            return None

    def _join(self) -> None:
        """Let the baseline meet the machine as it will meet the real one."""
        done = pyinfra_run.run_deploys(
            self.lab.site, list(DEPLOYS), limit=[self.host], check=False, progress=self.on_progress
        )
        refuse_failure(done, self.host)

    def _restart(self) -> None:
        before = self._ask(f"cat {BOOT_ID}")
        asked = float("-inf")

        def there() -> bool:
            # On a busy computer the request itself may not arrive: who runs on is asked again.
            nonlocal asked
            now = self._ask(f"cat {BOOT_ID}")
            if now == before and time.monotonic() - asked > SSH_SECONDS:
                asked = time.monotonic()
                self._ask("systemctl reboot")
            return now not in {None, before}

        self._await(there, "after a restart")
        boots = self._ask("journalctl --list-boots --quiet") or ""
        if not before or before.replace("-", "") not in boots:
            raise KosekiError(
                _("the journal of {host} has no record of the previous boot").format(
                    host=self.host
                ),
                _("{count} boots").format(count=len(boots.splitlines())),
                _("check in `volumes.yml` that /var/log is a volume that is written to"),
            )

    def _await(self, there: Callable[[], bool], when: str) -> None:
        end = time.monotonic() + VirtualMachine.patience
        while True:
            self.lab.close_connections()
            if there():
                return
            if time.monotonic() > end:
                raise KosekiError(
                    _("{host} does not answer {when}").format(host=self.host, when=when),
                    f"{VirtualMachine.patience} s",
                    _("read {console}").format(console=self.console),
                )
            time.sleep(1)

    def _grow(self) -> str:
        """Enlarge the disk and let its last volume grow; return which it was, and by how much."""
        layout = layout_of(self.lab.inventory, self.lab.site.inventory_name, self.host)
        mount = layout.volumes[-1].mount
        size = f"df --block-size=1 --output=size {mount} | tail -n 1"
        before = self._ask(size)
        machine = self.lab.machine(self.host)
        if isinstance(machine, VirtualMachine):
            machine.enlarge(layout.size + ENLARGED_BY)
        grown = self._ask(GROW)
        after = self._ask(size)
        if not (before and after and int(after) - int(before) > ENLARGED_BY // 2):
            raise KosekiError(
                _("{mount} of {host} did not grow with its disk").format(
                    mount=mount, host=self.host
                ),
                _("{before} bytes before, {after} after: {grown}").format(
                    before=before, after=after, grown=grown
                ),
                _("read {console}").format(console=self.console),
            )
        return f"{mount} took what its disk had more: {(int(after) - int(before)) // MIB} MiB"

    def _cut(self) -> str:
        """Cut the power while the machine writes; return what was there afterwards."""
        writing = _Writing(self._ssh(WRITE.format(path=WRITTEN)))
        time.sleep(WRITING_SECONDS)
        self.lab.kill(self.host)
        # The shared connection waits half a minute for a dead machine, and its reader with it.
        self.lab.close_connections()
        acknowledged = writing.end()
        if not acknowledged:
            raise KosekiError(
                _("{host} wrote nothing").format(host=self.host),
                writing.why,
                _("read {console}").format(console=self.console),
            )
        machine = self.lab.machine(self.host)
        if isinstance(machine, VirtualMachine):
            machine.use_firmware(FIRMWARES[1])
        self.lab.start(self.host)
        self._await(lambda: self._ask("true") is not None, "after a power cut")
        there = self._ask(f"tail -n 1 {WRITTEN}; rm {WRITTEN}") or "0"
        if int(there) < acknowledged:
            raise KosekiError(
                _("{host} lost what it had written").format(host=self.host),
                _("{acknowledged} lines were acknowledged, {there} are there").format(
                    acknowledged=acknowledged, there=there
                ),
                _("check the volume's options (`volumes.yml`) and the hypervisor's cache"),
            )
        return f"{acknowledged} lines were acknowledged before the cut, all are there"


class _Writing:
    """A program that writes on the machine and tells each number that has reached the disk."""

    def __init__(self, argv: list[str]) -> None:
        self.last, self.why = 0, ""
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            # The last line may have been cut off with the power.
            if line.endswith("\n") and line.strip().isdigit():
                self.last = int(line)

    def end(self) -> int:
        """Return the last number that was told."""
        self.process.kill()
        self.reader.join()
        self.why = self.process.stderr.read().strip() if self.process.stderr else ""
        self.process.wait()
        return self.last
