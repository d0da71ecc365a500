"""K-13: `koseki duplicate` says what is late or wrong, and records what a person decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from duplicate_samples import URUGI, at, closed, days, difference, on, records, whole
from koseki_ops.cli import cli
from koseki_ops.core.errors import KosekiError
from koseki_ops.duplicates import events
from koseki_ops.duplicates.adapter import Adapter
from koseki_ops.duplicates.events import Event
from koseki_ops.duplicates.history import History
from koseki_ops.duplicates.layout import Record, StandIn
from koseki_ops.duplicates.model import State
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.plan.site import Site, project_root

FIRST, SECOND, THIRD = days(3)
BY = ("--by", "sousa01", "--reason", "文字対応表を更新した")
LATER = at(THIRD, "09:00:00").isoformat()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site of the real plan, with nothing recorded."""
    (tmp_path / "inventories").symlink_to(project_root() / "inventories")
    monkeypatch.setenv("KOSEKI_ROOT", str(tmp_path))
    return Site(tmp_path, "lab", "lab")


def given(site: Site, *happened: Event) -> History:
    """Record what happened."""
    history = History(site)
    with history.alone():
        for event in happened:
            history.record(event)
    return history


def run(*argv: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(cli, ["duplicate", *argv])


def last(result: Result) -> dict[str, Any]:
    """Return the JSON of the last line."""
    said: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return said


def test_status_is_green_when_every_day_is_final(site: Site) -> None:
    """At 08:59:59 what was closed yesterday is nobody's fault; at nine it is."""
    given(site, *whole(difference(FIRST)), *whole(difference(SECOND))[:3])
    early = run("status", "売木村", "--at", at(THIRD, "08:59:59").isoformat(), "--json")
    assert early.exit_code == 0, early.output
    assert last(early)["wrong"] == 0
    late = run("status", "urugi", "--at", LATER, "--json")
    assert late.exit_code == 1
    (row,) = last(late)["municipalities"]
    assert row["code6"] == URUGI
    assert [one["day"] for one in row["wrong"]] == [SECOND.isoformat()]
    assert row["wrong"][0]["since"] == LATER
    assert "引渡済" in late.stderr


def test_status_names_each_of_fourteen(site: Site) -> None:
    """Also those of which nothing was ever recorded: silence is no order."""
    given(site, *whole(difference(SECOND)))
    said = last(run("status", "--at", LATER, "--json"))
    assert len(said["municipalities"]) == 14
    assert said["wrong"] == 13
    assert last(run("status", "--at", "2016-01-05T10:00", "--json"))["wrong"] == 8


def test_a_month_is_shown_line_by_line(site: Site) -> None:
    """Show the days of 売木村; which one was late and why; who decided."""
    refused = events.Refused(error="E-CONTENT", answer="1", **on(difference(FIRST)))
    given(site, *whole(difference(FIRST))[:4], refused, closed(difference(SECOND), 0))
    assert run("resend", "売木村", str(FIRST), *BY).exit_code == 0
    shown = run("status", "売木村", "--month", "2026-11", "--at", LATER, "--json")
    assert shown.exit_code == 1
    lines = last(shown)["municipalities"][0]["days"]
    assert [one["day"] for one in lines][-2:] == [str(FIRST), str(SECOND)]
    assert (lines[-2]["term"], lines[-2]["attempt"], lines[-2]["late"]) == ("未抽出", 2, True)
    explained = run("explain", "売木村", str(FIRST), "--at", LATER, "--json")
    assert explained.exit_code == 1
    for told in ("却下", "E-CONTENT", "attempt 2", "resent by sousa01", "文字対応表を更新した"):
        assert told in explained.stdout
    first, second = last(explained)["attempts"]
    assert (first["state"], first["other"]) == ("cancelled", str(difference(FIRST, 2)))
    assert second["state"] == "not_extracted"


def test_explain_lists_what_cannot_be_converted(site: Site) -> None:
    """By register and code point; what is right is explained with exit 0."""
    history = given(site, *whole(difference(FIRST)), closed(difference(SECOND), 1))
    with history.alone():
        Adapter(history, StandIn()).extract(
            difference(SECOND), [Record("00000007", "戸籍 \ue000郎")], at(SECOND)
        )
    shown = run("explain", URUGI, str(SECOND), "--at", at(SECOND, "19:00:00").isoformat())
    assert shown.exit_code == 1
    assert "register 00000007, U+E000" in shown.stdout
    assert "郎" not in shown.output
    assert "koseki duplicate resend 204129 2026-11-10" in shown.output
    assert run("explain", URUGI, str(FIRST), "--at", LATER).exit_code == 0


def test_hold_close_and_all_registers(site: Site) -> None:
    """What a person decides, from the command's line to the ledger."""
    refused = events.Refused(error="E-1", answer="1", **on(difference(FIRST)))
    aside = events.Quarantined(code6=URUGI, at=at(FIRST), by="program", answer="a-1", reason="hash")
    history = given(site, *whole(difference(FIRST))[:4], refused, aside)
    for argv in (
        ("hold", "売木村"),
        ("hold", "売木村", "--release"),
        ("close", "売木村", "--answer", "a-1"),
        ("resend", "売木村", "--full", "--cause", "restore", "--approved", "120"),
        ("close", "売木村", str(FIRST)),
    ):
        done = run(*argv, *BY, "--json")
        assert done.exit_code == 0, done.output
        assert last(done)["recorded"][0]["by"] == "sousa01"
    history.read()
    municipality = history.municipality(URUGI)
    assert municipality.forced
    assert municipality.hold is None
    assert not municipality.quarantined
    assert [row.state for row in municipality.rows.values()] == [
        State.CANCELLED,
        State.NOT_EXTRACTED,
    ]
    rows = [row.record["event"] for row in Ledger(site, "duplicates").rows()][-6:]
    assert rows == ["held", "released", "answer closed", "full forced", "closed", "given up"]


BAD_INPUT = {
    "no such municipality": ("status", "中川村"),
    "a code of another 松川": ("status", "204820"),
    "a code of five digits": ("status", "20412"),
    "a month of thirteen": ("status", "--month", "2026-13"),
    "a month in full-width digits": ("status", "--month", "２０２６-11"),
    "a month as a day": ("status", "--month", "2026-11-01"),
    "a moment that is none": ("status", "--at", "9時"),
    "a year that is not known": ("status", "--at", "2031-01-05T10:00"),
    "31 November": ("explain", "売木村", "2026-11-31"),
    "another way to write a day": ("explain", "売木村", "20261109"),
    "a week": ("explain", "売木村", "2026-W46-1"),
    "a Sunday": ("explain", "売木村", "2026-11-15"),
    "resend of what is not there": ("resend", "売木村", "2026-11-11", *BY),
    "resend of what was received": ("resend", "売木村", str(FIRST), *BY),
    "resend of all of a day": ("resend", "売木村", str(SECOND), "--full", *BY),
    "resend of nothing": ("resend", "売木村", *BY),
    "all registers without a cause": ("resend", "売木村", "--full", *BY),
    "a cause without all registers": ("resend", "売木村", str(SECOND), "--cause", "vendor", *BY),
    "a cause that is none": ("resend", "売木村", "--full", "--cause", "mood", *BY),
    "a count below zero": ("resend", "売木村", str(SECOND), "--approved", "-1", *BY),
    "a count with a part": ("resend", "売木村", str(SECOND), "--approved", "17.5", *BY),
    "a count as a power": ("resend", "売木村", str(SECOND), "--approved", "1e7", *BY),
    "a count in full-width digits": ("resend", "売木村", str(SECOND), "--approved", "１２", *BY),
    "an empty count": ("resend", "売木村", str(SECOND), "--approved", "", *BY),
    "an operator who left": ("hold", "売木村", "--by", "sousa03", "--reason", "待ち"),
    "nobody": ("hold", "売木村", "--by", "", "--reason", "待ち"),
    "no reason": ("hold", "売木村", "--by", "sousa01"),
    "a reason of blanks": ("hold", "売木村", "--by", "sousa01", "--reason", "   "),
    "a reason of two lines": ("hold", "売木村", "--by", "sousa01", "--reason", "あ\nい"),
    "release of what nobody holds": ("hold", "売木村", "--release", *BY),
    "close without a successor": ("close", "売木村", str(SECOND), *BY),
    "close of what was received": ("close", "売木村", str(FIRST), *BY),
    "close of nothing": ("close", "売木村", *BY),
    "close of an answer that is not there": ("close", "売木村", "--answer", "x", *BY),
    "all registers where no day was closed": (
        *("resend", "大鹿村", "--full", "--cause", "vendor", "--approved", "9"),
        *BY,
    ),
}


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_is_one_sentence_and_nothing_is_written(site: Site, what: str) -> None:
    """Exit 2 at the edge, with a remedy, and the ledger byte for byte as it was."""
    refused = events.Refused(error="E-1", answer="1", **on(difference(SECOND)))
    given(site, *whole(difference(FIRST)), *whole(difference(SECOND))[:4], refused)
    before = Ledger(site, "duplicates").path.read_bytes()
    result = run(*BAD_INPUT[what])
    if isinstance(result.exception, KosekiError):
        assert result.exception.remedy
        assert "\n" not in str(result.exception)
    else:
        # What click itself refuses: an option that is missing, a choice that there is not.
        assert result.exit_code == 2, result.output
    assert Ledger(site, "duplicates").path.read_bytes() == before


def test_a_history_that_was_rewritten_is_seen(site: Site) -> None:
    """By `status` too: it does not report on what it cannot believe."""
    given(site, *whole(difference(FIRST)), *whole(difference(SECOND)))
    ledger = Ledger(site, "duplicates")
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    for spoilt in (
        [*lines[:2], lines[2].replace(b'"by":"sousa01"', b'"by":"sousa02"'), *lines[3:]],
        lines[:-1],
        [*lines[:3], *lines[4:]],
        [*lines[:-1], lines[-1].replace(b"R-1", b"R-2")],
    ):
        ledger.path.write_bytes(b"".join(spoilt))
        result = run("status", "--at", LATER)
        assert isinstance(result.exception, KosekiError)
        assert "koseki evidence verify" in str(result.exception)
        assert CliRunner().invoke(cli, ["evidence", "verify"]).exit_code == 1
    ledger.path.write_bytes(b"".join(lines))
    assert run("status", "売木村", "--at", LATER).exit_code == 0


def test_no_name_is_recorded(site: Site) -> None:
    """What goes into the ledger of a thousand records is counts and a hash."""
    history = given(site, closed(difference(FIRST), 1000))
    with history.alone():
        Adapter(history, StandIn()).extract(difference(FIRST), records(1000), at(FIRST))
    text = Ledger(site, "duplicates").path.read_text(encoding="utf-8")
    assert "葛" not in text
    assert "00000001" not in text
