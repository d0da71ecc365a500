"""The typed model of an inventory's shared values (`group_vars/all`).

Each class is one table of the plan; each validator's message says what is wrong and what to do.
Rules that span tables are in `koseki_ops.plan.rules`.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from koseki_ops.plan.municipalities import effective_day, today_in
from koseki_ops.plan.naming import database_of

CODE_LENGTH = 6
CODE_WEIGHTS = (6, 5, 4, 3, 2)
WAIVER_LONGEST = timedelta(days=90)


def check_digit(code5: str) -> str:
    """Return the check digit of a five-digit 全国地方公共団体コード (JIS X 0402, modulus 11)."""
    total = sum(weight * int(digit) for weight, digit in zip(CODE_WEIGHTS, code5, strict=True))
    return str(11 - total % 11)[-1]


def _code6(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - pydantic reports ValueError, TypeError escapes it
            'a municipality code is a string, not a number; write it in quotes, as "202053"'
        )
    if not re.fullmatch(r"[0-9]{6}", value):
        raise ValueError("a municipality code has six digits, the last a check digit")
    wanted = check_digit(value[:5])
    if value[5] != wanted:
        raise ValueError(
            f"wrong check digit; {value[:5]} takes {wanted}, so write {value[:5]}{wanted}"
        )
    return value


def _iso_date(value: object) -> date:
    if isinstance(value, date):
        return value
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError as error:
            raise ValueError('a date is written "YYYY-MM-DD"') from error
    raise ValueError('a date is written "YYYY-MM-DD"')


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("no such time zone; write it as Asia/Tokyo") from error
    return value


def _network(value: object) -> IPv4Network:
    try:
        return IPv4Network(str(value))
    except ValueError as error:
        raise ValueError(f"{error}; write a network as 10.20.101.0/24") from error


def _address(value: object) -> IPv4Address:
    try:
        return IPv4Address(str(value))
    except ValueError as error:
        raise ValueError("write an IPv4 address as 10.20.10.11") from error


def _utc(value: object) -> datetime:
    # Only quoted text: YAML's own timestamps lose their zone, and JSON knows none.
    if isinstance(value, datetime):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value):
        try:
            return datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"{error}; correct the moment") from error
    raise ValueError('a moment is written in UTC and in quotes, as "2026-11-30T15:00:00Z"')


def _slug(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9]{1,15}", value):
        raise ValueError("a slug has 2 to 16 of a-z and 0-9, starting with a letter")
    return value


Code6 = Annotated[str, BeforeValidator(_code6)]
IsoDate = Annotated[date, BeforeValidator(_iso_date)]
Moment = Annotated[datetime, BeforeValidator(_utc)]
Network = Annotated[IPv4Network, BeforeValidator(_network)]
Address = Annotated[IPv4Address, BeforeValidator(_address)]
Slug = Annotated[str, AfterValidator(_slug)]
Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(gt=0)]


class Table(BaseModel):
    """A row or table of the plan: immutable, no unknown keys, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Municipality(Table):
    """One municipality of the shared platform.

    joined_on: its first day, None while that is not decided; left_on: the first day without it.
    """

    code6: Code6
    name: str
    kana: str
    slug: Slug
    romaji: str
    kind: Literal["市", "町", "村"]
    phase: Positive
    joined_on: IsoDate | None
    left_on: IsoDate | None = None
    host: bool = False
    issued_by_host_in_failure: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.left_on and (self.joined_on is None or self.left_on <= self.joined_on):
            raise ValueError("left_on is not after joined_on; correct the dates")
        if self.left_on and self.host:
            raise ValueError("the municipality that runs the platform cannot leave it")
        return self

    @property
    def database(self) -> str:
        """The municipality's database and tablespace."""
        return database_of(self.slug)


class Joining(Table):
    """What a municipality's going live rests on, as ids of documents (K-02).

    approval: 認容; resolution: 議決 of its assembly; agreement: 調印.
    """

    approval: Annotated[str, Field(min_length=1)]
    resolution: Annotated[str, Field(min_length=1)]
    agreement: Annotated[str, Field(min_length=1)]


class PlanNetwork(Table):
    """A network of the plan and the city's router in it."""

    cidr: Network
    router: Address

    @model_validator(mode="after")
    def _router_inside(self) -> Self:
        if self.router not in self.cidr:
            raise ValueError(
                f"the router {self.router} is outside {self.cidr}; correct one of them"
            )
        return self


class HostAddresses(Table):
    """The addresses of a host: inside the city, and as the datacenter line sees it."""

    city: Address | None = None
    line: Address | None = None


class Terminal(Table):
    """One terminal of a municipality's counter; its certificate names both."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{1,15}-[0-9]{2}$")]
    municipality: Slug


class Gateway(Table):
    """What the web gateway lets through.

    body_kb: of one request, in KiB; requests_per_second, burst: of one terminal; connections: of
    one address at a time.
    """

    body_kb: Positive
    requests_per_second: Positive
    burst: Positive
    connections: Positive


class LinkPolicy(Table):
    """How the registry link takes files.

    port: of the exchange; file_mb, line_kb: what a file and one of its lines may hold, in MiB and
    KiB; folder_mb: what in/ and quarantine/ of a town may hold, each, in MiB; part_hours: how long
    an upload may stand still; file_records: of a file that is sent; keep_days: how long files lie
    in done/ and quarantine/; reconcile_calendar: when the 附票 is held against the registry's
    statement (a systemd calendar event); statement_hours: how old that may be.
    """

    port: Port
    file_mb: Positive
    line_kb: Positive
    folder_mb: Positive
    part_hours: Positive
    file_records: Positive
    keep_days: Positive
    reconcile_calendar: str
    statement_hours: Positive


class Flow(Table):
    """One allowed direction of traffic."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    why: str
    from_: Annotated[list[str], Field(alias="from", min_length=1)]
    to: Annotated[list[str], Field(min_length=1)]
    protocol: Literal["tcp", "udp"]
    ports: Annotated[list[Port], Field(min_length=1)]


class Operator(Table):
    """One person's account."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{2,15}$")]
    name: str
    department: str
    status: Literal["active", "ended"]
    valid_from: IsoDate
    valid_until: IsoDate
    sudo: bool
    hosts: Annotated[list[str], Field(min_length=1)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.valid_from > self.valid_until:
            raise ValueError("valid_from is after valid_until; correct the dates")
        return self


class AccountPolicy(Table):
    """Passwords, lockout and idle time."""

    password_min_length: Annotated[int, Field(ge=8)]
    password_min_classes: Annotated[int, Field(ge=1, le=4)]
    password_max_days: Positive
    lockout_attempts: Positive
    lockout_seconds: Positive
    console_idle_seconds: Positive


class TimingProfile(Table):
    """Patroni's and the proxies' timings; seconds unless the name says otherwise."""

    ttl: Annotated[int, Field(ge=20)]  # Patroni takes no less
    loop_wait: Positive
    retry_timeout: Annotated[int, Field(ge=3)]  # Patroni takes no less
    primary_start_timeout: Annotated[int, Field(ge=0)]
    proxy_check_interval_ms: Positive
    proxy_check_fall: Positive
    proxy_check_rise: Positive

    @model_validator(mode="after")
    def _fits(self) -> Self:
        needed = self.loop_wait + 2 * self.retry_timeout
        if needed > self.ttl:
            raise ValueError(
                f"loop_wait + 2*retry_timeout is {needed}, more than ttl {self.ttl}; "
                "a leader would lose its key while it still retries: raise ttl or lower the others"
            )
        return self


class CertificatePolicy(Table):
    """Lifetimes of certificates."""

    authority_days: Positive
    lifetime_days: Annotated[int, Field(gt=0, le=398)]
    renew_when_days_left: Positive
    ssh_host_days: Annotated[int, Field(gt=0, le=398)]
    ssh_automation_hours: Annotated[int, Field(gt=0, le=24)]
    ssh_operator_hours: Annotated[int, Field(gt=0, le=24)]
    ssh_watch_days: Annotated[int, Field(gt=0, le=92)]

    @model_validator(mode="after")
    def _renewed_in_time(self) -> Self:
        if self.renew_when_days_left >= self.lifetime_days:
            raise ValueError(
                "renew_when_days_left must be shorter than lifetime_days; take a third of it"
            )
        return self


class Vault(Table):
    """One sealed copy."""

    name: Slug
    group: str
    repository: Positive
    account: Annotated[str, Field(pattern=r"^vault-[a-z0-9]+$")]
    root: Annotated[str, Field(pattern=r"^/srv/")]
    cipher_secret: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class VaultSeal(Table):
    """How often a vault is sealed and what is kept."""

    every_minutes: Annotated[int, Field(ge=1, le=59)]
    keep_generations: Positive
    keep_days: Positive


class BackupPolicy(Table):
    """When backups are made (systemd calendar events), what is kept, when the alarm rings."""

    full_keep: Positive
    differential_keep: Positive
    full_calendar: str
    differential_calendar: str
    incremental_calendar: str
    lag_wanted_minutes: Positive
    lag_alarm_minutes: Positive


class Waiver(Table):
    """One difference that is allowed to stand for a while; its terms never change.

    host, kind, name: of the finding it covers; place: only this field of it, or all when left out;
    owner: who mends it; approver: who allowed it, another person; granted, expires: in UTC.
    """

    id: Annotated[str, Field(pattern=r"^W-[0-9]{4}-[0-9]{3}$")]
    host: str
    kind: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]
    place: str | None = None
    owner: str
    approver: str
    reason: Annotated[str, Field(min_length=1)]
    granted: Moment
    expires: Moment

    @model_validator(mode="after")
    def _two_persons(self) -> Self:
        if self.approver == self.owner:
            raise ValueError(
                f"{self.owner} approves a waiver of their own; let another operator approve it"
            )
        return self

    @model_validator(mode="after")
    def _ends_soon(self) -> Self:
        if not self.granted < self.expires <= self.granted + WAIVER_LONGEST:
            raise ValueError(
                f"a waiver ends after it is granted and within {WAIVER_LONGEST.days} days; "
                "correct expires"
            )
        return self

    def holds_at(self, moment: float) -> bool:
        """Say whether it covers anything at a moment (seconds since the epoch)."""
        return self.granted <= datetime.fromtimestamp(moment, UTC) < self.expires


MailAddress = Annotated[str, Field(pattern=r"^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+$")]


class AlertRecipient(Table):
    """Who is told: a part, not a person, so that it outlives whoever holds it."""

    role: Annotated[str, Field(min_length=1)]
    address: MailAddress


class AlertWebhook(Table):
    """Where an Alertmanager takes alerts by HTTP; its address needs a flow of the plan."""

    address: Address
    port: Port
    path: Annotated[str, Field(pattern=r"^/[A-Za-z0-9/._-]*$")]


class MailRelay(Table):
    """The mail server that takes what the local MTA has; its address needs a flow of the plan."""

    address: Address
    port: Port


class DriftAlerts(Table):
    """How new drift is told.

    sendmail: the program that the local MTA takes mail from; relay: where that hands mail on, None:
    it keeps it; holds_minutes: how long an alert stands when no sweep follows, longer than the time
    between two.
    """

    sender: MailAddress
    recipients: Annotated[list[AlertRecipient], Field(min_length=1)]
    sendmail: Annotated[str, Field(pattern=r"^/")]
    relay: MailRelay | None = None
    holds_minutes: Annotated[int, Field(ge=30)]
    webhook: AlertWebhook | None = None


class WatchSchedule(Table):
    """When the platform is looked at by itself (systemd calendar events), and when a run ends."""

    sweep_calendar: str
    sweep_seconds: Positive
    verify_calendar: str
    verify_seconds: Positive
    opinion_calendar: str
    opinion_seconds: Positive


class ApplicationRelease(Table):
    """The release that runs, and whether an older one than the running one is meant."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,40}$")]
    version: Annotated[str, Field(pattern=r"^\d{1,6}\.\d{1,6}\.\d{1,6}$")]
    allow_downgrade: bool


class RequestPolicy(Table):
    """What a request for a session on a municipality's database may ask for."""

    longest_hours: Annotated[int, Field(gt=0, le=720)]


DocumentText = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f'\\]{1,200}$")]


class Takeover(Table):
    """What holds while the host municipality issues for another that is cut off.

    signatory, margin_note: as the documents say; longest_hours: between declaration and end.
    """

    municipality: Slug
    signatory: DocumentText
    margin_note: DocumentText
    longest_hours: Annotated[int, Field(gt=0, le=720)]


class DiskVolume(Table):
    """A file system on the disk of a host that is made as an image.

    mount: where it is seen; groups: those that have it, empty for every host; options: of its
    mount(8).
    """

    mount: Annotated[str, Field(pattern=r"^/([a-z0-9_-]+(/[a-z0-9_-]+)*)?$")]
    groups: list[str] = []
    size_mib: Annotated[int, Field(ge=64)]
    options: list[Annotated[str, Field(pattern=r"^[a-z0-9_=-]+$")]]


class AuditPolicy(Table):
    """The kernel's records of use on a host.

    log_mib, logs: size of a file in MiB, and how many are kept; warn_percent, alarm_percent: of the
    file system that must be free.
    """

    log_mib: Positive
    logs: Annotated[int, Field(ge=2, le=999)]
    warn_percent: Annotated[int, Field(gt=0, lt=100)]
    alarm_percent: Annotated[int, Field(gt=0, lt=100)]

    @model_validator(mode="after")
    def _warned_first(self) -> Self:
        if self.alarm_percent >= self.warn_percent:
            raise ValueError(
                f"alarm_percent is not below warn_percent ({self.warn_percent}); "
                "the warning comes first: lower it"
            )
        return self


KeyPath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._-]+)+/?$")]
KernelParameter = Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.([a-z0-9_-]+|\*))+$")]
KernelModule = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
KernelWord = Annotated[str, Field(pattern=r"^[a-z][A-Za-z0-9_.]*(=[A-Za-z0-9_.,:/-]+)?$")]


class Platform(BaseModel):
    """The shared values of an inventory that the model knows by type."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    platform_name: Slug
    domain: str
    timezone: Annotated[str, AfterValidator(_zone)]
    debian_release: str
    effective_date: Literal["today"] | IsoDate
    double_recording: Literal["preferred", "required"]
    automation_account: str
    municipalities: Annotated[list[Municipality], Field(min_length=1)]
    joinings: dict[Slug, Joining]
    networks: dict[str, PlanNetwork]
    host_addresses: dict[str, HostAddresses]
    workstation_addresses: HostAddresses
    mirror_port: Port
    time_sources: dict[str, list[Address]]
    line_subnets: dict[str, list[Network]]
    link_peers: dict[str, Address]
    neighbours: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")], Address]
    link_policy: LinkPolicy
    terminals: list[Terminal]
    gateway: Gateway
    flows: Annotated[list[Flow], Field(min_length=1)]
    operators: list[Operator]
    account_policy: AccountPolicy
    request_policy: RequestPolicy
    timing_profile: str
    timing_profiles: dict[str, TimingProfile]
    certificate_policy: CertificatePolicy
    vaults: Annotated[list[Vault], Field(min_length=1)]
    vault_seal: VaultSeal
    backup_policy: BackupPolicy
    watch_schedule: WatchSchedule
    audit_policy: AuditPolicy
    audit_key_files: dict[str, list[KeyPath]]
    kernel_parameters: dict[KernelParameter, int | Annotated[str, Field(pattern=r"^\S+$")]]
    kernel_modules_refused: list[KernelModule]
    kernel_command_line: list[KernelWord]
    packages: dict[str, list[str]]
    volumes: list[DiskVolume]
    waivers: list[Waiver]
    drift_alerts: DriftAlerts
    application_release: ApplicationRelease
    certificate_signatories: dict[Slug, str]
    takeovers: list[Takeover]

    @property
    def today(self) -> date:
        """The day it is for the platform's people, wherever this runs."""
        return today_in(self.timezone)

    @property
    def effective_day(self) -> date:
        """The day for which municipalities count as joined."""
        return effective_day(str(self.effective_date), self.timezone)
