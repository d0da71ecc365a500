"""What may be recorded of a municipality's duplicates when (K-13).

`apply` holds an event to the rules and returns the municipality as it is then (`effects`); what is
refused changes nothing.

The order: of a municipality one row at a time is with the relay server. A difference goes when
every earlier one is finished and no sending of all registers is open; all registers go when nothing
else is under way. No municipality is ever asked about another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.duplicates import events
from koseki_ops.duplicates.effects import follow
from koseki_ops.duplicates.events import Event
from koseki_ops.duplicates.model import (
    FAULTS,
    TOTALS,
    UNDER_WAY,
    Key,
    Kind,
    MunicipalityState,
    Policy,
    Row,
    State,
)

SHA256 = re.compile(r"[0-9a-f]{64}")
REASON_LENGTH = 200


@dataclass
class Refusal(KosekiError):  # noqa: N818 - what an event is answered with
    """Something that may not be recorded; nothing was. code: why, in a word for programs."""

    code: str = "state"


def apply(municipality: MunicipalityState, event: Event, policy: Policy) -> MunicipalityState:
    """Return a municipality after an event. Refusal when it may not happen now."""
    check(municipality, event, policy)
    return follow(municipality, event)


def check(municipality: MunicipalityState, event: Event, policy: Policy) -> None:
    """Refuse an event that may not happen to this municipality as it is."""
    if event.code6 != municipality.code6:
        raise Refusal(
            _("this is about another municipality than {code6}").format(code6=municipality.code6),
            event.code6,
            _("name the right one, as `koseki municipalities` lists them"),
            code="municipality",
        )
    if event.at.tzinfo is None:
        raise Refusal(_("a time without a zone"), str(event.at), _("write it as `09:00+09:00`"))
    for field in ("approved", "count"):
        number = getattr(event, field, None)
        if number is not None and number < 0:
            raise Refusal(
                _("a count below zero"),
                f"{field} {number}",
                _("give `{field}` as 0 or more").format(field=field),
                code="count",
            )
    if (reason := getattr(event, "reason", None)) is not None:
        _check_reason(reason)
    CHECKS[type(event)](municipality, event, policy)


def next_row(municipality: MunicipalityState) -> Row | None:
    """Return the row that may be handed over now, if there is one."""
    for row in municipality.rows.values():
        if row.state is State.EXTRACTED and _held_up(municipality, row) is None:
            return row
    return None


def why_not(municipality: MunicipalityState, row: Row) -> str:
    """Return in a sentence what an extracted row waits for; empty when it may go."""
    refusal = _held_up(municipality, row)
    return "" if refusal is None else str(refusal)


def explain(key: Key) -> str:
    """Return the command that shows a row with all that happened to it."""
    return f"`koseki duplicate explain {key.code6} {key.day}`"


def no_successor(key: Key) -> Refusal:
    """Return why a row cannot be given up: no sending of all registers stands in for it."""
    return Refusal(
        _("no sending of all registers stands in for this row"),
        str(key),
        _("open one with {resend_all}, or {resend}").format(
            resend_all=resend_all(key.code6), resend=resend(key)
        ),
        code="successor",
    )


def resend(key: Key) -> str:
    """Return the command that sends a row once more."""
    kind = " --kind full" if key.kind is Kind.FULL else ""
    return f"`koseki duplicate resend {key.code6} {key.day}{kind} --by ID --reason WHY`"


def resend_all(code6: str) -> str:
    """Return the command that opens a sending of all registers, N of them."""
    return f"`koseki duplicate resend {code6} --full --approved N --by ID --reason WHY`"


def release(code6: str) -> str:
    """Return the command that lets a municipality go that is held."""
    return f"`koseki duplicate hold {code6} --release --by ID --reason WHY`"


# What may happen.


def _check_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > REASON_LENGTH or not reason.isprintable():
        raise Refusal(
            _("a reason is one line of 1 to {reason_length} characters").format(
                reason_length=REASON_LENGTH
            ),
            repr(reason[:40]),
            _("give --reason in one line, without anybody's name"),
            code="reason",
        )


def _row(municipality: MunicipalityState, key: Key) -> Row:
    row = municipality.rows.get(key)
    if row is None:
        raise Refusal(
            _("there is no such row"),
            str(key),
            _("see which there are with `koseki duplicate status {code6}`").format(
                code6=municipality.code6
            ),
            code="no-row",
        )
    return row


def _in_state(row: Row, *states: State, code: str = "state") -> None:
    if row.state not in states:
        wanted = ", ".join(state.term for state in states)
        raise Refusal(
            _("{key} is {term}, and this needs {wanted}").format(
                key=row.key, term=row.state.term, wanted=wanted
            ),
            row.state,
            _("see what happened to it with {explain}").format(explain=explain(row.key)),
            code=code,
        )


def _closed(municipality: MunicipalityState, event: events.Closed, policy: Policy) -> None:
    if event.kind is Kind.DIFFERENCE:
        _day_closed(municipality, event, policy)
    elif event.day != municipality.last_day:
        raise Refusal(
            _("all registers are sent as of the day that was closed last"),
            _("{day}, closed last: {last_day}").format(
                day=event.day, last_day=municipality.last_day or _("none")
            ),
            _("close that day first (docs/duplicates.md), or name `{last_day}`").format(
                last_day=municipality.last_day or _("none")
            ),
            code="day",
        )
    else:
        for row in municipality.unfinished(Kind.FULL):
            raise Refusal(
                _("all registers are under way already"),
                str(row.key),
                _("see {explain}").format(explain=explain(row.key)),
                code="order",
            )
    attempts = len(municipality.attempts(event.day, event.kind))
    if event.attempt != attempts + 1 or (attempts and event.kind is Kind.DIFFERENCE):
        raise Refusal(
            _("this row is there, or is not the next attempt"),
            str(event.key),
            _("see {explain}; another attempt is {resend}").format(
                explain=explain(event.key), resend=resend(event.key)
            ),
            code="twice",
        )


def _day_closed(municipality: MunicipalityState, event: events.Closed, policy: Policy) -> None:
    office, last = policy.office, municipality.last_day
    if not office.is_open(event.day):
        raise Refusal(
            _("not a business day"),
            str(event.day),
            _("its work belongs to `{after}`: name that day").format(
                after=office.after(event.day, -1)
            ),
            code="day",
        )
    if event.day > policy.closed_day(event.at):
        raise Refusal(
            _("this day is not over before {closes:%H:%M}").format(closes=policy.closes),
            _("{day} at {at:%Y-%m-%d %H:%M}").format(day=event.day, at=event.at),
            _("name `{closed_day}`, or wait until {closes:%H:%M}").format(
                closed_day=policy.closed_day(event.at), closes=policy.closes
            ),
            code="day",
        )
    wanted = event.day if last is None else office.after(last)
    if event.day not in {wanted, *(key.day for key in municipality.rows)}:
        raise Refusal(
            _("each business day has a row, and {wanted} has none yet").format(wanted=wanted),
            str(event.day),
            _("close `{wanted}` first (docs/duplicates.md)").format(wanted=wanted),
            code="gap",
        )


def _extracted(municipality: MunicipalityState, event: events.Extracted, _policy: Policy) -> None:
    row = _row(municipality, event.key)
    _in_state(row, State.NOT_EXTRACTED)
    if event.kind is Kind.DIFFERENCE:
        _no_force(municipality, row)
    if not (SHA256.fullmatch(event.sha256) or (event.unconvertible and not event.sha256)):
        raise Refusal(
            _("not a SHA-256"),
            event.sha256[:70],
            _("extract it again: {resend}").format(resend=resend(event.key)),
            code="hash",
        )


def _no_force(municipality: MunicipalityState, row: Row) -> None:
    if refusal := _forced(municipality, row):
        raise refusal


def _forced(municipality: MunicipalityState, row: Row) -> Refusal | None:
    if municipality.forced is None:
        return None
    return Refusal(
        _("no difference before all registers were received ({term})").format(
            term=municipality.forced.cause.term
        ),
        str(row.key),
        _(
            "let all registers be sent: `koseki duplicate status {code6}` shows where they stand"
        ).format(code6=municipality.code6),
        code="full-forced",
    )


def _handed_over(
    municipality: MunicipalityState, event: events.HandedOver, _policy: Policy
) -> None:
    row = _row(municipality, event.key)
    _in_state(row, State.EXTRACTED)
    if refusal := _held_up(municipality, row):
        raise refusal


def _held_up(municipality: MunicipalityState, row: Row) -> Refusal | None:
    """Return why an extracted row may not go now, or None."""
    if municipality.hold:
        return Refusal(
            _("{by} holds this municipality ({reason})").format(
                by=municipality.hold.by, reason=municipality.hold.reason
            ),
            str(row.key),
            _("release it with {release}").format(release=release(municipality.code6)),
            code="held",
        )
    if row.key.kind is Kind.DIFFERENCE and (refusal := _forced(municipality, row)):
        return refusal
    for other in municipality.unfinished():
        if other.key != row.key and _is_before(other, row):
            return Refusal(
                _("{key} comes before it and is {term}").format(
                    key=other.key, term=other.state.term
                ),
                str(row.key),
                _("see {explain}").format(explain=explain(other.key)),
                code="order",
            )
    return None


def _is_before(other: Row, row: Row) -> bool:
    """Say whether an unfinished row has to be finished before another one of its municipality."""
    if other.state in UNDER_WAY or row.key.kind is Kind.FULL:
        return other.state in UNDER_WAY
    return other.key.kind is Kind.FULL or other.key.day < row.key.day


def _failed(municipality: MunicipalityState, event: events.Failed, _policy: Policy) -> None:
    _in_state(_row(municipality, event.key), State.EXTRACTED, State.HANDED_OVER, State.RECEIPT_LATE)


def _answered(municipality: MunicipalityState, event: events.Answered) -> Row:
    """Return the row that an answer is about, when it waits for one."""
    _new(municipality, event.answer)
    row = _row(municipality, event.key)
    if row.state in {State.RECEIVED, State.EMPTY_CONFIRMED}:
        _in_state(row, *UNDER_WAY, code="twice")
    if row.is_finished:
        _in_state(row, *UNDER_WAY, code="replaced")
    _in_state(row, *sorted(UNDER_WAY))
    return row


def _new(municipality: MunicipalityState, answer: str) -> None:
    if answer in municipality.answers:
        raise Refusal(
            _("this answer was handled already"),
            answer,
            _("nothing; see `koseki duplicate status {code6}`").format(code6=municipality.code6),
            code="known",
        )


def _sent(municipality: MunicipalityState, event: events.Sent, _policy: Policy) -> None:
    row = _answered(municipality, event)
    if row.sent_at:
        raise Refusal(
            _("{key} was sent before").format(key=row.key),
            str(row.sent_at),
            _("see {explain}").format(explain=explain(row.key)),
            code="twice",
        )


def _received(municipality: MunicipalityState, event: events.Received, _policy: Policy) -> None:
    """Nothing is final without three equal counts and one hash."""
    row = _answered(municipality, event)
    if not row.approved == row.extracted == event.count:
        raise Refusal(
            _("{key} has other counts").format(key=row.key),
            _("approved {approved}, extracted {extracted}, received {count}").format(
                approved=row.approved, extracted=row.extracted, count=event.count
            ),
            _("{resend} when no right receipt follows").format(resend=resend(row.key)),
            code="count",
        )
    if event.sha256 != row.sha256:
        raise Refusal(
            _("{key} was received with another hash").format(key=row.key),
            _("{sha256}…, ours is {sha2562}…").format(
                sha256=event.sha256[:12], sha2562=row.sha256[:12]
            ),
            _("{resend} when no right receipt follows").format(resend=resend(row.key)),
            code="hash",
        )
    if not event.receipt:
        raise Refusal(
            _("{key} has a receipt without a number").format(key=row.key),
            "",
            _("see {explain}").format(explain=explain(row.key)),
            code="count",
        )


def _problem(municipality: MunicipalityState, event: events.Answered, _policy: Policy) -> None:
    _answered(municipality, event)


def _overdue(municipality: MunicipalityState, event: events.Overdue, policy: Policy) -> None:
    row = _row(municipality, event.key)
    _in_state(row, State.HANDED_OVER, State.SENT)
    deadline = policy.deadline(row)
    if event.at < deadline:
        raise Refusal(
            _("{key} has until {deadline:%Y-%m-%d %H:%M:%S}").format(
                key=row.key, deadline=deadline
            ),
            f"{event.at:%Y-%m-%d %H:%M:%S}",
            _("wait, or see {explain}").format(explain=explain(row.key)),
            code="early",
        )


def _resent(municipality: MunicipalityState, event: events.Resent, _policy: Policy) -> None:
    row = _row(municipality, event.key)
    _in_state(row, *sorted(FAULTS))
    if event.kind is Kind.DIFFERENCE:
        _no_force(municipality, row)


def _given_up(municipality: MunicipalityState, event: events.GivenUp, _policy: Policy) -> None:
    row = _row(municipality, event.key)
    _in_state(row, *sorted(FAULTS), State.NOT_EXTRACTED, State.EXTRACTED)
    full = municipality.rows.get(Key(municipality.code6, event.full, Kind.FULL, event.full_attempt))
    stands_in = full and full.state is not State.CANCELLED and full.key.day >= event.day
    if event.kind is Kind.FULL or not stands_in:
        raise no_successor(event.key)


def _may_always(_municipality: MunicipalityState, _event: Event, _policy: Policy) -> None:
    """Nothing stands against it."""


def _hold(municipality: MunicipalityState, event: events.Held, _policy: Policy) -> None:
    if municipality.hold:
        raise Refusal(
            _("{code6} is held already by {by} ({reason})").format(
                code6=municipality.code6, by=municipality.hold.by, reason=municipality.hold.reason
            ),
            event.by,
            _("release it with {release}").format(release=release(municipality.code6)),
            code="held",
        )


def _release(municipality: MunicipalityState, event: events.Released, _policy: Policy) -> None:
    if not municipality.hold:
        raise Refusal(
            _("nobody holds this municipality"),
            municipality.code6,
            _("see `koseki duplicate status {code6}`").format(code6=event.code6),
            code="held",
        )


def _quarantined(
    municipality: MunicipalityState, event: events.Quarantined, _policy: Policy
) -> None:
    _new(municipality, event.answer)


def _answer_closed(
    municipality: MunicipalityState, event: events.AnswerClosed, _policy: Policy
) -> None:
    if event.answer not in municipality.quarantined:
        raise Refusal(
            _("no such answer of this municipality is set aside"),
            event.answer,
            _("see which are with `koseki duplicate status {code6}`").format(
                code6=municipality.code6
            ),
            code="no-answer",
        )


def _compared(municipality: MunicipalityState, event: events.Compared, policy: Policy) -> None:
    if policy.date_of(event.at) <= event.month.last_day:
        raise Refusal(
            _("a month's totals are compared when it is over"),
            _("{month} of {code6}").format(month=event.month, code6=municipality.code6),
            _("wait until `{first_day}`").format(first_day=event.month.next.first_day),
            code="day",
        )
    for side in (event.ours, event.theirs):
        if side is not None and not _are_totals(side):
            raise Refusal(
                _("totals name each of {totals} with its number").format(totals=", ".join(TOTALS)),
                ", ".join(f"{name} {number}" for name, number in side.items())[:80],
                _("give `ours` and `theirs` again, each with all its numbers"),
                code="count",
            )


def _are_totals(side: Mapping[str, int]) -> bool:
    return set(side) == set(TOTALS) and all(
        type(number) is int and number >= 0 for number in side.values()
    )


CHECKS: Mapping[type[Event], Callable[[MunicipalityState, Any, Policy], None]] = {
    events.Closed: _closed,
    events.Extracted: _extracted,
    events.HandedOver: _handed_over,
    events.Failed: _failed,
    events.Sent: _sent,
    events.Received: _received,
    events.SendingFailed: _problem,
    events.Refused: _problem,
    events.ResendAsked: _problem,
    events.Overdue: _overdue,
    events.Resent: _resent,
    events.GivenUp: _given_up,
    events.FullForced: _may_always,
    events.Held: _hold,
    events.Released: _release,
    events.Quarantined: _quarantined,
    events.AnswerClosed: _answer_closed,
    events.Compared: _compared,
}
