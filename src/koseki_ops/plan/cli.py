"""`koseki check` and `koseki municipalities`: the plan held to its rules, and read."""

from __future__ import annotations

import sys
from typing import Any

import click

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.days import effective_day
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import Municipality
from koseki_ops.plan.municipalities import active
from koseki_ops.plan.rules import check_inventory, load_platform
from koseki_ops.plan.site import Site


@click.command("check")
@site_options
@json_option
def check_command(site: Site, *, as_json: bool) -> None:
    """Hold the inventory against the model: file, key, value seen and remedy of each fault.

    Exit 0: the inventory is valid; 2: it does not, or cannot be read.

    Example: koseki check -i iida
    """
    inventory = Inventory(site.inventory)
    findings = check_inventory(inventory)
    for finding in findings:
        click.echo(f"koseki: {finding}", err=True)
    if not findings:
        click.echo(
            _("{inventory_name}: {count} hosts, the inventory is valid").format(
                inventory_name=site.inventory_name, count=len(inventory.hosts)
            )
        )
    if as_json:
        print_json(
            {
                "findings": [
                    {"file": str(f.file), "key": f.key, "seen": f.seen, "remedy": f.remedy}
                    for f in findings
                ]
            }
        )
    if findings:
        sys.exit(2)


@click.command("municipalities")
@click.option("--as-of", metavar="DATE", help="An ISO date (default: the inventory's day).")
@site_options
@json_option
def municipalities_command(site: Site, *, as_of: str | None, as_json: bool) -> None:
    """List the municipalities that have joined by a day, in the plan's order.

    Example: koseki municipalities -i iida --as-of 2015-11-01
    """
    platform = load_platform(Inventory(site.inventory))
    try:
        day = effective_day(as_of or str(platform.effective_date), platform.timezone)
    except ValueError as error:
        raise KosekiError(
            _("not a date"), str(as_of), _("write --as-of as `2015-11-01`")
        ) from error
    joined = active(platform.municipalities, day)
    for row in joined:
        click.echo(f"{row.code6}  {row.slug:10}  {row.joined_on}  {row.name}")
    click.echo(_("{count} municipalities on {day}").format(count=len(joined), day=day))
    if as_json:
        rows = [_shown(row) for row in joined]
        print_json({"as_of": day.isoformat(), "active": len(rows), "municipalities": rows})


# What is told of a municipality; what does not apply to it is left out.
SHOWN = {"code6", "name", "kana", "slug", "romaji", "kind", "phase", "joined_on", "left_on", "host"}


def _shown(row: Municipality) -> dict[str, Any]:
    found = row.model_dump(mode="json", include=SHOWN, exclude_unset=True)
    return found | ({"issued_by_host_in_failure": True} if row.takeover else {})
