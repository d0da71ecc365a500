"""Iida's counters read and issue for Oshika while that is declared; it ends by itself (K-06)."""

from __future__ import annotations

import base64
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from drills.conftest import Platform, soon, wait_for
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.trust.terminals import stand_ins_of

SLUG, HOST, OTHER = "oshika", "iida", "takamori"
APPLICATION = "application1"
# Long enough for what is done under it on a busy machine; then a minute at most, and some.
SECONDS = 40
ENDS_WITHIN = SECONDS + 120
DECLARED = ("--by", "sousa01", "--approver", "sousa02", "--cause", "演習：回線途絶")
REFUSED = 403
PORTS = Inventory(Site.open().inventory).platform.service_ports
AS_WHO_STANDS_IN = (
    f"cd / && PGUSER=koseki_{SLUG}_takeover PGSSLMODE=verify-ca "
    "PGSSLROOTCERT=/etc/koseki/pki/ca.crt "
    f"PGSSLCERT=/etc/koseki/municipalities/takeover-{SLUG}/client.crt "
    f"PGSSLKEY=/etc/koseki/municipalities/takeover-{SLUG}/client.key "
    f"setpriv --reuid=koseki-takeover-{SLUG} --regid=koseki-takeover-{SLUG} --clear-groups "
    f"psql -XAtq 'host=127.0.0.1 port={PORTS.proxy_leader} dbname=koseki_{SLUG}' -c \"{{}}\" 2>&1"
)


@dataclass(frozen=True)
class Answer:
    """What a terminal was answered."""

    status: int
    headers: str
    body: bytes


def ask(platform: Platform, who: str, path: str, *options: str) -> Answer:
    """Ask the gateway as a town's first terminal would, from its line."""
    site = platform.site
    keys = stand_ins_of(site)
    address = platform.lab.inventory.address_of(APPLICATION, "workstation")
    argv = platform.lab.terminal_argv(
        who,
        (
            *("curl", "-s", "-i", "-m", "60", "--cacert", str(site.state / "pki" / "ca.crt")),
            *("--cert", f"{keys}/{who}-01.crt", "--key", f"{keys}/{who}-01.key"),
            *options,
            f"https://{address}{path}",
        ),
    )
    said = subprocess.run(argv, capture_output=True, check=True).stdout
    head, _, body = said.partition(b"\r\n\r\n")
    lines = [line for line in head.decode().split("\r\n") if not line.startswith("Date:")]
    return Answer(int(lines[0].split()[1]), "\n".join(lines), body)


def standing(platform: Platform) -> dict[str, Any]:
    """Return what `koseki takeover status` says of the one municipality with the clause."""
    (row,) = platform.report("takeover", "status")["municipalities"]
    return dict(row)


@pytest.mark.drill
def test_the_host_municipality_issues_while_it_is_declared(registers: Platform) -> None:
    """Before, for others, by others and after: refused; between: read, issue, and nothing more."""
    platform = registers
    leader = platform.leader()
    assert leader
    before = ask(platform, HOST, f"/takeover/{SLUG}/")
    assert before.status == REFUSED
    none = platform.koseki("takeover", "declare", "高森町", *DECLARED, "--hours", "1", check=False)
    assert (none.returncode, "allows no takeover" in none.stderr) == (2, True), none.stderr
    end = soon(SECONDS)
    platform.koseki("takeover", "declare", "大鹿村", *DECLARED, "--until", end.isoformat())

    shown = ask(platform, HOST, f"/takeover/{SLUG}/?kana=%E3%81%82")
    found = re.search(r'href="registers/(\d+)"', shown.body.decode())
    assert shown.status == 200, shown
    assert "大鹿村　戸籍" in shown.body.decode()
    number = found.group(1) if found else "1"
    issue = f"/takeover/{SLUG}/registers/{number}/certificates"
    issued = ask(platform, HOST, issue, "--data", "operator=sousa02")
    assert issued.status == 200, issued
    printed = base64.b64encode(issued.body).decode()
    text = platform.sh(APPLICATION, f"echo {printed} | base64 -d | pdftotext - -")
    (plan,) = (row.takeover for row in platform.lab.inventory.platform.joined if row.takeover)
    assert "データ時点" in text
    assert "大鹿村代行第1号" in text
    for said in (plan.margin_note, plan.signatory):
        assert said in "".join(text.split()), text
    assert ask(platform, HOST, f"/takeover/{SLUG}/filings", "--data", "kind=x").status != 200
    nobody_else_gets_more(platform, before)
    swept = platform.koseki("drift", "--limit", leader, check=False)
    assert "membership" not in swept.stdout, swept.stdout
    # From here on nobody does anything.
    over = "a takeover that ends by itself"
    wait_for(lambda: ask(platform, HOST, f"/takeover/{SLUG}/") == before, over, ENDS_WITHIN)
    assert datetime.now(UTC) >= end
    wait_for(
        lambda: standing(platform)["takeovers"][0]["ended_by"] == "the clock",
        "its row",
        ENDS_WITHIN,
    )
    said = platform.sh(APPLICATION, AS_WHO_STANDS_IN.format("select 1"), check=False)
    assert "permission denied for database" in said

    end_of_it = standing(platform)
    assert (end_of_it["faults"], len(end_of_it["documents"])) == ([], 1)
    assert end_of_it["takeovers"][0]["state"] == "expired"
    a_taken_document_is_missed(platform, leader)


def nobody_else_gets_more(platform: Platform, before: Answer) -> None:
    """Neither other towns' terminals nor the application itself, while a takeover is declared."""
    # Other towns' terminals, Oshika's own among them, get the refusal from before.
    assert {ask(platform, who, f"/takeover/{SLUG}/") for who in (OTHER, SLUG)} == {before}
    # Whatever the application were told to do, the database lets it read and number, and no more.
    for statement in (
        "update koseki.registers set honseki = honseki",
        "insert into platform.takeover_documents (number) values (9)",
        "select platform.takeover_number()",
    ):
        said = platform.sh(APPLICATION, AS_WHO_STANDS_IN.format(statement), check=False)
        assert "ERROR" in said, said


def a_taken_document_is_missed(platform: Platform, leader: str) -> None:
    """The row of one goes by force, and comes back."""
    # A document that is taken away by force is missed.
    by_force(
        platform,
        leader,
        "create table platform.taken as table platform.takeover_documents",
        "alter table platform.takeover_documents disable trigger append_only",
        "delete from platform.takeover_documents",
    )
    missed = platform.koseki("takeover", "status", check=False)
    assert (missed.returncode, "number 1 was taken" in missed.stderr) == (1, True), missed.stderr
    by_force(
        platform,
        leader,
        "insert into platform.takeover_documents table platform.taken",
        "alter table platform.takeover_documents enable always trigger append_only",
        "drop table platform.taken",
    )
    assert standing(platform)["faults"] == []


def by_force(platform: Platform, leader: str, *statements: str) -> None:
    """Do to the town's database what nobody may."""
    said = " ".join(f'-c "{statement}"' for statement in statements)
    platform.sh(leader, f"cd / && runuser -u postgres -- psql -Xqd koseki_{SLUG} {said}")
