"""`koseki takeover`: the host municipality issues for another that is cut off (K-06)."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from koseki_ops.core.foreign import as_asked
from koseki_ops.core.language import _
from koseki_ops.plan.cli_options import (
    end_of,
    end_options,
    json_option,
    print_json,
    site_options,
    who,
)
from koseki_ops.plan.site import Site
from koseki_ops.registers.requests.service import RegisterService
from koseki_ops.registers.takeovers import service
from koseki_ops.remote.psql import LEADER


@click.group("takeover")
def takeover_group() -> None:
    """Let the host municipality's counters read and issue for one that is cut off, for a time."""


@takeover_group.command("declare")
@click.argument("municipality", metavar="MUNICIPALITY")
@click.option("--by", "declared_by", required=True, help="Who declares it: an operator's id.")
@click.option("--approver", required=True, help="Who allows it: another operator's id.")
@click.option("--cause", required=True, help="Why the municipality cannot issue itself.")
@end_options
@site_options
@json_option
def declare_command(
    site: Site, *, until: str | None, hours: int | None, as_json: bool, **given: str
) -> None:
    """Declare it: from now until its end, read only, below /takeover/… of the gateway.

    Refused for every municipality without the clause (issued_by_host_in_failure).

    Example: koseki takeover declare 大鹿村 --by sousa01 --approver sousa02 --cause 回線途絶
    --hours 24
    """
    registers = RegisterService.of(site)
    end = end_of(until, hours, registers.zone)
    made = service.declare(registers, service.TakeoverSpec(until=end, **given), who())
    click.echo(
        _("{made} is declared until {end:%Y-%m-%d %H:%M %Z}").format(
            made=made, end=end.astimezone(registers.zone)
        )
    )
    if as_json:
        print_json({"id": made, "ends_at": end.isoformat()})


@takeover_group.command("end")
@click.argument("municipality", metavar="MUNICIPALITY")
@click.option("--by", "ended_by", required=True, help="Who ends it: an operator's id.")
@site_options
def end_command(site: Site, *, municipality: str, ended_by: str) -> None:
    """End it before its time; at its time it ends by itself.

    Example: koseki takeover end 大鹿村 --by sousa02
    """
    slug = service.end(RegisterService.of(site), municipality, ended_by)
    click.echo(_("nobody issues for {slug} any more").format(slug=slug))


@takeover_group.command("status")
@click.argument("municipalities", nargs=-1, metavar="[MUNICIPALITY]…")
@site_options
@json_option
def status_command(site: Site, *, municipalities: tuple[str, ...], as_json: bool) -> None:
    """Show what was declared and issued, and reconcile the issued numbers.

    Exit 0: they agree; 1: a number has no document, or a document no number or no declaration.

    Example: koseki takeover status --json
    """
    statuses = service.status(RegisterService.of(site), municipalities)
    with as_asked(LEADER):
        for row in statuses:
            for one in row.takeovers:
                end = one["ended_at"] if one["state"] == "ended" else one["ends_at"]
                click.echo(
                    f"{row.municipality}-{one['number']} {one['state']:8} {one['starts_at']} – "
                    f"{end}  {one['cause']}  {one['declared_by']}, "
                    f"{one['approver']}"
                )
            click.echo(
                _("{municipality}: {count} documents issued").format(
                    municipality=row.municipality, count=len(row.documents)
                )
            )
            for fault in row.faults:
                click.echo(f"koseki: {row.municipality}: {fault}", err=True)
    if as_json:
        print_json({"municipalities": [asdict(row) for row in statuses]})
    if any(row.faults for row in statuses):
        sys.exit(1)
