"""`koseki drift`: what is not as the last apply left it, and what else is there."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from functools import cache

import click

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.formatting import in_short, one_line
from koseki_ops.core.language import _
from koseki_ops.core.lazy_group import LazyGroup
from koseki_ops.core.terminal import painted
from koseki_ops.drift.judge.sweep import sweep
from koseki_ops.drift.model import Finding, Sweep, Verdict
from koseki_ops.drift.observe.transport import HOST_SECONDS, Bounds
from koseki_ops.drift.record import record
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.trust.secrets import secret_values

SHOWN_FINDINGS = 40
SHOWN_LENGTH = 100
# A line is read by a person: the beginning of a hash tells it from another.
HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


# What was kept is looked at by commands of its own; a sweep does not wait for their imports.
HISTORY = {
    name: (f"koseki_ops.drift.history_cli:{name.replace('-', '_')}_command", line)
    for name, line in {
        "export": "Give the newest sweep to another tool.",
        "history": "Show what began, changed and ended, sweep by sweep.",
        "page": "Write the page about the newest sweep.",
        "verify-history": "Verify every recorded sweep against its chain.",
        "waivers": "Show how each waiver of the inventory stood at the newest sweep.",
    }.items()
}


@click.group("drift", cls=LazyGroup, places=HISTORY, invoke_without_command=True)
@click.option("--limit", multiple=True, metavar="HOST|GROUP", help="Only these (repeatable).")
@click.option("--explain", metavar="ID", help="Show all that is known of one finding.")
@click.option(
    "--wait",
    type=click.FloatRange(min=1),
    default=HOST_SECONDS,
    metavar="SECONDS",
    help=f"How long a host may take (default: {HOST_SECONDS:.0f}).",
)
@click.option(
    "--alert",
    is_flag=True,
    help="Report what is new by mail and for an Alertmanager; write the page and the metrics.",
)
@site_options
@json_option
@click.pass_context
def drift_group(
    context: click.Context,
    site: Site,
    *,
    limit: tuple[str, ...],
    explain: str | None,
    wait: float,
    alert: bool,
    as_json: bool,
) -> None:
    """Ask every host in one round trip what it is, and hold it against the last apply.

    Exit 0: all holds; 1: something drifted; 2: something could not be verified, and why.

    Example: koseki drift --limit databases
    """
    if context.invoked_subcommand:
        # A command after the group is about the site that was named before it.
        named = {"inventory": site.inventory_name}
        named |= {"name": site.name} if site.name != site.inventory_name else {}
        context.default_map = dict.fromkeys(HISTORY, named)
        return
    inventory = Inventory(site.inventory)
    chosen = {host for name in limit for host in inventory.resolve(name)}
    hosts = [host for host in inventory.hosts if not limit or host in chosen]
    if not site.ssh_config.exists() and not site.watch_host:
        raise KosekiError(_("nothing was applied here yet"), site.name, _("run `koseki apply`"))
    # After a restart the room for shared connections is gone; a certificate may have run out.
    ensure_site_ssh(site, inventory)
    found = sweep(site, inventory, hosts, Bounds(seconds=wait), cache(lambda: secret_values(site)))
    sentences: tuple[str, ...] = ()
    fault = ""
    try:
        kept = record(site, found, alert=alert)
        found, sentences = kept.sweep, kept.notices
    except KosekiError as error:
        # What was found now is told even when it cannot be kept.
        fault = str(error)
    if explain:
        _explain(found, explain)
    else:
        _print(found)
    for sentence in (*sentences, fault):
        if sentence:
            click.echo(f"koseki: {sentence}", err=True)
    if as_json:
        print_json(as_report(found))
    sys.exit(2 if fault else exit_code(found))


def exit_code(found: Sweep) -> int:
    """Return 2 when something was not verified, 1 when something drifted, 0 when all holds."""
    if found.count(Verdict.NOT_VERIFIED):
        return 2
    return 1 if any(f.answer is Verdict.DRIFTED for f in found.open) else 0


def as_report(found: Sweep) -> dict[str, object]:
    """Return the contract's object."""
    return {
        "holds": found.count(Verdict.HOLDS),
        "drifted": found.count(Verdict.DRIFTED),
        "not_verified": found.count(Verdict.NOT_VERIFIED),
        "beyond": found.not_applicable,
        "seconds": found.seconds,
        "findings": found.as_json()["findings"],
    }


def _print(found: Sweep) -> None:
    """Print a line for each host, what differs, what was not verified, and the sum."""
    for host in found.hosts:
        own = [f for f in found.findings if f.host == host.host]
        drifted = sum(f.answer is Verdict.DRIFTED for f in own)
        not_verified = sum(f.answer is Verdict.NOT_VERIFIED for f in own)
        text = _("{holds} as applied").format(holds=host.holds)
        text += _(", {drifted} drifted").format(drifted=drifted) if drifted else ""
        text += (
            _(", {not_verified} not verified").format(not_verified=not_verified)
            if not_verified
            else ""
        )
        colour = "yellow" if not_verified else "red" if drifted else "green"
        stale = _("  (stale: the inventory has changed since)") if host.stale else ""
        stale += _("  (adopted as it was found)") if host.adopted else ""
        click.echo(f"{host.host:20} {painted(text, colour)}{stale}")
    for finding in found.findings[:SHOWN_FINDINGS]:
        click.echo(_line(finding))
    if len(found.findings) > SHOWN_FINDINGS:
        click.echo(
            _("… and {count} more: --json has them all").format(
                count=len(found.findings) - SHOWN_FINDINGS
            )
        )
    click.echo(
        _(
            "{holds} as applied, {drifted} drifted, {not_verified} not verified, {seconds:.1f} s"
        ).format(
            holds=found.count(Verdict.HOLDS),
            drifted=found.count(Verdict.DRIFTED),
            not_verified=found.count(Verdict.NOT_VERIFIED),
            seconds=found.seconds,
        )
    )
    if found.not_applicable:
        click.echo(
            _(
                "{not_applicable} kernel parameters not verified: they belong to the "
                "machine below containers; a booted image shows them"
            ).format(not_applicable=found.not_applicable)
        )
    if found.findings:
        click.echo(_("koseki drift --explain ID shows more of one"))


def _line(finding: Finding) -> str:
    what = f"{finding.kind} {finding.name} {finding.place}".rstrip()
    if finding.answer is Verdict.NOT_VERIFIED:
        text = _("not verified: {why}").format(why=finding.why)
    elif finding.expected:
        text = f"{_(finding.cause)}: {_short(finding.expected)} → {_short(finding.seen)}"
    else:
        text = f"{_(finding.cause)}: {_short(finding.seen)}"
    waived = _(" (waived by {waiver})").format(waiver=finding.waiver) if finding.waiver else ""
    return in_short(f"{finding.id}  {finding.host}: {what}: {text}{waived}")


def _short(text: str) -> str:
    line = HASH.sub(r"\1…", " ".join(text.split()))
    return line if len(line) <= SHOWN_LENGTH else f"{line[: SHOWN_LENGTH - 1]}…"


def _explain(found: Sweep, wanted: str) -> None:
    """Print everything that is known of one finding."""
    matching = [finding for finding in found.findings if finding.id.startswith(wanted)]
    if len(matching) != 1:
        raise KosekiError(
            _("no such finding now") if not matching else _("several findings begin like that"),
            wanted,
            _("run `koseki drift` and take an ID from its lines"),
        )
    (finding,) = matching
    rows = [
        (_("id"), finding.id),
        (_("host"), finding.host),
        (_("what"), f"{finding.kind} {finding.name}"),
        (_("field"), finding.place),
        (_("answer"), _(finding.answer)),
        (_("kind"), _(finding.cause)),
        (_("expected"), finding.expected),
        (_("seen"), finding.seen),
        (_("why"), finding.why),
        (_("first seen"), _moment(finding.first_seen)),
        (_("logged in"), ", ".join(finding.logged_in)),
        (_("waiver"), finding.waiver),
        (_("repair"), finding.repair),
    ]
    for name, value in rows:
        if value:
            click.echo(f"{name + ':':12} {one_line(value)}")
    if finding.diff:
        click.echo(finding.diff)


def _moment(at: float) -> str:
    """Return a moment in UTC, empty when it is not known."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at else ""
