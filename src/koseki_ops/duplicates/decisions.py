"""What a person decides about a municipality's duplicates, as the events that say so (K-13)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from koseki_ops.calendar.months import Month
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.duplicates import events, rules
from koseki_ops.duplicates.events import Event
from koseki_ops.duplicates.model import Cause, Key, Kind, MunicipalityState


@dataclass(frozen=True)
class Decision:
    """Who decides something, when and why."""

    by: str
    at: datetime
    reason: str

    def send_again(
        self, municipality: MunicipalityState, day: date, kind: Kind, approved: int | None
    ) -> list[Event]:
        """Let a day's row be sent once more. approved: what the register counts now, if known."""
        key = last_attempt(municipality, day, kind)
        return [
            events.Resent(
                code6=municipality.code6,
                at=self.at,
                by=self.by,
                day=key.day,
                kind=key.kind,
                attempt=key.attempt,
                reason=self.reason,
                approved=approved,
            )
        ]

    def send_all(
        self, municipality: MunicipalityState, cause: Cause | None, approved: int | None
    ) -> list[Event]:
        """Demand all registers for a cause; open the sending when their number is known."""
        made: list[Event] = []
        if cause:
            made.append(
                events.FullForced(
                    code6=municipality.code6,
                    at=self.at,
                    by=self.by,
                    cause=cause,
                    reason=self.reason,
                )
            )
        if approved is not None:
            made.append(full_of(municipality, approved, self.at, self.by))
        return made

    def hold(self, municipality: MunicipalityState, *, release: bool) -> list[Event]:
        """Keep back what would go next, or let it go again."""
        kind = events.Released if release else events.Held
        return [kind(code6=municipality.code6, at=self.at, by=self.by, reason=self.reason)]

    def give_up(self, municipality: MunicipalityState, day: date) -> list[Event]:
        """End a day's difference: all registers that are under way stand in for it."""
        key = last_attempt(municipality, day, Kind.DIFFERENCE)
        full = next(iter(municipality.unfinished(Kind.FULL)), None)
        if full is None:
            raise rules.no_successor(key)
        return [
            events.GivenUp(
                code6=municipality.code6,
                at=self.at,
                by=self.by,
                day=key.day,
                kind=key.kind,
                attempt=key.attempt,
                reason=self.reason,
                full=full.key.day,
                full_attempt=full.key.attempt,
            )
        ]

    def close_answer(self, municipality: MunicipalityState, answer: str) -> list[Event]:
        """Say that an answer that was set aside was dealt with."""
        return [
            events.AnswerClosed(
                code6=municipality.code6, at=self.at, by=self.by, answer=answer, reason=self.reason
            )
        ]


def full_of(municipality: MunicipalityState, approved: int, at: datetime, by: str) -> Event:
    """Return what opens a sending of all registers, as of the day that was closed last."""
    if municipality.last_day is None:
        raise KosekiError(
            _("all registers are sent as of the last closed day, and no day was closed yet"),
            municipality.code6,
            _('let a day be closed first: docs/duplicates.md, "A day that nobody closed"'),
        )
    return events.Closed(
        code6=municipality.code6,
        at=at,
        by=by,
        day=municipality.last_day,
        kind=Kind.FULL,
        attempt=len(municipality.attempts(municipality.last_day, Kind.FULL)) + 1,
        approved=approved,
    )


def last_attempt(municipality: MunicipalityState, day: date, kind: Kind) -> Key:
    """Return the last attempt of a day's row; KosekiError when there is none."""
    attempts = municipality.attempts(day, kind)
    if not attempts:
        raise KosekiError(
            _("no {term} of this day").format(term=kind.term),
            str(day),
            _("see which days there are: `koseki duplicate status {code6} --month {of}`").format(
                code6=municipality.code6, of=Month.of(day)
            ),
        )
    return attempts[-1].key
