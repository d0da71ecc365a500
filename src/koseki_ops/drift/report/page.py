"""The drift page: one HTML file that a manager understands at a glance, without a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup

from koseki_ops.calendar.eras import in_era
from koseki_ops.core.files import write_private
from koseki_ops.core.formatting import in_zone, one_line, printable
from koseki_ops.drift.history.store import Entry, Store
from koseki_ops.drift.history.waivers import WaiverStatus
from koseki_ops.drift.model import Cause, Finding, HostSweep, Sweep, Verdict
from koseki_ops.drift.report.charts import Day, lines, trend, worst_of_days
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.plan.model import BackupPolicy
from koseki_ops.report.picture import Stand, environment
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.report import picture_of

PAGE_FILE = "drift.html"
DAY, HOUR, MINUTE = 86_400, 3_600, 60
TREND_DAYS, CHART_DAYS = 56, 7
SHOWN_CARDS, SHOWN_CHANGES = 12, 30
# Three sweeps that did not come: the page is old, and says so.
OLD_SECONDS = 45 * MINUTE
CAUSES = {
    Cause.CHANGED_ON_HOST: "サーバー上で変更",
    Cause.NOT_APPLIED: "計画の変更が未適用",
    Cause.FOREIGN_COMMIT: "別の版から手作業で適用",
    Cause.UNMANAGED: "計画にないもの",
    Cause.UNKNOWN: "原因不明",
}


@dataclass(frozen=True)
class Measure:
    """A figure of the hosts that is shown over a week.

    value: takes it from a host's part of a sweep at a moment, or None; limit: where the alarm
    rings, in the same unit.
    """

    title: str
    unit: str
    value: Callable[[HostSweep, float], float | None]
    limit: Callable[[BackupPolicy], float | None]


def _named(name: str, divisor: float) -> Callable[[HostSweep, float], float | None]:
    def value(host: HostSweep, _at: float) -> float | None:
        return host.measures[name] / divisor if name in host.measures else None

    return value


def _backup_age(host: HostSweep, at: float) -> float | None:
    if "newest_backup_at" in host.measures:
        return (at - host.measures["newest_backup_at"]) / HOUR
    return _named("backup_age_seconds", HOUR)(host, at)


MEASURES = (
    Measure(
        "正→副の遅れ Replication lag",
        "KiB",
        _named("replication_lag_bytes", 1024),
        lambda _policy: None,
    ),
    Measure(
        "最新のバックアップからの時間 Age of the newest backup",
        "時間 h",
        _backup_age,
        lambda _policy: None,
    ),
    Measure(
        "第二バックアップの遅れ Lag of the sealed copies",
        "分 min",
        _named("vault_lag_minutes", 1),
        lambda policy: policy.lag_alarm_minutes,
    ),
)


@dataclass(frozen=True)
class Shown:
    """A finding as the page shows it, every text fit for a reader."""

    id: str
    verified: bool
    host: str
    what: str
    cause: str
    reason: str
    since: str
    age: str
    people: str
    expected: str
    seen: str
    diff: str
    repair: str


@dataclass(frozen=True)
class Change:
    """A line of what happened lately: when, a symbol and a word for it, what."""

    at: str
    state: str
    symbol: str
    word: str
    what: str


@dataclass(frozen=True)
class Chart:
    """A chart, and in words how it stands now."""

    title: str
    words: str
    svg: Markup


def shown(finding: Finding, now: float, timezone: str) -> Shown:
    """Return a finding as the page shows it."""
    verified = finding.answer is Verdict.DRIFTED
    place = f" · {finding.place}" if finding.place else ""
    return Shown(
        finding.id,
        verified,
        one_line(finding.host),
        one_line(f"{finding.kind} {finding.name}{place}"),
        CAUSES[finding.cause] if verified else "未確認",
        finding.cause if verified else one_line(finding.why),
        in_zone(finding.first_seen, timezone),
        age(now - finding.first_seen),
        one_line(", ".join(finding.logged_in)),
        printable(finding.expected),
        printable(finding.seen),
        printable(finding.diff),
        one_line(finding.repair),
    )


def age(seconds: float) -> str:
    """Return a length of time in its largest unit."""
    for length, name in ((DAY, "日 d"), (HOUR, "時間 h")):
        if seconds >= length:
            japanese, english = name.split()
            number = int(seconds // length)
            return f"{number}{japanese} {number} {english}"
    number = int(seconds // MINUTE)
    return f"{number}分 {number} min" if number > 0 else "今回から new"


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Return differences before what was not verified, the oldest first."""
    return sorted(
        findings,
        key=lambda f: (f.answer is not Verdict.DRIFTED, f.first_seen, f.host, f.kind, f.name),
    )


def stand(plan: Plan, sweep: Sweep | None, host: str) -> Stand:
    """Return how a host stands in the picture: colour, words and symbol."""
    address = plan.address(host, WORKSTATION) or ""
    row = next((row for row in sweep.hosts if row.host == host), None) if sweep else None
    if sweep is None or row is None:
        return Stand("unknown", "未実施 not asked", "–", address)
    if not row.answered:
        return Stand("open", "応答なし did not answer", "?", address)
    mine = [finding for finding in sweep.open if finding.host == host]
    drifted = sum(finding.answer is Verdict.DRIFTED for finding in mine)
    unverified = len(mine) - drifted
    if drifted:
        more = f"・未確認 {unverified}" if unverified else ""
        return Stand("failed", f"差異 {drifted} 件{more} drifted", "✕", address)
    if unverified:
        return Stand("open", f"未確認 {unverified} 件 not verified", "?", address)
    return Stand("passed", f"適用どおり {row.holds} as applied", "✓", address)


def measured(plan: Plan, entries: Sequence[Entry], zone: ZoneInfo) -> list[Chart]:
    """Return a chart of each figure that any host gave."""
    charts = []
    for measure in MEASURES:
        series: dict[str, list[tuple[datetime, float]]] = {}
        for entry in entries:
            for host in entry.hosts:
                value = measure.value(host, entry.at)
                if value is not None:
                    moment = datetime.fromtimestamp(entry.at, zone)
                    series.setdefault(one_line(host.host), []).append((moment, value))
        if series:
            last = datetime.fromtimestamp(entries[-1].at, zone)
            now = (
                f"{host} {rows[-1][1]:.1f} {measure.unit}"
                # A host that gave none now is shown with the moment of its last.
                + ("" if rows[-1][0] == last else f" ({rows[-1][0]:%m-%d %H:%M})")
                for host, rows in series.items()
            )
            limit = measure.limit(plan.platform.backup_policy)
            title = f"{measure.title} ({measure.unit})"
            charts.append(Chart(title, "、".join(now), lines(series, limit, zone, title)))
    return charts


def changes(entries: Sequence[Entry], timezone: str) -> list[Change]:
    """Return what began, changed and ended, the newest first."""
    return [
        Change(in_zone(entry.at, timezone), *_happened(entry, finding), _what(finding))
        for entry in reversed(entries)
        for finding in (*entry.ended, *entry.changed)
    ]


def _happened(entry: Entry, finding: Finding) -> tuple[str, str, str]:
    """Return a class for the colour, a symbol and a word."""
    if finding in entry.ended:
        return "passed", "✓", "解消 over"
    if finding.waiver:
        return "unknown", "–", "承認済 waived"
    if finding.first_seen == entry.at:
        state = "failed" if finding.answer is Verdict.DRIFTED else "open"
        return state, "+", "発生 new"
    return "open", "~", "変化 changed"


def _what(finding: Finding) -> str:
    answer = "未確認 not verified" if finding.answer is Verdict.NOT_VERIFIED else ""
    return one_line(f"{finding.host}: {finding.kind} {finding.name} {finding.place} {answer}")


def render(plan: Plan, store: Store, now: float) -> str:
    """Return the page as one HTML text without any outside reference.

    now: the moment it is made, seconds since the epoch. Raises KosekiError when the history cannot
    be trusted: a page must not show what was tampered with as if it were so.
    """
    timezone = plan.platform.timezone
    zone = ZoneInfo(timezone)
    sweep = store.latest()
    waiver_statuses = store.waiver_statuses
    points = store.trend(now - TREND_DAYS * DAY)
    entries = list(store.history(now - CHART_DAYS * DAY))
    present = in_order(sweep.open) if sweep else []
    unseen = in_order([store.known.findings[i] for i in store.known.unseen])
    templates = environment("koseki_ops.drift.report")
    script = templates.get_template("page.js.j2").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    moment = datetime.fromtimestamp(sweep.at if sweep else now, zone)
    today = datetime.fromtimestamp(now, zone).date()
    days = worst_of_days(points, today, TREND_DAYS, zone)
    title = f"最近{TREND_DAYS // 7}週間 Last {TREND_DAYS // 7} weeks"
    values: dict[str, Any] = {
        "plan": plan,
        "sweep": sweep,
        "moment": moment,
        "day": in_era(moment),
        "old": sweep is not None and now - sweep.at > OLD_SECONDS,
        "old_seconds": OLD_SECONDS,
        "picture": picture_of(plan, lambda host: stand(plan, sweep, host)),
        "present": [shown(finding, now, timezone) for finding in present],
        "unseen": [shown(finding, now, timezone) for finding in unseen],
        "shown_cards": SHOWN_CARDS,
        "drifted": sum(finding.answer is Verdict.DRIFTED for finding in present),
        "unverified": sum(finding.answer is Verdict.NOT_VERIFIED for finding in present),
        "holds": sweep.count(Verdict.HOLDS) if sweep else 0,
        "waived": len(sweep.findings) - len(present) if sweep else 0,
        "unreachable": [row for row in sweep.hosts if not row.answered] if sweep else [],
        "not_applicable": sweep.not_applicable if sweep else 0,
        "stale": [row.host for row in sweep.hosts if row.stale] if sweep else [],
        "trend": trend(days, today, title) if points else "",
        "days": [_square(day) for day in days],
        "trend_title": title,
        "charts": measured(plan, entries, zone),
        "changes": changes(entries, timezone)[:SHOWN_CHANGES],
        "waiver_statuses": sorted(waiver_statuses, key=_urgency),
        "operators": {row.id: row.name for row in plan.platform.operators},
        "head": store.head(),
        "in_zone": lambda at: in_zone(at, timezone),
        "clean": one_line,
        "script": Markup(script),  # noqa: S704 - our own file
        "digest": digest,
    }
    return templates.get_template("page.html.j2").render(values)


def _square(day: Day | None) -> tuple[str, str, str]:
    """Return a day's colour, symbol and words."""
    if day is None:
        return "none", "", "確認していない no sweep"
    label = f"{day.day.month}/{day.day.day}: 差異 {day.drifted}, 未確認 {day.not_verified}"
    if day.drifted:
        return "failed", "✕", label
    return ("open", "?", label) if day.not_verified else ("passed", "✓", label)


def _urgency(status: WaiverStatus) -> tuple[int, str]:
    return status.days_left, status.waiver.id


def write_page(plan: Plan, store: Store, now: float) -> Path:
    """Write the page beside the history in one step; return where it is."""
    path = store.folder / PAGE_FILE
    write_private(path, render(plan, store, now))
    return path
