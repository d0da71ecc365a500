"""Requests: a person's session on one municipality's database, for a reason and a time (K-05).

The register is in each municipality's own database (platform.requests, append only), and the
database grants and takes away by it; here a request is held against the inventory, said to the
leader, and listed together with what the hosts' journals tell of refusals.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.foreign import as_asked, parsed, rows_from
from koseki_ops.core.formatting import in_short
from koseki_ops.core.language import _
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import Platform
from koseki_ops.plan.municipalities import operators_on
from koseki_ops.plan.naming import database_of
from koseki_ops.plan.rules import load_platform
from koseki_ops.plan.site import Site
from koseki_ops.remote.psql import LEADER, literal, run_on_leader
from koseki_ops.remote.run import run
from koseki_ops.remote.ssh_config import ensure_site_ssh

SCOPES = ("read", "correct")
TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
REQUEST_ID = re.compile(r"([a-z][a-z0-9]{1,15})-([1-9][0-9]{0,8})")

LIST = """SELECT json_build_object('municipality', '{slug}', 'number', r.number,
  'operator', operator, 'scope', scope, 'basis', basis, 'requester', requester,
  'approver', approver, 'opened_by', opened_by, 'opened_at', opened_at, 'expires_at', expires_at,
  'state', CASE WHEN how IS NOT NULL THEN how WHEN expires_at <= clock_timestamp() THEN 'expired'
    ELSE 'open' END, 'ended_at', ended_at, 'ended_by', ended_by)
  FROM platform.requests r LEFT JOIN platform.request_ends USING (number) ORDER BY number;"""

# What the server says of an operator who comes: its own line, after role and database.
SERVER_LINE = re.compile(
    r"operator_(?P<operator>[a-z0-9]+)@(?P<database>\S+) \[local\] (?P<level>FATAL|LOG):  "
    r"(?P<text>.*)"
)
SUDO_LINE = re.compile(r" *(?P<operator>[a-z0-9]+) : .*\bUSER=(?P<text>root|postgres) ;")
KINDS = (
    ("session under request ", "session"),
    ("terminating connection ", "ended"),
    ("no open request ", "refused"),
    ("permission denied for database ", "refused"),
    ("pg_hba.conf rejects connection ", "refused"),
    ("Peer authentication failed ", "refused"),
)


@dataclass(frozen=True)
class RegisterService:
    """Where requests and takeovers are made: a site, its inventory, and that as typed."""

    site: Site
    inventory: Inventory
    platform: Platform

    @classmethod
    def of(cls, site: Site) -> RegisterService:
        """Read a site's inventory; KosekiError when it does not hold."""
        inventory = Inventory(site.inventory)
        return cls(site, inventory, load_platform(inventory))

    @property
    def zone(self) -> ZoneInfo:
        """The platform's time zone."""
        return ZoneInfo(self.platform.timezone)

    @property
    def hosts(self) -> list[str]:
        """The databases' hosts."""
        return self.inventory.hosts_in("databases")

    @property
    def municipalities(self) -> dict[str, str]:
        """The names of the municipalities that have joined, by slug, in the plan's order."""
        return {
            municipality.slug: municipality.name for municipality in self.platform.municipalities
        }

    @property
    def operators(self) -> list[str]:
        """The operators of today, wherever they work."""
        names = [*self.inventory.groups, *self.inventory.hosts]
        return self._working(names)

    @property
    def workers(self) -> list[str]:
        """The operators of today who can have a session: with an account on every server."""
        found = [set(self._working([*self.inventory.groups_of(host), host])) for host in self.hosts]
        return [name for name in self.operators if all(name in there for there in found)]

    def municipality(self, slug: str) -> str:
        """Return a municipality's slug when it has joined; KosekiError for any other."""
        if slug not in self.municipalities:
            known = ", ".join(self.municipalities)
            raise KosekiError(
                _("no municipality of this name has joined"),
                slug,
                _("name one of {known} (`koseki municipalities`)").format(known=known),
            )
        return slug

    def operator(self, name: str) -> str:
        """Return an operator of today; KosekiError for anybody else."""
        if name not in self.operators:
            raise KosekiError(
                _("{name} is not a valid operator today").format(name=name),
                _("valid: {operators}").format(operators=", ".join(self.operators)),
                _("give one of them, or correct `operators.yml`"),
            )
        return name

    def _working(self, names: list[str]) -> list[str]:
        return operators_on(self.platform.operators, names, self.platform.today)


@dataclass(frozen=True)
class RequestSpec:
    """A request as it is asked for. until: with its zone."""

    slug: str
    operator: str
    requester: str
    approver: str
    basis: str
    scope: str
    until: datetime


@dataclass(frozen=True)
class Event:
    """What a host's journal tells of an operator.

    kind: session (under a request), ended, refused, or sudo: a person became root or postgres on a
    database's host, whom no request can hold; at: UTC; database: empty for sudo.
    """

    at: datetime
    host: str
    kind: str
    operator: str
    database: str
    text: str


def check(registers: RegisterService, spec: RequestSpec, now: datetime) -> None:
    """Refuse what the inventory does not allow; KosekiError names it."""
    registers.municipality(spec.slug)
    if registers.operator(spec.operator) not in registers.workers:
        workers = ", ".join(registers.workers)
        raise KosekiError(
            _("the operator has no account on the database hosts"),
            spec.operator,
            _("give --operator one of {workers}").format(workers=workers),
        )
    if registers.operator(spec.approver) in (spec.requester, spec.operator):
        raise KosekiError(
            _("who requests or works does not approve"),
            spec.approver,
            _("give another operator with --approver"),
        )
    one_line("basis", spec.basis)
    one_line("requester", spec.requester)
    ends_within(spec.until, now, registers.platform.request_policy.longest_hours)


def one_line(name: str, text: str) -> None:
    """Refuse a text that is empty or not one line; name: what it says."""
    if not TEXT.fullmatch(text) or not text.strip():
        raise KosekiError(
            _("--{name} is not one line of text").format(name=name),
            text[:40],
            _("write --{name} in one line of up to 200 characters").format(name=name),
        )


def ends_within(end: datetime, now: datetime, hours: int) -> None:
    """Refuse an end that is over or more than so many hours away."""
    if not now < end <= now + timedelta(hours=hours):
        remedy = _("give --until or --hours: after now and within {hours} hours").format(
            hours=hours
        )
        raise KosekiError(_("the expiry is in the past or too far ahead"), end.isoformat(), remedy)


def open_request(registers: RegisterService, spec: RequestSpec, opened_by: str) -> str:
    """Open a request and return its id; the database refuses one that is open already."""
    now = datetime.now(UTC)
    check(registers, spec, now)
    row_values = {
        "operator": spec.operator,
        "scope": spec.scope,
        "basis": spec.basis,
        "requester": spec.requester,
        "approver": spec.approver,
        "opened_by": opened_by,
        "expires_at": spec.until.isoformat(),
    }
    opening = f"SELECT platform.open_a_request({literal(row_values)}::jsonb);"
    script = f"\\connect {database_of(spec.slug)}\n{opening}\n"
    return f"{spec.slug}-{run_on_leader(registers.site, registers.inventory, script).strip()}"


def close_request(registers: RegisterService, request: str, closed_by: str) -> None:
    """Close an open request: its rights are taken back, then its sessions end."""
    found = REQUEST_ID.fullmatch(request)
    if found is None:
        raise KosekiError(
            _("not a request's id"), request, _("write it as `koseki request list` does")
        )
    slug, number = found.groups()
    registers.municipality(slug)
    registers.operator(closed_by)
    script = (
        f"\\connect {database_of(slug)}\n"
        f"SELECT platform.close_a_request({number}, {literal(closed_by)});\n"
        "SELECT platform.end_sessions();\n"
    )
    run_on_leader(registers.site, registers.inventory, script)


def listed(registers: RegisterService, slugs: Sequence[str]) -> list[dict[str, object]]:
    """Return every request of these municipalities, as JSON names it, oldest first in each."""
    script = "\n".join(f"\\connect {database_of(slug)}\n{LIST.format(slug=slug)}" for slug in slugs)
    rows = rows_from(LEADER, run_on_leader(registers.site, registers.inventory, script))
    with as_asked(LEADER):
        return [{"id": f"{row['municipality']}-{row['number']}", **row} for row in rows]


def events(registers: RegisterService, days: int) -> tuple[list[Event], dict[str, str]]:
    """Return what the databases' hosts' journals tell of operators, and which host did not answer.

    days: how far back; the second: the reason by host.
    """
    ensure_site_ssh(registers.site, registers.inventory)
    names = [row.id for row in registers.platform.operators]
    found: list[Event] = []
    unreachable: dict[str, str] = {}
    for host in registers.hosts:
        done = run(registers.site, host, _journal(names, days))
        # journalctl says 1 and nothing else when no line matches.
        if done.code not in (0, 1) or (done.code and done.stderr.strip()):
            unreachable[host] = done.reason
            continue
        try:
            events_here = [read_event(host, line) for line in done.stdout.split("\n") if line]
        except (LookupError, TypeError, ValueError, OverflowError, OSError) as error:
            unreachable[host] = in_short(f"its journal cannot be read: {error!r}")
            continue
        found += filter(None, events_here)
    return sorted(found, key=lambda event: event.at), unreachable


def _journal(names: Sequence[str], days: int) -> str:
    pattern = rf"operator_[a-z0-9]+@|^ *({'|'.join(names)}) : .*USER=(root|postgres) ;"
    return (
        f"sudo -n journalctl --quiet --no-pager --since=-{days}d --output=json "
        f"--output-fields=MESSAGE --grep='{pattern}' --case-sensitive=yes "
        "_SYSTEMD_UNIT=patroni.service + SYSLOG_IDENTIFIER=sudo"
    )


def read_event(host: str, line: str) -> Event | None:
    """Return what one line of a journal (JSON) tells of an operator, or None."""
    row = parsed(line)
    text = row["MESSAGE"]
    if not isinstance(text, str):  # bytes that are no text come as numbers
        return None
    at = datetime.fromtimestamp(int(row["__REALTIME_TIMESTAMP"]) / 1_000_000, UTC)
    if found := SERVER_LINE.search(text):
        kind = next((kind for start, kind in KINDS if found["text"].startswith(start)), None)
        where = found["database"]
        return Event(at, host, kind, found["operator"], where, found["text"]) if kind else None
    if found := SUDO_LINE.match(text):
        return Event(at, host, "sudo", found["operator"], "", f"became {found['text']}")
    return None
