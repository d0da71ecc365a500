"""Commands on what sweeps left, for the group `drift`: history, waivers, exports, the page."""

from __future__ import annotations

import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_atomic
from koseki_ops.core.formatting import in_zone, one_line
from koseki_ops.core.language import N_, _, ngettext
from koseki_ops.drift.history.store import Entry, Store
from koseki_ops.drift.model import Finding, Verdict
from koseki_ops.drift.report.exports import FORMATS
from koseki_ops.drift.report.page import write_page
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.rules import load_platform
from koseki_ops.plan.site import Site
from koseki_ops.verify.expectations import Plan

NO_SWEEP = (N_("no sweep has been recorded yet"), "", N_("run `koseki drift` first"))


def timezone_of(site: Site) -> str:
    """Return the time zone in which a site's people read times."""
    return load_platform(Inventory(site.inventory)).timezone


def since_moment(text: str | None, timezone: str) -> float:
    """Return the beginning of a day, or a moment with its zone, as seconds; 0 when not given."""
    if not text:
        return 0.0
    try:
        if len(text) == len("YYYY-MM-DD"):
            day = date.fromisoformat(text)
            return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone)).timestamp()
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise _no_moment(text) from error
    if moment.tzinfo is None:
        raise _no_moment(text)
    return moment.astimezone(UTC).timestamp()


def _no_moment(text: str) -> KosekiError:
    return KosekiError(
        _("--since is not a date or date-time"),
        text,
        _("write it as `2026-11-24` or `2026-11-24T09:00:00+09:00`"),
    )


@click.command("history")
@click.option("--since", metavar="DAY|MOMENT", help="Only sweeps since then.")
@site_options
@json_option
def history_command(site: Site, *, since: str | None, as_json: bool) -> None:
    """Show what began, changed and ended, sweep by sweep; sweeps without a change are counted.

    Exit 0: shown; 2: the history was tampered with or is damaged.

    Example: koseki drift history --since 2026-11-24
    """
    timezone = timezone_of(site)
    store = Store.open(site)
    sweeps, quiet = [], 0
    for entry in store.history(since_moment(since, timezone)):
        if entry.changed or entry.ended:
            _print_quiet(quiet)
            _print_entry(entry, timezone)
            quiet = 0
        else:
            quiet += 1
        if as_json:
            sweeps.append(entry.as_json())
    _print_quiet(quiet)
    if as_json:
        print_json({"sweeps": sweeps, "head": store.head()})


def _print_quiet(count: int) -> None:
    if count:
        click.echo(
            ngettext(
                "  {count} sweep without a change", "  {count} sweeps without a change", count
            ).format(count=count)
        )


def _print_entry(entry: Entry, timezone: str) -> None:
    click.echo(
        _(
            "{at}  {holds} as applied, {drifted} drifted ({waived} waived), "
            "{not_verified} not verified"
        ).format(
            at=in_zone(entry.at, timezone),
            holds=entry.holds,
            drifted=entry.drifted,
            waived=entry.waived,
            not_verified=entry.not_verified,
        )
    )
    for finding in entry.changed:
        began = finding.first_seen == entry.at
        click.echo(f"  {'+' if began else '~'} {_line(finding)}")
    for finding in entry.ended:
        click.echo(f"  - {_line(finding)}")


def _line(finding: Finding) -> str:
    text = (
        _(finding.cause)
        if finding.answer is Verdict.DRIFTED
        else _("not verified: {why}").format(why=finding.why)
    )
    waiver = _(", waived by {waiver}").format(waiver=finding.waiver) if finding.waiver else ""
    what = f"{finding.host} {finding.kind} {finding.name} {finding.place}"
    return f"{finding.id} {one_line(what)}: {one_line(text + waiver)}"


@click.command("waivers")
@site_options
@json_option
def waivers_command(site: Site, *, as_json: bool) -> None:
    """Show how each waiver of the inventory stood at the newest sweep, with the days left.

    Exit 0: each covers something; 1: one has expired, matches nothing, is not committed or was
    rewritten.

    Example: koseki drift waivers
    """
    store = Store.open(site)
    if store.latest() is None:
        raise KosekiError(*map(_, NO_SWEEP))
    for row in store.waiver_statuses:
        waiver = row.waiver
        text = row.fault or _("covers {count}, {days_left} days left").format(
            count=len(row.covers), days_left=row.days_left
        )
        click.echo(
            _("{id}  {owner}, approved by {approver}: {text}").format(
                id=waiver.id, owner=waiver.owner, approver=waiver.approver, text=one_line(text)
            )
        )
    if not store.waiver_statuses:
        click.echo(_("no waivers"))
    if as_json:
        rows = [
            row.waiver.model_dump(mode="json")
            | {"covers": row.covers, "fault": row.fault, "days_left": row.days_left}
            for row in store.waiver_statuses
        ]
        print_json({"waivers": rows})
    if any(row.fault for row in store.waiver_statuses):
        sys.exit(1)


@click.command("export")
@click.option(
    "--format", "form", type=click.Choice(list(FORMATS)), required=True, help="The form it takes."
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write there in one step; without it, to standard output.",
)
@site_options
def export_command(site: Site, *, form: str, output: Path | None) -> None:
    """Give the newest sweep to another tool.

    Exit 0: written; 2: there is no sweep yet, or the history was tampered with.

    Example: koseki drift export --format prometheus --output /var/lib/koseki/drift.prom
    """
    store = Store.open(site)
    sweep = store.latest()
    if sweep is None:
        raise KosekiError(*map(_, NO_SWEEP))
    text = FORMATS[form](sweep, store.waiver_statuses)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        write_atomic(output, text)
    except OSError as error:
        raise KosekiError(
            _("the export cannot be written"),
            f"{output}: {error.strerror}",
            _("give another --output"),
        ) from error
    click.echo(f"{form}: {output}")


@click.command("page")
@site_options
def page_command(site: Site) -> None:
    """Write the page about the newest sweep: one HTML file, readable without a network.

    Example: koseki drift page
    """
    click.echo(
        _("page: {path}").format(path=write_page(Plan.of(site), Store.open(site), time.time()))
    )


@click.command("verify-history")
@site_options
@json_option
def verify_history_command(site: Site, *, as_json: bool) -> None:
    """Verify every recorded sweep against its chain, the newest against the signature and its file.

    Compare the head with one that was printed or mailed before: it must be in this history.
    Exit 0: it is whole; 1: something was changed, removed or signed by another key.

    Example: koseki drift verify-history
    """
    verdict = Store.open(site).verify()
    if verdict.fault:
        click.echo(verdict.fault)
    else:
        click.echo(
            _("{sweeps} sweeps, the chain is whole, head {head}").format(
                sweeps=verdict.sweeps, head=verdict.head
            )
        )
    if as_json:
        report = {"sweeps": verdict.sweeps, "head": verdict.head, "fault": verdict.fault}
        print_json(report)
    if verdict.fault:
        sys.exit(1)
