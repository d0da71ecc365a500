"""The drift page in a real browser: right at a glance, quiet, whole, on screen, phone and paper."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

import chromium
from drift_samples import HOSTILE, HOSTS, drifted, not_verified, store, sweep, waiver, year
from koseki_ops.core.formatting import rfc3339
from koseki_ops.drift.history.store import Store
from koseki_ops.drift.model import Finding
from koseki_ops.drift.report.page import render
from koseki_ops.plan.site import Site
from koseki_ops.verify.expectations import Plan

DESKTOP, PHONE, PAPER = (1280, 900), (390, 844), (794, 1123)
DAY = 96


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The browser that the page is looked at with, and what it notes."""
    options = chromium.options(tmp_path_factory.mktemp("profile"))
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chrome = chromium.started(options)
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def plan() -> Plan:
    """The lab's plan."""
    return Plan.of(Site.open("lab"))


def _log(browser: Chrome, name: str) -> list[dict[str, Any]]:
    """Return what was noted since it was last asked for."""
    rows: list[dict[str, Any]] = browser.get_log(name)  # type: ignore[no-untyped-call] # selenium's
    return rows


class Page:
    """The drift page as the browser shows it."""

    def __init__(self, browser: Chrome, path: Path) -> None:
        """Open the page anew, on a desktop."""
        self.browser, self.path = browser, path
        self.resize(DESKTOP)
        for log in ("performance", "browser"):
            _log(browser, log)
        browser.get(path.as_uri())

    def resize(self, size: tuple[int, int], media: str = "screen") -> None:
        """Look at it on another screen, or on paper."""
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})

    def run(self, script: str) -> Any:  # noqa: ANN401 - whatever the script returns
        """Return what a script of the test's own returns."""
        return self.browser.execute_script(script)

    def count(self, selector: str) -> int:
        """Return how many elements are there and can be seen."""
        found = self.browser.find_elements(By.CSS_SELECTOR, selector)
        return sum(element.is_displayed() for element in found)

    def text(self, selector: str = "main") -> str:
        """Return the words that can be seen."""
        return self.browser.find_element(By.CSS_SELECTOR, selector).text

    def requests(self) -> list[str]:
        """Return every address that was asked for."""
        rows = [json.loads(row["message"])["message"] for row in _log(self.browser, "performance")]
        return [
            row["params"]["request"]["url"]
            for row in rows
            if row["method"] == "Network.requestWillBeSent"
        ]

    def said(self) -> list[str]:
        """Return what the console says."""
        return [row["message"] for row in _log(self.browser, "browser")]


@pytest.fixture
def page(browser: Chrome, plan: Plan, tmp_path: Path) -> Any:  # noqa: ANN401 - a function
    """A function that shows the page about some sweeps."""

    def show(
        *findings: Finding,
        days: int = 0,
        unreachable: Sequence[str] = (),
        ago: float = 0.0,
        waived: Finding | None = None,
    ) -> Page:
        # The page holds its age against the clock, so its sweeps end now.
        now = float(int(time.time())) - ago
        ends = {"granted": rfc3339(now - 86_400), "expires": rfc3339(now + 864_000)}
        history = store(tmp_path / "drift", *([waiver(waived, **ends)] if waived else []))
        for one in year(days * DAY, ending=now - 900):
            history.append(one)
        history.append(sweep(*findings, at=now, unreachable=unreachable))
        return open_page(history, now)

    def open_page(history: Store, now: float) -> Page:
        path = tmp_path / "drift.html"
        path.write_text(render(plan, history, now), encoding="utf-8")
        return Page(browser, path)

    show.of = open_page  # type: ignore[attr-defined] # for a history of the test's own
    return show


SOME = (
    not_verified("remote-backup1"),
    drifted(0),
    drifted(3, "registry-link1"),
    drifted(2, "secondary1"),
    drifted(1, "application1"),
)


def test_the_whole_page_asks_nobody_and_complains_of_nothing(page: Any) -> None:  # noqa: ANN401
    """The page is one file: no request but its own, nothing on the console."""
    shown = page(*SOME, days=2, unreachable=["remote-backup1"], waived=SOME[4])
    assert shown.requests() == [shown.path.as_uri()]
    assert shown.said() == []
    links = "return [...document.querySelectorAll('[src],[href],link,iframe,object')].length"
    assert shown.run(links) == 0


def test_the_state_comes_first_then_the_open_drifts(page: Any) -> None:  # noqa: ANN401
    """Verdict, picture, drifts, what is not verified, then the rest; seen without scrolling far."""
    shown = page(*SOME, days=1, unreachable=["remote-backup1"], waived=SOME[4])
    tops = shown.run(
        "return ['#verdict', '.picture', '#open', '#trend', '#waivers', '.measure', 'footer']"
        ".map(s => document.querySelector(s).getBoundingClientRect().top)"
    )
    assert tops == sorted(tops)
    assert "処置の必要な差異が 3 件あります。\n3 open drifts." in shown.text("#verdict")
    assert "1 more could not be verified" in shown.text("#verdict")
    words = [e.text for e in shown.browser.find_elements(By.CSS_SELECTOR, ".finding")]
    assert ["差異 drifted" in text for text in words] == [True, True, True, False]
    for text in (
        "サーバー上で変更",
        "changed on the host",
        "koseki apply --limit primary1",
        "sousa01",
    ):
        assert text in shown.text("#open")
    assert shown.count(".picture .card") == len(HOSTS)
    assert "2 件" not in shown.text("#waivers")
    assert "10日 d" in shown.text("#waivers")


def test_charts_are_drawn(page: Any) -> None:  # noqa: ANN401
    """Bars have a height and lines a length; their words can be read."""
    shown = page(*SOME, days=3)
    bars = shown.run(
        "return [...document.querySelectorAll('#trend rect.rect')]"
        ".filter(r => r.getBBox().height > 2 && r.getBBox().width > 2).length"
    )
    assert bars >= 2
    lengths = shown.run(
        "return [...document.querySelectorAll('.measure path.line.reactive')]"
        ".map(p => p.getTotalLength())"
    )
    assert len(lengths) >= 3
    assert all(length > 300 for length in lengths)
    for selector in ("#trend svg", ".measure svg"):
        box = f"return document.querySelector('{selector}').getBoundingClientRect().width"
        assert shown.run(box) > 350
    fills = "return getComputedStyle(document.querySelector('#trend .color-0 rect')).fill"
    assert shown.run(fills) == "rgb(179, 38, 30)"
    assert "バックアップからの時間" in shown.text(".measure:nth-of-type(2)")


def test_nothing_found_says_so(page: Any) -> None:  # noqa: ANN401
    """Green in words, a symbol and a colour; no list of nothing."""
    shown = page()
    assert "すべて最後の適用どおりです。\nEverything is as the last apply left it." in shown.text()
    assert shown.count("#verdict.passed") == 1
    assert shown.count(".finding") == shown.count("#open") == 0
    assert shown.text(".picture").count("✓") == len(HOSTS)


def test_an_empty_history_is_no_good_news(page: Any, tmp_path: Path) -> None:  # noqa: ANN401
    """Before the first sweep nothing is green."""
    shown = page.of(store(tmp_path / "none"), time.time())
    assert "まだ一度も確認していません。\nNo sweep has been kept yet." in shown.text("#verdict")
    assert shown.count("#verdict.unknown") == 1
    assert "✓" not in shown.text()
    assert shown.text(".picture").count("not asked") == len(HOSTS)
    assert shown.said() == []


def test_unreachable_hosts_are_never_green(page: Any) -> None:  # noqa: ANN401
    """All hosts unreachable: not verified, and what was known before is still told."""
    known = page(drifted(), ago=900)
    assert known.count(".finding") == 1
    shown = page(*(not_verified(host) for host in HOSTS), unreachable=HOSTS)
    assert shown.count("#verdict.open") == 1
    assert shown.text(".picture").count("did not answer") == len(HOSTS)
    assert "✓" not in shown.text(".picture")
    assert "/etc/patroni/config.yml" in shown.text("#unseen")


def test_five_hundred_are_all_there_and_can_be_narrowed(page: Any) -> None:  # noqa: ANN401
    """Each finding has its row; the filter leaves those that match."""
    shown = page(*(drifted(number, HOSTS[number % len(HOSTS)]) for number in range(500)))
    ids = "return new Set([...document.querySelectorAll('.finding')].map(e => e.dataset.id)).size"
    assert shown.run(ids) == 500
    shown.browser.find_element(By.CSS_SELECTOR, ".filter input").send_keys("cron.d/調査.7")
    left = "return [...document.querySelectorAll('.finding')].filter(e => !e.hidden).length"
    expected = sum("cron.d/調査.7" in drifted(number).name for number in range(500))
    assert shown.run(left) == expected > 0


def test_hostile_text_stays_text(page: Any) -> None:  # noqa: ANN401
    """A host's words run nothing, break nothing out and turn no other words round."""
    hostile = [
        drifted(0, name=HOSTILE, seen=HOSTILE, expected=HOSTILE, repair=HOSTILE),
        drifted(1, place=HOSTILE, logged_in=(HOSTILE,)),
        not_verified(name=HOSTILE, kind=HOSTILE, why=HOSTILE),
    ]
    shown = page(*hostile, *(drifted(n + 8, name=f"{HOSTILE}{n}") for n in range(20)))
    assert shown.run("return document.scripts.length") == 1
    assert shown.said() == []
    assert shown.text().count("<script>alert(1)</script>") > 20
    assert "葛󠄂𠮷" in shown.text()
    assert "\u202e" not in shown.run("return document.body.textContent")
    assert shown.requests() == [shown.path.as_uri()]


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_runs_out_of_the_screen(page: Any, size: tuple[int, int]) -> None:  # noqa: ANN401
    """The page itself never scrolls sideways, however long a name is; hosts can be read."""
    long = drifted(0, name="/srv/" + "x" * 300, seen="y" * 400, repair="koseki " + "z" * 200)
    shown = page(long, *SOME, *(drifted(n, name="w" * 150 + str(n)) for n in range(20)), days=1)
    shown.resize(size)
    width = "return [document.documentElement.scrollWidth, window.innerWidth]"
    scroll, inner = shown.run(width)
    assert scroll <= inner == size[0]
    assert shown.count(".hosts li") == (len(HOSTS) if size == PHONE else 0)
    assert shown.count(".picture") == (0 if size == PHONE else 1)


def test_on_paper(page: Any) -> None:  # noqa: ANN401
    """Printed: white, all drifts, the picture whole, nothing that only a screen needs."""
    shown = page(*SOME, *(drifted(n) for n in range(8, 20)), days=1)
    shown.resize(PAPER, "print")
    colour = shown.run("return getComputedStyle(document.body).backgroundColor")
    assert colour == "rgb(255, 255, 255)"
    scroll, inner = shown.run("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert scroll <= inner
    assert shown.count(".filter") == 0
    assert shown.count(".picture") == 1
    assert shown.count(".finding") == 17
    printed = shown.browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    assert len(printed["data"]) > 20_000


@pytest.mark.parametrize(("ago", "old"), [(0, False), (7200, True)])
def test_an_old_page_says_so(page: Any, ago: int, old: bool) -> None:  # noqa: ANN401 - a case of the test
    """A page that was made right after its sweep and is opened two hours later is not trusted."""
    shown = page(ago=ago)
    assert shown.count("#old") == old
    if old:
        assert "the last sweep was 2.0 時間 hours ago" in shown.text("#old")
