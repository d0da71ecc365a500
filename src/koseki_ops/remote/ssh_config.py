"""The one SSH configuration of a site, for all engines and for people."""

from __future__ import annotations

import subprocess
import time
from datetime import date
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_changed
from koseki_ops.core.formatting import rfc3339
from koseki_ops.core.language import _
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.trust.ssh_ca import (
    INSPECTOR,
    WATCH_PRINCIPALS,
    certificate,
    files_of,
    make_authorities,
    watch_principal,
)

# What a certificate without an end says is no moment; this one is (9999-12-31).
FOR_EVER = 253_402_300_799


def ensure_site_ssh(site: Site, inventory: Inventory) -> None:
    """Make what is missing: CAs, automation key and certificate, known hosts, configurations.

    The automation certificate is signed anew when less than half of its life is left. A host that
    keeps watch signs nothing: it has what an apply left there.
    """
    files = files_of(site)
    if site.watch_host:
        for principal in WATCH_PRINCIPALS:
            _require_certificate(site, files.watch_key(principal))
        site.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_changed(site.ssh_config, _config(site, inventory))
        return
    make_authorities(site, inventory)
    site.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = files.host_ca.with_suffix(".pub").read_text(encoding="ascii").strip()
    pinned = files.pinned.read_text(encoding="ascii") if files.pinned.exists() else ""
    write_changed(files.folder / "known_hosts", f"@cert-authority * {authority}\n{pinned}")
    write_changed(site.ssh_config, _config(site, inventory))
    write_changed(files.bootstrap_config, _bootstrap_config(site, inventory))


def close_connections(site: Site) -> None:
    """Close the shared connections, which would otherwise linger on dead hosts."""
    if not site.run_dir.is_dir():
        return
    for control in site.run_dir.iterdir():
        if control.is_socket():
            # A master that is gone already answers with an error; its socket is removed below.
            subprocess.run(  # noqa: TID251 - that it fails is an answer
                ["ssh", "-o", f"ControlPath={control}", "-O", "exit", "nobody"],
                capture_output=True,
                check=False,
            )
            control.unlink(missing_ok=True)


def certificate_holds(site: Site) -> str:
    """Return from when to when the engines' certificate holds, and what this machine's clock says.

    For whoever was refused with it: a host's own clock is not known then, and counts there alone.
    """
    present = certificate(files_of(site).automation_key.with_name("automation-cert.pub"))
    if present is None:
        return "there is no SSH certificate"
    begins, ends = rfc3339(present.valid_after), rfc3339(min(present.valid_before, FOR_EVER))
    return (
        f"our certificate is valid from {begins} to {ends}, it is {rfc3339(time.time())} "
        "and a host goes by its own: where that is another, `date --set` on its console"
    )


def _require_certificate(site: Site, key: Path) -> None:
    """Refuse to go on without a key, or with a certificate that no host would take any more."""
    present = certificate(key.with_name(f"{key.name}-cert.pub"))
    if present is None or not key.exists():
        raise KosekiError(
            _("{origin} has no SSH certificate").format(origin=site.origin),
            str(key),
            _("run `koseki apply --limit {origin}` on the control node").format(origin=site.origin),
        )
    if present.valid_before < time.time():
        raise KosekiError(
            _("the SSH certificate of {origin} has expired").format(origin=site.origin),
            _("on {day}").format(day=date.fromtimestamp(present.valid_before)),  # noqa: DTZ012 - the city's own day
            _("run `koseki apply --limit {origin}` on the control node").format(origin=site.origin),
        )


def _hosts(site: Site, inventory: Inventory) -> str:
    blocks = []
    for host in inventory.hosts:
        address = inventory.address_of(host, site.origin)
        block = f"Host {host}\n    HostName {address}\n    HostKeyAlias {host}\n"
        if site.watch_host:
            block += _identity(files_of(site).watch_key(watch_principal(inventory, host)))
        blocks.append(block)
    common = """Host *
    IdentitiesOnly yes
    StrictHostKeyChecking yes
    UpdateHostKeys no
    PasswordAuthentication no
    BatchMode yes
    ConnectTimeout 10
    ServerAliveInterval 5
    ServerAliveCountMax 6
    LogLevel ERROR
"""
    if site.is_lab:
        # The lab's network is a namespace on this machine; a descriptor is passed, so that no
        # process stands in between.
        common += f"    ProxyCommand nsenter --net=/run/netns/{site.netns} nc -w 5 -F %h %p\n"
        common += "    ProxyUseFdpass yes\n"
    return "".join(blocks) + common


def _identity(key: Path) -> str:
    return f"    IdentityFile {key}\n    CertificateFile {key}-cert.pub\n"


def _config(site: Site, inventory: Inventory) -> str:
    files = files_of(site)
    account = INSPECTOR if site.watch_host else inventory.platform.automation_account
    # The watch has a key for each kind of host, beside its name.
    identity = "" if site.watch_host else _identity(files.automation_key)
    return f"""# Written by koseki; the one SSH configuration of this site.
{_hosts(site, inventory)}    User {account}
{identity}    UserKnownHostsFile {files.folder / "known_hosts"}
    ControlMaster auto
    ControlPersist 10m
    ControlPath {site.run_dir}/%C
"""


def _bootstrap_config(site: Site, inventory: Inventory) -> str:
    files = files_of(site)
    return f"""# Written by koseki; the first contact, as root; host keys were written down.
{_hosts(site, inventory)}    User root
    IdentityFile {files.folder / "root_key"}
    UserKnownHostsFile {files.folder / "first_contact_known_hosts"}
    ControlMaster auto
    ControlPersist 2m
    ControlPath {site.run_dir}/b-%C
"""
