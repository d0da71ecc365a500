"""`koseki duplicate`: what became of each day's duplicate (副本), and what people decide (K-13)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import click

from koseki_ops.calendar.months import Month
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.duplicates import book, report
from koseki_ops.duplicates.adapter import Folders
from koseki_ops.duplicates.collect import collect
from koseki_ops.duplicates.decisions import Decision
from koseki_ops.duplicates.events import Event, to_record
from koseki_ops.duplicates.layout import Unconvertible
from koseki_ops.duplicates.model import Cause, Key, Kind, MunicipalityState, Row
from koseki_ops.duplicates.report import Line
from koseki_ops.duplicates.service import DuplicateService, span
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.model import Municipality
from koseki_ops.plan.site import Site
from koseki_ops.report.papers import write

DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
NUMBER = re.compile(r"[0-9]{1,9}")

by_option = click.option("--by", required=True, help="Who decides it: an operator's id.")
reason_option = click.option("--reason", required=True, help="Why, in a line, without a name.")
at_option = click.option(
    "--at", metavar="TIME", help="As it would be then, as 2026-12-01T09:00 (default: now)."
)


@click.group("duplicate")
def duplicate_group() -> None:
    """Show what became of each day's duplicate (副本), and decide where a person has to."""


@duplicate_group.command("status")
@click.argument("municipalities", nargs=-1, metavar="[MUNICIPALITY]…")
@click.option("--month", metavar="MONTH", help="A line for each business day of it, as 2026-11.")
@at_option
@site_options
@json_option
def status_command(
    site: Site, *, municipalities: tuple[str, ...], month: str | None, at: str | None, as_json: bool
) -> None:
    """Show what is late or wrong, municipality by municipality.

    Exit 0: all is as it should be; 1: a row is not final by 09:00 of the next business day, or
    something is wrong; 2: it could not be asked, or the history was rewritten.

    Example: koseki duplicate status 売木村 --month 2026-11
    """
    service = DuplicateService.open(site, at)
    wanted = [service.municipality(given) for given in municipalities] or service.joined()
    shown = _month(month) if month else None
    service.history.read()
    rows = [_status_row(service, row, shown) for row in wanted]
    wrong = sum(len(row["wrong"]) for row in rows)
    click.echo(
        _("{count} municipalities at {now:%Y-%m-%d %H:%M}: {wrong} late or wrong").format(
            count=len(rows), now=service.now, wrong=wrong
        )
    )
    if as_json:
        print_json({"at": service.now.isoformat(), "wrong": wrong, "municipalities": rows})
    sys.exit(1 if wrong else 0)


def _status_row(
    service: DuplicateService, row: Municipality, month: Month | None
) -> dict[str, Any]:
    municipality, found = service.history.municipality(row.code6), service.findings(row)
    click.echo(
        _("{code6} {name}  closed until {last_day}{notes}").format(
            code6=row.code6,
            name=row.name,
            last_day=municipality.last_day or _("never"),
            notes=_notes(municipality),
        )
    )
    lines = []
    if month:
        lines = report.lines(municipality, span(row), service.policy, service.now, month)
    for one in lines:
        click.echo(f"  {_line_text(one)}")
    for finding in found:
        click.echo(f"koseki: {row.name}: {finding.what}: {finding.remedy}", err=True)
    return {
        "code6": row.code6,
        "name": row.name,
        "closed_until": municipality.last_day and municipality.last_day.isoformat(),
        "forced": municipality.forced and municipality.forced.cause,
        "held_by": municipality.hold and municipality.hold.by,
        "quarantined": dict(municipality.quarantined),
        "wrong": [
            {
                "day": finding.day and finding.day.isoformat(),
                "what": finding.what,
                "remedy": finding.remedy,
                "since": finding.since and finding.since.isoformat(),
            }
            for finding in found
        ],
        "days": [_line_row(one) for one in lines],
    }


@duplicate_group.command("collect")
@click.argument("municipalities", nargs=-1, metavar="[MUNICIPALITY]…")
@site_options
@json_option
def collect_command(site: Site, *, municipalities: tuple[str, ...], as_json: bool) -> None:
    """Bring what the hosts recorded into the book, line by line; a line is taken once.

    Exit 0: all of it is there; 1: a municipality's journal could not be read, or is not what was
    collected before, and nothing of it was taken; 2: it could not be asked.

    Example: koseki duplicate collect 売木村
    """
    service = DuplicateService.open(site)
    wanted = [service.municipality(given) for given in municipalities] or service.joined()
    done = collect(site, service.history, wanted)
    for slug, count in done.lines.items():
        click.echo(_("{slug}: {count} lines").format(slug=slug, count=count))
    for reason in done.failed.values():
        click.echo(f"koseki: {reason}", err=True)
    if as_json:
        print_json({"lines": done.lines, "failed": done.failed})
    sys.exit(1 if done.failed else 0)


@duplicate_group.command("explain")
@click.argument("municipality", metavar="MUNICIPALITY")
@click.argument("day", metavar="DAY")
@at_option
@site_options
@json_option
def explain_command(
    site: Site, *, municipality: str, day: str, at: str | None, as_json: bool
) -> None:
    """Show all that happened to a business day: every attempt, when, by whom, and what to do now.

    Exit 0: nothing is wrong with it; 1: it is late or wrong; 2: it could not be asked.

    Example: koseki duplicate explain 売木村 2026-11-16
    """
    service = DuplicateService.open(site, at)
    row, wanted = service.municipality(municipality), _day(day)
    if not service.policy.office.is_open(wanted):
        before = service.policy.office.after(wanted, -1)
        raise KosekiError(
            _("not a business day"),
            day,
            _("its work belongs to `{before}`: name that day").format(before=before),
        )
    service.history.read()
    found = service.history.municipality(row.code6)
    attempts = [one for kind in Kind for one in found.attempts(wanted, kind)]
    if not attempts:
        click.echo(
            _("{name} {wanted}: nothing was recorded of this day").format(
                name=row.name, wanted=wanted
            )
        )
    for attempt in attempts:
        _explain(service, found, attempt)
    wrong = [finding for finding in service.findings(row) if finding.day == wanted]
    for finding in wrong:
        click.echo(f"koseki: {row.name}: {finding.what}: {finding.remedy}", err=True)
    if as_json:
        rows = [_attempt_row(service, attempt) for attempt in attempts]
        print_json({"code6": row.code6, "day": wanted.isoformat(), "attempts": rows,
                    "wrong": [finding.what for finding in wrong]})  # fmt: skip
    sys.exit(1 if wrong else 0)


@duplicate_group.command("print")
@click.argument("municipality", metavar="MUNICIPALITY")
@click.option("--month", required=True, metavar="MONTH", help="Which month, as 2026-11.")
@click.option(
    "--to", "folder", required=True, type=click.Path(path_type=Path), help="Into this folder."
)
@at_option
@site_options
@json_option
def print_command(
    site: Site, *, municipality: str, month: str, folder: Path, at: str | None, as_json: bool
) -> None:
    """Print a month of the book 副本データ送信管理簿 as PDF and CSV, a line for each attempt.

    A file that is there with another content is not overwritten. Exit 0: printed; 2: refused.

    Example: koseki duplicate print 売木村 --month 2026-11 --to /srv/books
    """
    service = DuplicateService.open(site, at)
    row, wanted = service.municipality(municipality), _month(month)
    service.history.read()
    written = write(book.papers(service, row, wanted), folder)
    for path in written:
        click.echo(str(path))
    if as_json:
        print_json({"files": [str(path) for path in written]})


@duplicate_group.command("resend")
@click.argument("municipality", metavar="MUNICIPALITY")
@click.argument("day", metavar="[DAY]", required=False)
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in Kind]),
    default=Kind.DIFFERENCE.value,
    show_default=True,
    help="Of the day's row.",
)
@click.option("--full", is_flag=True, help="All registers, instead of a day's row once more.")
@click.option(
    "--cause",
    type=click.Choice([cause.value for cause in Cause]),
    help="Why all registers: a change of vendor, a restore, totals that differ, or asked for.",
)
@click.option("--approved", metavar="N", help="What the register counts now.")
@by_option
@reason_option
@site_options
@json_option
def resend_command(  # noqa: PLR0913 - an option each
    site: Site,
    *,
    municipality: str,
    day: str | None,
    kind: str,
    full: bool,
    cause: str | None,
    approved: str | None,
    by: str,
    reason: str,
    as_json: bool,
) -> None:
    """Let a day's row that went wrong be sent once more; both attempts stay.

    With --full, all registers: with --cause no difference goes before they were received; with
    --approved the sending is opened, as of the day that was closed last.

    Exit 0: it is recorded; 2: it was refused, and nothing was.

    Example: koseki duplicate resend 売木村 2026-11-16 --by sousa01 --reason 文字対応表を更新
    """
    if full == bool(day) or full != bool(cause or (approved and not day)):
        raise KosekiError(
            _("give either a day, or --full with a cause or a number"),
            " ".join(part for part in (day, "--full" if full else None, cause) if part),
            _("name a DAY, or give --full with --cause or --approved"),
        )
    count = _number(approved) if approved is not None else None
    wanted = _day(day) if day else None
    service = DuplicateService.open(site)
    decision = Decision(by, service.now, reason)

    def made(municipality: MunicipalityState) -> list[Event]:
        if wanted:
            return decision.send_again(municipality, wanted, Kind(kind), count)
        return decision.send_all(municipality, Cause(cause) if cause else None, count)

    words = ["resend", str(wanted), "--kind", kind] if wanted else ["full", cause or ""]
    if approved is not None and service.is_collected(municipality):
        raise KosekiError(
            _("the host counts by itself"),
            f"--approved {approved}",
            _("leave out `--approved`; with `--full` give `--cause`"),
        )
    _decide(service, municipality, decision, made, words, as_json=as_json)


@duplicate_group.command("hold")
@click.argument("municipality", metavar="MUNICIPALITY")
@click.option("--release", is_flag=True, help="Let it go again.")
@by_option
@reason_option
@site_options
@json_option
def hold_command(
    site: Site, *, municipality: str, release: bool, by: str, reason: str, as_json: bool
) -> None:
    """Keep back what a municipality would send next; its rows are due all the same.

    Exit 0: it is recorded; 2: it was refused, and nothing was.

    Example: koseki duplicate hold 売木村 --by sousa01 --reason 支局から連絡待ち
    """
    service = DuplicateService.open(site)
    decision = Decision(by, service.now, reason)
    _decide(
        service,
        municipality,
        decision,
        lambda found: decision.hold(found, release=release),
        ["release" if release else "hold"],
        as_json=as_json,
    )


@duplicate_group.command("close")
@click.argument("municipality", metavar="MUNICIPALITY")
@click.argument("day", metavar="[DAY]", required=False)
@click.option("--answer", metavar="ID", help="An answer that was set aside, instead of a day.")
@by_option
@reason_option
@site_options
@json_option
def close_command(
    site: Site,
    *,
    municipality: str,
    day: str | None,
    answer: str | None,
    by: str,
    reason: str,
    as_json: bool,
) -> None:
    """Give up a day's difference, since all registers that are under way stand in for it.

    Without such a sending it is refused: what is given up has a successor. With --answer:
    record that an answer that was set aside was handled. Exit 0: it is recorded; 2: it was refused.

    Example: koseki duplicate close 売木村 2026-11-16 --by sousa01 --reason 全件で送る
    """
    if bool(day) == bool(answer):
        raise KosekiError(
            _("give either a day or an answer"), day or "", _("name a DAY, or give --answer")
        )
    service = DuplicateService.open(site)
    decision = Decision(by, service.now, reason)
    wanted = _day(day) if day else None

    def made(municipality: MunicipalityState) -> list[Event]:
        if wanted:
            return decision.give_up(municipality, wanted)
        return decision.close_answer(municipality, answer or "")

    words = ["close", str(wanted)] if wanted else ["close-answer", answer or ""]
    _decide(service, municipality, decision, made, words, as_json=as_json)


def _decide(
    service: DuplicateService,
    municipality: str,
    decision: Decision,
    made: Callable[[MunicipalityState], list[Event]],
    words: Sequence[str],
    *,
    as_json: bool,
) -> None:
    records = [to_record(event) for event in service.decide(municipality, decision, made, words)]
    for record in records:
        click.echo(
            _("recorded: {event} {code6} {get}")
            .format(event=record["event"], code6=record["code6"], get=record.get("day", ""))
            .rstrip()
        )
    if as_json:
        print_json({"recorded": records})


def _notes(municipality: MunicipalityState) -> str:
    notes = []
    if municipality.forced:
        notes.append(_("全件 demanded ({term})").format(term=municipality.forced.cause.term))
    if municipality.hold:
        notes.append(
            _("held by {by} ({reason})").format(
                by=municipality.hold.by, reason=municipality.hold.reason
            )
        )
    if municipality.quarantined:
        notes.append(_("{count} answers set aside").format(count=len(municipality.quarantined)))
    return "".join(f"; {note}" for note in notes)


def _counts(row: Row) -> str:
    counts = (
        "-" if count is None else count for count in (row.approved, row.extracted, row.received)
    )
    return "/".join(map(str, counts))


def _line_text(one: Line) -> str:
    counts = _counts(one.row) if one.row else "-/-/-"
    attempts = (
        _(" attempt {attempt}").format(attempt=one.row.key.attempt)
        if one.row and one.row.key.attempt > 1
        else ""
    )
    settled = f" {one.settled_at:%Y-%m-%d %H:%M}" if one.settled_at else ""
    late = " 遅延" if one.was_late else ""
    return f"{one.day} {one.state.term} {counts}{attempts}{settled}{late}"


def _line_row(one: Line) -> dict[str, Any]:
    row = one.row
    return {
        "day": one.day.isoformat(),
        "state": one.state,
        "term": one.state.term,
        "attempt": row.key.attempt if row else None,
        "approved": row.approved if row else None,
        "extracted": row.extracted if row else None,
        "received": row.received if row else None,
        "sha256": row.sha256 if row else "",
        "receipt": row.receipt if row else "",
        "error": row.error if row else "",
        "settled_at": one.settled_at and one.settled_at.isoformat(),
        "late": one.was_late,
    }


def _explain(service: DuplicateService, municipality: MunicipalityState, row: Row) -> None:
    key = row.key
    click.echo(
        _("{day} {term} attempt {attempt}: {term2}").format(
            day=key.day, term=key.kind.term, attempt=key.attempt, term2=row.state.term
        )
    )
    click.echo(
        _("  決裁/抽出/受領 {counts}  sha256 {sha256}").format(
            counts=_counts(row), sha256=row.sha256 or "-"
        )
    )
    if row.reason:
        click.echo(_("  because: {reason}").format(reason=row.reason))
    if row.other:
        click.echo(_("  in its place: {other}").format(other=row.other))
    for event, then in service.history.of_row(key):
        record = to_record(event)
        fields = {name: value for name, value in record.items() if name in SHOWN_FIELDS and value}
        more = " ".join(f"{name} {value}" for name, value in fields.items())
        text = (
            _("{event} by {by} {more}")
            .format(event=record["event"], by=event.by, more=more)
            .rstrip()
        )
        click.echo(f"  {event.at:%Y-%m-%d %H:%M:%S} {then.state.term}: {text}")
    for one in _unconvertible(service, key):
        click.echo(
            _("  cannot be converted: register {number}, {points}").format(
                number=one.number, points=one.points
            )
        )
    if remedy := report.remedy(municipality, row):
        click.echo(_("  now: {remedy}").format(remedy=remedy))


# What an event says beside its row, as far as it is of interest to a reader.
SHOWN_FIELDS = ("approved", "count", "receipt", "box", "error", "reason", "unconvertible", "full")


def _unconvertible(service: DuplicateService, key: Key) -> list[Unconvertible]:
    return Folders(service.history.folder).listed(key)


def _attempt_row(service: DuplicateService, row: Row) -> dict[str, Any]:
    return {
        "kind": row.key.kind,
        "attempt": row.key.attempt,
        "state": row.state,
        "term": row.state.term,
        "approved": row.approved,
        "extracted": row.extracted,
        "received": row.received,
        "sha256": row.sha256,
        "receipt": row.receipt,
        "error": row.error,
        "other": row.other and str(row.other),
        "unconvertible": [
            {"number": one.number, "points": one.points} for one in _unconvertible(service, row.key)
        ],
        "events": [
            {**to_record(event), "state": then.state}
            for event, then in service.history.of_row(row.key)
        ],
    }


def _day(given: str) -> date:
    try:
        if DAY.fullmatch(given):
            return date.fromisoformat(given)
    except ValueError as error:
        raise KosekiError(
            _("no such day in the calendar"), given, _("write it as `2026-11-16`")
        ) from error
    raise KosekiError(_("not a date"), given, _("write it as `2026-11-16`"))


def _month(given: str) -> Month:
    if MONTH.fullmatch(given):
        return Month.of(_day(f"{given}-01"))
    raise KosekiError(_("not a month"), given, _("write it as `2026-11`"))


def _number(given: str) -> int:
    if NUMBER.fullmatch(given):
        return int(given)
    raise KosekiError(_("not a count"), given, _("write a whole number in plain digits, as `17`"))
