"""Sweeps as a real platform gives them, for the tests of all that keep, tell and show drift."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from koseki_ops.core import files
from koseki_ops.drift.history import store as store_module
from koseki_ops.drift.history.store import Store
from koseki_ops.drift.history.waivers import Terms, terms_of
from koseki_ops.drift.model import Cause, Finding, HostSweep, Sweep, Verdict
from koseki_ops.evidence import site_key
from koseki_ops.plan.model import Waiver

HOSTS = (
    "primary1",
    "secondary1",
    "application1",
    "registry-link1",
    "remote-backup1",
    "workstation1",
)
# 2026-11-24 08:15 in Asia/Tokyo.
NOW = 1_795_475_700.0
QUARTER = 900.0
COMMIT = "7e8637f0a1b2c3d4e5f60718293a4b5c6d7e8f90"
HOSTILE = "<script>alert(1)</script>\"'&]]>\x1b[31m\r\nBcc: a@b.example\u202e葛󠄂𠮷"
KINDS = (
    ("file", "/etc/patroni/config.yml", "mode", Cause.CHANGED_ON_HOST),
    ("package", "tcpdump", "", Cause.UNMANAGED),
    ("unit", "pgbackrest-backup.timer", "enabled", Cause.CHANGED_ON_HOST),
    ("user", "葛󠄂城", "", Cause.UNMANAGED),
    ("setting", "work_mem", "", Cause.NOT_APPLIED),
    ("socket", "tcp 0.0.0.0:8081", "", Cause.UNMANAGED),
    ("firewall", "table inet koseki", "", Cause.FOREIGN_COMMIT),
    ("cron", "/etc/cron.d/調査", "", Cause.UNMANAGED),
)


def drifted(number: int = 0, host: str = "primary1", **values: Any) -> Finding:  # noqa: ANN401 - any field
    """Return one difference; each number gives another."""
    kind, name, place, cause = KINDS[number % len(KINDS)]
    unmanaged = cause is Cause.UNMANAGED
    fields: dict[str, Any] = {
        "host": host,
        "kind": kind,
        "name": name if number < len(KINDS) else f"{name}.{number}",
        "answer": Verdict.DRIFTED,
        "cause": cause,
        "place": place,
        "expected": "" if unmanaged else "0640",
        "seen": "present" if unmanaged else "0644",
        "repair": f"koseki apply --limit {host}",
        "logged_in": ("sousa01",) if number % 3 == 0 else (),
    }
    return Finding(**fields | values)


def not_verified(host: str = "secondary1", **values: Any) -> Finding:  # noqa: ANN401 - any field
    """Return one item that could not be asked."""
    fields: dict[str, Any] = {
        "host": host,
        "kind": "host",
        "name": host,
        "answer": Verdict.NOT_VERIFIED,
        "cause": Cause.UNKNOWN,
        "why": "no answer within 10 s",
        "repair": f"koseki ssh {host}",
    }
    return Finding(**fields | values)


def sweep(
    *findings: Finding,
    at: float = NOW,
    unreachable: Sequence[str] = (),
    **values: Any,  # noqa: ANN401 - any field
) -> Sweep:
    """Return a sweep of all five hosts; those in `unreachable` did not answer."""
    chance = random.Random(at)  # noqa: S311 - the same figures at every run
    hosts = []
    for host in HOSTS:
        if host in unreachable:
            hosts.append(HostSweep(host, answered=False, why="no answer within 10 s"))
            continue
        measures = {"clock_skew_seconds": round(chance.uniform(-0.01, 0.01), 4)}
        if host == "secondary1":
            measures["replication_lag_bytes"] = float(int(chance.expovariate(1 / 4096)))
        if host in {"registry-link1", "remote-backup1"}:
            measures["backup_age_seconds"] = (at / QUARTER % 20) * QUARTER + 120
        hosts.append(
            HostSweep(
                host,
                answered=True,
                holds=612 + len(host),
                commit=COMMIT,
                seconds=round(chance.uniform(0.4, 1.2), 3),
                cpu_seconds=round(chance.uniform(0.2, 0.5), 3),
                memory_kib=chance.randrange(9_000, 14_000),
                measures=measures,
            )
        )
    fields: dict[str, Any] = {"site": "lab", "seconds": 1.84, "commit": COMMIT}
    return Sweep(at=at, hosts=tuple(hosts), findings=findings, **fields | values)


def year(sweeps: int, seed: int = 4, ending: float = NOW) -> Iterator[Sweep]:
    """Yield sweeps every quarter of an hour as a year brings them.

    A drift every nine hours or so stands for hours; every four days a host is unreachable.
    """
    chance = random.Random(seed)  # noqa: S311 - the same year at every run
    standing: dict[str, tuple[Finding, int]] = {}
    unreachable: tuple[str, int] = ("", 0)
    for number in range(sweeps):
        at = ending - (sweeps - 1 - number) * QUARTER
        if chance.random() < 1 / 36:
            finding = drifted(chance.randrange(4000), chance.choice(HOSTS))
            standing[finding.id] = (finding, number + 1 + int(chance.expovariate(1 / 20)))
        if number >= unreachable[1] and chance.random() < 1 / 400:
            unreachable = (chance.choice(HOSTS), number + chance.randrange(1, 12))
        standing = {i: pair for i, pair in standing.items() if pair[1] > number}
        quiet = [unreachable[0]] if number < unreachable[1] else []
        found = [finding for finding, _ in standing.values() if finding.host not in quiet]
        found += [not_verified(host) for host in quiet]
        yield sweep(*found, at=at, unreachable=quiet)


def waiver(finding: Finding, **values: Any) -> Waiver:  # noqa: ANN401 - any field
    """Return a waiver that covers a finding from an hour before NOW for two weeks."""
    fields: dict[str, Any] = {
        "id": "W-2026-001",
        "host": finding.host,
        "kind": finding.kind,
        "name": finding.name,
        "owner": "sousa01",
        "approver": "sousa02",
        "reason": "回線障害の調査",
        "granted": "2026-11-23T22:00:00Z",
        "expires": "2026-12-07T22:00:00Z",
    }
    return Waiver.model_validate(fields | values)


def store(folder: Path, *waivers: Waiver, committed: Sequence[Terms] | None = None) -> Store:
    """Return a history in a folder; its waivers are committed unless others are."""
    terms = [terms_of(row) for row in waivers] if committed is None else committed
    return Store(folder, "lab", HOSTS, waivers, terms)


def unwaived(finding: Finding) -> Finding:
    """Return a finding as the sweep gave it, without what the history adds."""
    return replace(finding, first_seen=0.0, logged_in=(), waiver="")


def keep_writing(folder: Path, kill_at_line: int = 0) -> None:
    """Append sweeps for ever; with a line's number, kill this very process when it gets there.

    Lines are those of the store and the signing, counted as they run: a kill between any two.
    """
    passed = 0

    def at_line(_frame: object, event: str, _argument: object) -> Any:  # noqa: ANN401 - a trace function
        nonlocal passed
        if event == "line":
            passed += 1
            if passed >= kill_at_line:
                os.kill(os.getpid(), signal.SIGKILL)
        return at_line

    ours = {store_module.__file__, site_key.__file__, files.__file__}

    def at_call(frame: Any, _event: str, _argument: object) -> Any:  # noqa: ANN401 - a trace function
        return at_line if frame.f_code.co_filename in ours else None

    history = store(folder)
    if kill_at_line:
        sys.settrace(at_call)
    for number in range(1_000_000):
        findings = [drifted(n) for n in range(number % 7)]
        history.append(sweep(*findings, at=NOW + number))
