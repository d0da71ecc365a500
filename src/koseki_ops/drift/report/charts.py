"""The page's charts, drawn by pygal as plain SVG.

pygal, and not a library that ships JavaScript: a chart is 20 to 60 KB of SVG that prints, needs no
script, and takes its colours from the page, where plotly would add 4.5 MB and bokeh 1 MB of script
to every copy; it is maintained and needs nothing compiled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

import pygal
from markupsafe import Markup
from pygal.style import Style

from koseki_ops.drift.history.store import Point

# The page's own colours: a chart follows its dark and its printed form.
COLOURS = {"bad": "var(--bad)", "open": "var(--open)", "soft": "var(--soft)"}
HOST_COLOURS = ("var(--accent)", "var(--good)", "var(--soft)", "var(--ink)")
WIDTH, HEIGHT = 1000, 240
# pygal's own script, remarks and name spaces: SVG inside of HTML needs none of them.
SCRIPTS = re.compile(r"<script.*?</script>|<!--.*?-->| xmlns(:\w+)?=\"[^\"]*\"", re.DOTALL)
LIMIT_DASHES = "7,5"
Series = Sequence[tuple[datetime, float]]


def _chart(kind: Any, colours: Sequence[str], width: int, **options: Any) -> Any:  # noqa: ANN401 - pygal has no types
    style = Style(
        background="transparent",
        plot_background="transparent",
        foreground="var(--soft)",
        foreground_strong="var(--soft)",
        foreground_subtle="var(--rule)",
        guide_stroke_color="var(--rule)",
        major_guide_stroke_color="var(--rule)",
        colors=tuple(colours),
        font_family="inherit",
        label_font_size=13,
        major_label_font_size=13,
        legend_font_size=13,
        opacity="1",
        opacity_hover="1",
        transition="0s",
        stroke_opacity="1",
    )
    return kind(
        style=style,
        js=(),
        width=width,
        height=HEIGHT,
        margin=8,
        disable_xml_declaration=True,
        legend_at_bottom=True,
        legend_box_size=11,
        show_x_guides=False,
        truncate_legend=-1,
        truncate_label=-1,
        **options,
    )


def _svg(chart: Any, title: str) -> Markup:  # noqa: ANN401 - pygal has no types
    drawn = SCRIPTS.sub("", chart.render(is_unicode=True))
    label = Markup.escape(title)
    # pygal escapes what it is given; hosts' words do not reach it but for their names.
    return Markup(drawn.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))  # noqa: S704


@dataclass(frozen=True)
class Day:
    """The worst of one day: open differences, what was not verified, what was waived."""

    day: date
    drifted: int
    not_verified: int
    waived: int


def worst_of_days(
    points: Sequence[Point], last: date, days: int, zone: ZoneInfo
) -> list[Day | None]:
    """Return the worst of each of so many days; None for a day without a sweep."""
    worst: dict[date, Day] = {}
    for point in points:
        day = datetime.fromtimestamp(point.at, zone).date()
        before = worst.get(day, Day(day, 0, 0, 0))
        worst[day] = Day(
            day,
            max(before.drifted, point.drifted - point.waived),
            max(before.not_verified, point.not_verified),
            max(before.waived, point.waived),
        )
    return [worst.get(last - timedelta(days=days - 1 - number)) for number in range(days)]


def trend(worst: Sequence[Day | None], last: date, title: str) -> Markup:
    """Return the worst of each day as bars: what was open, not verified and waived."""
    shown = [last - timedelta(days=len(worst) - 1 - number) for number in range(len(worst))]
    chart = _chart(
        pygal.StackedBar, tuple(COLOURS.values()), WIDTH, spacing=6, legend_at_bottom_columns=3
    )
    chart.x_labels = [f"{day.month}/{day.day}" for day in shown]
    chart.x_labels_major = [f"{day.month}/{day.day}" for day in shown if day.weekday() == 0]
    chart.show_minor_x_labels = False
    sums = (day.drifted + day.not_verified + day.waived for day in worst if day)
    chart.y_labels = _scale(max(sums, default=0))
    chart.value_formatter = _short
    for name, field in (
        ("差異 drifted", "drifted"),
        ("未確認 not verified", "not_verified"),
        ("承認済 waived", "waived"),
    ):
        chart.add(name, [getattr(day, field) if day else None for day in worst])
    return _svg(chart, title)


def _scale(top: float) -> list[float]:
    """Return about five round figures from nought to `top` or a little above it."""
    step = 1.0
    while step * 5 < top:
        # 1, 2, 5, 10, 20, 50 …
        step *= 2.5 if f"{step:.0f}".startswith("2") else 2
    return [step * number for number in range(max(2, ceil(top / step) + 1))]


def lines(series: Mapping[str, Series], limit: float | None, zone: ZoneInfo, title: str) -> Markup:
    """Return a line for each host over days, and a dashed one where the alarm rings."""
    hosts = len(series)
    colours = [HOST_COLOURS[number % len(HOST_COLOURS)] for number in range(hosts)] + ["var(--bad)"]
    chart = _chart(pygal.XY, colours, WIDTH // 2, show_dots=False)
    moments = [moment for rows in series.values() for moment, _ in rows]
    first, last = min(moments), max(moments)
    chart.x_labels = [day.timestamp() for day in _midnights(first, last) or [first]]
    chart.x_value_formatter = lambda at: _day(at, zone)
    chart.value_formatter = _short
    values = [value for rows in series.values() for _, value in rows]
    chart.y_labels = _scale(max([*values, limit or 0.0]))
    for name, rows in series.items():
        chart.add(name, [(moment.timestamp(), value) for moment, value in rows])
    if limit is not None:
        ends = [(moment.timestamp(), limit) for moment in (first, last)]
        chart.add("警報 alarm", ends, stroke_style={"dasharray": LIMIT_DASHES})
    return _svg(chart, title)


def _midnights(first: datetime, last: datetime) -> list[datetime]:
    day = first.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    found = []
    while day <= last:
        found.append(day)
        day += timedelta(days=1)
    return found


def _day(at: float, zone: ZoneInfo) -> str:
    local = datetime.fromtimestamp(at, zone)
    return f"{local.month}/{local.day}"


def _short(value: float) -> str:
    return f"{value:.3g}"
