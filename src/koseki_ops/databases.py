"""What must be said in SQL so that each municipality has a database that is its own alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TEMPLATE = "koseki_template"
COMMON_ROLE = "koseki_application"
REWIND_ROLE = "rewinder"


def platform_statements(state: Mapping[str, Any]) -> list[str]:
    """Return the SQL that is missing before any municipality: the template, and closed doors.

    state: what `state.sql` of the role reports (roles, members, tablespaces, databases with owner
    and tablespace, who may connect where).
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


def _closed(databases: Sequence[str], public_connect: Sequence[str]) -> list[str]:
    return [
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC" for name in databases if name in public_connect
    ]


def _tenant(
    tenant: Mapping[str, str], state: Mapping[str, Any], roles: set[str], members: set[str]
) -> list[str]:
    wanted = []
    owner, application, database = tenant["owner"], tenant["application"], tenant["database"]
    if owner not in roles:
        wanted.append(f"CREATE ROLE {owner} NOLOGIN")
    if application not in roles:
        wanted.append(f"CREATE ROLE {application} LOGIN CONNECTION LIMIT 20")
    if application not in members:
        wanted.append(f"GRANT {COMMON_ROLE} TO {application}")
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
