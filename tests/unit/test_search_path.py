"""A superuser's session in a municipality's database calls nothing that its owner put there.

Without a schema's name PostgreSQL looks where the session's search_path says: a function, operator
or table of the owner's own would run with the superuser's rights (CVE-2018-1058). Every psql that
the platform starts therefore pins it; a new one is red here until somebody has decided.
"""

from __future__ import annotations

import re
from pathlib import Path

from koseki_ops.plan.shares import OWN_SESSION

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("roles", "host_programs", "src/koseki_ops", "pyinfra_deploys", "tests/testinfra")
# A psql that is given options, or the first word of a task's arguments.
CALLED = re.compile(r"""\bpsql["',]*\s*["']?-|\[psql,""")
PINNED = "search_path=pg_catalog"
ONLY_POSTGRES = "asks the database postgres alone, which no municipality's role can enter"
AS_A_MUNICIPALITY = "comes as a municipality's own role, with its own rights"
OF_A_LAB = "works on a lab alone"
BY_HAND = "words for a person, whose session the role's own setting pins"
LEFT_OPEN = {
    "host_programs/koseki_backup/sbin/koseki-backup": ONLY_POSTGRES,
    "host_programs/koseki_backup_lag/sbin/koseki-backup-lag": ONLY_POSTGRES,
    "roles/municipal_databases/files/host-state.sh": ONLY_POSTGRES,
    "roles/pgbackrest/files/copies-state.sh": ONLY_POSTGRES,
    "roles/postgresql/files/etc/systemd/system/koseki-standby-snapshot.service": ONLY_POSTGRES,
    "src/koseki_ops/verify/plugin.py": ONLY_POSTGRES,
    "tests/testinfra/test_certificates.py": ONLY_POSTGRES,
    "tests/testinfra/test_databases.py": ONLY_POSTGRES,
    "tests/testinfra/test_replication.py": ONLY_POSTGRES,
    "tests/testinfra/test_takeover.py": AS_A_MUNICIPALITY,
    "src/koseki_ops/registers/requests/cli.py": AS_A_MUNICIPALITY,
    "src/koseki_ops/bench/platform.py": OF_A_LAB,
    "src/koseki_ops/lab/recording.py": OF_A_LAB,
    "src/koseki_ops/lab/writers.py": OF_A_LAB,
    "src/koseki_ops/drift/judge/repairs.py": BY_HAND,
}


def test_every_superusers_session_is_pinned_or_says_why_not() -> None:
    """A file that starts psql pins where it looks, or stands here with its reason (K-01)."""
    calling = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8", errors="replace")
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in {".po", ".mo", ".pyc"}
    }
    calling = {name: text for name, text in calling.items() if CALLED.search(text)}
    assert len(calling) > len(LEFT_OPEN)
    assert {name for name, text in calling.items() if PINNED not in text} == set(LEFT_OPEN)


def test_every_task_that_starts_psql_is_pinned() -> None:
    """One task of a file would not speak for the next one."""
    for path in (ROOT / "roles").glob("*/tasks/*.yml"):
        text = path.read_text(encoding="utf-8")
        given = f"PGOPTIONS: >-\n      -c {PINNED}\n      {OWN_SESSION}\n"
        assert text.count("[psql,") == text.count(given), path


def test_a_rows_text_is_postgresqls_own() -> None:
    """A cast is found by its types and not by a path: an owner may define one for his table."""
    program = (ROOT / "host_programs/rehearse_restore/rehearse-restore").read_text("utf-8")
    assert "textin(record_out(whole_row))" in program
    assert "t::text" not in program.split("DIGEST=")[1].split("DATABASES=")[0]
