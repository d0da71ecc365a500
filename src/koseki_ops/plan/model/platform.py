"""All shared values of an inventory, typed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from koseki_ops.core.language import _
from koseki_ops.plan.days import effective_day, today_in
from koseki_ops.plan.model.municipalities import Municipality, Terminal
from koseki_ops.plan.model.network import Flow, HostAddresses, Line, PlanNetwork, ServicePorts
from koseki_ops.plan.model.people import AccountPolicy, Operator, RequestPolicy
from koseki_ops.plan.model.policies import (
    ApplicationRelease,
    AuditPolicy,
    CertificatePolicy,
    DiskVolume,
    DriftAlerts,
    DuplicatePolicy,
    Gateway,
    KernelModule,
    KernelParameter,
    KernelWord,
    KeyPath,
    LinkPolicy,
    PackageName,
    TimingProfile,
    Waiver,
    WatchSchedule,
)
from koseki_ops.plan.model.values import Address, IsoDate, Port, Slug
from koseki_ops.plan.model.vaults import BackupPolicy, Vault, VaultSeal


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(_("no such time zone; write it as Asia/Tokyo")) from error
    return value


def _with_ports(flows: object, ports: Mapping[str, object]) -> object:
    """Return flows as they stand in an inventory, with numbers instead of names of ports."""
    if not isinstance(flows, list):
        return flows

    def number(port: object) -> object:
        return ports.get(port, port) if isinstance(port, str) else port

    return [
        flow | {"ports": [number(port) for port in flow["ports"]]}
        if isinstance(flow, dict) and isinstance(flow.get("ports"), list)
        else flow
        for flow in flows
    ]


def with_version(packages: object, version: int) -> object:
    """Return packages as they stand in an inventory, by the names that Debian gives them."""
    if not isinstance(packages, Mapping):
        return packages

    def written(name: object) -> object:
        gap = "{postgresql_version}"
        return name.replace(gap, str(version)) if isinstance(name, str) else name

    return {
        concern: [written(name) for name in names] if isinstance(names, list) else names
        for concern, names in packages.items()
    }


class Platform(BaseModel):
    """The shared values of an inventory that the model knows by type."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    platform_name: Slug
    """What the platform is called; no host's content comes from it."""
    domain: str
    """The domain of the hosts' names."""
    timezone: Annotated[str, AfterValidator(_zone)]
    """The time zone of the hosts, of days and of schedules."""
    debian_release: str
    """The Debian that every host runs, by its code name."""
    effective_date: Literal["today"] | IsoDate
    """The day for which municipalities count as joined: `today`, or a date to look at another."""
    double_recording: Literal["preferred", "required"]
    """`required`: nothing is acknowledged without the second recording; `preferred`: 正 goes on
    alone, and the alarm rings.
    """
    automation_account: str
    """The account that the engines use: certificate only, from the workstation only."""
    municipalities: Annotated[list[Municipality], Field(min_length=1)]
    """Who shares the platform, in the plan's order."""
    networks: dict[str, PlanNetwork]
    """The networks of the plan: `city` and `line`."""
    host_addresses: dict[str, HostAddresses]
    """The addresses of each host, by its name in hosts.yml."""
    workstation_addresses: HostAddresses
    """The control node, where the toolkit is called; authorities and mirror are there."""
    mirror_port: Port
    """Port of the package mirror on the control node."""
    time_sources: dict[str, list[Address]]
    """Where hosts ask for the time, by group; the last group that fits counts, an empty list asks
    nobody.
    """
    lines: dict[str, Line]
    """The line of each municipality, by slug."""
    neighbours: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")], Address]
    """Machines that are no hosts of the plan and that a flow may lead to, by name."""
    duplicate_policy: DuplicatePolicy
    """How duplicates (副本) are sent."""
    link_policy: LinkPolicy
    """How the registry link takes files."""
    gateway: Gateway
    """What the web gateway lets through."""
    flows: Annotated[list[Flow], Field(min_length=1)]
    """All traffic that is allowed; nothing else is."""
    operators: list[Operator]
    """The persons who have accounts."""
    account_policy: AccountPolicy
    """Passwords, lockout and idle time."""
    request_policy: RequestPolicy
    """What a request for a session on a municipality's database may ask for."""
    timing_profile: str
    """The profile of `timing_profiles` that counts."""
    timing_profiles: dict[str, TimingProfile]
    """Timings of Patroni and the proxies, by name."""
    certificate_policy: CertificatePolicy
    """Lifetimes of certificates."""
    vaults: Annotated[list[Vault], Field(min_length=1)]
    """The sealed copies."""
    vault_seal: VaultSeal
    """How often a vault is sealed, and what is kept."""
    backup_policy: BackupPolicy
    """When backups are made, what is kept, when the alarm rings."""
    watch_schedule: WatchSchedule
    """When the platform is looked at by itself."""
    audit_policy: AuditPolicy
    """The kernel's records of use on a host."""
    audit_key_files: dict[str, list[KeyPath]]
    """Keys whose reading is recorded, by group: files, and folders that end with /."""
    kernel_parameters: dict[KernelParameter, int | Annotated[str, Field(pattern=r"^\S+$")]]
    """What the kernel is set to, by the names of sysctl; a * stands for every interface."""
    kernel_modules_refused: list[KernelModule]
    """Modules that no kernel loads."""
    kernel_command_line: list[KernelWord]
    """Words that every kernel is started with."""
    packages: dict[str, list[PackageName]]
    """Every Debian package that is asked for, by concern; the mirror holds these and what they
    need. `{postgresql_version}` in a name stands for that value.
    """
    service_ports: ServicePorts
    """The ports of the services, by name."""
    postgresql_version: Annotated[int, Field(ge=13, le=99)]
    """PostgreSQL's major version."""
    volumes: list[DiskVolume]
    """The disk of a host that is made as an image, one file system after the other."""
    waivers: list[Waiver]
    """Differences that may stand for a while."""
    drift_alerts: DriftAlerts
    """How new drift is told."""
    application_release: ApplicationRelease
    """The release of the application that runs."""

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Put numbers and versions where the inventory names them; the rest is the fields' part."""
        found = dict(values)
        if isinstance(ports := found.get("service_ports"), Mapping):
            found["flows"] = _with_ports(found.get("flows"), ports)
        if isinstance(version := found.get("postgresql_version"), int):
            found["packages"] = with_version(found.get("packages"), version)
        return found

    @property
    def today(self) -> date:
        """The day it is for the platform's people, wherever this runs."""
        return today_in(self.timezone)

    @property
    def effective_day(self) -> date:
        """The day for which municipalities count as joined."""
        return effective_day(str(self.effective_date), self.timezone)

    @property
    def joined(self) -> list[Municipality]:
        """The municipalities that have joined and not left, in the plan's order (K-02)."""
        day = self.effective_day
        return [municipality for municipality in self.municipalities if municipality.is_active(day)]

    @property
    def terminals(self) -> list[Terminal]:
        """Every terminal, in the plan's order."""
        return [Terminal(name, row.slug) for row in self.municipalities for name in row.terminals]
