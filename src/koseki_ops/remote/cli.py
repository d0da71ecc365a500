"""`koseki ssh`: the one configuration, and operators' certificates."""

from __future__ import annotations

from pathlib import Path

import click

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.plan.cli_options import site_options
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.remote.first_contact import pin, shown_key
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.trust.ssh_ca import sign_operator


@click.group("ssh")
def ssh_group() -> None:
    """Write the one SSH configuration; certify operators for a day's work."""


@ssh_group.command("config")
@site_options
def config_command(site: Site) -> None:
    """Write what is missing (CAs, automation certificate) and print the configuration's path.

    Example: ssh -F "$(koseki ssh config)" primary1
    """
    ensure_site_ssh(site, Inventory(site.inventory))
    click.echo(site.ssh_config)


@ssh_group.command("pin")
@click.argument("host")
@click.argument("fingerprint")
@site_options
def pin_command(site: Site, host: str, fingerprint: str) -> None:
    """Trust the key of a host that was made from an image, until it has its certificate.

    FINGERPRINT: what the host's console shows above the login prompt, read by a person there.

    Example: koseki ssh pin primary1 SHA256:KMF57V2Bwv0bgngYLC428PFE2FGzTOyeqldwXu6DWMY
    """
    inventory = Inventory(site.inventory)
    if host not in inventory.hosts:
        raise KosekiError(
            _("no such host in the inventory"),
            host,
            _("name one of `hosts.yml`: {hosts}").format(hosts=", ".join(inventory.hosts)),
        )
    pin(site, inventory, host, shown_key(site, inventory, host, fingerprint))
    click.echo(
        _("{host} is known by {fingerprint}: run `koseki apply --limit {host}`").format(
            host=host, fingerprint=fingerprint
        )
    )


@ssh_group.command("sign")
@click.argument("operator")
@click.argument("public_key", type=click.Path(path_type=Path))
@site_options
def sign_command(site: Site, operator: str, public_key: Path) -> None:
    """Certify an operator's public key for the hours that the policy allows.

    Example: koseki ssh sign sousa01 ~/.ssh/id_ed25519.pub
    """
    inventory = Inventory(site.inventory)
    ensure_site_ssh(site, inventory)
    click.echo(sign_operator(site, inventory, operator, public_key))
