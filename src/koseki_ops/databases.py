"""What must be said in SQL so that each municipality has a database that is its own alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from koseki_ops.errors import KosekiError

TEMPLATE = "koseki_template"
COMMON_ROLE = "koseki_application"
REWIND_ROLE = "rewinder"
END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"


def platform_statements(state: Mapping[str, Any]) -> list[str]:
    """Return the SQL that is missing before any municipality: the template, and closed doors.

    state: what `state.sql` of the role reports (roles, those that may log in, members, tablespaces,
    databases with owner, tablespace and whether they are open, who may connect where).
    """
    wanted: list[str] = []
    if COMMON_ROLE not in state["roles"]:
        wanted.append(f"CREATE ROLE {COMMON_ROLE} NOLOGIN")
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


def _tenant(
    tenant: Mapping[str, str], state: Mapping[str, Any], roles: set[str], members: set[str]
) -> list[str]:
    wanted = []
    owner, application = tenant["owner"], tenant["application"]
    if owner not in roles:
        wanted.append(f"CREATE ROLE {owner} NOLOGIN")
    if application not in roles:
        wanted.append(f"CREATE ROLE {application} LOGIN CONNECTION LIMIT 20")
    elif application not in state["logins"]:
        wanted.append(f"ALTER ROLE {application} LOGIN")
    if application not in members:
        wanted.append(f"GRANT {COMMON_ROLE} TO {application}")
    return wanted + _database(tenant, state)


def _database(tenant: Mapping[str, str], state: Mapping[str, Any]) -> list[str]:
    wanted = []
    owner, application, database = tenant["owner"], tenant["application"], tenant["database"]
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
    if application not in may_connect:
        wanted.append(f"GRANT CONNECT ON DATABASE {database} TO {application}")
    wanted += [
        f"REVOKE ALL ON DATABASE {database} FROM {name}"
        for name in sorted(may_connect - {application, owner})
    ]
    return wanted


# The table itself is the platform's: a release cannot say that it was applied.
SCHEMA_TABLE = """CREATE TABLE IF NOT EXISTS platform.schema_files (
  number int PRIMARY KEY,
  file text NOT NULL,
  sha256 text NOT NULL,
  release text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT ON platform.schema_files TO koseki_application;"""


def schema_statements(
    release: Mapping[str, Any], tenants: Sequence[Mapping[str, str]], seen: Mapping[str, Any]
) -> str:
    """Return the psql script that brings a release's schema to each database; empty when all is so.

    release: a verified release, as `koseki_ops.release.verify` gives it; seen: whether this host
    leads, and the hash of each applied file by number and database. Each file is one transaction,
    as the owner of that database.
    """
    if not seen["leads"]:
        return ""
    applied = {name: files for row in seen["databases"] for name, files in row.items()}
    parts = []
    for tenant in tenants:
        there = applied.get(tenant["database"], {})
        missing = [row for row in release["schema"] if str(row["number"]) not in there]
        for row in release["schema"]:
            if there.get(str(row["number"]), row["sha256"]) != row["sha256"]:
                raise KosekiError(
                    "a schema file that was applied has changed",
                    f"{row['file']} in {tenant['database']}",
                    "put the change into a file with the next number",
                )
        if missing:
            parts += [f"\\connect {tenant['database']}", SCHEMA_TABLE]
        for row in missing:
            noted = f"{row['number']}, '{row['file']}', '{row['sha256']}', '{release['version']}'"
            parts += [
                "BEGIN;",
                f"SET LOCAL ROLE {tenant['owner']};",
                release["sql"][row["file"]],
                "RESET ROLE;",
                f"INSERT INTO platform.schema_files VALUES ({noted});",  # noqa: S608 - verified
                "COMMIT;",
            ]
    return "\n".join(parts)
