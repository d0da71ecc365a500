"""Which municipalities have joined by a day, and what each is called on the platform."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

TODAY = "today"


def effective_day(effective_date: str) -> date:
    """Return the day that `effective_date` means: an ISO date, or `today`."""
    if effective_date == TODAY:
        return date.today()  # noqa: DTZ011 - the city's own day
    return date.fromisoformat(effective_date)


def active(
    municipalities: Iterable[Mapping[str, Any]], effective_date: str
) -> list[Mapping[str, Any]]:
    """Return the municipalities that have joined by the effective date and not left (K-02)."""
    day = effective_day(effective_date)
    return [row for row in municipalities if _by("joined_on", row, day) and not _left(row, day)]


def left(
    municipalities: Iterable[Mapping[str, Any]], effective_date: str
) -> list[Mapping[str, Any]]:
    """Return the municipalities that have left by the effective date."""
    day = effective_day(effective_date)
    return [row for row in municipalities if _left(row, day)]


def _left(row: Mapping[str, Any], day: date) -> bool:
    return _by("left_on", row, day)


def _by(name: str, row: Mapping[str, Any], day: date) -> bool:
    """Say whether a date of a row was reached; one that is not there never is."""
    value = row.get(name)
    return value is not None and date.fromisoformat(value) <= day


def tenants(municipalities: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what each municipality is called: database, roles, Unix user, tablespace folder."""
    return [
        {
            "slug": row["slug"],
            "code6": row["code6"],
            "database": f"koseki_{row['slug']}",
            "tablespace": f"koseki_{row['slug']}",
            "owner": f"koseki_{row['slug']}_owner",
            "application": f"koseki_{row['slug']}_app",
            "link": f"koseki_{row['slug']}_link",
            "unix_user": f"koseki-{row['slug']}",
            "folder": f"/var/lib/koseki/tablespaces/{row['code6']}",
        }
        for row in municipalities
    ]


def lines(
    municipalities: Iterable[Mapping[str, Any]], subnets: Mapping[str, list[str]]
) -> dict[str, list[str]]:
    """Return the line subnets of each of these municipalities, by slug."""
    return {row["slug"]: list(subnets[row["slug"]]) for row in municipalities}


def client_certificates(rows: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return the client certificate of each tenant: its name is the database role's.

    Owned by the municipality's Unix user, so that no other municipality's process reads it.
    """
    return [
        {
            "name": row["slug"],
            "common_name": row["application"],
            "names": [],
            "key": f"/etc/koseki/municipalities/{row['slug']}/client.key",
            "certificate": f"/etc/koseki/municipalities/{row['slug']}/client.crt",
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
            "key": f"/etc/koseki/municipalities/{tenant['slug']}/link.key",
            "certificate": f"/etc/koseki/municipalities/{tenant['slug']}/link.crt",
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
        folder = f"/srv/koseki/exchange/{slug}"
        found.append(
            {
                "slug": slug,
                "account": f"link-{slug}",
                "unix_user": tenant["unix_user"],
                "folder": folder,
                "peer": str(peers[slug]),
                "settings": {
                    "slug": slug,
                    "code6": row["code6"],
                    "folder": folder,
                    "database": (
                        f"host=127.0.0.1 port={port} dbname={tenant['database']} "
                        f"user={tenant['link']} sslmode=verify-full sslrootcert={authority} "
                        f"sslcert={own['certificate']} sslkey={own['key']} "
                        "connect_timeout=5 application_name=koseki-link"
                    ),
                    **{
                        key: policy[key]
                        for key in ("file_mb", "line_kb", "file_records", "statement_hours")
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
    found = ["755 root root /srv/koseki", "755 root root /srv/koseki/exchange"]
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
    keys = {row["name"]: row for row in client_certificates(tenants(rows))}
    found = {}
    for row, tenant in zip(rows, tenants(rows), strict=True):
        slug, own = row["slug"], keys[row["slug"]]
        common = (
            f"dbname={tenant['database']} user={tenant['application']} sslmode=verify-full "
            f"sslrootcert={authority} sslcert={own['certificate']} sslkey={own['key']} "
            "connect_timeout=5 application_name=koseki"
        )
        found[slug] = {
            "KOSEKI_SLUG": slug,
            "KOSEKI_CODE": row["code6"],
            "KOSEKI_MUNICIPALITY": row["name"],
            "KOSEKI_SIGNATORY": signatories.get(slug, f"{row['name']}長"),
            "KOSEKI_DATABASE": f"host=127.0.0.1 port={ports['leader']} {common}",
            "KOSEKI_DATABASE_READ": f"host=127.0.0.1 port={ports['replica']} {common}",
        }
    return found
