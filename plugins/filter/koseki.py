"""Jinja filters of the platform; each is a thin door to koseki_ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.host_programs import program_files, program_folders
from koseki_ops.plan.municipalities import (
    active,
    client_certificates,
    effective_day,
    exchange_folders,
    exchanges,
    instances,
    left,
    lines,
    link_certificates,
    operators_on,
    takeover_instances,
    takeovers,
    tenants,
    today_in,
)
from koseki_ops.plan.revision import inputs_of
from koseki_ops.plan.site import Site, project_root
from koseki_ops.registers.schema import (
    PLATFORM_SCHEMA,
    platform_file_statements,
    platform_statements,
    schema_statements,
    sealed_statements,
    tenant_statements,
)
from koseki_ops.supply import release


def difference(wanted: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    """Return the part of `wanted` that `seen` does not say, as a patch for Patroni's REST API."""
    patch: dict[str, Any] = {}
    for key, value in wanted.items():
        there = seen.get(key)
        if isinstance(value, dict):
            inner = difference(value, there if isinstance(there, dict) else {})
            if inner:
                patch[key] = inner
        elif there != value:
            patch[key] = value
    return patch


def repositories(
    vaults: list[dict[str, Any]], groups: dict[str, list[str]], addresses: dict[str, dict[str, str]]
) -> list[dict[str, Any]]:
    """Return number, address and account of each vault, as pgBackRest on a city host sees it."""
    found = []
    for vault in vaults:
        table = addresses[groups[vault["group"]][0]]
        address = table.get("city") or table["line"]
        found.append(
            {"number": vault["repository"], "address": address, "account": vault["account"]}
        )
    return found


def tree(inventory: str) -> str:
    """Return the hash of all that hosts are made from, as `koseki drift` compares it."""
    folder = Path(inventory).resolve()
    return inputs_of(Site(folder.parents[1], folder.name, folder.name)).tree


def verified(archive: str, signers: str) -> dict[str, Any]:
    """Return a release after its signature was verified on the workstation."""
    try:
        return release.verify(Path(archive), Path(signers))
    except KosekiError as error:
        raise AnsibleFilterError(str(error)) from error


def schema(found: dict[str, Any], towns: list[dict[str, str]], seen: dict[str, Any]) -> str:
    """Return the SQL of a verified release that is missing."""
    try:
        return schema_statements(found, towns, seen)
    except KosekiError as error:
        raise AnsibleFilterError(str(error)) from error


def platform_sql(towns: list[dict[str, str]], seen: dict[str, Any]) -> str:
    """Return the platform's own SQL that is missing."""
    try:
        return platform_file_statements(project_root() / PLATFORM_SCHEMA, towns, seen)
    except KosekiError as error:
        raise AnsibleFilterError(str(error)) from error


def joined(
    towns: list[dict[str, Any]], effective_date: str, timezone: str
) -> list[Mapping[str, Any]]:
    """Return the municipalities that have joined by the effective date and not left."""
    return active(towns, effective_day(effective_date, timezone))


def gone(
    towns: list[dict[str, Any]], effective_date: str, timezone: str
) -> list[Mapping[str, Any]]:
    """Return the municipalities that have left by the effective date."""
    return left(towns, effective_day(effective_date, timezone))


def working(operators: list[dict[str, Any]], names: list[str], timezone: str) -> list[str]:
    """Return the ids of the operators who may work today on a host."""
    return operators_on(operators, names, today_in(timezone))


def host_program(name: str) -> list[dict[str, str]]:
    """Return every file of a program that runs on hosts: source here, path and mode there."""
    try:
        return [
            {**vars(file), "source": str(file.source)}
            for file in program_files(project_root(), name)
        ]
    except KosekiError as error:
        raise AnsibleFilterError(str(error)) from error


def host_program_folders(name: str) -> list[str]:
    """Return the folders on a host that are a program's alone."""
    try:
        return program_folders(program_files(project_root(), name))
    except KosekiError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Names the filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "koseki_active": joined,
            "koseki_left": gone,
            "koseki_tenants": tenants,
            "koseki_client_certificates": client_certificates,
            "koseki_link_certificates": link_certificates,
            "koseki_exchanges": exchanges,
            "koseki_exchange_folders": exchange_folders,
            "koseki_platform_statements": platform_statements,
            "koseki_platform_file_statements": platform_sql,
            "koseki_tenant_statements": tenant_statements,
            "koseki_sealed_statements": sealed_statements,
            "koseki_instances": instances,
            "koseki_lines": lines,
            "koseki_operators_on": working,
            "koseki_takeovers": takeovers,
            "koseki_takeover_instances": takeover_instances,
            "koseki_release": verified,
            "koseki_schema_statements": schema,
            "koseki_repositories": repositories,
            "koseki_difference": difference,
            "koseki_tree": tree,
            "koseki_host_program": host_program,
            "koseki_host_program_folders": host_program_folders,
        }
