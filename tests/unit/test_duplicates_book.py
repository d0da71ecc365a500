"""K-13: the book 副本データ送信管理簿 has every business day and every attempt, and no name."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from duplicate_samples import at, closed, days, difference, on, whole
from koseki_ops.cli import cli
from koseki_ops.core.errors import KosekiError
from koseki_ops.duplicates import events
from koseki_ops.duplicates.events import Event
from koseki_ops.duplicates.history import History
from koseki_ops.plan.site import Site, project_root

FIRST, SECOND, THIRD, FOURTH = days(4)
AFTER = "2026-12-01T10:00"
NAME = "副本データ送信管理簿-204129-2026-11"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site of the real plan, with nothing recorded."""
    (tmp_path / "inventories").symlink_to(project_root() / "inventories")
    monkeypatch.setenv("KOSEKI_ROOT", str(tmp_path))
    return Site(tmp_path, "lab", "lab")


def given(site: Site, *happened: Event) -> None:
    """Record what happened."""
    history = History(site)
    with history.alone():
        for event in happened:
            history.record(event)


def printed(folder: Path, *more: str) -> Result:
    """Print the month of 売木村."""
    argv = ["duplicate", "print", "売木村", "--to", str(folder), "--at", AFTER]
    return CliRunner().invoke(cli, [*argv, *(more or ("--month", "2026-11"))])


def rows(path: Path) -> list[dict[str, str]]:
    """Return the lines of the book as a spreadsheet has them."""
    content = path.read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))


def test_each_day_and_each_attempt_has_its_line(site: Site, tmp_path: Path) -> None:
    """Received, sent again with both attempts, empty and open, and a day that nobody closed."""
    refused = events.Refused(error="E-CONTENT", answer="1", **on(difference(SECOND)))
    again = events.Resent(reason="文字対応表を更新", **on(difference(SECOND)))
    given(
        site,
        *whole(difference(FIRST)),
        *whole(difference(SECOND))[:3],
        refused,
        again,
        closed(difference(THIRD), 0),
    )
    folder = tmp_path / "books"
    done = printed(folder)
    assert done.exit_code == 0, done.output
    found = rows(folder / f"{NAME}.csv")
    assert [row["業務日"] for row in found][:4] == [str(FIRST), *[str(SECOND)] * 2, str(THIRD)]
    first, refused_row, second, third, fourth, *_rest = found
    assert (first["決裁"], first["抽出"], first["受領"], first["差"]) == ("3", "3", "3", "0")
    assert (first["状態"], first["遅延"]) == ("受領済", "")
    assert (refused_row["状態"], refused_row["エラー"]) == ("取消", "E-CONTENT")
    assert refused_row["関連する行"].endswith("-02")
    assert (second["回"], second["状態"], second["遅延"]) == ("2", "未抽出", "遅延")
    assert second["理由"] == "文字対応表を更新"
    assert (third["決裁"], third["抽出"]) == ("0", "")
    assert (fourth["業務日"], fourth["回"], fourth["遅延"]) == (str(FOURTH), "", "遅延")
    assert (folder / f"{NAME}.pdf").read_bytes().startswith(b"%PDF-")


def test_a_month_that_is_over_prints_the_same_again(site: Site, tmp_path: Path) -> None:
    """And what was changed by hand in the folder is not overwritten."""
    given(site, *whole(difference(FIRST)))
    assert printed(tmp_path / "books").exit_code == 0
    assert printed(tmp_path / "books").exit_code == 0
    (tmp_path / "books" / f"{NAME}.csv").write_text("mine", encoding="utf-8")
    assert isinstance(printed(tmp_path / "books").exception, KosekiError)


def test_a_month_that_runs_is_named_with_its_day(site: Site, tmp_path: Path) -> None:
    """It will have other lines tomorrow; the one of today keeps its name."""
    given(site, *whole(difference(FIRST)))
    early = ("--month", "2026-11", "--at", at(SECOND, "18:00:00").isoformat())
    assert printed(tmp_path / "books", *early).exit_code == 0
    assert (tmp_path / "books" / f"{NAME}-until-{SECOND}.csv").exists()


@pytest.mark.parametrize("month", ["2026-13", "２０２６-11", "2026-1", "202611"])
def test_a_month_is_written_plainly(site: Site, tmp_path: Path, month: str) -> None:
    """One sentence, and nothing is written."""
    done = printed(tmp_path / "books", "--month", month)
    assert isinstance(done.exception, KosekiError), site
    assert not (tmp_path / "books").exists()
