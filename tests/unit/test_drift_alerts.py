"""New drift is told once, again when it changes, and once more when it is over."""

from __future__ import annotations

import json
import re
import stat
import threading
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from drift_samples import HOSTILE, NOW, drifted, not_verified, store, sweep, waiver
from koseki_ops.core.errors import KosekiError
from koseki_ops.drift.model import Finding
from koseki_ops.drift.report.alerts import ALERTS_FILE, FOLDER, STATE_FILE, Notified, raise_alerts
from koseki_ops.plan.model import DriftAlerts, Waiver

ZONE = "Asia/Tokyo"
Box = Path


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """An MTA that takes mail as sendmail does: a file for each, the arguments beside it."""
    folder = tmp_path / "mails"
    folder.mkdir()
    program = tmp_path / "sendmail"
    program.write_text(
        f'#!/bin/sh\nset -eu\nn=$(ls {folder} | wc -l)\nprintf "%s\\n" "$@" >{tmp_path}/arguments\n'
        f"cat >{folder}/$n\n"
    )
    program.chmod(0o755)
    return folder


def settings(box: Box, **values: Any) -> DriftAlerts:  # noqa: ANN401 - any field
    """Return settings whose MTA is the box."""
    fields: dict[str, Any] = {
        "sender": "drift@koseki.internal",
        "recipients": [{"role": "情報課 当番", "address": "toban@koseki.internal"}],
        "sendmail": str(box.parent / "sendmail"),
        "holds_minutes": 60,
    }
    return DriftAlerts.model_validate(fields | values)


def tell(
    box: Box,
    *findings: Finding,
    at: float = NOW,
    waivers: tuple[Waiver, ...] = (),
    **values: Any,  # noqa: ANN401
) -> Notified:
    """Keep a sweep and tell what is new in it."""
    history = store(box.parent / "drift", *waivers)
    unreachable = values.pop("unreachable", ())
    kept = history.append(sweep(*findings, at=at, unreachable=unreachable))
    return raise_alerts(history, kept, settings(box, **values), ZONE)


def mails(box: Box) -> list[EmailMessage]:
    """Return the mails that were sent, oldest first."""
    found = []
    for path in sorted(box.iterdir(), key=lambda path: int(path.name)):
        mail = message_from_bytes(path.read_bytes(), policy=default)
        assert isinstance(mail, EmailMessage)
        found.append(mail)
    return found


def alerts(box: Box) -> list[dict[str, Any]]:
    """Return what an Alertmanager would read."""
    path = box.parent / "drift" / FOLDER / ALERTS_FILE
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def counts(notified: Notified) -> tuple[int, int, int]:
    """Return how many were new, changed and over."""
    assert notified.faults == ()
    return len(notified.new), len(notified.changed), len(notified.resolved)


def test_once_again_when_it_changes_and_when_it_is_over(box: Box) -> None:
    """One mail when it is new, none while it stands, one when it changes, one when it ends."""
    assert counts(tell(box, drifted())) == (1, 0, 0)
    assert counts(tell(box, drifted(), at=NOW + 900)) == (0, 0, 0)
    assert counts(tell(box, drifted(seen="0777"), at=NOW + 1800)) == (0, 1, 0)
    assert counts(tell(box, at=NOW + 2700)) == (0, 0, 1)
    assert counts(tell(box, at=NOW + 3600)) == (0, 0, 0)
    subjects = [str(mail["Subject"]) for mail in mails(box)]
    assert subjects == [
        "[koseki lab] 差異 drift: 新規 new 1",
        "[koseki lab] 差異 drift: 変化 changed 1",
        "[koseki lab] 差異 drift: 解消 resolved 1",
    ]


def test_nothing_is_told_of_nothing(box: Box) -> None:
    """Without drift there is no mail, and the file is an empty array."""
    assert not tell(box).anything
    assert mails(box) == []
    assert alerts(box) == []


def test_a_mail_says_what_where_since_when_and_what_to_do(box: Box) -> None:
    """Recipients as parts, times of the city, the repair, and the head of the history."""
    tell(box, drifted())
    (mail,) = mails(box)
    body = mail.get_content()
    assert str(mail["To"]) == "情報課 当番 <toban@koseki.internal>"
    assert mail["Auto-Submitted"] == "auto-generated"
    for words in (
        "2026-11-24 08:15 Asia/Tokyo",
        "primary1: file /etc/patroni/config.yml (mode)",
        "expected 0640, seen 0644",
        "koseki apply --limit primary1",
        "logged in: sousa01",
        drifted().id,
    ):
        assert words in body
    assert f"history: {store(box.parent / 'drift').head()}" in body
    sent = (box.parent / "arguments").read_text().splitlines()
    assert sent == ["-i", "-f", "drift@koseki.internal", "--", "toban@koseki.internal"]


def test_five_hundred_new_drifts_are_one_mail(box: Box) -> None:
    """A storm is one mail that names fifty and the number of the rest; the file has all."""
    tell(box, *(drifted(number) for number in range(500)))
    (mail,) = mails(box)
    assert "450 more" in mail.get_content()
    assert len(alerts(box)) == 500


def test_text_from_hosts_adds_no_line_and_no_header(box: Box) -> None:
    """A host cannot write headers, escape sequences or lines of its own into a mail."""
    tell(box, drifted(name=HOSTILE, seen=HOSTILE, repair=HOSTILE, logged_in=(HOSTILE,)))
    raw = (box / "0").read_bytes()
    (mail,) = mails(box)
    assert mail["Bcc"] is None
    assert b"\x1b" not in raw
    assert all(b > 31 or b in b"\r\n\t" for b in raw)
    assert not any(line.startswith("Bcc") for line in mail.get_content().splitlines())
    assert "葛󠄂𠮷" in mail.get_content()
    assert "\u202e" not in mail.get_content()
    assert "\u202e" not in alerts(box)[0]["labels"]["name"]


def test_an_unreachable_host_resolves_nothing(box: Box) -> None:
    """Its drift stands; that it is silent is told, and that it is back."""
    tell(box, drifted())
    unreachable = tell(box, not_verified("primary1"), at=NOW + 900, unreachable=["primary1"])
    assert counts(unreachable) == (1, 0, 0)
    assert len(alerts(box)) == 2
    assert counts(tell(box, drifted(), at=NOW + 1800)) == (0, 0, 1)


def test_a_waiver_resolves_and_its_end_tells_again(box: Box) -> None:
    """What is waived is over for whoever is called; when the waiver ends it is new."""
    tell(box, drifted())
    row = waiver(drifted())
    assert counts(tell(box, drifted(), at=NOW + 900, waivers=(row,))) == (0, 0, 1)
    assert counts(tell(box, drifted(), at=NOW + 1800, waivers=(row,))) == (0, 0, 0)
    end = row.expires.timestamp()
    assert counts(tell(box, drifted(), at=end, waivers=(row,))) == (1, 0, 0)


def test_the_file_is_an_alertmanagers(box: Box) -> None:
    """Labels never change while an alert stands; its end is ahead, or past when it is over."""
    tell(box, drifted())
    (first,) = alerts(box)
    tell(box, drifted(seen="0777"), at=NOW + 900)
    (second,) = alerts(box)
    tell(box, at=NOW + 1800)
    (third,) = alerts(box)
    assert first["labels"] == second["labels"] == third["labels"]
    assert first["labels"]["alertname"] == "KosekiDrift"
    assert first["labels"]["id"] == drifted().id
    assert (first["startsAt"], first["endsAt"]) == ("2026-11-23T23:15:00Z", "2026-11-24T00:15:00Z")
    assert second["endsAt"] == "2026-11-24T00:30:00Z"
    assert third["endsAt"] == "2026-11-23T23:45:00Z"
    assert set(first) == {"labels", "annotations", "startsAt", "endsAt"}
    assert all(text for row in (first["labels"], first["annotations"]) for text in row.values())
    tell(box, at=NOW + 1800 + 3600)
    assert alerts(box) == []
    path = box.parent / "drift" / FOLDER / ALERTS_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (None, "the MTA cannot be started .*install an MTA"),
        ("#!/bin/sh\necho 'no such user' >&2\nexit 67\n", "refused it .*exit 67 no such user"),
    ],
)
def test_a_mail_that_was_not_sent_is_said_and_sent_later(
    box: Box, program: str | None, sentence: str
) -> None:
    """No MTA, or one that refuses, is a sentence; the next sweep tells again; the file is there."""
    good = (box.parent / "sendmail").read_text()
    if program is None:
        (box.parent / "sendmail").unlink()
    else:
        (box.parent / "sendmail").write_text(program)
    (fault,) = tell(box, drifted()).faults
    assert re.search(sentence, fault), fault
    assert len(alerts(box)) == 1
    (box.parent / "sendmail").write_text(good)
    (box.parent / "sendmail").chmod(0o755)
    assert counts(tell(box, drifted(), at=NOW + 900)) == (1, 0, 0)
    assert len(mails(box)) == 1


def test_a_state_that_cannot_be_read_is_named(box: Box) -> None:
    """What was told is not forgotten silently."""
    tell(box, drifted())
    (box.parent / "drift" / FOLDER / STATE_FILE).write_text("{")
    with pytest.raises(KosekiError, match="the record of sent alerts cannot be read"):
        tell(box, drifted(), at=NOW + 900)


class Alertmanager(HTTPServer):
    """A server that takes alerts as an Alertmanager does."""

    status = 200
    taken: list[tuple[str, str | None, Any]]


class Handler(BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    server: Alertmanager

    def do_POST(self) -> None:
        """Take alerts."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        row = (self.path, self.headers["Content-Type"], json.loads(body))
        self.server.taken.append(row)
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"as you say")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def alertmanager() -> Iterator[Alertmanager]:
    """A server on loopback."""
    server = Alertmanager(("127.0.0.1", 0), Handler)
    server.taken = []
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def webhook(port: int) -> dict[str, Any]:
    """Return a webhook on loopback."""
    return {"address": "127.0.0.1", "port": port, "path": "/api/v2/alerts"}


def test_an_alertmanager_takes_them_by_http(box: Box, alertmanager: Alertmanager) -> None:
    """Every sweep sends all that stands, so that none ends by itself."""
    port = alertmanager.server_address[1]
    tell(box, drifted(), webhook=webhook(port))
    tell(box, drifted(), at=NOW + 900, webhook=webhook(port))
    assert [row[:2] for row in alertmanager.taken] == [("/api/v2/alerts", "application/json")] * 2
    assert alertmanager.taken[1][2] == alerts(box)


def test_an_alertmanager_that_refuses_or_is_silent_is_said(
    box: Box, alertmanager: Alertmanager
) -> None:
    """The mail went out all the same."""
    port = alertmanager.server_address[1]
    alertmanager.status = 500
    (fault,) = tell(box, drifted(), webhook=webhook(port)).faults
    assert fault.startswith("the Alertmanager refused the alerts")
    assert "500 as you say" in fault
    alertmanager.shutdown()
    alertmanager.socket.close()
    (fault,) = tell(box, drifted(1), at=NOW + 900, webhook=webhook(port)).faults
    assert fault.startswith("the Alertmanager did not take the alerts")
    assert len(mails(box)) == 2
