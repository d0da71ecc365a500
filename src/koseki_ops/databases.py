"""What must be said in SQL so that each municipality has a database that is its own alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koseki_ops.errors import KosekiError

TEMPLATE = "koseki_template"
COMMON_ROLE = "koseki_application"
LINK_ROLE = "koseki_link"
REWIND_ROLE = "rewinder"
END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"
PLATFORM_FILE = re.compile(r"[0-9]{4}-[a-z][a-z-]*\.sql")


def platform_statements(state: Mapping[str, Any]) -> list[str]:
    """Return the SQL that is missing before any municipality: the template, and closed doors.

    state: what `state.sql` of the role reports (roles, those that may log in, members, tablespaces,
    databases with owner, tablespace and whether they are open, who may connect where).
    """
    wanted: list[str] = []
    wanted += [
        f"CREATE ROLE {role} NOLOGIN"
        for role in (COMMON_ROLE, LINK_ROLE)
        if role not in state["roles"]
    ]
    wanted += _closed(("postgres", "template1"), state["public_connect"])
    # pg_rewind asks the leader through this database; a member that was lost comes back by it.
    if REWIND_ROLE in state["roles"] and REWIND_ROLE not in state["connect"].get("postgres", []):
        wanted.append(f"GRANT CONNECT ON DATABASE postgres TO {REWIND_ROLE}")
    if TEMPLATE not in state["databases"]:
        wanted.append(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
    if TEMPLATE in state["public_connect"] or TEMPLATE not in state["databases"]:
        wanted.append(f"REVOKE ALL ON DATABASE {TEMPLATE} FROM PUBLIC")
    return wanted


def tenant_statements(tenants: Sequence[Mapping[str, str]], state: Mapping[str, Any]) -> list[str]:
    """Return the SQL that is missing for the municipalities, in order; empty when all is right.

    tenants: as `municipalities.tenants` gives them; state: as for `platform_statements`.
    """
    roles, members = set(state["roles"]), set(state["members"])
    return [statement for tenant in tenants for statement in _tenant(tenant, state, roles, members)]


def sealed_statements(left: Sequence[Mapping[str, str]], state: Mapping[str, Any]) -> list[str]:
    """Return the SQL that closes the databases of municipalities that have left; their data stays.

    left: as `municipalities.tenants` gives them; state: as for `platform_statements`. Nobody can
    connect to a sealed database, the superuser included, until it is opened on purpose.
    """
    wanted = []
    for tenant in left:
        there = state["databases"].get(tenant["database"])
        wanted += [
            f"ALTER ROLE {role} NOLOGIN"
            for role in sorted(state["logins"])
            if role.startswith(f"{tenant['database']}_")
        ]
        if there is None:
            continue
        name = tenant["database"]
        wanted += [
            f"REVOKE ALL ON DATABASE {name} FROM {role}"
            for role in sorted(state["connect"].get(name, []))
            if role != tenant["owner"]
        ]
        if there["open"]:
            wanted.append(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            wanted.append(END_SESSIONS.format(name))
    return wanted


def _closed(databases: Sequence[str], public_connect: Sequence[str]) -> list[str]:
    return [
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC" for name in databases if name in public_connect
    ]


def _roles(
    tenant: Mapping[str, str], state: Mapping[str, Any], roles: set[str], members: set[str]
) -> list[str]:
    wanted = []
    owner, application, link = tenant["owner"], tenant["application"], tenant["link"]
    if owner not in roles:
        wanted.append(f"CREATE ROLE {owner} NOLOGIN")
    if application not in roles:
        wanted.append(f"CREATE ROLE {application} LOGIN CONNECTION LIMIT 20")
    elif application not in state["logins"]:
        wanted.append(f"ALTER ROLE {application} LOGIN")
    if application not in members:
        wanted.append(f"GRANT {COMMON_ROLE} TO {application}")
    if link not in roles:
        wanted.append(f"CREATE ROLE {link} LOGIN CONNECTION LIMIT 6")
    elif link not in state["logins"]:
        wanted.append(f"ALTER ROLE {link} LOGIN")
    if link not in state["link_members"]:
        wanted.append(f"GRANT {LINK_ROLE} TO {link}")
    return wanted


def _tenant(
    tenant: Mapping[str, str], state: Mapping[str, Any], roles: set[str], members: set[str]
) -> list[str]:
    wanted = _roles(tenant, state, roles, members)
    owner, application, database = tenant["owner"], tenant["application"], tenant["database"]
    link = tenant["link"]
    if tenant["tablespace"] not in state["tablespaces"]:
        folder = tenant["folder"]
        wanted.append(f"CREATE TABLESPACE {tenant['tablespace']} OWNER {owner} LOCATION '{folder}'")
    there = state["databases"].get(database)
    if there is None:
        wanted.append(
            f"CREATE DATABASE {database} OWNER {owner} TEMPLATE {TEMPLATE} "
            f"TABLESPACE {tenant['tablespace']}"
        )
    else:
        if there["owner"] != owner:
            wanted.append(f"ALTER DATABASE {database} OWNER TO {owner}")
        if there["tablespace"] != tenant["tablespace"]:
            wanted.append(f"ALTER DATABASE {database} SET TABLESPACE {tenant['tablespace']}")
        if not there["open"]:
            wanted.append(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
    if there is None or database in state["public_connect"]:
        wanted.append(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
    may_connect = set(state["connect"].get(database, []))
    wanted += [
        f"GRANT CONNECT ON DATABASE {database} TO {role}"
        for role in (application, link)
        if role not in may_connect
    ]
    wanted += [
        f"REVOKE ALL ON DATABASE {database} FROM {name}"
        for name in sorted(may_connect - {application, link, owner})
    ]
    return wanted


@dataclass(frozen=True)
class Series:
    """Numbered SQL files, each applied once to a municipality's database and noted there.

    table: where they are noted, in the schema platform; columns: what stands there beside number,
    file and sha256; note: the values of those columns, as SQL; files: number, file, sha256 and sql
    of each, in order; by_owner: whether they are run as the owner of that database, else as the
    platform's superuser.
    """

    table: str
    columns: str
    note: str
    files: Sequence[Mapping[str, Any]]
    by_owner: bool

    def heading(self) -> str:
        """Return what must be there before the first file: the table is the platform's own."""
        return f"""CREATE TABLE IF NOT EXISTS platform.{self.table} (
  number int PRIMARY KEY,
  file text NOT NULL,
  sha256 text NOT NULL,{self.columns}
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT ON platform.{self.table} TO {COMMON_ROLE};"""


def schema_statements(
    release: Mapping[str, Any], tenants: Sequence[Mapping[str, str]], seen: Mapping[str, Any]
) -> str:
    """Return the psql script that brings a release's schema to each database; empty when all is so.

    release: a verified release, as `koseki_ops.release.verify` gives it; seen: as for `_missing`.
    """
    files = [{**row, "sql": release["sql"][row["file"]]} for row in release["schema"]]
    columns, note = "\n  release text NOT NULL,", f", '{release['version']}'"
    return _missing(Series("schema_files", columns, note, files, by_owner=True), tenants, seen)


def platform_files(folder: Path) -> list[dict[str, Any]]:
    """Return the platform's own SQL files of a folder in order: number, file, sha256 and sql.

    KosekiError: a file that is not called NNNN-name.sql, or two of one number.
    """
    rows: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.iterdir()):
        if not PLATFORM_FILE.fullmatch(path.name):
            raise KosekiError("no name for an SQL file", path.name, "call it NNNN-name.sql")
        number, content = int(path.name[:4]), path.read_bytes()
        if number in rows:
            seen = f"{rows[number]['file']} and {path.name}"
            raise KosekiError("two SQL files have one number", seen, "give one the next number")
        rows[number] = {
            "number": number,
            "file": path.name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "sql": content.decode(),
        }
    return list(rows.values())


def platform_file_statements(
    folder: Path, tenants: Sequence[Mapping[str, str]], seen: Mapping[str, Any]
) -> str:
    """Return the psql script that brings the platform's own SQL to each database; empty when so.

    They are run by the superuser and stay his: no role of a municipality can alter what they make.
    folder: as for `platform_files`; seen: as for `_missing`.
    """
    series = Series("platform_files", "", "", platform_files(folder), by_owner=False)
    return _missing(series, tenants, seen)


def _missing(series: Series, tenants: Sequence[Mapping[str, str]], seen: Mapping[str, Any]) -> str:
    """Return the psql script of a series' files that are missing, one transaction a file.

    seen: what applied-files.sh reports: whether this host leads, and the hash of each applied file
    by number and database. A platform's file may say `:"owner"`: psql knows the tenant's names.
    """
    if not seen["leads"]:
        return ""
    applied = {name: files for row in seen["databases"] for name, files in row.items()}
    parts = []
    for tenant in tenants:
        there = applied.get(tenant["database"], {})
        missing = [row for row in series.files if str(row["number"]) not in there]
        for row in series.files:
            if there.get(str(row["number"]), row["sha256"]) != row["sha256"]:
                raise KosekiError(
                    "a schema file that was applied has changed",
                    f"{row['file']} in {tenant['database']}",
                    "put the change into a file with the next number",
                )
        if missing:
            parts += [f"\\connect {tenant['database']}", series.heading()]
        if missing and not series.by_owner:
            parts += [f"\\set {name} {value}" for name, value in sorted(tenant.items())]
        for row in missing:
            noted = f"{row['number']}, '{row['file']}', '{row['sha256']}'{series.note}"
            parts += [
                "BEGIN;",
                *([f"SET LOCAL ROLE {tenant['owner']};"] if series.by_owner else []),
                row["sql"],
                *(["RESET ROLE;"] if series.by_owner else []),
                f"INSERT INTO platform.{series.table} VALUES ({noted});",  # noqa: S608 - our own
                "COMMIT;",
            ]
    return "\n".join(parts)
