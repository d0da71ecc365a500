"""A site's SSH authorities: who certifies hosts, engines, the watch and operators, and what for.

Everything is in `var/<site>/ssh/`; no authority leaves the control node.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    SSHCertificate,
    load_ssh_public_identity,
    load_ssh_public_key,
)

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_atomic, write_changed
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import run
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.trust import authorities

DAY = 86400
HOUR = 3600
# Certificates are valid from a little before now: clocks may differ by that much.
BACKDATE_SECONDS = 300
# The part of the inventory's hosts that run the toolkit on a schedule, and what they are known as:
# to the city's hosts and, with another key, to the datacenter's.
WATCH_HOSTS = "watch_hosts"
WATCH_PRINCIPAL, WATCH_DATACENTER = "watch", "watch-datacenter"
WATCH_PRINCIPALS = (WATCH_PRINCIPAL, WATCH_DATACENTER)
# The account that they enter on every host, and the one program that answers them there.
INSPECTOR = "koseki-inspect"
INSPECTION = f"/usr/local/sbin/{INSPECTOR}"
FORCED_COMMAND = f"/usr/bin/sudo -n {INSPECTION}"
# What a certificate takes away: nothing is tunnelled, nothing runs at a login.
LEAST = ("no-port-forwarding", "no-x11-forwarding", "no-agent-forwarding", "no-user-rc")


@dataclass(frozen=True)
class SshFiles:
    """Where a site keeps its SSH material."""

    folder: Path

    @property
    def user_ca(self) -> Path:
        """Private key of the CA that people and engines are certified by."""
        return self.folder / "user_ca"

    @property
    def host_ca(self) -> Path:
        """Private key of the CA that hosts are certified by."""
        return self.folder / "host_ca"

    @property
    def automation_key(self) -> Path:
        """The engines' private key."""
        return self.folder / "automation"

    def watch_key(self, principal: str) -> Path:
        """Return the private key with which a host that keeps watch asks as this principal."""
        return self.folder / principal

    @property
    def pinned(self) -> Path:
        """Host keys that were read from a console, until the host has a certificate."""
        return self.folder / "pinned_known_hosts"

    @property
    def bootstrap_config(self) -> Path:
        """The configuration for the first contact, as root with the installer's key."""
        return self.folder / "bootstrap_config"


def files_of(site: Site) -> SshFiles:
    """Return where a site keeps its SSH material."""
    return SshFiles(site.state / "ssh")


def make_authorities(site: Site, inventory: Inventory) -> None:
    """Make the authorities and the engines' key where they are missing; certify the engines.

    Their certificate is signed anew when less than half of its life is left.
    """
    authorities.require(site)
    files = files_of(site)
    files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for key, comment in (
        (files.user_ca, f"{site.name} user CA"),
        (files.host_ca, f"{site.name} host CA"),
        (files.automation_key, f"{site.name} automation"),
    ):
        if not key.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(key)])
    _renew_automation(site, inventory)


def certificate(path: Path) -> SSHCertificate | None:
    """Return a certificate, or None when there is none or it cannot be read."""
    if not path.exists():
        return None
    try:
        found = load_ssh_public_identity(path.read_bytes())
    except ValueError:
        return None
    return found if isinstance(found, SSHCertificate) else None


def _signed_by(authority: Path, path: Path) -> SSHCertificate | None:
    """Return a certificate that this authority signed, None when there is none.

    One of an authority that was replaced counts for nothing: no host would take it.
    """
    present = certificate(path)
    if present is None:
        return None
    own = load_ssh_public_key(authority.with_suffix(".pub").read_bytes())
    return present if present.signature_key() == own else None


def _serves(authority: Path, path: Path) -> bool:
    """Say whether a certificate is this authority's own and more than half of its life is left."""
    present = _signed_by(authority, path)
    if present is None:
        return False
    life, now = present.valid_before - present.valid_after, time.time()
    # One that was made while this clock was ahead holds nowhere yet.
    return present.valid_after <= now and present.valid_before - now > life / 2


def sources(inventory: Inventory) -> str:
    """Return the workstation's addresses as a `source-address` list."""
    return ",".join(inventory.platform.workstation_addresses.listed)


def _renew_automation(site: Site, inventory: Inventory) -> None:
    files = files_of(site)
    account = inventory.platform.automation_account
    if _serves(files.user_ca, files.automation_key.with_name("automation-cert.pub")):
        return
    hours = inventory.platform.certificate_policy.ssh_automation_hours
    public = files.automation_key.with_suffix(".pub")
    options = [*LEAST, f"source-address={sources(inventory)}"]
    _sign(site, files.user_ca, public, account, [account], hours * HOUR, options)


def _sign(
    site: Site,
    authority: Path,
    public: Path,
    identity: str,
    principals: Sequence[str],
    seconds: int,
    options: Sequence[str] = (),
    *,
    host: bool = False,
) -> Path:
    """Record a certificate, then sign it; return its path. Its serial is the record's number."""
    if site.watch_host:
        raise KosekiError(
            _("{origin} has no authority and signs nothing").format(origin=site.origin),
            identity,
            _("run `koseki apply` on the control node"),
        )
    # What was recorded and not signed does no harm; the other way round it would.
    row = Ledger(site, "certificates").append(
        {
            "kind": "host" if host else "user",
            "identity": identity,
            "principals": list(principals),
            "valid_seconds": seconds,
            "public_key": public.read_text(encoding="utf-8").strip(),
        }
    )
    argv = ["ssh-keygen", "-q", "-s", str(authority), "-I", identity, "-z", str(row.number)]
    argv += ["-n", ",".join(principals), "-V", f"-{BACKDATE_SECONDS}s:+{seconds}s"]
    for option in options:
        argv += ["-O", option]
    run([*argv, *(["-h"] if host else []), str(public)])
    return public.with_name(f"{public.stem}-cert.pub")


def host_certificate(site: Site, inventory: Inventory, host: str, public_key: str) -> str:
    """Return a host's certificate, signed anew when its key changed or its life runs out."""
    files, policy = files_of(site), inventory.platform.certificate_policy
    folder = files.folder / "hosts"
    folder.mkdir(exist_ok=True)
    public = folder / f"{host}.pub"
    names = [host, f"{host}.{inventory.platform.domain}"]
    names += inventory.platform.host_addresses[host].listed
    days_left = policy.renew_when_days_left
    if present := _lasting(files.host_ca, public, public_key, names, days_left):
        return present
    write_changed(public, public_key)
    path = _sign(site, files.host_ca, public, host, names, policy.ssh_host_days * DAY, host=True)
    return path.read_text(encoding="ascii")


def _lasting(
    authority: Path, public: Path, public_key: str, names: Sequence[str], days_left: int
) -> str | None:
    """Return a machine's certificate, or None when it has to be signed anew.

    public: where the key that it was signed for is kept, the certificate beside it; public_key: the
    machine's own today; names: its principals; days_left: with no more than these it is too old.
    """
    existing = public.with_name(f"{public.stem}-cert.pub")
    present = _signed_by(authority, existing)
    if present is None or not public.exists():
        return None
    now = time.time()
    # One that was made while this clock was ahead holds nowhere yet.
    lasts = present.valid_after <= now and (present.valid_before - now) / DAY > days_left
    wanted = sorted(name.encode() for name in names)
    same = public.read_text(encoding="ascii") == public_key
    if not (same and lasts and sorted(present.valid_principals) == wanted):
        return None
    return existing.read_text(encoding="ascii")


def _upload_principal(host: str) -> str:
    """Return what a database's host is known as at the doors of the vaults."""
    return f"upload-{host}"


def admitted_uploads(site: Site, inventory: Inventory, vault: str) -> str:
    """Return who may upload to the vaults of a host, as a line of authorized keys.

    Certificates alone, of the databases' hosts by name and from their addresses. Their keys are
    theirs: none has to be known here before.
    """
    hosts = inventory.hosts_in("databases")
    addresses = ",".join(str(inventory.address_of(host, vault)) for host in hosts)
    principals = ",".join(map(_upload_principal, hosts))
    authority = files_of(site).user_ca.with_suffix(".pub").read_text(encoding="ascii")
    return f'restrict,cert-authority,from="{addresses}",principals="{principals}" {authority}'


def upload_certificate(
    site: Site, inventory: Inventory, host: str, public_key: str, *, sign: bool = True
) -> str:
    """Return the certificate with which a database's host uploads to the vaults.

    It holds from that host's addresses alone, and the vaults admit its principal by name. Signed
    anew when its key or its addresses changed or its life runs out; without `sign` it is empty
    then, as under check.
    """
    authority, policy = files_of(site).user_ca, inventory.platform.certificate_policy
    folder = files_of(site).folder / "uploads"
    public = folder / f"{host}.pub"
    principal = _upload_principal(host)
    addresses = ",".join(inventory.platform.host_addresses[host].listed)
    days_left = policy.renew_when_days_left
    present = _lasting(authority, public, public_key, [principal], days_left)
    if present and _source_of(public) == addresses:
        return present
    if not sign:
        return ""
    folder.mkdir(exist_ok=True)
    write_changed(public, public_key)
    options = [*LEAST, "no-pty", f"source-address={addresses}"]
    seconds = policy.ssh_host_days * DAY
    path = _sign(site, authority, public, principal, [principal], seconds, options)
    return path.read_text(encoding="ascii")


def _source_of(public: Path) -> str:
    """Return the addresses that the certificate beside a public key holds from."""
    existing = public.with_name(f"{public.stem}-cert.pub")
    return _options_of(existing).get("source-address", "")


def _options_of(existing: Path) -> dict[str, str]:
    """Return what a certificate binds its holder to; empty when there is none."""
    present = certificate(existing)
    bound = present.critical_options if present else {}
    return {key.decode(): value.decode() for key, value in bound.items()}


def vault_host_keys(site: Site, inventory: Inventory, host: str) -> str:
    """Return the vaults' host keys as a database's host must see them, as known_hosts.

    A vault that no apply has met yet comes with the first one after that.
    """
    lines = []
    for row in inventory.platform.vaults:
        for name in inventory.hosts_in(row.group):
            public = files_of(site).folder / "hosts" / f"{name}.pub"
            if not public.exists():
                continue
            address = inventory.address_of(name, host)
            key = " ".join(public.read_text(encoding="ascii").split()[:2])
            lines.append(f"{name},{address} {key}\n")
    return "".join(lines)


def watch_addresses(inventory: Inventory) -> list[str]:
    """Return the addresses of the hosts that keep watch, as other hosts see them."""
    table = inventory.platform.host_addresses
    return [a for host in inventory.hosts_in(WATCH_HOSTS) for a in table[host].listed]


def watch_principal(inventory: Inventory, host: str) -> str:
    """Return as whom the watch asks a host: the datacenter's know another key than the city's."""
    in_city = inventory.platform.host_addresses[host].city is not None
    return WATCH_PRINCIPAL if in_city else WATCH_DATACENTER


def watch_certificate(
    site: Site, inventory: Inventory, host: str, principal: str, public_key: str
) -> str:
    """Return the certificate with which a host that keeps watch asks others, as one principal.

    It opens the account that only answers, holds from that host's addresses alone, and starts one
    program there, whatever is asked for. Signed anew when its key or one of these changed, or half
    its life is gone.
    """
    folder = files_of(site).folder / "watch"
    folder.mkdir(exist_ok=True)
    name = f"{host}-{principal}"
    public, existing = folder / f"{name}.pub", folder / f"{name}-cert.pub"
    authority = files_of(site).user_ca
    addresses = ",".join(inventory.platform.host_addresses[host].listed)
    wanted = {"source-address": addresses, "force-command": FORCED_COMMAND}
    same = public.exists() and public.read_text(encoding="ascii") == public_key
    if same and _serves(authority, existing) and _options_of(existing) == wanted:
        return existing.read_text(encoding="ascii")
    write_changed(public, public_key)
    days = inventory.platform.certificate_policy.ssh_watch_days
    options = [*LEAST, "no-pty", *(f"{key}={value}" for key, value in wanted.items())]
    path = _sign(site, authority, public, host, [principal], days * DAY, options)
    return path.read_text(encoding="ascii")


def sign_operator(site: Site, inventory: Inventory, operator: str, public_key: Path) -> Path:
    """Sign an operator's public key for a day's work; return the certificate's path.

    Raises KosekiError for an operator who is unknown, ended, not yet or no longer valid.
    """
    rows = {row.id: row for row in inventory.platform.operators}
    if operator not in rows:
        raise KosekiError(
            _("unknown operator"), operator, _("enter the operator in operators.yml first")
        )
    row = rows[operator]
    if not row.is_valid(inventory.today):
        raise KosekiError(
            _("this operator's account is not valid today"),
            _("{operator}: {status}, {valid_from} to {valid_until}").format(
                operator=operator,
                status=row.status,
                valid_from=row.valid_from,
                valid_until=row.valid_until,
            ),
            _("renew it in operators.yml with an approval"),
        )
    if not public_key.is_file():
        raise KosekiError(
            _("no such public key"),
            str(public_key),
            _("name the .pub file: `koseki ssh sign OPERATOR FILE`"),
        )
    signed = files_of(site).folder / "operators" / f"{operator}.pub"
    write_atomic(signed, public_key.read_bytes())
    hours = inventory.platform.certificate_policy.ssh_operator_hours
    options = [*LEAST, f"source-address={sources(inventory)}"]
    return _sign(site, files_of(site).user_ca, signed, operator, [operator], hours * HOUR, options)
