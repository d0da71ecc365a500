"""Requests: what the inventory does not allow is refused, and what journals tell is read (K-05)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.cli_options import end_of
from koseki_ops.plan.site import Site
from koseki_ops.registers.requests.service import RegisterService, RequestSpec, check, read_event
from koseki_ops.remote.psql import literal

NOW = datetime.now(UTC)
GOOD = RequestSpec(
    "oshika", "sousa01", "大鹿村住民課", "sousa02", "依頼書第3号", "read", NOW + timedelta(hours=2)
)


@pytest.fixture(scope="module")
def registers() -> RegisterService:
    """The plan's own desk."""
    return RegisterService.of(Site.open("iida"))


def test_a_request_that_is_whole_is_allowed(registers: RegisterService) -> None:
    """The sample that every refusal below differs from in one thing."""
    check(registers, GOOD, NOW)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"slug": "nagano"}, "no municipality of this name has joined"),
        ({"operator": "sousa03"}, "not a valid operator today"),
        ({"operator": "root"}, "not a valid operator today"),
        ({"approver": "sousa03"}, "not a valid operator today"),
        ({"approver": "sousa01"}, "does not approve"),
        ({"requester": "sousa02"}, "does not approve"),
        ({"basis": ""}, "--basis is not one line"),
        ({"basis": " "}, "--basis is not one line"),
        ({"requester": "a\nb"}, "--requester is not one line"),
        ({"until": NOW}, "the expiry is in the past or too far ahead"),
        ({"until": NOW + timedelta(hours=73)}, "the expiry is in the past or too far ahead"),
    ],
)
def test_a_request_that_is_not_whole_is_refused(
    registers: RegisterService, change: dict[str, Any], said: str
) -> None:
    """Town, operator, approver, basis, requester and end: each alone (K-05)."""
    with pytest.raises(KosekiError, match=said):
        check(registers, replace(GOOD, **change), NOW)


def test_a_text_stays_a_text_in_sql() -> None:
    """A quote ends no literal; a backslash is itself (standard_conforming_strings)."""
    assert literal("it's \\ 葛󠄂") == "'it''s \\ 葛󠄂'"
    assert json.loads(literal({"a": "o'clock"})[1:-1].replace("''", "'")) == {"a": "o'clock"}


def line(text: str) -> str:
    """Return one line of a journal as `journalctl -o json` prints it."""
    return json.dumps({"__REALTIME_TIMESTAMP": "1764115200000000", "MESSAGE": text})


HEAD = "2026-11-26 01:24:31.742 UTC [6019] operator_sousa01@koseki_oshika [local]"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"{HEAD} FATAL:  no open request for operator_sousa01 in koseki_oshika", "refused"),
        (f'{HEAD} FATAL:  permission denied for database "koseki_oshika"', "refused"),
        (f"{HEAD} FATAL:  terminating connection due to administrator command", "ended"),
        (f"{HEAD} LOG:  session under request 2 of koseki_oshika", "session"),
        ("sousa01 : TTY=pts/0 ; PWD=/ ; USER=postgres ; COMMAND=/usr/bin/psql", "sudo"),
        (f"{HEAD} LOG:  connection authorized: user=operator_sousa01", None),
        ("sousa01 : TTY=pts/0 ; PWD=/ ; USER=sousa02 ; COMMAND=/usr/bin/id", None),
    ],
)
def test_a_journal_tells_of_operators(text: str, kind: str | None) -> None:
    """Refused, admitted, ended, or root by sudo; whatever else a person does is left out."""
    event = read_event("primary1", line(text))
    assert (event and event.kind) == kind
    if event:
        assert (event.operator, event.host) == ("sousa01", "primary1")
        assert "COMMAND" not in event.text


def test_an_end_is_said_in_one_way() -> None:
    """A moment without a zone is the site's; none, both or nonsense is refused."""
    zone = ZoneInfo("Asia/Tokyo")
    said = end_of("2026-12-01T17:00", None, zone)
    assert said.astimezone(UTC).isoformat() == "2026-12-01T08:00:00+00:00"
    assert end_of("2026-12-01T17:00+00:00", None, zone).astimezone(UTC).hour == 17
    assert timedelta(hours=1) < end_of(None, 2, zone) - NOW < timedelta(hours=3)
    for until, hours in ((None, None), ("2026-12-01T17:00", 2), ("tomorrow", None)):
        with pytest.raises(KosekiError):
            end_of(until, hours, zone)
