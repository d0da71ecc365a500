"""What is asked of one municipality's transmission: how it stands, its journal, decisions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime

from koseki_duplicate.transmission import Transmission
from koseki_ops.duplicates import rules
from koseki_ops.duplicates.decisions import Decision, last_attempt
from koseki_ops.duplicates.events import Event, to_record
from koseki_ops.duplicates.model import Cause, Kind, MunicipalityState


def status(transmission: Transmission) -> dict[str, object]:
    """Return how the municipality stands."""
    journal, policy = transmission.journal, transmission.settings.policy
    journal.read()
    municipality = transmission.municipality
    unfinished = list(municipality.unfinished())
    return {
        "code6": municipality.code6,
        "lines": journal.end.number,
        "digest": journal.end.digest,
        "closed_until": municipality.last_day and municipality.last_day.isoformat(),
        "forced": municipality.forced and municipality.forced.cause,
        "held_by": municipality.hold and municipality.hold.by,
        "quarantined": len(municipality.quarantined),
        "unfinished": {str(row.key): row.state for row in unfinished},
        "late": [str(row.key) for row in unfinished if policy.is_late(row, transmission.now)],
    }


def lines(transmission: Transmission, after: int) -> list[str]:
    """Return the journal's lines behind a number, as they were written."""
    return [line.decode() for line in transmission.journal.text()[after:]]


class Decisions:
    """Decisions of an operator, recorded in the journal."""

    def __init__(self, transmission: Transmission, by: str, reason: str) -> None:
        """Who decides, and why."""
        self.transmission, self.by, self.reason = transmission, by, reason

    def resend(self, day: date, kind: Kind) -> list[Event]:
        """Let a day's row be sent once more, with what the register counts now."""

        def made(decision: Decision, municipality: MunicipalityState) -> list[Event]:
            # Of a row that is not there the register is not asked.
            last_attempt(municipality, day, kind)
            register, policy = self.transmission.register, self.transmission.settings.policy
            full = kind is Kind.FULL
            counted = register.register_count() if full else register.approved(*policy.span(day))
            return decision.send_again(municipality, day, kind, counted)

        return self._decide(made)

    def full(self, cause: Cause) -> list[Event]:
        """Demand all registers; the next turn counts them and opens the sending."""
        return self._decide(lambda decision, found: decision.send_all(found, cause, None))

    def hold(self, *, release: bool) -> list[Event]:
        """Keep back what would go next, or let it go again."""
        return self._decide(lambda decision, found: decision.hold(found, release=release))

    def give_up(self, day: date) -> list[Event]:
        """End a day's difference: all registers that are under way stand in for it."""
        return self._decide(lambda decision, found: decision.give_up(found, day))

    def close_answer(self, answer: str) -> list[Event]:
        """Say that an answer that was set aside was dealt with."""
        return self._decide(lambda decision, found: decision.close_answer(found, answer))

    def _decide(self, made: Callable[[Decision, MunicipalityState], list[Event]]) -> list[Event]:
        journal = self.transmission.journal
        with journal.alone():
            decision = Decision(self.by, self._moment(), self.reason)
            municipality = self.transmission.municipality
            decided = made(decision, municipality)
            for event in decided:
                municipality = rules.apply(municipality, event, journal.policy)
            for event in decided:
                journal.record(event)
        return decided

    def _moment(self) -> datetime:
        return self.transmission.moment


def recorded(decided: list[Event]) -> dict[str, object]:
    """Return what was decided, for whoever asked."""
    return {"recorded": [to_record(event) for event in decided]}
