"""`koseki evidence`: what was recorded here, and whether it is still what was recorded."""

from __future__ import annotations

import json
import sys

import click

from koseki_ops.core.language import _
from koseki_ops.evidence.ledger import LEDGERS, Ledger
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.site import Site


@click.group("evidence")
def evidence_group() -> None:
    """Show and verify the site's records."""


@evidence_group.command("verify")
@site_options
@json_option
def verify_command(site: Site, *, as_json: bool) -> None:
    """Hold every record against the one before it and against its signature.

    Exit 0: all are whole; 1: a row was changed, removed, inserted or put elsewhere, and the first
    one is named.

    Example: koseki evidence verify -i iida
    """
    found = {name: Ledger(site, name).verify() for name in LEDGERS}
    for name, verdict in found.items():
        click.echo(_("{name:12} {rows} rows verified").format(name=name, rows=verdict.rows))
        if verdict.wrong:
            click.echo(
                _(
                    "koseki: {name}: {wrong}: keep the file as it is, compare it with a "
                    "copy of it, and find out who wrote there"
                ).format(name=name, wrong=verdict.wrong),
                err=True,
            )
    if as_json:
        rows = {name: {"rows": v.rows, "wrong": v.wrong} for name, v in found.items()}
        print_json({"ledgers": rows})
    if any(verdict.wrong for verdict in found.values()):
        sys.exit(1)


@evidence_group.command("show")
@click.argument("records", type=click.Choice(sorted(LEDGERS)))
@site_options
@json_option
def show_command(site: Site, *, records: str, as_json: bool) -> None:
    """Print what was recorded, oldest first.

    Example: koseki evidence show joinings
    """
    rows = list(Ledger(site, records).rows())
    for row in rows:
        click.echo(f"{row.number:5} {row.at} {json.dumps(row.record, ensure_ascii=False)}")
    if not rows:
        click.echo(_("nothing was recorded: {records}").format(records=records))
    if as_json:
        print_json({"rows": [{"number": r.number, "at": r.at, "record": r.record} for r in rows]})
