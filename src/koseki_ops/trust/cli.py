"""`koseki terminal` and `koseki secrets`: the terminals' certificates, the inventory's vault."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from koseki_ops.core.language import _
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import Platform
from koseki_ops.plan.rules import load_platform
from koseki_ops.plan.site import Site
from koseki_ops.trust import terminals
from koseki_ops.trust.secrets import init_secrets, load_secrets, secrets_file, wanted_secrets


@click.group("terminal")
def terminal_group() -> None:
    """Certify the municipalities' terminals for the web gateway; revoke what was lost."""


def _platform(site: Site) -> Platform:
    return load_platform(Inventory(site.inventory))


@terminal_group.command("sign")
@click.argument("terminal")
@click.argument("request", type=click.Path(path_type=Path))
@site_options
def sign_command(site: Site, terminal: str, request: Path) -> None:
    """Certify a terminal of the plan by its request (PKCS#10, PEM); print where the result lies.

    Example: koseki terminal sign oshika-01 oshika-01.csr
    """
    click.echo(terminals.issue(site, _platform(site), terminal, request))


@terminal_group.command("revoke")
@click.argument("which", metavar="TERMINAL|SERIAL")
@site_options
def revoke_command(site: Site, which: str) -> None:
    """Revoke one certificate, or all of a terminal; the gateway refuses it from the next apply on.

    Example: koseki terminal revoke oshika-01
    """
    serials = terminals.revoke(site, _platform(site), which)
    for serial in serials:
        click.echo(_("revoked: {serial_text}").format(serial_text=terminals.serial_text(serial)))
    click.echo(
        _("run `koseki apply` to bring it to the gateway")
        if serials
        else _("{which} was revoked before").format(which=which)
    )


@terminal_group.command("list")
@site_options
@json_option
def list_command(site: Site, *, as_json: bool) -> None:
    """Show which certificates were signed for terminals, until when, and which are revoked.

    Example: koseki terminal list
    """
    rows = terminals.issued(site)
    for row in rows:
        state = (
            _("revoked {revoked:%Y-%m-%d}").format(revoked=row.revoked)
            if row.revoked
            else _("until {until:%Y-%m-%d}").format(until=row.until)
        )
        click.echo(f"{row.terminal:20} {terminals.serial_text(row.serial):42} {state}")
    if as_json:
        print_json(
            {
                "certificates": [
                    {
                        "terminal": row.terminal,
                        "municipality": row.municipality,
                        "serial": terminals.serial_text(row.serial),
                        "until": row.until.isoformat(),
                        "revoked": row.revoked.isoformat() if row.revoked else None,
                    }
                    for row in rows
                ]
            }
        )


@click.group("secrets")
def secrets_group() -> None:
    """Make and test the inventory's vault of secrets."""


@secrets_group.command("init")
@site_options
def secrets_init(site: Site) -> None:
    """Make the vault password and every secret that is missing; what is there stays.

    Example: koseki secrets init -i iida
    """
    made = init_secrets(site)
    path = secrets_file(site).relative_to(site.root)
    click.echo(
        _("{path}: {made} secrets made").format(path=path, made=made)
        if made
        else _("{path}: complete, nothing made").format(path=path)
    )


@secrets_group.command("check")
@site_options
def secrets_check(site: Site) -> None:
    """Show whether the vault opens and holds every secret that the inventory asks for.

    Exit 0: it does; 1: one is missing; 2: it does not open.

    Example: koseki secrets check -i iida
    """
    present = load_secrets(site)
    wanted = wanted_secrets(Inventory(site.inventory))
    missing = [name for name in wanted if not present.get(name)]
    if missing:
        click.echo(
            _("missing: {missing}; run `koseki secrets init`").format(missing=", ".join(missing))
        )
        sys.exit(1)
    click.echo(_("{count} secrets, all there").format(count=len(wanted)))
