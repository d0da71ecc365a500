"""What Ansible is told of municipalities, as its roles take it: the one place that makes it.

Roles take lists and mappings of plain values; here they are made from the typed plan, or from what
Ansible has of it (`*_of`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from pydantic import TypeAdapter

from koseki_ops.calendar.business_days import written_out
from koseki_ops.plan.model import (
    DuplicatePolicy,
    Line,
    LinkPolicy,
    Municipality,
    Operator,
    ServicePorts,
)
from koseki_ops.plan.municipalities import cut_off
from koseki_ops.plan.naming import DUPLICATES, EXCHANGES, key_of
from koseki_ops.plan.shares import SHARES

MUNICIPALITIES = TypeAdapter(list[Municipality])
LINES = TypeAdapter(dict[str, Line])
OPERATORS = TypeAdapter(list[Operator])


def municipalities_of(rows: object) -> list[Municipality]:
    """Return rows of municipalities that Ansible holds, typed."""
    return MUNICIPALITIES.validate_python(_plain(rows))


def lines_of(rows: object) -> dict[str, Line]:
    """Return the plan's lines that Ansible holds, typed."""
    return LINES.validate_python(_plain(rows))


def operators_of(rows: object) -> list[Operator]:
    """Return the plan's operators that Ansible holds, typed."""
    return OPERATORS.validate_python(_plain(rows))


def link_policy_of(row: object) -> LinkPolicy:
    """Return the plan's policy of the link that Ansible holds, typed."""
    return LinkPolicy.model_validate(_plain(row))


def duplicate_policy_of(row: object) -> DuplicatePolicy:
    """Return the plan's policy of duplicates that Ansible holds, typed."""
    return DuplicatePolicy.model_validate(_plain(row))


def ports_of(row: object) -> ServicePorts:
    """Return the plan's ports of services that Ansible holds, typed."""
    return ServicePorts.model_validate(_plain(row))


def rows_of(municipalities: Iterable[Municipality]) -> list[dict[str, Any]]:
    """Return municipalities as their rows of the plan, without what is not said there."""
    return [row.model_dump(mode="json", exclude_unset=True) for row in municipalities]


def _plain(value: object) -> object:
    """Return a value of Ansible's as Python's own: its containers are filled when they are read."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def municipality_names(municipalities: Iterable[Municipality]) -> list[dict[str, str]]:
    """Return what each municipality is called: database, roles, Unix user, tablespace folder."""
    return [_names(row) for row in municipalities]


def _names(row: Municipality) -> dict[str, str]:
    names = row.names
    return {
        "slug": names.slug,
        "code6": names.code6,
        "database": names.database,
        "tablespace": names.tablespace,
        "owner": names.owner_role,
        "application": names.application_role,
        "link": names.link_role,
        "duplicate": names.duplicate_role,
        "read": names.read_role,
        "correct": names.correct_role,
        # Only where the host municipality may issue in a failure.
        "takeover": names.takeover_role if row.takeover else "",
        "unix_user": names.unix_user,
        "folder": names.tablespace_folder,
    }


def subnets(
    municipalities: Iterable[Municipality], lines: Mapping[str, Line]
) -> dict[str, list[str]]:
    """Return the line subnets of each of these municipalities, by slug."""
    return {row.slug: [str(net) for net in lines[row.slug].counters] for row in municipalities}


def takeovers(joined: Iterable[Municipality]) -> list[dict[str, str]]:
    """Return who stands in for whom, in the form of `municipality_names` as far as it goes.

    joined: the municipalities that have joined. slug: the instance's name; municipality, host:
    slugs of the one cut off and of the one that issues. Empty unless both joined.
    """
    return [
        {
            "slug": (names := row.names).takeover_instance,
            "municipality": row.slug,
            "host": host.slug,
            "code6": names.code6,
            "name": row.name,
            "database": names.database,
            "application": names.takeover_role,
            "unix_user": names.takeover_unix_user,
            "signatory": row.takeover.signatory,
            "margin_note": row.takeover.margin_note,
        }
        for row, host in cut_off(joined)
        if row.takeover
    ]


def client_certificates(rows: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return the client certificate of each municipality: its name is the database role's.

    Owned by the municipality's Unix user, so that no other municipality's process reads it.
    """
    return [
        {
            "name": row["slug"],
            "common_name": row["application"],
            "names": [],
            **vars(key_of(row["slug"])),
            "owner": row["unix_user"],
            "group": row["unix_user"],
            "authority": "roles",
            "usages": ["client"],
        }
        for row in rows
    ]


def doors(rows: Iterable[Mapping[str, str]], kind: str) -> list[dict[str, Any]]:
    """Return each municipality's network on a host, and how many connections it may hold there.

    rows: as `municipality_names` or `takeovers` gives them; kind: one of `shares.SHARES`.
    """
    held = SHARES[kind].connections
    return [{"name": row["unix_user"], "connections": held} for row in rows]


def link_certificates(rows: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return the certificate of each municipality's link, as `client_certificates` does."""
    return _certificates(rows, "link")


def duplicate_certificates(rows: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return the certificate of each municipality's transmission, as `client_certificates` does."""
    return _certificates(rows, "duplicate")


def _certificates(rows: Iterable[Mapping[str, str]], kind: str) -> list[dict[str, Any]]:
    return [
        {
            **row,
            "name": f"{municipality['slug']} {kind}",
            "common_name": municipality[kind],
            **vars(key_of(municipality["slug"], kind)),
        }
        for municipality in rows
        for row in client_certificates([municipality])
    ]


def exchanges(
    municipalities: Iterable[Municipality],
    lines: Mapping[str, Line],
    policy: LinkPolicy,
    ports: ServicePorts,
    authority: str,
) -> list[dict[str, Any]]:
    """Return each municipality's exchange of files: accounts, folder, peer, the engine's settings.

    lines: by slug, with the resident registries' addresses; authority: the CA's certificate.
    """
    return [
        _exchange(row, str(lines[row.slug].registry), policy, ports.proxy_leader, authority)
        for row in municipalities
    ]


def _exchange(
    row: Municipality, peer: str, policy: LinkPolicy, port: int, authority: str
) -> dict[str, Any]:
    names, own = row.names, key_of(row.slug, "link")
    return {
        "slug": row.slug,
        "account": names.exchange_account,
        "unix_user": names.unix_user,
        "folder": names.exchange_folder,
        "peer": peer,
        "settings": {
            "slug": row.slug,
            "code6": row.code6,
            "folder": names.exchange_folder,
            "database": (
                f"host=127.0.0.1 port={port} dbname={names.database} "
                f"user={names.link_role} sslmode=verify-full sslrootcert={authority} "
                f"sslcert={own.certificate} sslkey={own.key} "
                "connect_timeout=5 application_name=koseki-link"
            ),
            "file_mb": policy.file_mb,
            "line_kb": policy.line_kb,
            "file_records": policy.file_records,
            "statement_hours": policy.statement_hours,
            "folder_mb": policy.folder_mb,
            "part_hours": policy.part_hours,
        },
    }


def exchange_folders(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the folders of exchanges as `find -printf '%m %u %g %p'` shows them when all is right.

    What the registry writes into is its own; what it only reads is the engine's. Both share the
    account's group, which the engine's unit is given and no process else.
    """
    # sshd takes no chroot whose way somebody else than root could change.
    found = [f"755 root root {PurePosixPath(EXCHANGES).parent}", f"755 root root {EXCHANGES}"]
    for row in rows:
        peer, engine, folder = row["account"], row["unix_user"], row["folder"]
        found += [
            f"750 root {peer} {folder}",
            f"2770 {peer} {peer} {folder}/in",
            f"2770 {engine} {peer} {folder}/out",
            f"2750 {engine} {peer} {folder}/done",
            f"2750 {engine} {peer} {folder}/quarantine",
            f"2700 {engine} {peer} {folder}/work",
        ]
    return found


def duplicate_settings(
    municipalities: Iterable[Municipality],
    policy: DuplicatePolicy,
    ports: ServicePorts,
    authority: str,
    timezone: str,
) -> dict[str, Any]:
    """Return what the transmissions of duplicates are told; authority: the CA's certificate.

    The calendar is written out: a host has no package that knows the holidays.
    """
    return {
        "calendar": {**written_out(), "time_zone": timezone},
        **policy.model_dump(mode="json", exclude={"turn_calendar"}),
        "municipalities": {
            row.slug: {
                "code6": row.code6,
                "folder": row.names.duplicates_folder,
                "database": (
                    f"host=127.0.0.1 port={ports.proxy_leader} dbname={row.names.database} "
                    f"user={row.names.duplicate_role} sslmode=verify-full sslrootcert={authority} "
                    f"sslcert={(own := key_of(row.slug, 'duplicate')).certificate} "
                    f"sslkey={own.key} connect_timeout=5 application_name=koseki-duplicate"
                ),
            }
            for row in municipalities
        },
    }


def duplicate_folders(municipalities: Iterable[Municipality]) -> list[str]:
    """Return the folders of duplicates, in the form of `exchange_folders`.

    What lies deeper the program makes itself.
    """
    names = [row.names for row in municipalities]
    own = [f"700 {one.unix_user} {one.unix_user} {one.duplicates_folder}" for one in names]
    return [f"755 root root {DUPLICATES}", *own]


def instances(
    municipalities: Iterable[Municipality], ports: ServicePorts, authority: str
) -> dict[str, dict[str, str]]:
    """Return what each municipality's application is told by its environment, by slug.

    authority: the CA's certificate. docs/releases.md names the values.
    """
    return {
        row.slug: {
            "KOSEKI_SLUG": row.slug,
            "KOSEKI_CODE": row.code6,
            "KOSEKI_MUNICIPALITY": row.name,
            "KOSEKI_SIGNATORY": row.signatory or f"{row.name}長",
            **_databases(_names(row), ports, authority),
        }
        for row in municipalities
    }


def takeover_instances(
    rows: Iterable[Mapping[str, str]], ports: ServicePorts, authority: str
) -> dict[str, dict[str, str]]:
    """Return what the instances that stand in are told, by their names: as for `instances`.

    rows: as `takeovers` gives them.
    """
    return {
        row["slug"]: {
            "KOSEKI_SLUG": row["municipality"],
            "KOSEKI_CODE": row["code6"],
            "KOSEKI_MUNICIPALITY": row["name"],
            "KOSEKI_SIGNATORY": row["signatory"],
            "KOSEKI_MARGIN_NOTE": row["margin_note"],
            "KOSEKI_READ_ONLY": "yes",
            "KOSEKI_PATH": f"/takeover/{row['municipality']}/",
            **_databases(row, ports, authority),
        }
        for row in rows
    }


def _databases(row: Mapping[str, str], ports: ServicePorts, authority: str) -> dict[str, str]:
    (own,) = client_certificates([row])
    common = (
        f"dbname={row['database']} user={row['application']} sslmode=verify-full "
        f"sslrootcert={authority} sslcert={own['certificate']} sslkey={own['key']} "
        "connect_timeout=5 application_name=koseki"
    )
    return {
        "KOSEKI_DATABASE": f"host=127.0.0.1 port={ports.proxy_leader} {common}",
        "KOSEKI_DATABASE_READ": f"host=127.0.0.1 port={ports.proxy_replica} {common}",
    }
