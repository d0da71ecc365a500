"""Which municipalities have joined by a day, and what each is called on the platform."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from pathlib import PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

from koseki_ops.plan.naming import EXCHANGES, Names, key_of

TODAY = "today"


def today_in(timezone: str) -> date:
    """Return the day it is there now, wherever this runs: a day begins for all at one moment."""
    return datetime.now(ZoneInfo(timezone)).date()


def effective_day(effective_date: str, timezone: str) -> date:
    """Return the day that `effective_date` means: an ISO date, or `today` in the time zone."""
    return today_in(timezone) if effective_date == TODAY else date.fromisoformat(effective_date)


def active(municipalities: Iterable[Mapping[str, Any]], day: date) -> list[Mapping[str, Any]]:
    """Return the municipalities that have joined by a day and not left (K-02)."""
    return [row for row in municipalities if _by("joined_on", row, day) and not _left(row, day)]


def left(municipalities: Iterable[Mapping[str, Any]], day: date) -> list[Mapping[str, Any]]:
    """Return the municipalities that have left by a day."""
    return [row for row in municipalities if _left(row, day)]


def _left(row: Mapping[str, Any], day: date) -> bool:
    return _by("left_on", row, day)


def _by(name: str, row: Mapping[str, Any], day: date) -> bool:
    """Say whether a date of a row was reached; one that is not there never is."""
    value = row.get(name)
    return value is not None and date.fromisoformat(value) <= day


def names_of(row: Mapping[str, Any]) -> Names:
    """Return what the things of a municipality's row are called."""
    return Names(row["slug"], row["code6"])


def tenants(municipalities: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what each municipality is called: database, roles, Unix user, tablespace folder."""
    return [_tenant(row, names_of(row)) for row in municipalities]


def _tenant(row: Mapping[str, Any], names: Names) -> dict[str, str]:
    return {
        "slug": names.slug,
        "code6": names.code6,
        "database": names.database,
        "tablespace": names.tablespace,
        "owner": names.owner_role,
        "application": names.application_role,
        "link": names.link_role,
        "read": names.read_role,
        "correct": names.correct_role,
        # Only where the host municipality may issue in a failure.
        "takeover": names.takeover_role if row.get("issued_by_host_in_failure") else "",
        "unix_user": names.unix_user,
        "folder": names.tablespace_folder,
    }


def operators_on(
    operators: Iterable[Mapping[str, Any]], names: Iterable[str], day: date
) -> list[str]:
    """Return the ids of the operators who may work that day on a host of these names and groups."""
    known = set(names)
    return [
        row["id"]
        for row in operators
        if row["status"] == "active"
        and date.fromisoformat(row["valid_from"]) <= day <= date.fromisoformat(row["valid_until"])
        and known & set(row["hosts"])
    ]


def lines(
    municipalities: Iterable[Mapping[str, Any]], subnets: Mapping[str, list[str]]
) -> dict[str, list[str]]:
    """Return the line subnets of each of these municipalities, by slug."""
    return {row["slug"]: list(subnets[row["slug"]]) for row in municipalities}


def takeovers(
    municipalities: Iterable[Mapping[str, Any]], texts: Iterable[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Return who stands in for whom, in the form of `tenants` as far as it goes.

    municipalities: those that have joined; texts: the inventory's `takeovers`. slug: the instance's
    name; town, host: slugs of the one cut off and of the one that issues. Empty unless both joined.
    """
    rows = {row["slug"]: row for row in municipalities}
    hosts = [slug for slug, row in rows.items() if row.get("host")]
    return [
        {
            "slug": (names := names_of(rows[town])).takeover_instance,
            "town": town,
            "host": hosts[0],
            "code6": names.code6,
            "name": rows[town]["name"],
            "database": names.database,
            "application": names.takeover_role,
            "unix_user": names.takeover_unix_user,
            "signatory": text["signatory"],
            "margin_note": text["margin_note"],
        }
        for text in texts
        if (town := text["municipality"]) in rows
        and rows[town].get("issued_by_host_in_failure")
        and hosts
    ]


def client_certificates(rows: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return the client certificate of each tenant: its name is the database role's.

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
        }
        for row in rows
    ]


def link_certificates(rows: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return the certificate of each tenant's registry link, as `client_certificates` does."""
    return [
        {
            **row,
            "name": f"{tenant['slug']} link",
            "common_name": tenant["link"],
            **vars(key_of(tenant["slug"], "link")),
        }
        for tenant in rows
        for row in client_certificates([tenant])
    ]


def exchanges(
    municipalities: Iterable[Mapping[str, Any]],
    peers: Mapping[str, str],
    policy: Mapping[str, Any],
    port: int,
    authority: str,
) -> list[dict[str, Any]]:
    """Return each municipality's exchange of files: accounts, folder, peer, the engine's settings.

    peers: the resident registries' addresses by slug; policy: the inventory's `link_policy`; port:
    the proxy's to the leader, on this host; authority: the CA's certificate.
    """
    found = []
    for row, tenant in zip(rows := list(municipalities), tenants(rows), strict=True):
        slug = row["slug"]
        (own,) = link_certificates([tenant])
        names = names_of(row)
        found.append(
            {
                "slug": slug,
                "account": names.exchange_account,
                "unix_user": tenant["unix_user"],
                "folder": names.exchange_folder,
                "peer": str(peers[slug]),
                "settings": {
                    "slug": slug,
                    "code6": row["code6"],
                    "folder": names.exchange_folder,
                    "database": (
                        f"host=127.0.0.1 port={port} dbname={tenant['database']} "
                        f"user={tenant['link']} sslmode=verify-full sslrootcert={authority} "
                        f"sslcert={own['certificate']} sslkey={own['key']} "
                        "connect_timeout=5 application_name=koseki-link"
                    ),
                    **{
                        key: policy[key]
                        for key in (
                            "file_mb",
                            "line_kb",
                            "file_records",
                            "statement_hours",
                            "folder_mb",
                            "part_hours",
                        )
                    },
                },
            }
        )
    return found


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


def instances(
    municipalities: Iterable[Mapping[str, Any]],
    ports: Mapping[str, int],
    signatories: Mapping[str, str],
    authority: str,
) -> dict[str, dict[str, str]]:
    """Return what each municipality's application is told by its environment, by slug.

    ports: the proxy's on this host, for `leader` and `replica`; signatories: who signs where it is
    not the municipality's head; authority: the CA's certificate. docs/releases.md names the values.
    """
    rows = list(municipalities)
    found = {}
    for row, tenant in zip(rows, tenants(rows), strict=True):
        slug = row["slug"]
        found[slug] = {
            "KOSEKI_SLUG": slug,
            "KOSEKI_CODE": row["code6"],
            "KOSEKI_MUNICIPALITY": row["name"],
            "KOSEKI_SIGNATORY": signatories.get(slug, f"{row['name']}長"),
            **_databases(tenant, ports, authority),
        }
    return found


def takeover_instances(
    rows: Iterable[Mapping[str, str]], ports: Mapping[str, int], authority: str
) -> dict[str, dict[str, str]]:
    """Return what the instances that stand in are told, by their names: as for `instances`.

    rows: as `takeovers` gives them.
    """
    return {
        row["slug"]: {
            "KOSEKI_SLUG": row["town"],
            "KOSEKI_CODE": row["code6"],
            "KOSEKI_MUNICIPALITY": row["name"],
            "KOSEKI_SIGNATORY": row["signatory"],
            "KOSEKI_MARGIN_NOTE": row["margin_note"],
            "KOSEKI_READ_ONLY": "yes",
            "KOSEKI_PATH": f"/takeover/{row['town']}/",
            **_databases(row, ports, authority),
        }
        for row in rows
    }


def _databases(row: Mapping[str, str], ports: Mapping[str, int], authority: str) -> dict[str, str]:
    (own,) = client_certificates([row])
    common = (
        f"dbname={row['database']} user={row['application']} sslmode=verify-full "
        f"sslrootcert={authority} sslcert={own['certificate']} sslkey={own['key']} "
        "connect_timeout=5 application_name=koseki"
    )
    return {
        "KOSEKI_DATABASE": f"host=127.0.0.1 port={ports['leader']} {common}",
        "KOSEKI_DATABASE_READ": f"host=127.0.0.1 port={ports['replica']} {common}",
    }
