"""A request opens one town's database to one person and ends by itself (K-05)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from drills.conftest import Platform, soon, wait_for

PERSON = "sousa01"
SESSION, BYSTANDER = "koseki-drill-session", "koseki-drill-bystander"
# Long enough for what is tried under it on a busy machine; then a minute at most, and some.
SECONDS = 25
ENDS_WITHIN = SECONDS + 120
ASKED = ("--requester", "大鹿村住民課", "--approver", "sousa02", "--basis", "演習")


def psql(municipality: str, statement: str) -> str:
    """Return the command by which the person asks a town's database, as themselves."""
    return (
        f"cd / && setpriv --reuid={PERSON} --regid={PERSON} --clear-groups psql -XAtq "
        f'-d koseki_{municipality} -U operator_{PERSON} -c "{statement}" 2>&1'
    )


@pytest.mark.drill
def test_a_request_opens_one_municipality_and_ends_by_itself(platform: Platform) -> None:
    """Before, elsewhere, beyond its scope and after its end: refused, and all of it is listed."""
    leader = platform.leader()
    assert leader
    count = "select count(*) >= 0 from koseki.registers"

    def said(municipality: str, statement: str = count) -> str:
        return platform.sh(leader, psql(municipality, statement), check=False).strip()

    assert "permission denied for database" in said("oshika")
    end = soon(SECONDS)
    wanted = ("oshika", "--operator", PERSON, *ASKED, "--scope", "read")
    made = platform.report("request", "open", *wanted, "--until", end.isoformat())
    assert said("oshika") == "t"
    assert "permission denied" in said("oshika", "update koseki.registers set honseki = honseki")
    assert "permission denied for database" in said("iida")
    again = platform.koseki("request", "open", *wanted, "--hours", "1", check=False)
    assert (again.returncode, "close it first" in again.stderr) == (2, True), again.stderr
    # What the request grants is no drift.
    swept = platform.koseki("drift", "--limit", leader, check=False)
    assert "membership" not in swept.stdout, swept.stdout
    unit = f"systemd-run --quiet --collect --unit={SESSION} --uid={PERSON}"
    platform.sh(
        leader,
        f"{unit} psql -XAtq -d koseki_oshika -U operator_{PERSON} -c 'select pg_sleep(600)'",
    )
    bystander = f"systemd-run --quiet --collect --unit={BYSTANDER} --uid=postgres"
    platform.sh(leader, f"{bystander} psql -XAtq -d koseki_oshika -c 'select pg_sleep(600)'")
    # From here on nobody does anything.
    state = f"systemctl show -P ActiveState {SESSION}"
    assert platform.sh(leader, state).strip() == "active"
    over = "a session that ends with its request"
    wait_for(lambda: platform.sh(leader, state).strip() != "active", over, ENDS_WITHIN)
    assert datetime.now(UTC) >= end, "it ended before its end"
    # Nobody else's session ends with it.
    others = f"systemctl show -P ActiveState {BYSTANDER}; systemctl stop {BYSTANDER}"
    assert platform.sh(leader, others).strip() == "active"
    assert said("oshika") != "t"
    listed = platform.report("request", "list", "oshika")
    (row,) = (row for row in listed["requests"] if row["id"] == made["id"])
    assert (row["state"], row["ended_by"], row["approver"]) == ("expired", "the clock", "sousa02")
    seen = {event["kind"] for event in listed["events"] if event["operator"] == PERSON}
    assert {"refused", "session", "ended"} <= seen, listed["events"]


@pytest.mark.drill
def test_a_closed_request_is_over_at_once(platform: Platform) -> None:
    """Who corrects may do no more than the application; the close ends what runs (K-05)."""
    leader = platform.leader()
    assert leader
    wanted = ("oshika", "--operator", PERSON, *ASKED, "--scope", "correct", "--hours", "1")
    made = platform.report("request", "open", *wanted)

    def said(statement: str) -> str:
        return platform.sh(leader, psql("oshika", statement), check=False).strip()

    assert said("update koseki.registers set honseki = honseki where false; select 1") == "1"
    assert "permission denied" in said("delete from koseki.registers")
    assert "permission denied" in said("create table koseki.x (i int)")
    platform.koseki("request", "close", made["id"], "--by", "sousa02")
    assert "permission denied for database" in said("select 1")
    again = platform.koseki("request", "close", made["id"], "--by", "sousa02", check=False)
    assert again.returncode == 2
    changed = "update platform.requests set basis = 'x'"
    root = f'cd / && runuser -u postgres -- psql -XAtq -d koseki_oshika -c "{changed}" 2>&1'
    assert "is never changed" in platform.sh(leader, root, check=False)
