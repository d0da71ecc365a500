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
    """One municipality of the shared platform."""

    code6: Code6
    """Its 全国地方公共団体コード with the check digit, in quotes."""
    name: str
    """Its registered name, in exactly these characters."""
    kana: str
    """Its registered reading, in hiragana."""
    slug: Slug
    """How files, commands, databases and accounts name it."""
    romaji: str
    """Its reading for people who do not read Japanese; no host's content comes from it."""
    kind: Literal["市", "町", "村"]
    """What it is; the name ends with it."""
    phase: Positive
    """With which group it joined; no host's content comes from it."""
    joined_on: IsoDate | None
    """Its first day on the platform; null while that is not decided."""
    left_on: IsoDate | None = None
    """The first day without it; its row stays."""
    host: bool = False
    """Whether it runs the platform for all; exactly one does."""
    issued_by_host_in_failure: bool = False
    """Whether the host may issue for it while it is cut off; it then has a row in `takeovers`."""

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
    """What a municipality's going live rests on, as ids of documents (K-02)."""

    approval: Annotated[str, Field(min_length=1)]
    """Id of the document of 認容."""
    resolution: Annotated[str, Field(min_length=1)]
    """Id of the document of 議決, its assembly's."""
    agreement: Annotated[str, Field(min_length=1)]
    """Id of the document of 調印."""


class PlanNetwork(Table):
    """A network of the plan and the city's router in it."""

    cidr: Network
    """The network."""
    router: Address
    """The city's router in it."""

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
    """Inside the city; a datacenter host has none."""
    line: Address | None = None
    """As the datacenter line sees it."""


class Terminal(Table):
    """One terminal of a municipality's counter; its certificate names both."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{1,15}-[0-9]{2}$")]
    """Its name and its certificate's: the municipality's slug, a hyphen and two digits."""
    municipality: Slug
    """Slug of the municipality that it stands in."""


class Gateway(Table):
    """What the web gateway lets through."""

    body_kb: Positive
    """Largest body of a request, in KiB."""
    requests_per_second: Positive
    """Requests of one terminal in a second."""
    burst: Positive
    """Requests of one terminal that may come at once above that."""
    connections: Positive
    """Connections of one address at a time."""


class LinkPolicy(Table):
    """How the registry link takes files."""

    port: Port
    """Of the exchange (SFTP) on the link's host; a flow from registries leads to it."""
    file_mb: Positive
    """Largest file, in MiB."""
    line_kb: Positive
    """Longest line of a file, in KiB."""
    folder_mb: Positive
    """What in/ and quarantine/ of one town may hold, each, in MiB."""
    part_hours: Positive
    """How long an upload may stand still, in hours."""
    file_records: Positive
    """Most records of a file that is sent."""
    keep_days: Positive
    """How long files lie in done/ and quarantine/, in days."""
    reconcile_calendar: str
    """When the 附票 is held against the registry's statement (a systemd calendar event)."""
    statement_hours: Positive
    """How old that statement may be, in hours."""


class Flow(Table):
    """One allowed direction of traffic."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    """Its name, in the firewall's rules too."""
    why: str
    """Why it is needed, in a sentence."""
    from_: Annotated[list[str], Field(alias="from", min_length=1)]
    """Who may open it: groups of hosts.yml, `workstation`, `terminals` or `registries`."""
    to: Annotated[list[str], Field(min_length=1)]
    """To whom: groups, `workstation`, or names of `neighbours`."""
    protocol: Literal["tcp", "udp"]
    """Its protocol."""
    ports: Annotated[list[Port], Field(min_length=1)]
    """The ports at the end it leads to."""


class Operator(Table):
    """One person's account."""

    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{2,15}$")]
    """The account's name; never given to somebody else."""
    name: str
    """The person, or in samples the part."""
    department: str
    """Where the person works."""
    status: Literal["active", "ended"]
    """`ended` locks the account and keeps it."""
    valid_from: IsoDate
    """First day of the account."""
    valid_until: IsoDate
    """Last day of the account; `koseki check` names one that is over and still `active`."""
    sudo: bool
    """Whether the person may become root, with a password of their own."""
    hosts: Annotated[list[str], Field(min_length=1)]
    """Groups on whose hosts the account is."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.valid_from > self.valid_until:
            raise ValueError("valid_from is after valid_until; correct the dates")
        return self


class AccountPolicy(Table):
    """Passwords, lockout and idle time."""

    password_min_length: Annotated[int, Field(ge=8)]
    """Fewest characters of a password."""
    password_min_classes: Annotated[int, Field(ge=1, le=4)]
    """Fewest kinds of characters (lower, upper, digit, other)."""
    password_max_days: Positive
    """After how many days a password must be changed."""
    lockout_attempts: Positive
    """Wrong passwords until an account is locked."""
    lockout_seconds: Positive
    """For how long it is locked."""
    console_idle_seconds: Positive
    """After how long an idle shell is ended."""


class TimingProfile(Table):
    """Patroni's and the proxies' timings; seconds unless the name says otherwise."""

    ttl: Annotated[int, Field(ge=20)]  # Patroni takes no less
    """Life of the leader's key in etcd; what an outage takes follows from it."""
    loop_wait: Positive
    """Time between two looks of Patroni."""
    retry_timeout: Annotated[int, Field(ge=3)]  # Patroni takes no less
    """How long Patroni tries again before the leader gives up."""
    primary_start_timeout: Annotated[int, Field(ge=0)]
    """How long a crashed leader may take to start before another takes over."""
    proxy_check_interval_ms: Positive
    """Time between two checks by the proxies, in milliseconds."""
    proxy_check_fall: Positive
    """Failed checks until a proxy leaves a server out."""
    proxy_check_rise: Positive
    """Good checks until it is taken in again."""

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
    """Life of the authorities (servers', terminals')."""
    lifetime_days: Annotated[int, Field(gt=0, le=398)]
    """Life of a certificate for TLS."""
    renew_when_days_left: Positive
    """An apply renews a certificate that has fewer days left."""
    ssh_host_days: Annotated[int, Field(gt=0, le=398)]
    """Life of a host's SSH certificate."""
    ssh_automation_hours: Annotated[int, Field(gt=0, le=24)]
    """Life of the engines' SSH certificate."""
    ssh_operator_hours: Annotated[int, Field(gt=0, le=24)]
    """Life of an operator's SSH certificate."""
    ssh_watch_days: Annotated[int, Field(gt=0, le=92)]
    """Life of the SSH certificate of the host that keeps watch."""

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
    """Its name, as `koseki restore rehearse --vault` takes it."""
    group: str
    """The group with its one host."""
    repository: Positive
    """Its number at pgBackRest (`--repo`)."""
    account: Annotated[str, Field(pattern=r"^vault-[a-z0-9]+$")]
    """The account that uploads."""
    root: Annotated[str, Field(pattern=r"^/srv/")]
    """Its folder on its host."""
    cipher_secret: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    """Name of its encryption key in the vault of secrets."""


class VaultSeal(Table):
    """How often a vault is sealed and what is kept."""

    every_minutes: Annotated[int, Field(ge=1, le=59)]
    """Minutes between two generations."""
    keep_generations: Positive
    """How many of the newest are kept."""
    keep_days: Positive
    """Of how many days the first generation is kept beside them."""


class BackupPolicy(Table):
    """When backups are made (systemd calendar events), what is kept, when the alarm rings."""

    full_keep: Positive
    """Full backups that are kept."""
    differential_keep: Positive
    """Differential backups that are kept."""
    full_calendar: str
    """When a full one is made."""
    differential_calendar: str
    """When a differential one is made."""
    incremental_calendar: str
    """When an incremental one is made."""
    lag_wanted_minutes: Positive
    """How far the second backup should be behind at most; no host's content comes from it."""
    lag_alarm_minutes: Positive
    """How far behind it may be before the alarm rings."""


class Waiver(Table):
    """One difference that is allowed to stand for a while; its terms never change."""

    id: Annotated[str, Field(pattern=r"^W-[0-9]{4}-[0-9]{3}$")]
    """Its id: `W-`, the year, a number; a longer waiver is a new id."""
    host: str
    """The host of the finding, or `workstation`."""
    kind: Annotated[str, Field(min_length=1)]
    """The finding's kind, as a sweep names it."""
    name: Annotated[str, Field(min_length=1)]
    """The finding's name, as a sweep names it."""
    place: str | None = None
    """Only this field of it; all of it when left out."""
    owner: str
    """The operator who mends it."""
    approver: str
    """The operator who allowed it; another one."""
    reason: Annotated[str, Field(min_length=1)]
    """Why it may stand."""
    granted: Moment
    """Since when, in UTC."""
    expires: Moment
    """Until when, in UTC; at most 90 days after granted."""

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
    """The part that is told."""
    address: MailAddress
    """Where its mail goes."""


class AlertWebhook(Table):
    """Where an Alertmanager takes alerts by HTTP; its address needs a flow of the plan."""

    address: Address
    """The Alertmanager's address."""
    port: Port
    """Its port."""
    path: Annotated[str, Field(pattern=r"^/[A-Za-z0-9/._-]*$")]
    """Where it takes alerts."""


class MailRelay(Table):
    """The mail server that takes what the local MTA has; its address needs a flow of the plan."""

    address: Address
    """The mail server's address."""
    port: Port
    """Its port."""


class DriftAlerts(Table):
    """How new drift is told."""

    sender: MailAddress
    """What a mail comes from."""
    recipients: Annotated[list[AlertRecipient], Field(min_length=1)]
    """Who is told."""
    sendmail: Annotated[str, Field(pattern=r"^/")]
    """The program that the local MTA takes mail from."""
    relay: MailRelay | None = None
    """Where the MTA hands mail on; null: it stays in /var/mail/root of the host that keeps watch.
    """
    holds_minutes: Annotated[int, Field(ge=30)]
    """How long an alert stands when no sweep follows; longer than the time between two."""
    webhook: AlertWebhook | None = None
    """Where alerts go by HTTP as well; null: nowhere."""


class WatchSchedule(Table):
    """When the platform is looked at by itself (systemd calendar events), and when a run ends."""

    sweep_calendar: str
    """When the sweep runs."""
    sweep_seconds: Positive
    """When a sweep is ended."""
    verify_calendar: str
    """When the verification runs."""
    verify_seconds: Positive
    """When a verification is ended."""
    opinion_calendar: str
    """When both engines are asked under check."""
    opinion_seconds: Positive
    """When that is ended."""


class ApplicationRelease(Table):
    """The release that runs, and whether an older one than the running one is meant."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,40}$")]
    """The application's name, as its release says."""
    version: Annotated[str, Field(pattern=r"^\d{1,6}\.\d{1,6}\.\d{1,6}$")]
    """The version that runs."""
    allow_downgrade: bool
    """Whether a version older than the running one is meant."""


class RequestPolicy(Table):
    """What a request for a session on a municipality's database may ask for."""

    longest_hours: Annotated[int, Field(gt=0, le=720)]
    """Longest time between opening and expiry, in hours."""


DocumentText = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f'\\]{1,200}$")]


class Takeover(Table):
    """What holds while the host municipality issues for another that is cut off."""

    municipality: Slug
    """Slug of the one that is cut off."""
    signatory: DocumentText
    """Who signs, as the documents say."""
    margin_note: DocumentText
    """The note in the documents' margin."""
    longest_hours: Annotated[int, Field(gt=0, le=720)]
    """Longest time between declaration and end, in hours."""


class DiskVolume(Table):
    """A file system on the disk of a host that is made as an image."""

    mount: Annotated[str, Field(pattern=r"^/([a-z0-9_-]+(/[a-z0-9_-]+)*)?$")]
    """Where it is mounted."""
    groups: list[str] = []
    """Groups whose hosts have it; every host without a word."""
    size_mib: Annotated[int, Field(ge=64)]
    """Its size, in MiB."""
    options: list[Annotated[str, Field(pattern=r"^[a-z0-9_=-]+$")]]
    """Options of its mount(8)."""


class AuditPolicy(Table):
    """The kernel's records of use on a host."""

    log_mib: Positive
    """Size of a file, in MiB."""
    logs: Annotated[int, Field(ge=2, le=999)]
    """How many files are kept."""
    warn_percent: Annotated[int, Field(gt=0, lt=100)]
    """Share of the file system that must be free, or a warning is written."""
    alarm_percent: Annotated[int, Field(gt=0, lt=100)]
    """Share that must be free, or the alarm is written."""

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
    joinings: dict[Slug, Joining]
    """What each municipality's going live rests on, by slug (K-02)."""
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
    line_subnets: dict[str, list[Network]]
    """The networks of each municipality's counters, by slug."""
    link_peers: dict[str, Address]
    """The address of each municipality's resident registry on its line, by slug."""
    neighbours: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")], Address]
    """Machines that are no hosts of the plan and that a flow may lead to, by name."""
    link_policy: LinkPolicy
    """How the registry link takes files."""
    terminals: list[Terminal]
    """The terminals at the counters."""
    gateway: Gateway
    """What the web gateway lets through."""
    flows: Annotated[list[Flow], Field(min_length=1)]
    """All traffic that is allowed; nothing else is."""
    operators: list[Operator]
    """The persons who have accounts."""
    account_policy: AccountPolicy
    """Passwords, lockout and idle time."""
    request_policy: RequestPolicy
    """What a request for a session on a town's database may ask for."""
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
    packages: dict[str, list[str]]
    """Every Debian package that is asked for, by concern; the mirror holds these and what they
    need.
    """
    volumes: list[DiskVolume]
    """The disk of a host that is made as an image, one file system after the other."""
    waivers: list[Waiver]
    """Differences that may stand for a while."""
    drift_alerts: DriftAlerts
    """How new drift is told."""
    application_release: ApplicationRelease
    """The release of the application that runs."""
    certificate_signatories: dict[Slug, str]
    """Who signs documents, by slug; otherwise the municipality's head."""
    takeovers: list[Takeover]
    """For whom the host municipality may issue while it is cut off."""

    @property
    def today(self) -> date:
        """The day it is for the platform's people, wherever this runs."""
        return today_in(self.timezone)

    @property
    def effective_day(self) -> date:
        """The day for which municipalities count as joined."""
        return effective_day(str(self.effective_date), self.timezone)
