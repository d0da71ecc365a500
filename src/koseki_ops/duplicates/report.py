"""What is late or wrong with a municipality's duplicates at a moment, and what to do (K-13)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

from koseki_ops.calendar.months import Month
from koseki_ops.core.language import _
from koseki_ops.duplicates import rules
from koseki_ops.duplicates.model import FAULTS, Kind, MunicipalityState, Policy, Row, State


@dataclass(frozen=True)
class Span:
    """The days on which a municipality takes part: from the first, until the day before `ends`."""

    begins: date
    ends: date | None = None

    def has(self, day: date) -> bool:
        """Say whether it takes part on a day."""
        return self.begins <= day and (self.ends is None or day < self.ends)


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    day: which it is about, None when about no day; what: a sentence; remedy: a command; since: when
    it became late, None for what is wrong without being late.
    """

    code6: str
    day: date | None
    what: str
    remedy: str
    since: datetime | None = None


@dataclass(frozen=True)
class Line:
    """A business day of a municipality, as the book has a line for it.

    row: the last attempt, None when the day was never closed; settled_at: when it became final;
    was_late: it is late, or was before it became final.
    """

    day: date
    row: Row | None
    deadline: datetime
    settled_at: datetime | None
    was_late: bool

    @property
    def state(self) -> State:
        """Where the day stands."""
        return self.row.state if self.row else State.NOT_EXTRACTED


def findings(
    municipality: MunicipalityState, span: Span, policy: Policy, now: datetime
) -> list[Finding]:
    """Return what is late or wrong with a municipality, the oldest day first."""
    found = [
        *_missing(municipality, span, policy, now),
        *(
            one
            for row in municipality.unfinished()
            for one in _of_row(municipality, row, policy, now)
        ),
    ]
    found.sort(key=lambda one: one.day or date.max)
    return [*found, *_of_municipality(municipality), *_of_totals(municipality, span, policy, now)]


def lines(
    municipality: MunicipalityState, span: Span, policy: Policy, now: datetime, month: Month
) -> list[Line]:
    """Return a line for each business day of a month that is over.

    Not for those before the first one that was recorded: of them nothing is known here.
    """
    first = min((key.day for key in municipality.rows), default=month.first_day)
    last = min(month.last_day, policy.closed_day(now))
    days = policy.office.business_days(max(first, month.first_day), last)
    return [line(municipality, policy, now, day) for day in days if span.has(day)]


def line(municipality: MunicipalityState, policy: Policy, now: datetime, day: date) -> Line:
    """Return the line of a business day."""
    attempts = municipality.attempts(day, Kind.DIFFERENCE)
    row, deadline = attempts[-1] if attempts else None, policy.day_deadline(day)
    settled = _settled(municipality, row)
    return Line(day, row, deadline, settled, (settled or now) >= deadline)


def _settled(municipality: MunicipalityState, row: Row | None) -> datetime | None:
    """Return when a row, or the one that stands in for it in the end, became final."""
    while row and row.state is State.CANCELLED and row.other:
        row = municipality.rows.get(row.other)
    return row.ended_at if row and row.is_final else None


def _missing(
    municipality: MunicipalityState, span: Span, policy: Policy, now: datetime
) -> Iterator[Finding]:
    """Yield the days that nobody closed, of those whose deadline has come.

    Of a municipality without any row it is the last such day: what was before is not known here.
    """
    closed, office = policy.closed_day(now), policy.office
    due = closed if now >= policy.day_deadline(closed) else office.after(closed, -1)
    first = (
        office.after(municipality.last_day)
        if municipality.last_day
        else office.moved(due, "previous")
    )
    for day in office.business_days(first, due):
        if span.has(day):
            yield Finding(
                municipality.code6,
                day,
                _("{day}: nobody closed this day; nothing is known of it").format(day=day),
                _('docs/duplicates.md, "A day that nobody closed"'),
                policy.day_deadline(day),
            )


def _of_row(
    municipality: MunicipalityState, row: Row, policy: Policy, now: datetime
) -> Iterator[Finding]:
    since = policy.deadline(row) if policy.is_late(row, now) else None
    if since is None and row.state not in FAULTS:
        return
    late = _(", due {since:%Y-%m-%d %H:%M}").format(since=since) if since else ""
    error = f" ({row.error})" if row.error else ""
    yield Finding(
        municipality.code6,
        row.key.day,
        _("{day} {term} attempt {attempt}: {term2}{error}{late}").format(
            day=row.key.day,
            term=row.key.kind.term,
            attempt=row.key.attempt,
            term2=row.state.term,
            error=error,
            late=late,
        ),
        remedy(municipality, row),
        since,
    )


def remedy(municipality: MunicipalityState, row: Row) -> str:
    """Return what a person does about a row that is not final; empty when nothing."""
    again = rules.resend(row.key)
    if row.is_finished:
        return ""
    if row.state is State.RECEIPT_LATE:
        return _("ask whoever runs the relay server; when it has nothing, {again}").format(
            again=again
        )
    if row.state in FAULTS:
        return _("{explain} shows why; then {again}").format(
            explain=rules.explain(row.key), again=again
        )
    if row.state is State.EXTRACTED:
        return rules.why_not(municipality, row) or _("the next exchange hands it over")
    if row.state is State.NOT_EXTRACTED and municipality.forced and row.key.kind is Kind.DIFFERENCE:
        return _("all registers go first: `koseki duplicate status {code6}`").format(
            code6=row.key.code6
        )
    return rules.explain(row.key)


def _of_municipality(municipality: MunicipalityState) -> Iterator[Finding]:
    if municipality.forced and not any(municipality.unfinished(Kind.FULL)):
        yield Finding(
            municipality.code6,
            None,
            _("all registers are demanded ({term}), and nothing is under way").format(
                term=municipality.forced.cause.term
            ),
            _("{resend_all} with their number").format(
                resend_all=rules.resend_all(municipality.code6)
            ),
        )
    for answer, reason in municipality.quarantined.items():
        yield Finding(
            municipality.code6,
            None,
            _("an answer is set aside: {reason} ({answer})").format(reason=reason, answer=answer),
            _(
                "look at it, then `koseki duplicate close {code6} --answer {answer} "
                "--by ID --reason WHY`"
            ).format(code6=municipality.code6, answer=answer),
        )


def _of_totals(
    municipality: MunicipalityState, span: Span, policy: Policy, now: datetime
) -> Iterator[Finding]:
    """Yield a month whose totals differ, or that was not compared in time."""
    last = max(municipality.comparisons, default=None)
    compared = municipality.comparisons[last] if last else None
    if compared and compared.differing:
        differing = (
            _("no totals came") if compared.theirs is None else ", ".join(compared.differing)
        )
        yield Finding(
            municipality.code6,
            None,
            _("the totals of {last} differ from the receiver's: {differing}").format(
                last=last, differing=differing
            ),
            _(
                "when they really do, `koseki duplicate resend {code6} --full --cause "
                "drift --by ID --reason WHY`"
            ).format(code6=municipality.code6),
        )
    first = min((key.day for key in municipality.rows), default=None)
    before = _month_before(policy.date_of(now))
    took_part = first is not None and first <= before.last_day and span.has(before.last_day)
    due = took_part and now >= policy.totals_deadline(before)
    if due and before not in municipality.comparisons:
        yield Finding(
            municipality.code6,
            None,
            _("the totals of {before} were not compared").format(before=before),
            _('docs/duplicates.md, "Totals that differ, or were not compared"'),
            policy.totals_deadline(before),
        )


def _month_before(day: date) -> Month:
    return Month(day.year - (day.month == 1), (day.month - 2) % 12 + 1)
