"""An independent audit: lynis, which knows nothing of this toolkit, run on a host.

Nothing is installed: the package of the platform's own mirror is unpacked below /run, started there
and removed again. It starts thousands of small programs: about half a minute on a container of this
machine, longer than an image's whole check under software emulation, so it is run where an image
is made. What it would say there of the kernel is of the machine below, so those of its tests are
left out: the kernel suite asks them of the booted image.
"""

from __future__ import annotations

import io
import shlex
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import run
from koseki_ops.plan.site import Site
from koseki_ops.remote.run import run as run_on
from koseki_ops.supply.mirror import mirror_folder

PACKAGE = "lynis"
# Where the package has its parts, and where the program looks for them beside itself.
PARTS = {
    "usr/sbin/lynis": "lynis",
    "usr/share/lynis/include": "include",
    "usr/share/lynis/db": "db",
    "etc/lynis/default.prf": "default.prf",
    "etc/lynis/plugins": "plugins",
}
# Of the kernel, the boot loader and the audit daemon: a container has none of its own.
OF_THE_KERNEL = (
    "ACCT-9628",
    "BOOT-5122",
    "KRNL-5788",
    "KRNL-5820",
    "KRNL-5830",
    "KRNL-6000",
    "TIME-3185",
)
SECONDS = 600
# Its log would tell more than is wanted; it goes with the folder, whatever happens.
PROGRAM = """\
set -eu
umask 077
place=$(mktemp -d /run/koseki-lynis.XXXXXX)
trap 'rm -rf "$place"' EXIT
trap 'exit 1' HUP INT TERM
cd "$place"
tar -x --no-same-owner -f -
sh ./lynis audit system --quick --no-colors --no-plugins --report-file "$place/report" \
    --log-file "$place/log" >output 2>&1 || { tail -n 3 output >&2; exit 1; }
cat report
"""


@dataclass(frozen=True)
class Remark:
    """One thing the audit would have otherwise. test: the id of its test; details: or empty."""

    test: str
    text: str
    details: str


@dataclass(frozen=True)
class AuditReport:
    """What the audit reports of one host.

    version: of lynis; index: its score, 0 to 100; left_out: its tests that were not run.
    """

    version: str
    index: int
    tests: int
    warnings: tuple[Remark, ...]
    suggestions: tuple[Remark, ...]
    left_out: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data, for a report."""
        return asdict(self)


def run_audit(site: Site, host: str, *, container: bool) -> AuditReport:
    """Audit a running host; return the report.

    container: leave out what belongs to the machine below. Raises KosekiError when the mirror has
    no such package, the host does not answer, or the audit did not finish.
    """
    left_out = OF_THE_KERNEL if container else ()
    command = f"sudo -n sh -c {shlex.quote(PROGRAM)}"
    done = run_on(site, host, command, bundle(site, left_out), seconds=SECONDS)
    if done.code:
        raise KosekiError(
            _("{package} could not audit {host}").format(package=PACKAGE, host=host),
            done.reason,
            _(
                "check that it answers (`ssh {host}`), then run `koseki image build {host}` again"
            ).format(host=host),
        )
    return parse(done.stdout, left_out)


def bundle(site: Site, left_out: Sequence[str]) -> bytes:
    """Return lynis as a tar archive, taken out of the package in the mirror."""
    found = sorted((mirror_folder(site) / "pool").glob(f"{PACKAGE}_*.deb"))
    if not found:
        raise KosekiError(
            _("the package mirror has no {package}").format(package=PACKAGE),
            str(mirror_folder(site)),
            _("run `koseki mirror build`"),
        )
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        run(["dpkg-deb", "--extract", str(found[-1]), name])
        profile = tree / "etc/lynis/default.prf"
        skipped = "".join(f"skip-test={test}\n" for test in left_out)
        profile.write_text(profile.read_text(encoding="utf-8") + skipped, encoding="utf-8")
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path, part in PARTS.items():
                archive.add(tree / path, part)
    return packed.getvalue()


def parse(report: str, left_out: Sequence[str] = ()) -> AuditReport:
    """Return what a report of lynis says; KosekiError when it was cut off before the score."""
    single: dict[str, str] = {}
    rows: dict[str, list[Remark]] = {"warning": [], "suggestion": []}
    for line in report.splitlines():
        key, _ignored, value = line.partition("=")
        if key.endswith("[]"):
            test, text, details, *_more = [*value.split("|"), "", ""]
            # It would have a newer one of itself; which one runs is the mirror's business.
            if key[:-2] in rows and test != "LYNIS":
                rows[key[:-2]].append(Remark(test, text, "" if details == "-" else details))
        elif value:
            single[key] = value
    try:
        # Its last line.
        _ignored = single["finish"]
        return AuditReport(
            single["lynis_version"],
            int(single["hardening_index"]),
            int(single["lynis_tests_done"]),
            tuple(rows["warning"]),
            tuple(rows["suggestion"]),
            tuple(left_out),
        )
    except (KeyError, ValueError) as error:
        raise KosekiError(
            _("a report of {package} cannot be read").format(package=PACKAGE),
            _("{count} characters: {error}").format(count=len(report), error=error),
            _("run `koseki image build HOST` again"),
        ) from error
