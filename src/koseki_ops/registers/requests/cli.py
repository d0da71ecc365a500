"""`koseki request`: who may work in a municipality's database as a person, and until when."""

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
from koseki_ops.plan.naming import database_of
from koseki_ops.plan.site import Site
from koseki_ops.registers.requests import service
from koseki_ops.remote.psql import LEADER


@click.group("request")
def request_group() -> None:
    """Open, close and list requests for sessions on a municipality's database (K-05)."""


@request_group.command("open")
@click.argument("slug", metavar="MUNICIPALITY")
@click.option("--operator", required=True, help="Who will work: an operator's id.")
@click.option("--requester", required=True, help="Which part of the municipality asks for it.")
@click.option("--approver", required=True, help="Who allows it: another operator's id.")
@click.option("--basis", required=True, help="The law and the paper that it is asked by.")
@click.option("--scope", type=click.Choice(service.SCOPES), required=True, help="How far.")
@end_options
@site_options
@json_option
def open_command(
    site: Site, *, slug: str, until: str | None, hours: int | None, as_json: bool, **given: str
) -> None:
    """Open a request: from now until its end the operator can work in that database.

    On a database's host, as oneself: psql -d koseki_oshika -U operator_sousa01

    Example: koseki request open oshika --operator sousa01 --requester 大鹿村住民課 --approver
    sousa02 --basis '戸籍法施行規則 依頼書第3号' --scope read --hours 2
    """
    registers = service.RegisterService.of(site)
    end = end_of(until, hours, registers.zone)
    spec = service.RequestSpec(slug=slug, until=end, **given)
    made = service.open_request(registers, spec, who())
    click.echo(
        _("{made} is open until {end:%Y-%m-%d %H:%M %Z}").format(
            made=made, end=end.astimezone(registers.zone)
        )
    )
    if as_json:
        print_json({"id": made, "expires_at": end.isoformat()})


@request_group.command("close")
@click.argument("request", metavar="ID")
@click.option("--by", "closed_by", required=True, help="Who closes it: an operator's id.")
@site_options
def close_command(site: Site, *, request: str, closed_by: str) -> None:
    """Close an open request: its sessions end at once (on a replica within a minute).

    Example: koseki request close oshika-3 --by sousa02
    """
    service.close_request(service.RegisterService.of(site), request, closed_by)
    click.echo(_("{request} is closed").format(request=request))


@request_group.command("list")
@click.argument("slugs", nargs=-1, metavar="[MUNICIPALITY]…")
@click.option("--open", "only_open", is_flag=True, help="Only what is open now.")
@click.option("--days", type=click.IntRange(1, 365), default=31, help="How far back (default 31).")
@site_options
@json_option
def list_command(
    site: Site, *, slugs: tuple[str, ...], only_open: bool, days: int, as_json: bool
) -> None:
    """List every request with its end, and what the hosts noted of sessions, refusals and sudo.

    Exit 0: listed; 2: a host did not answer, so that its refusals are not in the list.

    Example: koseki request list oshika --json
    """
    registers = service.RegisterService.of(site)
    chosen = [registers.municipality(slug) for slug in slugs] or list(registers.municipalities)
    rows = service.listed(registers, chosen)
    noted, unreachable = service.events(registers, days)
    with as_asked(LEADER):
        if only_open:
            rows, noted = [row for row in rows if row["state"] == "open"], []
        databases = {database_of(slug) for slug in chosen}
        noted = [event for event in noted if not slugs or event.database in databases]
        for row in rows:
            end = row["ended_at"] if row["state"] == "closed" else row["expires_at"]
            click.echo(
                f"{row['id']:14} {row['state']:8} {row['operator']:10} {row['scope']:8} "
                f"{row['opened_at']} – {end}  {row['requester']}  {row['basis']}  {row['approver']}"
            )
    for event in noted:
        place = event.database or event.host
        click.echo(f"{event.kind:14} {event.at:%Y-%m-%dT%H:%M:%SZ} {event.operator:10} {place}")
    for host, why in unreachable.items():
        click.echo(_("koseki: {host} did not answer: {why}").format(host=host, why=why), err=True)
    if as_json:
        events = [{**asdict(event), "at": event.at.isoformat()} for event in noted]
        print_json({"requests": rows, "events": events, "silent": unreachable})
    if unreachable:
        sys.exit(2)
