"""What a person asks of a site's duplicates, and decides about them (K-13)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from koseki_ops.calendar.business_days import Office
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.duplicates import collect, report, rules
from koseki_ops.duplicates.decisions import Decision
from koseki_ops.duplicates.events import Event
from koseki_ops.duplicates.history import History
from koseki_ops.duplicates.model import MunicipalityState, Policy
from koseki_ops.duplicates.report import Finding, Span
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import Municipality, Platform
from koseki_ops.plan.municipalities import operators_on
from koseki_ops.plan.rules import load_platform
from koseki_ops.plan.site import Site


@dataclass
class DuplicateService:
    """What a command works with: the plan, what was recorded, and the moment that it is."""

    site: Site
    platform: Platform
    history: History
    now: datetime

    @classmethod
    def open(cls, site: Site, at: str | None = None) -> DuplicateService:
        """Read the plan; of what was recorded nothing is read yet."""
        platform = load_platform(Inventory(site.inventory))
        hours = platform.duplicate_policy
        office = Office(time_zone=platform.timezone)
        policy = Policy(office, hours.closes, hours.due, hours.totals_due)
        now = moment(at, ZoneInfo(platform.timezone)) if at else datetime.now(UTC)
        now = now.astimezone(ZoneInfo(platform.timezone)).replace(microsecond=0)
        return cls(site, platform, History(site, policy), now)

    @property
    def policy(self) -> Policy:
        """The hours that decide."""
        return self.history.policy

    def joined(self) -> list[Municipality]:
        """Return the municipalities that have joined by the moment, those that left included."""
        today = self.policy.date_of(self.now)
        return [row for row in self.platform.municipalities if row.has_joined(today)]

    def municipality(self, given: str) -> Municipality:
        """Return a municipality that has joined, by name, slug or code."""
        for row in self.joined():
            if given in {row.code6, row.slug, row.name}:
                return row
        raise KosekiError(
            _("no municipality of this name, slug or code has joined"),
            given,
            _("choose one that `koseki municipalities` lists"),
        )

    def operator(self, given: str) -> str:
        """Return an operator of the day, wherever he works."""
        rows = self.platform.operators
        places = {place for row in rows for place in row.hosts}
        known = operators_on(rows, places, self.policy.date_of(self.now))
        if given not in known:
            raise KosekiError(
                _("not a valid operator today"),
                given,
                _("name an operator of `operators.yml`: {known}").format(known=", ".join(known)),
            )
        return given

    def is_collected(self, given: str) -> bool:
        """Say whether a municipality's transmission works on a host."""
        self.history.read()
        return self.municipality(given).code6 in self.history.collected

    def decide(
        self,
        given: str,
        decision: Decision,
        made: Callable[[MunicipalityState], list[Event]],
        words: Sequence[str],
    ) -> list[Event]:
        """Record what an operator decided: all of it, or nothing when a part is refused.

        made: gives the events for the municipality as it is, while nobody else records; words: how
        the municipality's transmission is told, where it has one.
        """
        row = self.municipality(given)
        self.operator(decision.by)
        self.history.read()
        if row.code6 in self.history.collected:
            asked = [*words, "--by", decision.by, "--reason", decision.reason]
            collect.ask(self.site, row.slug, asked)
            return [line.event for line in collect.collect_one(self.site, self.history, row)]
        code6 = row.code6
        with self.history.alone():
            municipality = self.history.municipality(code6)
            events_made = made(municipality)
            for event in events_made:
                municipality = rules.apply(municipality, event, self.policy)
            for event in events_made:
                self.history.record(event)
        return events_made

    def findings(self, row: Municipality) -> list[Finding]:
        """Return what is late or wrong with a municipality."""
        municipality = self.history.municipality(row.code6)
        return report.findings(municipality, span(row), self.policy, self.now)


def span(row: Municipality) -> Span:
    """Return the days on which a municipality takes part."""
    return Span(row.joined_on or date.max, row.left_on)


def moment(given: str, zone: ZoneInfo) -> datetime:
    """Return the moment that is written; without a zone it is in this one."""
    try:
        found = datetime.fromisoformat(given)
    except ValueError as error:
        raise KosekiError(
            _("not a date-time"), given, _("write it as `2026-12-01T09:00`")
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=zone)
