"""What holds for services and hosts: limits, lifetimes, timings, schedules, alerts, waivers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from koseki_ops.core.language import _
from koseki_ops.plan.model.values import Address, ClockTime, Moment, Port, Positive, Table


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
    """What in/ and quarantine/ of one municipality may hold, each, in MiB."""
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


class DuplicatePolicy(Table):
    """How duplicates (副本) are sent to the ministry's relay server."""

    closes: ClockTime
    """Until then a business day is not over, and what is done belongs to the one before."""
    due: ClockTime
    """When, on the business day after, each row has to be final."""
    totals_due: Positive
    """By which business day of the next month the totals have to be compared."""
    box: Literal["primary", "secondary"]
    """Which box of the relay server files are handed to: 正 or 副."""
    turn_calendar: str
    """When each municipality's program takes a turn (a systemd calendar event)."""


# What the proxies' configuration says: how long an attempt to connect lasts, and how many checks a
# server's connections are cut after it takes no new ones (roles/db_proxy, haproxy.cfg.j2).
PROXY_CONNECT_MS, PROXY_CHECKS_UNTIL_CUT = 1500, 2


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
                _(
                    "loop_wait + 2*retry_timeout is {needed}, more than ttl {ttl}; a leader "
                    "would lose its key while it still retries: raise ttl or lower the "
                    "others"
                ).format(needed=needed, ttl=self.ttl)
            )
        # Checks that fail at once come fastest; the first ones are made twice as often.
        every, fall = self.proxy_check_interval_ms, self.proxy_check_fall
        last_new = every + (fall - 1) * every / 2
        cut = (fall + PROXY_CHECKS_UNTIL_CUT - 1) * every
        if cut < last_new + PROXY_CONNECT_MS:
            raise ValueError(
                _(
                    "a proxy would cut a server's connections {cut} ms after it fails, while some "
                    "may still be made ({needed} ms): raise proxy_check_interval_ms "
                    "or proxy_check_fall"
                ).format(cut=cut, needed=round(last_new + PROXY_CONNECT_MS))
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
                _("renew_when_days_left must be shorter than lifetime_days; take a third of it")
            )
        return self


WAIVER_LONGEST = timedelta(days=90)


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
                _("{owner} approves a waiver of their own; let another operator approve it").format(
                    owner=self.owner
                )
            )
        return self

    @model_validator(mode="after")
    def _ends_soon(self) -> Self:
        if not self.granted < self.expires <= self.granted + WAIVER_LONGEST:
            raise ValueError(
                _(
                    "a waiver ends after it is granted and within {days} days; correct expires"
                ).format(days=WAIVER_LONGEST.days)
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


class ApplicationRelease(Table):
    """The release that runs, and whether an older one than the running one is meant."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{1,40}$")]
    """The application's name, as its release says."""
    version: Annotated[str, Field(pattern=r"^\d{1,6}\.\d{1,6}\.\d{1,6}$")]
    """The version that runs."""
    allow_downgrade: bool
    """Whether a version older than the running one is meant."""


class DiskVolume(Table):
    """A file system on the disk of a host that is made as an image."""

    mount: Annotated[str, Field(pattern=r"^/([a-z0-9_-]+(/[a-z0-9_-]+)*)?$")]
    """Where it is mounted."""
    groups: list[str] = []  # noqa: RUF012 - pydantic gives each row a copy
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
                _(
                    "alarm_percent is not below warn_percent ({warn_percent}); the warning "
                    "comes first: lower it"
                ).format(warn_percent=self.warn_percent)
            )
        return self


PackageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.-]+$")]
KeyPath = Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._-]+)+/?$")]
KernelParameter = Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.([a-z0-9_-]+|\*))+$")]
KernelModule = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
KernelWord = Annotated[str, Field(pattern=r"^[a-z][A-Za-z0-9_.]*(=[A-Za-z0-9_.,:/-]+)?$")]
