"""What a red drill leaves: journals, the cluster, the store, a sweep, and the lines that matter."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.drift.judge.sweep import sweep
from koseki_ops.lab.lab import Lab
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site

LINES = 10
# What is read of a host, by the file it is kept in. Half an hour covers every drill.
JOURNAL = "journalctl --no-pager -o short-iso --since=-30min"
FAILED = "systemctl list-units --no-legend --plain --state=failed,activating,deactivating"
CLUSTER = "patronictl -c /etc/patroni/config.yml list"
STORE = (
    ". /etc/default/etcd; ETCDCTL_API=3 etcdctl --command-timeout=5s"
    ' --cacert="$ETCDCTL_CACERT" --cert="$ETCDCTL_CERT" --key="$ETCDCTL_KEY"'
    ' --endpoints="$ETCD_ADVERTISE_CLIENT_URLS" endpoint health 2>&1'
)


def keep(site: Site, lab: Lab, folder: Path) -> str:
    """Keep what the hosts of a lab say now in a folder; return the ten lines that matter most.

    Whatever cannot be had is itself a line: a host that is down is often the reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    said: list[str] = []
    for state in lab.status():
        if not state.running:
            said.append(f"{state.host}: is down")
            continue
        said += _host(lab, state.host, folder)
    said += _lines("sweep", lambda: _sweep(site, folder))
    return "\n".join([*said[:LINES], f"more in {folder}"])


def _host(lab: Lab, host: str, folder: Path) -> Iterator[str]:
    inventory = lab.inventory

    def ask(name: str, script: str) -> Iterator[str]:
        text = lab.exec(host, ["timeout", "20", "sh", "-c", script]).stdout
        (folder / f"{host}.{name}").write_text(text, encoding="utf-8")
        return (f"{host}: {line.strip()}" for line in text.splitlines())

    units = list(_lines(host, lambda: ask("units", FAILED)))
    yield from units
    if host in inventory.hosts_in("databases"):
        rows = _lines(host, lambda: ask("cluster", CLUSTER))
        yield from (row for row in rows if "| " in row and "Member" not in row)
    if host in inventory.hosts_in("etcd_members"):
        health = _lines(host, lambda: ask("etcd", STORE))
        yield from (row for row in health if "is healthy" not in row)
    named = " ".join(f"-u {row.split()[1]}" for row in units if len(row.split()) > 1)
    list(_lines(host, lambda: ask("journal", f"{JOURNAL} -p warning {named}")))
    list(_lines(host, lambda: ask("messages", f"{JOURNAL} | tail -n 4000")))


def _sweep(site: Site, folder: Path) -> Iterator[str]:
    inventory = Inventory(site.inventory)
    found = sweep(site, inventory, inventory.hosts)
    rows = [f"{f.host} {f.kind} {f.name} {f.place}: {f.cause} {f.why}" for f in found.findings]
    (folder / "sweep.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return iter(rows)


def _lines(what: str, asked: Callable[[], Iterator[str]]) -> Iterator[str]:
    """Yield what is found out; what cannot be is a line, and hides nothing of the rest."""
    try:
        yield from asked()
    except (KosekiError, OSError, subprocess.SubprocessError) as error:
        yield f"{what}: could not be asked: {error}"
