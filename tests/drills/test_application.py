"""A release is switched under traffic without a failed request, and a bad one goes back (K-08)."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from drills.conftest import Platform, leader_lost
from drills.corelock import cores
from drills.ledger import LEDGER
from koseki_ops.lab import releases
from koseki_ops.lab.plan import own_file

HOST = "application1"
# Asks three municipalities without pause, as their counters would, and counts what fails.
ASKER = """
import http.client, json, signal, socket, sys, time
stop = False
def end(*_):
    global stop
    stop = True
signal.signal(signal.SIGTERM, end)
asked, failed = 0, []
while not stop:
    for slug in ("iida", "takamori", "oshika"):
        for path in ("/?kana=%E3%81%82", "/health"):
            connection = http.client.HTTPConnection("localhost", timeout=60)
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(60)
            try:
                connection.sock.connect(f"/run/koseki/application/{slug}.sock")
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    failed.append(f"{slug} {path}: {answer.status}")
            except (OSError, http.client.HTTPException) as error:
                failed.append(f"{slug} {path}: {error!r}")
            asked += 1
            time.sleep(0.01)
with open("/run/koseki-asker.json", "w") as file:
    json.dump({"asked": asked, "failed": failed}, file)
"""

# What a release's SQL could try: each begins with a schema of its own, so that what is left of a
# half is seen. {file}: what a shell would make. All of it once worked, or would have, in a
# superuser's psql.
MUNICIPALITY = "oshika"
HOSTILE = (
    "SELECT 1; \\! touch {file}",
    "SELECT 'touch {file}' \\g |sh",
    "RESET ROLE; CREATE ROLE hostile;",
    "SELECT set_config('role', 'none', true); CREATE ROLE hostile;",
    "SELECT set_config('role', 'postgres', true); CREATE ROLE hostile;",
    "SET\nROLE postgres; CREATE ROLE hostile;",
    "SET SESSION AUTHORIZATION postgres; CREATE ROLE hostile;",
    "RESET SESSION AUTHORIZATION; CREATE ROLE hostile;",
    "DO $$BEGIN EXECUTE 'reset ' || 'role'; EXECUTE 'CREATE ROLE hostile'; END$$;",
    "END; CREATE ROLE hostile;",
    "COMMIT;",
    "ABORT; CREATE SCHEMA hostile;",
    "ROLLBACK AND CHAIN; CREATE SCHEMA hostile; COMMIT;",
    "DO $$BEGIN COMMIT; END$$;",
    "SAVEPOINT a; ROLLBACK TO a; PREPARE TRANSACTION 'a';",
    "'; END'; COMMIT; CREATE ROLE hostile; --",
    "\\'; END\\'; COMMIT; CREATE ROLE hostile; --",
    "COPY (SELECT 1) TO PROGRAM 'touch {file}';",
    "COPY (SELECT 1) TO '{file}';",
    "COPY koseki.numbers FROM '/etc/passwd';",
    "SELECT pg_read_file('/etc/passwd');",
    "SELECT lo_import('/etc/passwd');",
    "ALTER SYSTEM SET fsync = off;",
    "ALTER ROLE koseki_oshika_owner SUPERUSER;",
    "GRANT pg_execute_server_program TO koseki_oshika_owner;",
    "GRANT koseki_iida_app TO koseki_oshika_owner;",
    "CREATE EXTENSION file_fdw;",
    """CREATE FUNCTION hostile.t() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE EVENT TRIGGER hostile ON ddl_command_end EXECUTE FUNCTION hostile.t();""",
    "DROP TABLE platform.requests CASCADE;",
    "DELETE FROM platform.schema_files;",
    "CREATE OR REPLACE FUNCTION platform.open_request(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SELECT platform.note_schema_file({number}, 'itself', 'a', 'b');",
    """SELECT platform.note_schema_file({number}, 'itself', 'a', 'b'),
    platform.note_schema_file({number} + 1, 'the next', 'a', 'b');""",
    "SELECT platform.settle_requests();",
)
# What is not the municipality's: roles and what they may, settings, the platform's tables and code.
OTHERS = """
\\connect koseki_oshika
SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM pg_authid t;
SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM pg_auth_members t;
SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM pg_db_role_setting t;
SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM pg_event_trigger t;
SELECT md5(string_agg(relname || relacl::text, ' ' ORDER BY relname)) FROM pg_class
 WHERE relnamespace = 'platform'::regnamespace;
SELECT md5(string_agg(proname || prosrc, ' ' ORDER BY proname)) FROM pg_proc
 WHERE pronamespace = 'platform'::regnamespace;
SELECT md5(string_agg(t::text, ' ' ORDER BY t::text)) FROM platform.schema_files t;
SELECT pg_read_file('postgresql.auto.conf') ~ 'fsync', to_regnamespace('hostile') IS NULL;
"""


def switch(platform: Platform, version: str) -> subprocess.CompletedProcess[str]:
    """Ask for a version as the plan would."""
    with cores(1):
        LEDGER.count("playbook")
        done = releases.switch(platform.site, HOST, version)
    # Ansible breaks long sentences over lines.
    done.stdout = " ".join(done.stdout.split())
    return done


def running(platform: Platform) -> set[str]:
    """Return the versions that instances run, and what ails any of them."""
    seen = json.loads(platform.sh(HOST, "koseki-release status"))["instances"]
    return {row["version"] for row in seen.values()} | {row["ails"] for row in seen.values()} - {""}


def last_row(platform: Platform) -> dict[str, str]:
    """Return the last row of the change record."""
    rows = platform.sh(HOST, "cat /var/lib/koseki/releases/record.jsonl").splitlines()
    row: dict[str, str] = json.loads(rows[-1])
    return row


@pytest.mark.drill
@pytest.mark.leaves
def test_releases_come_and_go_without_a_failed_request(platform: Platform) -> None:
    """Forward under traffic; a release that does not start goes back; an older one is refused."""
    good, wrong = releases.later(1), releases.later(2)
    releases.prepare(platform.site, good)
    releases.prepare(platform.site, wrong, serve="#!/bin/sh\nexit 1\n")
    platform.sh(HOST, f"cat >/run/koseki-asker.py <<'PYTHON'\n{ASKER}\nPYTHON")
    unit = "systemd-run --quiet --collect --unit=koseki-asker"
    platform.sh(HOST, f"{unit} python3 /run/koseki-asker.py")
    time.sleep(1)
    forward = switch(platform, good)
    assert forward.returncode == 0, forward.stdout[-2000:]
    assert running(platform) == {good}
    bad = switch(platform, wrong)
    assert bad.returncode != 0
    assert f"{wrong} is not healthy" in bad.stdout, bad.stdout[-2000:]
    assert f"every instance runs {good} again" in bad.stdout, bad.stdout[-2000:]
    assert running(platform) == {good}
    row = last_row(platform)
    assert (row["action"], row["version"], row["from"]) == ("roll-back", good, wrong)
    platform.sh(HOST, "systemctl stop koseki-asker")
    counted = json.loads(platform.sh(HOST, "cat /run/koseki-asker.json"))
    assert counted["failed"] == []
    assert counted["asked"] > 100
    older = switch(platform, releases.VERSION)
    assert older.returncode != 0
    assert f"{good} is running and {releases.VERSION} is older" in older.stdout, older.stdout[
        -2000:
    ]
    assert running(platform) == {good}


def bring(platform: Platform, leader: str, number: int, texts: tuple[str, ...]) -> list[str]:
    """Bring each text to a database as the release's next file; return how each ended."""
    parts = []
    for text in texts:
        file = {"number": number, "file": "schema/drill.sql", "sha256": "a", "sql": text}
        row = {
            "database": f"koseki_{MUNICIPALITY}",
            "owner": f"koseki_{MUNICIPALITY}_owner",
            "files": [file],
        }
        work = json.dumps({"release": "1.0.0", "databases": [row]})
        parts.append(f"koseki-schema <<'WORK' 2>&1; echo \"@@ $?\"\n{work}\nWORK\n")
    said = platform.sh(leader, "\n".join(parts))
    return [part.strip() for part in said.split("@@ ")][1:]


@pytest.mark.drill
def test_a_releases_sql_reaches_nothing_but_its_own(platform: Platform) -> None:
    """Whatever it says, it is the owner's word; a right file is applied, and noted (K-01, K-08)."""
    leader, file = str(platform.leader()), "/var/tmp/hostile"  # noqa: S108 - what must not be there
    psql = "cd / && runuser -u postgres -- psql -XqtA --set=ON_ERROR_STOP=1"
    asked = "SELECT max(number) + 1 FROM platform.schema_files"
    number = int(platform.sh(leader, f"{psql} -d koseki_{MUNICIPALITY} -c '{asked}'"))
    before = platform.sh(leader, f"{psql} <<'SQL'\n{OTHERS}SQL\n")
    texts = tuple(
        "CREATE SCHEMA hostile;\n" + text.replace("{file}", file).replace("{number}", str(number))
        for text in HOSTILE
    )
    ends = bring(platform, leader, number, texts)
    assert len(ends) == len(HOSTILE)
    through = [text for text, end in zip(HOSTILE, ends, strict=True) if end[0] != "2"]
    assert through == [], ends
    assert platform.sh(leader, f"{psql} <<'SQL'\n{OTHERS}SQL\n") == before
    platform.sh(leader, f"! [ -e {file} ]")
    right = """CREATE SCHEMA drill; CREATE TABLE drill.a (x int); INSERT INTO drill.a VALUES (1);
    COMMENT ON TABLE drill.a IS 'a quote '' and a \\ and $$'; SELECT 1"""
    try:
        assert bring(platform, leader, number, (right,))[0][0] == "0"
        seen = f"SELECT x, file FROM drill.a, platform.schema_files WHERE number = {number}"  # noqa: S608 - ours
        told = platform.sh(leader, f'{psql} -d koseki_{MUNICIPALITY} -c "{seen}"')
        assert told.strip() == "1|schema/drill.sql"
    finally:
        noted = f"DELETE FROM platform.schema_files WHERE number = {number}"  # noqa: S608 - ours
        undone = f'-c "DROP SCHEMA IF EXISTS drill CASCADE" -c "{noted}"'
        platform.sh(leader, f"{psql} -d koseki_{MUNICIPALITY} {undone}")


@pytest.mark.drill
@pytest.mark.leaves
def test_the_leader_is_lost_while_a_release_comes(platform: Platform) -> None:
    """Its schema is applied once in every town, its program runs, as if nothing had been (K-03)."""
    version = releases.later(1)
    schema = ("0003-drill.sql", "CREATE TABLE koseki.drill (id int);\n")
    releases.prepare(platform.site, version, schema=schema)
    with own_file(platform.site, "application.yml") as plan:
        text = plan.read_text(encoding="utf-8")
        plan.write_text(text.replace(releases.VERSION, version), encoding="utf-8")
        leader_lost(platform, "services: Bring the schema of the release", 1.5, "apply")
        assert platform.report("apply")["failed"] == 0
        assert running(platform) == {version}
        applied = "SELECT count(*), max(number) FROM platform.schema_files"
        for row in platform.lab.inventory.shared["municipalities"]:
            ask = f"runuser -u postgres -- psql -XqtA -d koseki_{row['slug']} -c '{applied}'"
            assert platform.sh(str(platform.leader()), ask).strip() == "3|3", row["slug"]
        assert "changed=0" in switch(platform, version).stdout
        platform.koseki("verify", "application", "databases")
