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
from koseki_ops.drift.history.store import Entry, Store
from koseki_ops.drift.model import Finding, Verdict
from koseki_ops.drift.report.exports import FORMATS
from koseki_ops.drift.report.page import write_page
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.rules import load_platform
from koseki_ops.plan.site import Site
from koseki_ops.verify.expectations import Plan

NO_SWEEP = ("no sweep has been recorded yet", "", "run `koseki drift` first")


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
        "--since is not a date or date-time",
        text,
        "write it as `2026-11-24` or `2026-11-24T09:00:00+09:00`",
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
        click.echo(f"  {count} sweep{'s' if count != 1 else ''} without a change")


def _print_entry(entry: Entry, timezone: str) -> None:
    click.echo(
        f"{in_zone(entry.at, timezone)}  {entry.holds} as applied, {entry.drifted} drifted "
        f"({entry.waived} waived), {entry.not_verified} not verified"
    )
    for finding in entry.changed:
        began = finding.first_seen == entry.at
        click.echo(f"  {'+' if began else '~'} {_line(finding)}")
    for finding in entry.ended:
        click.echo(f"  - {_line(finding)}")


def _line(finding: Finding) -> str:
    text = finding.cause if finding.answer is Verdict.DRIFTED else f"not verified: {finding.why}"
    waiver = f", waived by {finding.waiver}" if finding.waiver else ""
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
        raise KosekiError(*NO_SWEEP)
    for row in store.waiver_statuses:
        waiver = row.waiver
        text = row.fault or f"covers {len(row.covers)}, {row.days_left} days left"
        click.echo(f"{waiver.id}  {waiver.owner}, approved by {waiver.approver}: {one_line(text)}")
    if not store.waiver_statuses:
        click.echo("no waivers")
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
        raise KosekiError(*NO_SWEEP)
    text = FORMATS[form](sweep, store.waiver_statuses)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        write_atomic(output, text)
    except OSError as error:
        raise KosekiError(
            "the export cannot be written", f"{output}: {error.strerror}", "give another --output"
        ) from error
    click.echo(f"{form}: {output}")


@click.command("page")
@site_options
def page_command(site: Site) -> None:
    """Write the page about the newest sweep: one HTML file, readable without a network.

    Example: koseki drift page
    """
    click.echo(f"page: {write_page(Plan.of(site), Store.open(site), time.time())}")


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
        click.echo(f"{verdict.sweeps} sweeps, the chain is whole, head {verdict.head}")
    if as_json:
        report = {"sweeps": verdict.sweeps, "head": verdict.head, "fault": verdict.fault}
        print_json(report)
    if verdict.fault:
        sys.exit(1)
