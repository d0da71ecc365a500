"""How long a link file takes and what memory the engine needs for it, on a provisioned lab."""

from __future__ import annotations

import json

import click

from koseki_ops.bench.table import Row, at_most
from koseki_ops.lab.lab import Lab

HOST, SLUG = "registry-link1", "iida"
SMALL, LARGE = 10_000, 100_000
# On the host: start the engine anew, compose a file beside in/, let it come, wait until it is
# applied; say seconds and the engine's peak of memory in MiB.
PROGRAM = """
import json, os, subprocess, sys, time
sys.path.insert(0, "/usr/local/lib/koseki-link")
from koseki_link.layout import Name, StandIn, resident_number
slug, count = sys.argv[1], int(sys.argv[2])
base, unit, layout = f"/srv/koseki/exchange/{slug}", f"koseki-link@{slug}.service", StandIn()
status = json.loads(subprocess.check_output(["/usr/local/sbin/koseki-link", slug, "status"]))
(comes,) = [row["next"] for row in status["flows"] if row["flow"] == "address-change"]
code6 = json.load(open("/etc/koseki/link.json"))[slug]["code6"]
name = Name(code6, "address-change", comes)
file = layout.file_name(name)
rows = (
    {"resident": resident_number(f"{n:010d}"), "name": "見本　一例", "kana": "みほん　いちれい",
     "address": f"架空郡見本村大字例{n}番地", "moved_on": "2026-04-01"}
    for n in range(count)
)
with open(f"{base}/in/{file}.part", "wb") as made:
    layout.compose(made, name, count, rows)
os.chmod(f"{base}/in/{file}.part", 0o640)
subprocess.run(["systemctl", "restart", unit], check=True)
time.sleep(2)
pid = subprocess.check_output(["systemctl", "show", "-P", "MainPID", unit], text=True).strip()
begun = time.monotonic()
os.rename(f"{base}/in/{file}.part", f"{base}/in/{file}")
while not os.path.exists(f"{base}/done/{file}"):
    if time.monotonic() - begun > 300:
        sys.exit("it is not applied within 300 s: journalctl -u " + unit)
    time.sleep(0.02)
seconds = time.monotonic() - begun
size = os.path.getsize(f"{base}/done/{file}") / 2**20
status = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status"))
peak = int(status["VmHWM"].split()[0]) / 1024
print(json.dumps({"seconds": seconds, "peak": peak, "size": size}))
"""


def measure(lab: Lab, runs: int) -> list[Row]:
    """Apply files of two sizes in the first town; return what they took."""
    small = [_apply(lab, SMALL) for _ in range(runs)]
    large = _apply(lab, LARGE)
    sizes = f"{SMALL:,} records ({small[0]['size']:.1f} MiB)"
    return [
        at_most(f"a link file of {sizes} applied", 10, [row["seconds"] for row in small]),
        at_most("the engine's memory for it, peak", 100, [row["peak"] for row in small], "MiB"),
        at_most(
            f"the same for {LARGE:,} records ({large['size']:.1f} MiB, {large['seconds']:.1f} s)",
            100,
            [large["peak"]],
            "MiB",
        ),
    ]


def _apply(lab: Lab, count: int) -> dict[str, float]:
    done = lab.exec(HOST, ["python3", "-B", "-c", PROGRAM, SLUG, str(count)])
    if done.returncode:
        raise click.ClickException(f"no figure of the link: {done.stderr.strip()[-300:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures
