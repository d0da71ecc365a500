"""Jinja filters of the platform; each is a thin door to koseki_ops."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan import for_ansible, municipalities, shares
from koseki_ops.plan.days import effective_day, today_in
from koseki_ops.plan.for_ansible import (
    lines_of,
    link_policy_of,
    municipalities_of,
    operators_of,
    ports_of,
)
from koseki_ops.plan.host_programs import program_files, program_folders
from koseki_ops.plan.model import with_version
from koseki_ops.plan.revision import inputs_of
from koseki_ops.plan.site import Site, project_root
from koseki_ops.registers.schema import (
    PLATFORM_SCHEMA,
    municipality_statements,
    platform_file_statements,
    platform_statements,
    schema_work,
    sealed_statements,
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


def schema(
    found: dict[str, Any], municipalities: list[dict[str, str]], seen: dict[str, Any]
) -> dict[str, Any]:
    """Return what of a verified release's SQL is missing."""
    try:
        return schema_work(found, municipalities, seen)
    except KosekiError as error:
        raise AnsibleFilterError(str(error)) from error


def platform_sql(names: list[dict[str, str]], seen: dict[str, Any]) -> str:
    """Return the platform's own SQL that is missing."""
    try:
        return platform_file_statements(project_root() / PLATFORM_SCHEMA, names, seen)
    except KosekiError as error:
        raise AnsibleFilterError(str(error)) from error


def joined(rows: object, effective_date: str, timezone: str) -> list[dict[str, Any]]:
    """Return the municipalities that have joined by the effective date and not left."""
    day = effective_day(effective_date, timezone)
    return for_ansible.rows_of(municipalities.active(municipalities_of(rows), day))


def gone(rows: object, effective_date: str, timezone: str) -> list[dict[str, Any]]:
    """Return the municipalities that have left by the effective date."""
    day = effective_day(effective_date, timezone)
    return for_ansible.rows_of(municipalities.left(municipalities_of(rows), day))


def municipality_names(rows: object) -> list[dict[str, str]]:
    """Return what each municipality is called."""
    return for_ansible.municipality_names(municipalities_of(rows))


def promised_connections(rows: object, operators: list[str]) -> int:
    """Return how many connections the roles of municipalities and operators may hold together."""
    return shares.promised_connections(municipalities_of(rows), len(operators))


def takeovers(rows: object) -> list[dict[str, str]]:
    """Return who stands in for whom among municipalities that have joined."""
    return for_ansible.takeovers(municipalities_of(rows))


def subnets(rows: object, lines: object) -> dict[str, list[str]]:
    """Return the line subnets of municipalities, by slug."""
    return for_ansible.subnets(municipalities_of(rows), lines_of(lines))


def exchanges(
    rows: object, lines: object, policy: object, ports: object, authority: str
) -> list[dict[str, Any]]:
    """Return the exchange of files of each municipality."""
    active, link = municipalities_of(rows), link_policy_of(policy)
    return for_ansible.exchanges(active, lines_of(lines), link, ports_of(ports), authority)


def duplicate_settings(
    rows: object, policy: object, ports: object, authority: str, timezone: str
) -> dict[str, Any]:
    """Return what the transmissions of duplicates are told."""
    active, hours = municipalities_of(rows), for_ansible.duplicate_policy_of(policy)
    return for_ansible.duplicate_settings(active, hours, ports_of(ports), authority, timezone)


def duplicate_folders(rows: object) -> list[str]:
    """Return the folders of each municipality's duplicates."""
    return for_ansible.duplicate_folders(municipalities_of(rows))


def instances(rows: object, ports: object, authority: str) -> dict[str, dict[str, str]]:
    """Return the environment of each municipality's instance, by slug."""
    return for_ansible.instances(municipalities_of(rows), ports_of(ports), authority)


def takeover_instances(
    rows: list[dict[str, str]], ports: object, authority: str
) -> dict[str, dict[str, str]]:
    """Return the environment of each instance that stands in, by its name."""
    return for_ansible.takeover_instances(rows, ports_of(ports), authority)


def package_names(packages: dict[str, list[str]], version: int) -> object:
    """Return the plan's packages by the names that Debian gives them."""
    return with_version(packages, version)


def working(rows: object, names: list[str], timezone: str) -> list[str]:
    """Return the ids of the operators who may work today on a host."""
    return municipalities.operators_on(operators_of(rows), names, today_in(timezone))


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
            "koseki_municipality_names": municipality_names,
            "koseki_client_certificates": for_ansible.client_certificates,
            "koseki_doors": for_ansible.doors,
            "koseki_link_certificates": for_ansible.link_certificates,
            "koseki_duplicate_certificates": for_ansible.duplicate_certificates,
            "koseki_duplicate_settings": duplicate_settings,
            "koseki_duplicate_folders": duplicate_folders,
            "koseki_exchanges": exchanges,
            "koseki_exchange_folders": for_ansible.exchange_folders,
            "koseki_platform_statements": platform_statements,
            "koseki_platform_file_statements": platform_sql,
            "koseki_municipality_statements": municipality_statements,
            "koseki_sealed_statements": sealed_statements,
            "koseki_instances": instances,
            "koseki_subnets": subnets,
            "koseki_operators_on": working,
            "koseki_promised_connections": promised_connections,
            "koseki_takeovers": takeovers,
            "koseki_takeover_instances": takeover_instances,
            "koseki_package_names": package_names,
            "koseki_release": verified,
            "koseki_schema_work": schema,
            "koseki_repositories": repositories,
            "koseki_difference": difference,
            "koseki_tree": tree,
            "koseki_host_program": host_program,
            "koseki_host_program_folders": host_program_folders,
        }
