"""The page's words, without a browser; tests/browser shows it in one."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from drift_samples import HOSTILE, HOSTS, NOW, drifted, not_verified, store, sweep, waiver, year
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.formatting import one_line, printable
from koseki_ops.drift.history.store import DATABASE_FILE, Point
from koseki_ops.drift.report.charts import worst_of_days
from koseki_ops.drift.report.page import PAGE_FILE, age, changes, render, stand, write_page
from koseki_ops.plan.site import Site
from koseki_ops.verify.expectations import Plan

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def plan() -> Plan:
    """The lab's plan."""
    return Plan.of(Site(ROOT, "lab", "lab"), date(2026, 11, 24))


def test_the_page_names_no_address(plan: Plan, tmp_path: Path) -> None:
    """Nothing in it points anywhere, and its policy lets a browser load nothing."""
    history = store(tmp_path, waiver(drifted(1)))
    for one in year(120):
        history.append(one)
    page = render(plan, history, NOW)
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?://", page)
    assert "default-src 'none'" in page
    assert page.count("<script>") == 1


def test_text_from_hosts_cannot_become_markup(plan: Plan, tmp_path: Path) -> None:
    """Whatever field it comes in."""
    history = store(tmp_path)
    fields = ("name", "place", "expected", "seen", "repair", "kind", "diff")
    found = [drifted(n, **{field: HOSTILE}) for n, field in enumerate(fields)]
    history.append(sweep(*found, not_verified(why=HOSTILE), commit=HOSTILE))
    page = render(plan, history, NOW)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_tampered_history_has_no_page(plan: Plan, tmp_path: Path) -> None:
    """A page never shows what was tampered with, and the page before stays."""
    history = store(tmp_path)
    history.append(sweep(drifted()))
    path = write_page(plan, history, NOW)
    before = path.read_bytes()
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as connection, connection:
        connection.execute("UPDATE sweeps SET drifted = 0")
    with pytest.raises(KosekiError, match="tampered"):
        write_page(plan, store(tmp_path), NOW)
    assert (tmp_path / PAGE_FILE).read_bytes() == before


def test_a_hosts_stand_is_told_in_words_and_symbol(plan: Plan) -> None:
    """Colour alone says nothing."""
    found = [drifted(), drifted(1), not_verified("primary1", kind="cron", name="*")]
    one = sweep(*found, not_verified("application1", kind="unit"), unreachable=["secondary1"])
    stands = {host: stand(plan, one, host) for host in (*HOSTS, "primary2")[:4]}
    told = {host: (row.state, row.symbol, row.words) for host, row in stands.items()}
    assert told == {
        "primary1": ("failed", "✕", "差異 2 件・未確認 1 drifted"),
        "secondary1": ("open", "?", "応答なし did not answer"),
        "application1": ("open", "?", "未確認 1 件 not verified"),
        "registry-link1": ("passed", "✓", "適用どおり 626 as applied"),
    }
    assert stand(plan, None, "primary1").symbol == "–"


def test_what_happened_is_told_newest_first(tmp_path: Path) -> None:
    """Began, changed, waived, over."""
    row = waiver(drifted(), granted="2026-11-24T00:00:00Z")
    history = store(tmp_path, row)
    start = row.granted.timestamp()
    history.append(sweep(drifted(), at=start - 1800))
    history.append(sweep(drifted(seen="0777"), at=start - 900))
    history.append(sweep(drifted(seen="0777"), at=start))
    history.append(sweep(at=start + 900))
    told = [(row.at[-5:], row.symbol) for row in changes(list(history.history()), "Asia/Tokyo")]
    assert told == [("09:15", "✓"), ("09:00", "–"), ("08:45", "~"), ("08:30", "+")]


def test_days_are_the_citys(plan: Plan) -> None:
    """A sweep at 23:55 in Tokyo belongs to that day; a day without a sweep is none."""
    zone = ZoneInfo(plan.platform.timezone)
    late = datetime(2026, 11, 22, 23, 55, tzinfo=zone)
    points = [
        Point(late.timestamp(), 600, 3, 1, 1),
        Point((late - timedelta(hours=1)).timestamp(), 600, 1, 2, 0),
        Point((late + timedelta(minutes=10)).timestamp(), 600, 0, 0, 0),
    ]
    first, second, third = worst_of_days(points, date(2026, 11, 24), 3, zone)
    assert first
    assert second
    assert (first.drifted, first.not_verified, first.waived) == (2, 2, 1)
    assert (second.drifted, second.not_verified) == (0, 0)
    assert third is None
    assert late.astimezone(UTC).day == 22


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "今回から new"),
        (59, "今回から new"),
        (60, "1分 1 min"),
        (7199, "1時間 1 h"),
        (86_400 * 3, "3日 3 d"),
    ],
)
def test_age(seconds: float, words: str) -> None:
    """The largest unit, in both languages."""
    assert age(seconds) == words


def test_names_of_people_stay_and_controls_go() -> None:
    """Variation selectors and the private planes are letters; escapes and turns are not."""
    names = "葛󠄂葛󠄀𠮷﨑\U0010de92髙〜～"
    assert printable(names) == names
    assert printable("a\x1b[0m\u202eb\ud800\x00\ufffe") == "a\ufffd[0m\ufffdb\ufffd\ufffd\ufffd"
    assert one_line("a\r\n b\tc") == "a b c"
