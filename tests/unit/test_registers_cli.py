"""Requests, takeovers and the link by their commands, said to hosts that answer as recorded."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click import Command
from click.testing import CliRunner, Result

from hosts import Answer, Hosts
from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.site import project_root
from koseki_ops.registers.link.cli import link_group
from koseki_ops.registers.requests.cli import request_group
from koseki_ops.registers.takeovers.cli import takeover_group

LEADER, OTHER, LINK = "primary1", "secondary1", "registry-link1"
MEMBERS = Answer(
    "patronictl",
    json.dumps(
        [
            {"Member": LEADER, "Role": "Leader", "State": "running", "TL": 3},
            {"Member": OTHER, "Role": "Sync Standby", "State": "streaming", "TL": 3},
        ]
    ),
)
ORDER = [
    *("open", "oshika", "--operator", "sousa01", "--requester", "住民課", "--approver", "sousa02"),
    *("--basis", "依頼書", "--scope", "read", "--hours", "2"),
]
REQUEST: dict[str, Any] = {
    "number": 3,
    "operator": "sousa01",
    "scope": "read",
    "basis": "依頼書第3号",
    "requester": "住民課",
    "approver": "sousa02",
    "opened_at": "2026-11-24T08:00:00+09:00",
    "expires_at": "2026-11-24T10:00:00+09:00",
    "ended_at": "2026-11-24T08:30:00+09:00",
}
TAKEOVER: dict[str, Any] = {
    "number": 2,
    "starts_at": "2026-11-24T08:00",
    "ends_at": "2026-11-25T08:00",
    "ended_at": "2026-11-24T09:00",
    "cause": "回線途絶",
    "declared_by": "sousa01",
    "approver": "sousa02",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the plan and keys of its own; they are made once."""
    made = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("secrets.yml")
    source = project_root() / "inventories"
    shutil.copytree(source, made / "inventories", symlinks=True, ignore=ignore)
    return made


@pytest.fixture
def hosts(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """The site's hosts."""
    monkeypatch.setenv("KOSEKI_ROOT", str(root))
    return Hosts(tmp_path, monkeypatch)


def run(group: Command, *words: str) -> Result:
    """Run a command; what it raises is in its result."""
    return CliRunner().invoke(group, list(words))


def refusal(result: Result) -> str:
    """Return the sentence that a command was refused with."""
    assert isinstance(result.exception, KosekiError)
    return str(result.exception)


def last(result: Result) -> dict[str, Any]:
    """Return the JSON object at the end."""
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def test_a_request_is_said_to_whoever_leads(hosts: Hosts) -> None:
    """Its terms go to that town's database on the leader, on standard input, and nowhere else."""
    hosts.answer(MEMBERS, Answer("open_a_request", "3\n", host=LEADER))
    done = run(request_group, *ORDER, "--json")
    assert (done.exit_code, last(done)["id"]) == (0, "oshika-3"), done.output
    assert done.stdout.startswith("oshika-3 is open until ")
    (asked,) = [text for text in hosts.asked() if "open_a_request" in text]
    command, script = asked.split("\n", 1)
    assert command.startswith(f"{LEADER} ")
    assert "sousa01" not in command
    assert "\\connect koseki_oshika\n" in script
    assert '"basis": "依頼書"' in script


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ((), "no database host reports the state of the cluster .*No route to host"),
        ((Answer("patronictl", "[]"),), "has no leader .*nobody leads"),
        (
            (MEMBERS, Answer("open_a_request", stderr="psql:<stdin>:2: ERROR:  open\n", code=3)),
            r"the database refused \(open\)",
        ),
        (
            (MEMBERS, Answer("open_a_request", stderr="sudo: a password is required\n", code=1)),
            r"the database refused \(sudo: a password is required\)",
        ),
    ],
)
def test_what_is_in_the_way_of_a_request_is_said(
    hosts: Hosts, answers: tuple[Answer, ...], said: str
) -> None:
    """Nobody answers, nobody leads, the server's own sentence, or the host's."""
    hosts.answer(*answers)
    with pytest.raises(KosekiError, match=said):
        raise run(request_group, *ORDER).exception or AssertionError("nothing was in the way")


def test_a_request_is_closed_by_its_id(hosts: Hosts) -> None:
    """Its sessions end with it; what is no id is never said to a database."""
    hosts.answer(MEMBERS, Answer("close_a_request", host=LEADER))
    assert run(request_group, "close", "oshika-3", "--by", "sousa02").exit_code == 0
    (asked,) = [text for text in hosts.asked() if "close_a_request" in text]
    assert "close_a_request(3, 'sousa02')" in asked
    assert "end_sessions()" in asked
    before = len(hosts.asked())
    assert "not a request's id" in refusal(
        run(request_group, "close", "3; DROP", "--by", "sousa02")
    )
    assert len(hosts.asked()) == before


def journal(text: str) -> str:
    """Return one line of a journal."""
    return json.dumps({"MESSAGE": text, "__REALTIME_TIMESTAMP": "1795475700000000"}) + "\n"


def test_requests_are_listed_with_what_the_journals_tell(hosts: Hosts) -> None:
    """Open and closed ones, a refusal of the town's; a host that is unreachable makes it exit 2."""
    rows = [
        {**REQUEST, "municipality": "oshika", "state": "open"},
        {**REQUEST, "municipality": "oshika", "number": 4, "state": "closed"},
    ]
    seen = journal("operator_sousa01@koseki_oshika [local] FATAL:  no open request for this")
    seen += journal("operator_sousa01@koseki_iida [local] FATAL:  no open request for this")
    listed = Answer("platform.requests", "".join(json.dumps(row) + "\n" for row in rows))
    hosts.answer(MEMBERS, listed, Answer("journalctl", seen, host=LEADER))
    done = run(request_group, "list", "oshika", "--json")
    assert done.exit_code == 2
    report = last(done)
    assert [row["id"] for row in report["requests"]] == ["oshika-3", "oshika-4"]
    assert [event["database"] for event in report["events"]] == ["koseki_oshika"]
    assert set(report["silent"]) == {OTHER}
    open_one, closed = done.stdout.splitlines()[:2]
    assert "– 2026-11-24T10:00:00+09:00" in open_one
    assert "– 2026-11-24T08:30:00+09:00" in closed
    # One that ends with another code than a journal's is not believed, whatever it says.
    hosts.answer(MEMBERS, listed, Answer("journalctl", code=255))
    assert set(last(run(request_group, "list", "--json"))["silent"]) == {LEADER, OTHER}
    # A journal without a line of ours ends with 1 and says nothing.
    hosts.answer(MEMBERS, listed, Answer("journalctl", code=1))
    quiet = run(request_group, "list", "--open")
    assert quiet.exit_code == 0
    assert len(quiet.stdout.splitlines()) == 1


def test_a_takeover_is_declared_and_ended(hosts: Hosts) -> None:
    """Both are said to that town's database on the leader."""
    hosts.answer(
        MEMBERS, Answer("declare_takeover", "2\n", host=LEADER), Answer("end_takeover", host=LEADER)
    )
    words = ["declare", "大鹿村", "--by", "sousa01", "--approver", "sousa02", "--cause", "回線途絶"]
    end = datetime.now(UTC) + timedelta(hours=24)
    done = run(takeover_group, *words, "--until", end.isoformat(), "--json")
    assert last(done) == {"id": "oshika-2", "ends_at": end.isoformat()}
    ended = run(takeover_group, "end", "大鹿村", "--by", "sousa02")
    assert ended.stdout == "nobody issues for oshika any more\n"
    assert all("\\connect koseki_oshika\n" in text for text in hosts.asked() if "_takeover" in text)


def test_the_numbers_of_takeovers_are_reconciled(hosts: Hosts) -> None:
    """A number without a document, and one outside of its takeover: exit 1, named."""
    row: dict[str, Any] = {
        "municipality": "oshika",
        "last": 2,
        "takeovers": [
            {**TAKEOVER, "state": "ended"},
            {**TAKEOVER, "number": 3, "state": "open"},
        ],
        "documents": [{"number": 1, "within": True}],
    }
    hosts.answer(MEMBERS, Answer("takeover", json.dumps(row) + "\n", host=LEADER))
    done = run(takeover_group, "status", "--json")
    assert done.exit_code == 1
    assert "number 2 was taken and has no document" in done.stderr
    first, second, counted = done.stdout.splitlines()[:3]
    assert first.startswith("oshika-2 ended    2026-11-24T08:00 – 2026-11-24T09:00")
    assert second.startswith("oshika-3 open     2026-11-24T08:00 – 2026-11-25T08:00")
    assert counted == "oshika: 1 documents issued"
    row |= {"last": 1}
    hosts.answer(MEMBERS, Answer("takeover", json.dumps(row) + "\n", host=LEADER))
    assert run(takeover_group, "status", "大鹿村").exit_code == 0


FLOW: dict[str, Any] = {
    "direction": "in",
    "flow": "address-change",
    "term": "附票記載事項通知",
    "next": 7,
    "mode": "automatic",
    "reason": "",
    "by": "",
}


def test_the_link_is_shown_municipality_by_municipality(hosts: Hosts) -> None:
    """Numbers, who took a flow over and why, what waits, what stands in the way."""
    municipality: dict[str, Any] = {
        "town": "oshika",
        "flows": [FLOW, {**FLOW, "mode": "manual", "reason": "回線障害", "by": "sousa01"}],
        "waiting": ["204170-address-change-00000007.jsonl"],
        "quarantine": [
            {"open": True, "file": "a", "code": "hash", "detail": "x"},
            {"open": False, "file": "b", "code": "count", "detail": "y"},
        ],
        "outbox_set_aside": 4,
    }
    hosts.answer(Answer("koseki-link oshika status", json.dumps(municipality) + "\n", host=LINK))
    done = run(link_group, "status", "oshika", "--json")
    assert last(done) == {"towns": [municipality]}
    automatic, manual, waits, stands, aside, rows = done.stdout.splitlines()[:6]
    assert "by hand" not in automatic
    assert "by hand: 回線障害 (sousa01)" in manual
    assert waits.endswith("waits       204170-address-change-00000007.jsonl")
    assert "STANDS" in stands
    assert "quarantine" in aside
    assert rows.endswith("4 rows cannot be sent")


@pytest.mark.parametrize(
    "words",
    [
        ("manual", "address-change"),
        ("automatic", "address-change"),
        ("resend", "address-change", "12"),
        ("apply-file", "204170-address-change-00000007.jsonl"),
        ("release", "204170-address-change-00000007.jsonl"),
    ],
    ids=lambda words: words[0],
)
def test_what_is_done_by_hand_names_who_and_why(hosts: Hosts, words: tuple[str, ...]) -> None:
    """The program on the host is told both; a stranger does nothing."""
    hosts.answer(Answer("koseki-link oshika", '{"flow": "address-change"}\n', host=LINK))
    command, *rest = words
    told = [command, "oshika", *rest, "--reason", "回線 障害"]
    done = run(link_group, *told, "--by", "sousa01", "--json")
    assert (done.exit_code, last(done)) == (0, {"flow": "address-change"}), done.output
    (asked,) = hosts.asked()
    # Its name of before, which still works, is the one of the program on the host.
    verb = "release" if command == "apply-file" else command
    assert f"oshika {' '.join((verb, *rest))} '--reason=回線 障害' --by=sousa01" in asked
    assert "not a valid operator today" in refusal(run(link_group, *told, "--by", "root"))
    assert len(hosts.asked()) == 1


def test_the_links_own_refusal_is_told(hosts: Hosts) -> None:
    """Its sentence without its name; a town that never joined is not asked about."""
    hosts.answer(Answer("status", stderr="koseki-link: no such flow\n", code=2))
    assert f"`koseki-link status` failed on {LINK} (no such flow)" in refusal(
        run(link_group, "status")
    )
    strange = run(link_group, "status", "nagano")
    assert "no such municipality, or it has not joined" in refusal(strange)


NONSENSE = ("[" * 4000, '"\\ud800"', '{"a": 1, "a": 2}', "7", "{}", "\x1b[2J\r", '{"last": 1e999}')


@pytest.mark.parametrize("said", NONSENSE, ids=range(len(NONSENSE)))
def test_a_host_that_says_something_else_is_named(hosts: Hosts, said: str) -> None:
    """Leader or link: one sentence, and nothing of theirs reaches whoever reads it."""
    hosts.answer(MEMBERS, Answer("platform.", said + "\n"), Answer("koseki-link", said + "\n"))
    asked = ((request_group, "list"), (takeover_group, "status"), (link_group, "status"))
    for group, *words in asked:
        sentence = refusal(run(group, *words))
        assert "did not answer what it was asked" in sentence
        assert sentence.isprintable()


def test_the_link_of_each_municipality_says_what_it_was_asked(hosts: Hosts) -> None:
    """So many answers as towns, and in none what there should be."""
    hosts.answer(Answer("koseki-link", "{}\n"))
    assert "KeyError" in refusal(run(link_group, "status", "oshika"))


def test_numbers_that_nobody_issued_are_not_counted_out(hosts: Hosts) -> None:
    """A last number of many digits would be held in memory, one by one."""
    said = json.dumps({"municipality": "oshika", "last": 10**15, "takeovers": [], "documents": []})
    hosts.answer(MEMBERS, Answer("platform.", said + "\n"))
    assert f"{10**15} documents" in refusal(run(takeover_group, "status"))


@pytest.mark.parametrize("moment", ["9" * 19, "x", "", "-1e5"])
def test_a_journal_that_cannot_be_read_is_that_hosts(hosts: Hosts, moment: str) -> None:
    """The other server's is told all the same."""
    right = journal("operator_sousa01@koseki_oshika [local] FATAL:  no open request for this")
    wrong = right.replace("1795475700000000", moment)
    hosts.answer(
        MEMBERS,
        Answer("platform.requests", ""),
        Answer("journalctl", wrong, host=LEADER),
        Answer("journalctl", right, host=OTHER),
    )
    report = last(run(request_group, "list", "--json"))
    assert set(report["silent"]) == {LEADER}
    assert [event["host"] for event in report["events"]] == [OTHER]
