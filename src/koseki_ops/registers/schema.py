"""What must be said in SQL so that each municipality has a database that is its own alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _

TEMPLATE = "koseki_template"
COMMON_ROLE = "koseki_application"
LINK_ROLE = "koseki_link"
TAKEOVER_ROLE = "koseki_takeover"
REWIND_ROLE = "rewinder"
OPERATOR_PREFIX = "operator_"
END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"
# Below the checkout: the SQL of every municipality's database that is the platform's own.
PLATFORM_SCHEMA = "platform_schema"
PLATFORM_FILE = re.compile(r"[0-9]{4}-[a-z][a-z-]*\.sql")


def platform_statements(state: Mapping[str, Any], operators: Sequence[str]) -> list[str]:
    """Return the SQL that is missing before any municipality: template, operators, closed doors.

    state: what `state.sql` of the role reports (roles, those that may log in, members of the common
    roles, tablespaces, databases with owner, tablespace and whether they are open, who may connect
    where); operators: who may work on the databases' hosts.
    """
    spec = _operators(state["roles"], [f"{OPERATOR_PREFIX}{name}" for name in operators])
    spec += [
        f"CREATE ROLE {name} NOLOGIN"
        for name in (COMMON_ROLE, LINK_ROLE, TAKEOVER_ROLE)
        if name not in state["roles"]
    ]
    spec += _closed(("postgres", "template1"), state["public_connect"])
    # pg_rewind asks the leader through this database; a member that was lost comes back by it.
    if REWIND_ROLE in state["roles"] and REWIND_ROLE not in state["connect"].get("postgres", []):
        spec.append(f"GRANT CONNECT ON DATABASE postgres TO {REWIND_ROLE}")
    if TEMPLATE not in state["databases"]:
        spec.append(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
    if TEMPLATE in state["public_connect"] or TEMPLATE not in state["databases"]:
        spec.append(f"REVOKE ALL ON DATABASE {TEMPLATE} FROM PUBLIC")
    return spec


def municipality_statements(
    municipalities: Sequence[Mapping[str, str]], state: Mapping[str, Any]
) -> list[str]:
    """Return the SQL that is missing for the municipalities, in order; empty when all is right.

    tenants: as `for_ansible.municipality_names` gives them; state: as for `platform_statements`.
    """
    roles, members = set(state["roles"]), set(state["members"])
    return [
        statement
        for municipality in municipalities
        for statement in _municipality(municipality, state, roles, members)
    ]


def sealed_statements(left: Sequence[Mapping[str, str]], state: Mapping[str, Any]) -> list[str]:
    """Return the SQL that closes the databases of municipalities that have left; their data stays.

    left: as `for_ansible.municipality_names` gives them; state: as for `platform_statements`.
    Nobody can connect to a sealed database, the superuser included, until it is opened on purpose.
    """
    spec = []
    for municipality in left:
        there = state["databases"].get(municipality["database"])
        spec += [
            f"ALTER ROLE {role} NOLOGIN"
            for role in sorted(state["logins"])
            if role.startswith(f"{municipality['database']}_")
        ]
        if there is None:
            continue
        name = municipality["database"]
        spec += [
            f"REVOKE ALL ON DATABASE {name} FROM {role}"
            for role in sorted(state["connect"].get(name, []))
            if role != municipality["owner"]
        ]
        if there["open"]:
            spec.append(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            spec.append(END_SESSIONS.format(name))
    return spec


def _operators(roles: Sequence[str], operators: Sequence[str]) -> list[str]:
    """Return what brings one role a person, which can do nothing without an open request (K-05)."""
    spec = []
    for name in (name for name in operators if name not in roles):
        spec.append(f"CREATE ROLE {name} LOGIN CONNECTION LIMIT 5")
        # Which tables a person read or changed is noted; the statement, with names in it, is not.
        audit = {"log": "read, write, ddl, role", "log_statement": "off", "log_relation": "on"}
        spec += [f"ALTER ROLE {name} SET pgaudit.{key} = '{row}'" for key, row in audit.items()]
    left = [name for name in roles if name.startswith(OPERATOR_PREFIX) and name not in operators]
    return spec + [f"DROP ROLE {name}" for name in sorted(left)]


def _closed(databases: Sequence[str], public_connect: Sequence[str]) -> list[str]:
    return [
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC" for name in databases if name in public_connect
    ]


def _municipality(
    municipality: Mapping[str, str], state: Mapping[str, Any], roles: set[str], members: set[str]
) -> list[str]:
    spec = _roles(municipality, state, roles, members)
    owner, application, database = (
        municipality["owner"],
        municipality["application"],
        municipality["database"],
    )
    # Those of an open request (docs/requests.md), without a login: it lends them to an operator.
    scopes = (municipality["read"], municipality["correct"])
    if municipality["tablespace"] not in state["tablespaces"]:
        folder = municipality["folder"]
        spec.append(
            f"CREATE TABLESPACE {municipality['tablespace']} OWNER {owner} LOCATION '{folder}'"
        )
    there = state["databases"].get(database)
    if there is None:
        spec.append(
            f"CREATE DATABASE {database} OWNER {owner} TEMPLATE {TEMPLATE} "
            f"TABLESPACE {municipality['tablespace']}"
        )
    else:
        if there["owner"] != owner:
            spec.append(f"ALTER DATABASE {database} OWNER TO {owner}")
        if there["tablespace"] != municipality["tablespace"]:
            spec.append(f"ALTER DATABASE {database} SET TABLESPACE {municipality['tablespace']}")
        if not there["open"]:
            spec.append(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
    if there is None or database in state["public_connect"]:
        spec.append(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
    may_connect = set(state["connect"].get(database, []))
    entitled = (application, municipality["link"], *scopes)
    spec += [
        f"GRANT CONNECT ON DATABASE {database} TO {name}"
        for name in entitled
        if name not in may_connect
    ]
    spec += [
        f"REVOKE ALL ON DATABASE {database} FROM {name}"
        for name in sorted(may_connect - {*entitled, owner})
    ]
    return spec


def _roles(
    municipality: Mapping[str, str], state: Mapping[str, Any], roles: set[str], members: set[str]
) -> list[str]:
    """Return what brings a municipality its roles, and each what all of its kind may do."""
    takeover, left = municipality["takeover"], f"{municipality['database']}_takeover"
    kinds = {
        municipality["owner"]: "NOLOGIN",
        municipality["application"]: "LOGIN CONNECTION LIMIT 20",
        municipality["link"]: "LOGIN CONNECTION LIMIT 6",
        municipality["read"]: "NOLOGIN",
        municipality["correct"]: "NOLOGIN",
        # It may enter while a takeover is declared, and until then nothing.
        **({takeover: "LOGIN CONNECTION LIMIT 10"} if takeover else {}),
    }
    # Who corrects may do what the application may, and no more.
    common = {municipality["application"]: COMMON_ROLE, municipality["correct"]: COMMON_ROLE}
    common |= {municipality["link"]: LINK_ROLE}
    common |= {takeover: TAKEOVER_ROLE} if takeover else {}
    return [
        *(f"CREATE ROLE {name} {kind}" for name, kind in kinds.items() if name not in roles),
        # What was sealed when the municipality left is opened again.
        *(
            f"ALTER ROLE {name} LOGIN"
            for name, kind in kinds.items()
            if kind.startswith("LOGIN") and name in roles and name not in state["logins"]
        ),
        *(f"GRANT {group} TO {name}" for name, group in common.items() if name not in members),
        *([f"DROP ROLE {left}"] if left in roles and not takeover else []),
    ]


@dataclass(frozen=True)
class Migrations:
    """Numbered SQL files, each applied once to a municipality's database and recorded there.

    table: where they are recorded, in the schema platform; columns: what stands there beside
    number, file and sha256; record: the values of those columns, as SQL; files: number, file,
    sha256 and sql of each, in order; by_owner: whether they are run as the owner of that
    database, else as the platform's superuser.
    """

    table: str
    columns: str
    record: str
    files: Sequence[Mapping[str, Any]]
    by_owner: bool

    def header(self) -> str:
        """Return what must be there before the first file: the table is the platform's own."""
        return f"""CREATE TABLE IF NOT EXISTS platform.{self.table} (
  number int PRIMARY KEY,
  file text NOT NULL,
  sha256 text NOT NULL,{self.columns}
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT ON platform.{self.table} TO {COMMON_ROLE};"""


def schema_statements(
    release: Mapping[str, Any], municipalities: Sequence[Mapping[str, str]], seen: Mapping[str, Any]
) -> str:
    """Return the psql script that brings a release's schema to each database; empty when all is so.

    release: a verified release, as `supply.release.verify` gives it; seen: as for `_missing`.
    """
    files = [{**row, "sql": release["sql"][row["file"]]} for row in release["schema"]]
    columns, record = "\n  release text NOT NULL,", f", '{release['version']}'"
    return _missing(
        Migrations("schema_files", columns, record, files, by_owner=True), municipalities, seen
    )


def platform_files(folder: Path) -> list[dict[str, Any]]:
    """Return the platform's own SQL files of a folder in order: number, file, sha256 and sql.

    KosekiError: a file that is not called NNNN-name.sql, or two of one number.
    """
    rows: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.iterdir()):
        if not PLATFORM_FILE.fullmatch(path.name):
            raise KosekiError(
                _("an SQL file has no number"), path.name, _("name it `NNNN-name.sql`")
            )
        number, content = int(path.name[:4]), path.read_bytes()
        if number in rows:
            seen = _("{file} and {name}").format(file=rows[number]["file"], name=path.name)
            raise KosekiError(
                _("two SQL files have one number"),
                seen,
                _("rename one of them to the next number, `NNNN-name.sql`"),
            )
        rows[number] = {
            "number": number,
            "file": path.name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "sql": content.decode(),
        }
    return list(rows.values())


def platform_file_statements(
    folder: Path, municipalities: Sequence[Mapping[str, str]], seen: Mapping[str, Any]
) -> str:
    """Return the psql script that brings the platform's own SQL to each database; empty when so.

    They are run by the superuser and stay his: no role of a municipality can alter what they make.
    folder: as for `platform_files`; seen: as for `_missing`.
    """
    migrations = Migrations("platform_files", "", "", platform_files(folder), by_owner=False)
    return _missing(migrations, municipalities, seen)


def _missing(
    migrations: Migrations, municipalities: Sequence[Mapping[str, str]], seen: Mapping[str, Any]
) -> str:
    """Return the psql script of the migrations' files that are missing, one transaction a file.

    seen: what the role applied_files finds: whether this host leads; the hash of each applied file
    by number and database. A platform's file may say `:"owner"`: psql knows a municipality's names.
    """
    if not seen["leads"]:
        return ""
    applied = {name: files for row in seen["databases"] for name, files in row.items()}
    parts = []
    for municipality in municipalities:
        there = applied.get(municipality["database"], {})
        missing = [row for row in migrations.files if str(row["number"]) not in there]
        for row in migrations.files:
            if there.get(str(row["number"]), row["sha256"]) != row["sha256"]:
                raise KosekiError(
                    _("a schema file that was applied has changed"),
                    _("{file} in {database}").format(
                        file=row["file"], database=municipality["database"]
                    ),
                    _("restore the file, and put the change into a new `NNNN-name.sql`"),
                )
        if missing:
            parts += [f"\\connect {municipality['database']}", migrations.header()]
        if missing and not migrations.by_owner:
            parts += [f"\\set {name} {value}" for name, value in sorted(municipality.items())]
        for row in missing:
            noted = f"{row['number']}, '{row['file']}', '{row['sha256']}'{migrations.record}"
            parts += [
                "BEGIN;",
                *([f"SET LOCAL ROLE {municipality['owner']};"] if migrations.by_owner else []),
                row["sql"],
                *(["RESET ROLE;"] if migrations.by_owner else []),
                f"INSERT INTO platform.{migrations.table} VALUES ({noted});",  # noqa: S608 - our own
                "COMMIT;",
            ]
    return "\n".join(parts)
