"""副本データ送信管理簿: a month of a municipality's duplicates, a line for each attempt (K-13).

A day that nobody closed has its line as well, and so has one with nothing. It holds counts, hashes
and codes: no name, and no number of a register.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from koseki_ops.calendar.eras import in_era, year_in_era
from koseki_ops.calendar.months import Month
from koseki_ops.duplicates import report
from koseki_ops.duplicates.model import Comparison, Kind, Row
from koseki_ops.duplicates.report import Line
from koseki_ops.duplicates.service import DuplicateService, span
from koseki_ops.plan.model import Municipality
from koseki_ops.report.papers import pdf, table
from koseki_ops.report.picture import environment

WEEKDAYS = "月火水木金土日"
COLUMNS = (
    *("業務日", "種別", "回", "状態", "決裁", "抽出", "受領", "差", "sha256", "抽出時刻"),
    *("引渡時刻", "送信時刻", "完了時刻", "受領番号", "変換不能", "エラー", "理由", "関連する行"),
    "遅延",
)


@dataclass(frozen=True)
class Entry:
    """A line of the book. row: None of a day that nobody closed; late: of the day's last one."""

    line: Line
    row: Row | None
    late: bool


def entries(service: DuplicateService, municipality: Municipality, month: Month) -> list[Entry]:
    """Return the lines of a month: each business day with all its attempts, 差分 before 全件."""
    state = service.history.municipality(municipality.code6)
    found = []
    for line in report.lines(state, span(municipality), service.policy, service.now, month):
        found += [
            Entry(line, row, line.was_late and row is line.row)
            for kind in Kind
            for row in state.attempts(line.day, kind)
        ]
        if line.row is None:
            found.append(Entry(line, None, line.was_late))
    return found


def papers(service: DuplicateService, municipality: Municipality, month: Month) -> dict[str, bytes]:
    """Return the book of a month as PDF and CSV, by name; of a month that runs, with its day."""
    zone = ZoneInfo(service.policy.office.time_zone)
    today = service.policy.date_of(service.now)
    until = "" if today > month.last_day else f"-until-{today}"
    name = f"副本データ送信管理簿-{municipality.code6}-{month}{until}"
    found = entries(service, municipality, month)
    state = service.history.municipality(municipality.code6)
    values = {
        "footer": f"{municipality.code6} {municipality.name}　{month}",
        "name": municipality.name,
        "code6": municipality.code6,
        "month": f"{year_in_era(month.first_day)}{month.month}月",
        "until": in_era(today) if until else "",
        "rows": [_shown(entry, zone) for entry in found],
        "comparison": state.comparisons.get(month),
        "totals": _totals(state.comparisons.get(month)),
    }
    html = environment("koseki_ops.duplicates").get_template("book.html.j2").render(values)
    return {f"{name}.pdf": pdf(html), f"{name}.csv": table(_rows(found, zone))}


def _shown(entry: Entry, zone: ZoneInfo) -> dict[str, Any]:
    day = entry.line.day
    cells = dict(zip(COLUMNS, _cells(entry, zone), strict=True))
    return {**cells, "業務日": f"{day.month}月{day.day}日（{WEEKDAYS[day.weekday()]}）"}


def _totals(comparison: Comparison | None) -> list[tuple[str, int, int | None]]:
    if comparison is None:
        return []
    theirs = comparison.theirs or {}
    return [(what, count, theirs.get(what)) for what, count in comparison.ours.items()]


def _rows(found: Sequence[Entry], zone: ZoneInfo) -> Iterator[Sequence[object]]:
    yield COLUMNS
    for entry in found:
        yield _cells(entry, zone)


def _cells(entry: Entry, zone: ZoneInfo) -> Sequence[object]:
    day, row, late = entry.line.day.isoformat(), entry.row, "遅延" if entry.late else ""
    if row is None:
        nothing = ("",) * (len(COLUMNS) - 5)
        return (day, Kind.DIFFERENCE.term, "", entry.line.state.term, *nothing, late)
    counts = ["" if n is None else n for n in (row.approved, row.extracted, row.received)]
    gap = "" if row.received is None else row.received - row.approved
    times = (row.extracted_at, row.handed_over_at, row.sent_at, row.ended_at)
    return (
        *(day, row.key.kind.term, row.key.attempt, row.state.term, *counts, gap, row.sha256),
        *(_clock(at, zone) for at in times),
        *(row.receipt, row.unconvertible, row.error, row.reason, row.other or "", late),
    )


def _clock(at: datetime | None, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}" if at else ""
