"""K-13: whatever happens in whatever order, what is final was received as it was sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duplicate_samples import (
    MONDAY,
    POLICY,
    URUGI,
    at,
    closed,
    days,
    difference,
    digest,
    extracted,
    full,
    handed_over,
    municipality_after,
    on,
    received,
    row,
    whole,
)
from koseki_ops.calendar.business_days import Office
from koseki_ops.calendar.months import Month
from koseki_ops.core.errors import KosekiError
from koseki_ops.duplicates import events
from koseki_ops.duplicates.effects import FOLLOWS, replayed
from koseki_ops.duplicates.events import KINDS, Event, from_record, to_record
from koseki_ops.duplicates.model import (
    CAUSES,
    FAULTS,
    FINAL,
    TERMS,
    TOTALS,
    UNDER_WAY,
    Cause,
    Key,
    Kind,
    MunicipalityState,
    Policy,
    State,
)
from koseki_ops.duplicates.report import Span, findings, line, lines
from koseki_ops.duplicates.rules import CHECKS, Refusal, apply, next_row

CODES = (URUGI, "204021", "202053")
DAYS = days(4)
ALWAYS = Span(date(2015, 11, 1))
# The machine has other things to do while these are asked: how long one takes is no property.
at_leisure = settings(deadline=None, database=None, max_examples=300)


# Any history.

Step = tuple[int, int, int, int]
# Four bytes are a step; drawn as bytes, since a walk is long and has to be cheap.
walks = st.binary(min_size=80, max_size=280).map(
    lambda drawn: [
        (municipality % 3, action % 16, which, how % 4)
        for municipality, action, which, how in zip(*[iter(drawn)] * 4, strict=False)
    ]
)
MOMENT = at(DAYS[3], "23:00:00")


def proposed(municipality: MunicipalityState, step: Step) -> Event:
    """Return what a step tries: half of it what would come next, half of it anything."""
    _, action, which, how = step
    open_rows = list(municipality.unfinished())
    if action < 8:
        return expected(
            municipality, open_rows[which % len(open_rows)].key if open_rows else None, how
        )
    rows = list(municipality.rows) or [difference(DAYS[0], code6=municipality.code6)]
    # The youngest rows are where something goes on.
    return anything(municipality, rows[-1 - which % min(len(rows), 4)], action, which, how)


def expected(municipality: MunicipalityState, key: Key | None, how: int) -> Event:
    """Return what comes next for a row; a new day where there is none, and now and then."""
    if key is None or not how:
        following = POLICY.office.after(municipality.last_day) if municipality.last_day else DAYS[0]
        return closed(difference(following, code6=municipality.code6), how, MOMENT)
    there = municipality.rows[key]
    if there.state is State.NOT_EXTRACTED:
        return replace(extracted(key, there.approved), at=MOMENT)
    if there.state is State.EXTRACTED:
        return handed_over(key)
    said = {"answer": f"{municipality.code6}-{len(municipality.answers)}", **on(key, MOMENT)}
    if there.state is State.HANDED_OVER and how == 1:
        return events.Sent(**said)
    return events.Received(count=there.approved, sha256=there.sha256, receipt="R-1", **said)


def anything(municipality: MunicipalityState, key: Key, action: int, which: int, how: int) -> Event:
    """Return something that may be quite wrong."""
    here = on(key, MOMENT)
    said: dict[str, Any] = {"code6": municipality.code6, "at": MOMENT, "by": "sousa01"}
    answer = f"{municipality.code6}-{len(municipality.answers)}-{which}"
    opened = len(municipality.attempts(municipality.last_day or DAYS[0], Kind.FULL))
    every = full(municipality.last_day or DAYS[0], opened + (1 if how else 2), municipality.code6)
    over = next((one.key for one in municipality.unfinished(Kind.FULL)), every)
    tried: list[list[Event]] = [
        [
            closed(difference(DAYS[which % 4], code6=municipality.code6), how),
            closed(every, 3, MOMENT),
        ],
        [extracted(key, how), extracted(key, unconvertible=1), handed_over(key)],
        [
            events.Received(
                count=how, sha256=digest(key.again), receipt="R-1", answer=answer, **here
            ),
            replace(received(key, how), answer=answer),
        ],
        [
            kind(error="E-1", answer=answer, **here)
            for kind in (events.SendingFailed, events.Refused, events.ResendAsked)
        ],
        [
            events.Overdue(**on(key, at(DAYS[3] + timedelta(days=which % 9), "09:00:00"))),
            events.Failed(error="FILE-GONE", **here),
        ],
        [events.Resent(reason="もう一度", approved=how or None, **here)],
        [
            events.GivenUp(reason="全件", full=over.day, full_attempt=over.attempt, **here),
            closed(every, 3, MOMENT),
        ],
        [
            events.FullForced(cause=Cause.RESTORE, reason="復元", **said),
            events.Held(reason="待ち", **said),
            events.Released(reason="再開", **said),
            events.Quarantined(answer=answer, reason="count", **said),
        ],
    ]
    chosen = tried[action - 8]
    return chosen[which % len(chosen)]


def must_hold(before: MunicipalityState, municipality: MunicipalityState, event: Event) -> None:
    """Hold a municipality to what is always true, read from its rows alone."""
    rows = list(municipality.rows.values())
    for one in rows:
        if one.state in {State.RECEIVED, State.EMPTY_CONFIRMED}:
            assert one.approved == one.extracted == one.received
            assert one.sha256 == one.received_sha256 != ""
            assert one.receipt
            assert (one.state is State.EMPTY_CONFIRMED) == (
                one.received == 0 and one.key.kind is Kind.DIFFERENCE
            )
        elif one.state is State.CONTAINED_IN_FULL:
            assert one.other
            assert municipality.rows[one.other].state is State.RECEIVED
            assert one.other.day >= one.key.day
        elif one.state is State.CANCELLED:
            assert one.other in municipality.rows
    assert sum(one.state in UNDER_WAY for one in rows) <= 1
    opened = sorted({one.key.day for one in rows})
    if opened:
        assert opened == list(POLICY.office.business_days(opened[0], opened[-1]))
    for one in rows:
        attempts = municipality.attempts(one.key.day, one.key.kind)
        assert [there.key.attempt for there in attempts] == list(range(1, len(attempts) + 1))
        assert all(there.is_finished for there in attempts[:-1])
        # What was final stays what it was, whatever comes.
        was = before.rows.get(one.key)
        assert not (was and was.is_finished) or was == one
    if isinstance(event, events.HandedOver):
        assert not before.hold
        older = [one for one in before.rows.values() if one.key.day < event.day]
        if event.kind is Kind.DIFFERENCE:
            assert all(one.state in FINAL | {State.CANCELLED} for one in older)
            assert before.forced is None
            assert not list(before.unfinished(Kind.FULL))


@at_leisure
@given(walks)
def test_nothing_is_final_without_three_equal_counts_and_one_hash(walk: list[Step]) -> None:
    """No overtaking, one at a time, a row for each day, both attempts kept."""
    municipalities = {code6: MunicipalityState(code6) for code6 in CODES}
    recorded: list[Event] = []
    for step in walk:
        before = municipalities[CODES[step[0]]]
        event = proposed(before, step)
        try:
            after = apply(before, event, POLICY)
        except Refusal:
            # What was refused changed nothing: `before` is a value, and is held on to.
            continue
        must_hold(before, after, event)
        municipalities[before.code6] = after
        recorded.append(event)
    # One that was held and let go again is as if nothing had been recorded of it.
    assert {code6: MunicipalityState(code6) for code6 in CODES} | replayed(
        recorded
    ) == municipalities
    # The order of the municipalities changes nothing, and neither does the way through JSON.
    by_municipality = sorted(recorded, key=lambda event: event.code6)
    assert replayed(from_record(to_record(event)) for event in by_municipality) == replayed(
        recorded
    )


def test_the_walks_reach_every_state() -> None:
    """A property of histories that never come so far would be of nothing."""
    seen: set[State] = set()

    @settings(deadline=None, database=None, max_examples=200, derandomize=True)
    @given(walks)
    def walk_on(walk: list[Step]) -> None:
        municipality = MunicipalityState(URUGI)
        for step in walk:
            try:
                municipality = apply(municipality, proposed(municipality, step), POLICY)
            except Refusal:
                continue
            seen.update(one.state for one in municipality.rows.values())

    walk_on()
    assert seen == set(State)


# One after the other.


def test_a_day_goes_from_its_closing_to_its_receipt() -> None:
    """Each state in its turn; a day without anything is confirmed, not skipped."""
    key, other = difference(DAYS[0]), difference(DAYS[1])
    states = [row(municipality_after(*whole(key)[:number]), key).state for number in range(1, 6)]
    assert states == [
        State.NOT_EXTRACTED,
        State.EXTRACTED,
        State.HANDED_OVER,
        State.SENT,
        State.RECEIVED,
    ]
    assert (
        row(municipality_after(*whole(key), *whole(other, 0)), other).state is State.EMPTY_CONFIRMED
    )


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"count": 2}, "count"),
        ({"count": 4}, "count"),
        ({"sha256": "0" * 64}, "hash"),
        ({"sha256": ""}, "hash"),
        ({"receipt": ""}, "count"),
    ],
)
def test_a_receipt_of_something_else_is_refused(changed: dict[str, Any], code: str) -> None:
    """The third count and the hash are the receiver's."""
    municipality = municipality_after(*whole(difference(DAYS[0]))[:4])
    with pytest.raises(Refusal) as refused:
        apply(municipality, replace(received(difference(DAYS[0])), **changed), POLICY)
    assert refused.value.code == code


def test_counts_that_differ_and_characters_that_cannot_be_converted_block() -> None:
    """A file is not handed over; another attempt is, and both are kept."""
    key = difference(DAYS[0])
    for event, state in (
        (extracted(key, 2), State.COUNT_DIFFERS),
        (extracted(key, 3, unconvertible=1, sha256=""), State.NOT_CONVERTIBLE),
    ):
        municipality = municipality_after(closed(key), event)
        assert row(municipality, key).state is state
        assert next_row(municipality) is None
        with pytest.raises(Refusal, match="this needs 抽出済"):
            apply(municipality, handed_over(key), POLICY)
        again = apply(municipality, events.Resent(reason="直した", approved=2, **on(key)), POLICY)
        assert row(again, key).state is State.CANCELLED
        assert row(again, key).other == key.again
        assert row(again, key.again).state is State.NOT_EXTRACTED
        assert row(again, key.again).approved == 2


def test_a_later_difference_waits_and_no_other_municipality_does() -> None:
    """Until the earlier one is final, at whatever it stands."""
    first, second = difference(DAYS[0]), difference(DAYS[1])
    municipality = municipality_after(
        *whole(first)[:4], closed(second), extracted(second), events.Overdue(**late(first))
    )
    with pytest.raises(Refusal) as refused:
        apply(municipality, handed_over(second), POLICY)
    assert refused.value.code == "order"
    assert next_row(municipality) is None
    after = apply(municipality, received(first), POLICY)
    assert next_row(after) == row(after, second)
    elsewhere = difference(DAYS[1], code6="204021")
    other = municipality_after(closed(elsewhere), extracted(elsewhere), code6="204021")
    assert next_row(other) == row(other, elsewhere)


def late(key: Key) -> dict[str, Any]:
    """Return what an event says of a row on the morning after the next business day."""
    return on(key, at(POLICY.office.after(key.day), "09:00:00"))


@pytest.mark.parametrize("cause", Cause)
def test_a_change_of_vendor_or_a_restore_forces_all_registers(cause: Cause) -> None:
    """No difference is extracted or handed over until they were received; then they contain it."""
    first, second, third = (difference(day) for day in DAYS[:3])
    every = full(DAYS[1])
    forced = events.FullForced(
        code6=URUGI, at=at(DAYS[1]), by="sousa01", cause=cause, reason="入替"
    )
    municipality = municipality_after(*whole(first), closed(second), extracted(second), forced)
    with pytest.raises(Refusal, match=cause.term) as refused:
        apply(municipality, handed_over(second), POLICY)
    assert refused.value.code == "full-forced"
    municipality = apply(municipality, closed(third), POLICY)
    with pytest.raises(Refusal, match=cause.term):
        apply(municipality, extracted(third), POLICY)
    for event in whole(replace(every, day=third.day), 120):
        assert municipality.forced
        municipality = apply(municipality, event, POLICY)
    assert municipality.forced is None
    assert {row(municipality, key).state for key in (second, third)} == {State.CONTAINED_IN_FULL}
    assert row(municipality, first).state is State.RECEIVED
    assert municipality_after(*whole(first)).forced is None


def test_what_was_extracted_before_the_restore_does_not_answer_it() -> None:
    """All registers that are under way then are those of before."""
    key, every = difference(DAYS[0]), full(DAYS[0])
    begun = whole(every, 120)
    forced = events.FullForced(
        code6=URUGI, at=at(DAYS[0]), by="sousa01", cause=Cause.RESTORE, reason="復元"
    )
    municipality = municipality_after(closed(key), *begun[:3], forced, *begun[3:])
    assert row(municipality, every).state is State.RECEIVED
    assert municipality.forced
    for event in whole(every.again, 120):
        municipality = apply(municipality, event, POLICY)
    assert municipality.forced is None


def test_all_registers_wait_for_what_is_under_way_and_pass_what_is_not() -> None:
    """A difference that came after them would put the ministry's copy back."""
    key, every = difference(DAYS[0]), full(DAYS[0])
    opened = (closed(every, 120), extracted(every, 120))
    municipality = municipality_after(*whole(key)[:3], *opened)
    with pytest.raises(Refusal) as refused:
        apply(municipality, handed_over(every), POLICY)
    assert refused.value.code == "order"
    failed = events.Refused(error="E-1", answer="a", **on(key))
    assert next_row(apply(municipality, failed, POLICY)) == row(municipality, every)
    # Whoever gives a late one up names all registers as what stands in for it.
    municipality = apply(municipality, events.Overdue(**late(key)), POLICY)
    gone = events.GivenUp(reason="全件で送る", full=DAYS[0], full_attempt=1, **on(key))
    municipality = apply(municipality, gone, POLICY)
    assert (row(municipality, key).state, row(municipality, key).other) == (State.CANCELLED, every)
    assert next_row(municipality) == row(municipality, every)
    with pytest.raises(Refusal) as refused:
        apply(municipality, received(key), POLICY)
    assert refused.value.code == "replaced"


def test_nothing_is_cancelled_without_a_successor() -> None:
    """Not a row without one, not by an older sending, not by one that was cancelled itself."""
    first, second, every = difference(DAYS[0]), difference(DAYS[1]), full(DAYS[0])
    refused = events.Refused(error="E-1", answer="a", **on(second))
    municipality = municipality_after(*whole(first), closed(every, 9), *whole(second)[:2])
    gone = events.GivenUp(reason="全件", full=DAYS[0], full_attempt=1, **on(second))
    for other in (gone, replace(gone, full=DAYS[1]), replace(gone, full_attempt=2)):
        with pytest.raises(Refusal) as failed:
            apply(municipality, other, POLICY)
        assert failed.value.code == "successor"
    with pytest.raises(Refusal):
        apply(municipality, refused, POLICY)


def test_a_held_municipality_keeps_its_next_row() -> None:
    """And what is under way comes back all the same."""
    first, second = difference(DAYS[0]), difference(DAYS[1])
    held = events.Held(code6=URUGI, at=at(DAYS[0]), by="sousa01", reason="支局から連絡待ち")
    municipality = municipality_after(
        *whole(first)[:3], held, received(first), closed(second), extracted(second)
    )
    with pytest.raises(Refusal, match="koseki duplicate hold 204129 --release"):
        apply(municipality, handed_over(second), POLICY)
    released = events.Released(code6=URUGI, at=at(DAYS[1]), by="sousa02", reason="再開")
    assert next_row(apply(municipality, released, POLICY)) == row(municipality, second)


def test_what_was_set_aside_is_shown_until_somebody_closes_it() -> None:
    """And a demand for all registers, as long as nobody has opened the sending."""
    aside = events.Quarantined(answer="a-1", reason="hash", **NOW)
    forced = events.FullForced(cause=Cause.VENDOR, reason="入替", **NOW)
    municipality = municipality_after(
        *whole(difference(DAYS[0])), *whole(difference(DAYS[1])), aside, forced
    )
    told = [found.what for found in findings(municipality, ALWAYS, POLICY, at(DAYS[1], "19:00:00"))]
    assert told == [
        "all registers are demanded (ベンダ変更), and nothing is under way",
        "an answer is set aside: hash (a-1)",
    ]
    for event in (
        events.AnswerClosed(answer="a-1", reason="確認済", **NOW),
        closed(full(DAYS[1])),
    ):
        municipality = apply(municipality, event, POLICY)
    assert findings(municipality, ALWAYS, POLICY, at(DAYS[1], "19:00:00")) == []


# Days and hours.

CLOSED_DAYS = [
    # A job before midnight, and after it; in the morning; on a Saturday; on a holiday.
    ("2026-11-16T17:14:59", "2026-11-13"),
    ("2026-11-16T17:15:00", "2026-11-16"),
    ("2026-11-16T23:59:59", "2026-11-16"),
    ("2026-11-17T00:00:00", "2026-11-16"),
    ("2026-11-17T00:30:00", "2026-11-16"),
    ("2026-11-17T08:45:00", "2026-11-16"),
    ("2026-11-21T10:00:00", "2026-11-20"),
    ("2026-11-23T23:00:00", "2026-11-20"),
    ("2026-11-24T03:00:00", "2026-11-20"),
    ("2027-01-01T00:10:00", "2026-12-28"),
    ("2027-01-04T02:00:00", "2026-12-28"),
]


@pytest.mark.parametrize(("moment", "day"), CLOSED_DAYS)
def test_a_job_after_midnight_belongs_to_the_day_that_was_closed(moment: str, day: str) -> None:
    """By the office's calendar, wherever the clock that was asked stands."""
    there = datetime.fromisoformat(f"{moment}+09:00")
    assert POLICY.closed_day(there) == date.fromisoformat(day)
    assert POLICY.closed_day(there.astimezone()) == date.fromisoformat(day)


@pytest.mark.parametrize(
    ("day", "deadline"),
    [
        ("2026-11-09", "2026-11-10T09:00:00+09:00"),
        ("2026-11-13", "2026-11-16T09:00:00+09:00"),
        ("2026-11-20", "2026-11-24T09:00:00+09:00"),
        ("2026-12-28", "2027-01-04T09:00:00+09:00"),
    ],
)
def test_it_is_late_at_nine_of_the_next_business_day_and_not_a_second_earlier(
    day: str, deadline: str
) -> None:
    """Over weekends, holidays and the New Year; for the alarm and for the state."""
    key, due = difference(date.fromisoformat(day)), datetime.fromisoformat(deadline)
    second = timedelta(seconds=1)
    municipality = municipality_after(*whole(key)[:4])
    assert POLICY.deadline(row(municipality, key)) == due
    early = findings(municipality, ALWAYS, POLICY, due - second)
    assert early == []
    (found,) = findings(municipality, ALWAYS, POLICY, due)
    assert (found.day, found.since) == (key.day, due)
    with pytest.raises(Refusal) as refused:
        apply(municipality, events.Overdue(**on(key, due - second)), POLICY)
    assert refused.value.code == "early"
    municipality = apply(municipality, events.Overdue(**on(key, due)), POLICY)
    assert row(municipality, key).state is State.RECEIPT_LATE
    # A receipt that comes is a receipt; that it was late stays to be seen.
    municipality = apply(municipality, replace(received(key), at=due + second), POLICY)
    assert row(municipality, key).state is State.RECEIVED
    assert findings(municipality, ALWAYS, POLICY, due + second) == []
    assert line(municipality, POLICY, due + second, key.day).was_late


def test_every_unfinished_state_is_late_in_time() -> None:
    """Also what was never closed, and what nobody extracted."""
    key, due = difference(DAYS[0]), at(DAYS[1], "09:00:00")
    for number in range(1, 5):
        municipality = municipality_after(*whole(key)[:number])
        (found,) = findings(municipality, ALWAYS, POLICY, due)
        assert (found.day, found.since) == (DAYS[0], due)
    municipality = municipality_after(*whole(key))
    missing = findings(municipality, ALWAYS, POLICY, at(DAYS[3], "09:00:00"))
    assert [found.day for found in missing] == DAYS[1:3]
    assert findings(municipality, ALWAYS, POLICY, at(DAYS[2], "08:59:59")) == []
    # Of one that never had a row, the last day that is due; of one that left, none.
    (found,) = findings(MunicipalityState(URUGI), ALWAYS, POLICY, due)
    assert found.day == DAYS[0]
    assert findings(MunicipalityState(URUGI), Span(DAYS[1]), POLICY, due) == []
    assert findings(MunicipalityState(URUGI), Span(date(2015, 11, 1), DAYS[0]), POLICY, due) == []


def test_all_registers_have_until_the_business_day_after_they_were_asked_for() -> None:
    """They are as of a day whose own deadline may have passed."""
    key, every = difference(DAYS[0]), full(DAYS[0])
    municipality = municipality_after(*whole(key), closed(every, 9, at(DAYS[1], "10:00:00")))
    assert POLICY.deadline(row(municipality, every)) == at(DAYS[2], "09:00:00")


def test_a_month_has_a_line_for_each_business_day() -> None:
    """Also for the days that nobody closed; for none that is not over, or before the first one."""
    municipality = municipality_after(*whole(difference(date(2026, 11, 20))))
    now = at(date(2026, 11, 26), "12:00:00")
    rows = lines(municipality, ALWAYS, POLICY, now, Month(2026, 11))
    assert [one.day.day for one in rows] == [20, 24, 25]
    assert [one.state for one in rows] == [State.RECEIVED, *[State.NOT_EXTRACTED] * 2]
    # That of the 25th was due this morning, too.
    assert [one.was_late for one in rows] == [False, True, True]
    assert lines(municipality, ALWAYS, POLICY, now, Month(2026, 10)) == []
    assert len(lines(MunicipalityState(URUGI), ALWAYS, POLICY, now, Month(2026, 10))) == 21
    assert (
        len(lines(MunicipalityState(URUGI), Span(date(2026, 10, 30)), POLICY, now, Month(2026, 10)))
        == 1
    )


def test_an_office_that_is_closed_beside_the_rule_has_no_row() -> None:
    """The calendar is data."""
    policy = Policy(Office(closes=(date(2026, 11, 10),)))
    for moment in (at(date(2026, 11, 10)), at(date(2026, 11, 12))):
        with pytest.raises(Refusal, match="not a business day") as refused:
            apply(
                MunicipalityState(URUGI), closed(difference(date(2026, 11, 10)), 3, moment), policy
            )
        assert refused.value.code == "day"
    assert policy.day_deadline(MONDAY).date() == date(2026, 11, 11)


# Bad input.

BASE = [*whole(difference(DAYS[0])), closed(difference(DAYS[1])), extracted(difference(DAYS[1]))]
NOW: dict[str, Any] = {"code6": URUGI, "at": at(DAYS[1]), "by": "sousa01"}
THIRD = difference(DAYS[2])
BAD: dict[str, tuple[Event, str]] = {
    "another municipality": (closed(difference(DAYS[2], code6="204021")), "municipality"),
    "a moment without a zone": (replace(closed(THIRD), at=datetime(2026, 11, 11, 18)), "state"),  # noqa: DTZ001 - that is the fault
    "a Sunday": (closed(difference(date(2026, 11, 15))), "day"),
    "a holiday": (closed(difference(date(2026, 11, 23))), "day"),
    "a day that is not over": (closed(THIRD, 3, at(DAYS[2], "17:14:59")), "day"),
    "tomorrow": (closed(THIRD, 3, at(DAYS[1])), "day"),
    "a day with a gap before it": (closed(difference(DAYS[3])), "gap"),
    "a day before the first": (closed(difference(days(1, date(2026, 11, 6))[0])), "gap"),
    "a day twice": (closed(difference(DAYS[1])), "twice"),
    "a second attempt out of nothing": (closed(replace(THIRD, attempt=2)), "twice"),
    "a count below zero": (closed(THIRD, -1), "count"),
    "all registers of an earlier day": (closed(full(DAYS[0])), "day"),
    "extraction of no row": (extracted(THIRD), "no-row"),
    "extraction twice": (extracted(difference(DAYS[1])), "state"),
    "a receipt of no row": (received(THIRD), "no-row"),
    "a receipt of what was not handed over": (received(difference(DAYS[1])), "state"),
    "a receipt twice": (replace(received(difference(DAYS[0])), answer="another"), "twice"),
    "an answer again": (received(difference(DAYS[0])), "known"),
    "hand-over of what was received": (handed_over(difference(DAYS[0])), "state"),
    "overdue, though received": (events.Overdue(**late(difference(DAYS[0]))), "state"),
    "resend of what was received": (
        events.Resent(reason="もう一度", **on(difference(DAYS[0]))),
        "state",
    ),
    "resend of what nothing is wrong with": (
        events.Resent(reason="もう一度", **on(difference(DAYS[1]))),
        "state",
    ),
    "no reason": (events.Held(reason="  ", **NOW), "reason"),
    "a reason of two lines": (events.Held(reason="あ\nい", **NOW), "reason"),
    "a reason without end": (events.Held(reason="あ" * 201, **NOW), "reason"),
    "release of what nobody holds": (events.Released(reason="再開", **NOW), "held"),
    "no such answer": (events.AnswerClosed(answer="x", reason="済", **NOW), "no-answer"),
    "totals of a month that is not over": (
        events.Compared(month=Month(2026, 11), ours=dict.fromkeys(TOTALS, 1), theirs=None, **NOW),
        "day",
    ),
    "totals without 除籍": (
        events.Compared(month=Month(2026, 10), ours={"戸籍": 1, "改製原": 1}, theirs=None, **NOW),
        "count",
    ),
    "totals below nothing": (
        events.Compared(
            month=Month(2026, 10),
            ours=dict.fromkeys(TOTALS, 1),
            theirs=dict.fromkeys(TOTALS, -1),
            **NOW,
        ),
        "count",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_sentence_and_changes_nothing(what: str) -> None:
    """With what was seen, and with a remedy."""
    event, code = BAD[what]
    municipality = municipality_after(*BASE)
    was = replace(municipality)
    with pytest.raises(Refusal) as refused:
        apply(municipality, event, POLICY)
    assert refused.value.code == code
    assert refused.value.what
    assert refused.value.remedy
    assert "\n" not in str(refused.value)
    assert municipality == was == municipality_after(*BASE)


def test_nothing_that_stands_open_can_be_opened_twice() -> None:
    """All registers while they are under way, a hold while there is one."""
    key, every = difference(DAYS[0]), full(DAYS[0])
    municipality = municipality_after(closed(key), closed(every))
    with pytest.raises(Refusal) as refused:
        apply(municipality, closed(every.again), POLICY)
    assert refused.value.code == "order"
    held = events.Held(reason="待ち", **NOW)
    with pytest.raises(Refusal) as refused:
        apply(municipality_after(held), held, POLICY)
    assert refused.value.code == "held"


def test_a_year_whose_holidays_nobody_knows_is_said_to_be_so() -> None:
    """No deadline is guessed."""
    with pytest.raises(KosekiError, match="update the package jpholiday"):
        POLICY.day_deadline(date(2027, 12, 30))


# Totals.


@pytest.mark.parametrize(
    ("theirs", "wrong"),
    [
        ({"戸籍": 10, "除籍": 5, "改製原": 7}, ""),
        ({"戸籍": 10, "除籍": 4, "改製原": 7}, "除籍"),
        (None, "no totals came"),
    ],
)
def test_days_that_were_all_right_do_not_hide_that_the_whole_has_drifted(
    theirs: dict[str, int] | None, wrong: str
) -> None:
    """Silence is no agreement, and a month that was not compared is told from the fifth day on."""
    since = days(5, date(2026, 11, 30))
    municipality = municipality_after(*(event for day in since for event in whole(difference(day))))
    due = at(date(2026, 12, 7), "09:00:00")
    assert findings(municipality, ALWAYS, POLICY, due - timedelta(seconds=1)) == []
    assert any(
        "not compared" in found.what for found in findings(municipality, ALWAYS, POLICY, due)
    )
    compared = events.Compared(
        code6=URUGI,
        at=due,
        by="program",
        month=Month(2026, 11),
        ours={"戸籍": 10, "除籍": 5, "改製原": 7},
        theirs=theirs,
    )
    found = findings(apply(municipality, compared, POLICY), ALWAYS, POLICY, due)
    assert [wrong in one.what for one in found] == ([True] if wrong else [])


# Words.


def test_every_state_event_and_cause_has_its_word() -> None:
    """A table that forgot one would be a KeyError in the night."""
    assert set(TERMS) == set(State)
    assert set(CAUSES) == set(Cause)
    assert set(CHECKS) == set(FOLLOWS) == set(KINDS.values())
    assert FINAL.isdisjoint(FAULTS)
    assert time(9) == POLICY.due


SAMPLES: list[Callable[[], Event]] = [
    lambda: extracted(THIRD, unconvertible=2, points=("U+845B U+E0102", "U+E000")),
    lambda: events.Resent(reason="直した", approved=0, **on(THIRD)),
    lambda: events.GivenUp(reason="全件", full=DAYS[3], full_attempt=1, **on(THIRD)),
    lambda: events.FullForced(cause=Cause.VENDOR, reason="入替", **NOW),
    lambda: events.Compared(
        month=Month(2026, 1), ours=dict.fromkeys(TOTALS, 1), theirs=None, **NOW
    ),
]


@pytest.mark.parametrize("sample", SAMPLES)
def test_an_event_comes_back_from_the_ledger_as_it_was(sample: Callable[[], Event]) -> None:
    """And one with other fields is none."""
    event = sample()
    assert from_record(to_record(event)) == event
    for wrong in ({"more": 1}, {"event": "eaten"}):
        with pytest.raises((ValueError, KeyError)):
            from_record(to_record(event) | wrong)
