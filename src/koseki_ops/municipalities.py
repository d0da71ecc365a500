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
    """Return the municipalities that have joined by the effective date (K-02)."""
    day = effective_day(effective_date)
    return [row for row in municipalities if date.fromisoformat(row["joined_on"]) <= day]


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
            "unix_user": f"koseki-{row['slug']}",
            "folder": f"/var/lib/koseki/tablespaces/{row['code6']}",
        }
        for row in municipalities
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
            "key": f"/etc/koseki/municipalities/{row['slug']}/client.key",
            "certificate": f"/etc/koseki/municipalities/{row['slug']}/client.crt",
            "owner": row["unix_user"],
            "group": row["unix_user"],
        }
        for row in rows
    ]
