"""The platform's SSH: two CAs, short-lived certificates, known hosts, one configuration.

Everything of a site is in `var/<site>/ssh/`. All engines, and people, use `config`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    SSHCertificate,
    load_ssh_public_identity,
    load_ssh_public_key,
)

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.subprocesses import run
from koseki_ops.drift import manifest
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site

DAY = 86400
HOUR = 3600
# Certificates are valid from a little before now: clocks may differ by that much.
BACKDATE_SECONDS = 300
# The part of the inventory's hosts that run the toolkit on a schedule, and what they are known as.
WATCH_HOSTS = "watch_hosts"
WATCH_PRINCIPAL = "watch"
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

    @property
    def ledger(self) -> Path:
        """Every certificate that was signed, one JSON object a line."""
        return self.folder / "certificates.jsonl"

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


def ensure_site_ssh(site: Site, inventory: Inventory) -> None:
    """Make what is missing: CAs, automation key and certificate, known hosts, configurations.

    The automation certificate is signed anew when less than half of its life is left. A host that
    keeps watch signs nothing: it has what an apply left there.
    """
    files = files_of(site)
    if site.station:
        _hold_station(site)
        site.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(site.ssh_config, _config(site, inventory))
        return
    files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    site.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for key, comment in (
        (files.user_ca, f"{site.name} user CA"),
        (files.host_ca, f"{site.name} host CA"),
        (files.automation_key, f"{site.name} automation"),
    ):
        if not key.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(key)])
    _renew_automation(site, inventory)
    authority = files.host_ca.with_suffix(".pub").read_text(encoding="ascii").strip()
    pinned = files.pinned.read_text(encoding="ascii") if files.pinned.exists() else ""
    _write(files.folder / "known_hosts", f"@cert-authority * {authority}\n{pinned}")
    _write(site.ssh_config, _config(site, inventory))
    _write(files.bootstrap_config, _bootstrap_config(site, inventory))


def pin(site: Site, inventory: Inventory, host: str, key: str) -> None:
    """Write down the public key that a host's console shows, in place of an older one.

    Such a host was made from an image: it lets the engines in, has no certificate yet, and holds
    nothing but their own work.
    """
    files = files_of(site)
    old = files.pinned.read_text(encoding="ascii").splitlines() if files.pinned.exists() else []
    lines = [line for line in old if line.split()[0] != host]
    files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(files.pinned, "\n".join([*lines, f"{host} {key}"]) + "\n")
    manifest.begin(site, host)
    ensure_site_ssh(site, inventory)


def shown_key(site: Site, inventory: Inventory, host: str, fingerprint: str) -> str:
    """Return a host's public key as the line shows it, when it is the one that the console shows.

    fingerprint: `SHA256:` and 43 characters, read on the host's console by a person. Raises
    KosekiError when the host does not answer or another key does.
    """
    address = inventory.address_of(host, site.seat)
    scan = ["ssh-keyscan", "-t", "ed25519", "-T", "10", str(address)]
    lines = run([*_line_of(site), *scan]).splitlines()
    if not lines:
        raise KosekiError(f"{host} shows no ed25519 key", str(address), "look at the host")
    key = " ".join(lines[-1].split()[1:3])
    seen = run(["ssh-keygen", "-l", "-f", "-"], f"{key}\n").split()[1]
    if seen != fingerprint:
        raise KosekiError(
            f"another key than the console's answers for {host}",
            f"{seen}, not {fingerprint}",
            "read the console again; if they still differ, somebody stands in between",
        )
    return key


def _line_of(site: Site) -> list[str]:
    """Return what a program stands behind to see a site's hosts."""
    return ["nsenter", f"--net=/run/netns/{site.netns}"] if site.is_lab else []


def close_connections(site: Site) -> None:
    """Close the shared connections, which would otherwise linger on dead hosts."""
    if not site.run_dir.is_dir():
        return
    for control in site.run_dir.iterdir():
        if control.is_socket():
            # A master that is gone already answers with an error; its socket is removed below.
            subprocess.run(
                ["ssh", "-o", f"ControlPath={control}", "-O", "exit", "nobody"],
                capture_output=True,
                check=False,
            )
            control.unlink(missing_ok=True)


def _hold_station(site: Site) -> None:
    """Refuse to go on without a key, or with a certificate that no host would take any more."""
    files = files_of(site)
    present = certificate(files.automation_key.with_name("automation-cert.pub"))
    if present is None or not files.automation_key.exists():
        raise KosekiError(
            f"{site.seat} has no certificate to ask with",
            str(files.folder),
            f"run `koseki apply --limit {site.seat}` at the administrator's seat",
        )
    if present.valid_before < time.time():
        raise KosekiError(
            f"the certificate of {site.seat} has run out",
            f"on {date.fromtimestamp(present.valid_before)}",  # noqa: DTZ012 - the city's own day
            f"run `koseki apply --limit {site.seat}` at the administrator's seat",
        )


def _write(path: Path, text: str) -> None:
    """Write a file only when it differs: a running ssh may be reading it."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_text(text, encoding="utf-8")
        aside.rename(path)


def _hosts(site: Site, inventory: Inventory) -> str:
    blocks = []
    for host in inventory.hosts:
        address = inventory.address_of(host, site.seat)
        blocks.append(f"Host {host}\n    HostName {address}\n    HostKeyAlias {host}\n")
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


def _config(site: Site, inventory: Inventory) -> str:
    files = files_of(site)
    account = inventory.shared["automation_account"]
    return f"""# Written by koseki; the one SSH configuration of this site.
{_hosts(site, inventory)}    User {account}
    IdentityFile {files.automation_key}
    CertificateFile {files.automation_key}-cert.pub
    UserKnownHostsFile {files.folder / "known_hosts"}
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
    life = present.valid_before - present.valid_after
    return present.valid_before - time.time() > life / 2


def sources(inventory: Inventory) -> str:
    """Return the workstation's addresses as a `source-address` list."""
    return ",".join(str(address) for address in inventory.shared["workstation_addresses"].values())


def _renew_automation(site: Site, inventory: Inventory) -> None:
    files = files_of(site)
    account = inventory.shared["automation_account"]
    if _serves(files.user_ca, files.automation_key.with_name("automation-cert.pub")):
        return
    hours = inventory.shared["certificate_policy"]["ssh_automation_hours"]
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
    """Sign a public key; return the certificate's path and keep a line in the ledger."""
    if site.station:
        raise KosekiError(
            f"{site.seat} holds no authority and signs nothing",
            identity,
            "run `koseki apply` at the administrator's seat",
        )
    files = files_of(site)
    lines = files.ledger.read_text(encoding="utf-8").splitlines() if files.ledger.exists() else []
    serial = len(lines) + 1
    argv = ["ssh-keygen", "-q", "-s", str(authority), "-I", identity, "-z", str(serial)]
    argv += ["-n", ",".join(principals), "-V", f"-{BACKDATE_SECONDS}s:+{seconds}s"]
    for option in options:
        argv += ["-O", option]
    run([*argv, *(["-h"] if host else []), str(public)])
    entry = {
        "serial": serial,
        "kind": "host" if host else "user",
        "identity": identity,
        "principals": list(principals),
        "signed_at": int(time.time()),
        "valid_seconds": seconds,
    }
    with files.ledger.open("a", encoding="utf-8") as ledger:
        ledger.write(json.dumps(entry, ensure_ascii=False) + "\n")
    return public.with_name(f"{public.stem}-cert.pub")


def host_certificate(site: Site, inventory: Inventory, host: str, public_key: str) -> str:
    """Return a host's certificate, signed anew when its key changed or its life runs out."""
    files, policy = files_of(site), inventory.shared["certificate_policy"]
    folder = files.folder / "hosts"
    folder.mkdir(exist_ok=True)
    public = folder / f"{host}.pub"
    existing = folder / f"{host}-cert.pub"
    present = _signed_by(files.host_ca, existing)
    names = [host, f"{host}.{inventory.shared['domain']}"]
    names += [str(address) for address in inventory.shared["host_addresses"][host].values()]
    same = public.exists() and public.read_text(encoding="ascii") == public_key
    if present is not None and same:
        days_left = (present.valid_before - time.time()) / DAY
        wanted = sorted(name.encode() for name in names)
        if (
            days_left > policy["renew_when_days_left"]
            and sorted(present.valid_principals) == wanted
        ):
            return existing.read_text(encoding="ascii")
    _write(public, public_key)
    path = _sign(site, files.host_ca, public, host, names, policy["ssh_host_days"] * DAY, host=True)
    return path.read_text(encoding="ascii")


def watch_addresses(inventory: Inventory) -> list[str]:
    """Return the addresses of the hosts that keep watch, as other hosts see them."""
    table = inventory.shared["host_addresses"]
    return [str(a) for host in inventory.hosts_in(WATCH_HOSTS) for a in table[host].values()]


def watch_certificate(site: Site, inventory: Inventory, host: str, public_key: str) -> str:
    """Return the certificate of a host that keeps watch, for the engines' account on every host.

    It has a principal of its own, so that the record of use tells the watch from the engines, and
    holds from that host's addresses alone. Signed anew when its key changed or half its life is
    gone.
    """
    folder = files_of(site).folder / "watch"
    folder.mkdir(exist_ok=True)
    public, existing = folder / f"{host}.pub", folder / f"{host}-cert.pub"
    authority = files_of(site).user_ca
    same = public.exists() and public.read_text(encoding="ascii") == public_key
    if same and _serves(authority, existing):
        return existing.read_text(encoding="ascii")
    _write(public, public_key)
    days = inventory.shared["certificate_policy"]["ssh_watch_days"]
    addresses = ",".join(str(a) for a in inventory.shared["host_addresses"][host].values())
    options = [*LEAST, f"source-address={addresses}"]
    path = _sign(site, authority, public, host, [WATCH_PRINCIPAL], days * DAY, options)
    return path.read_text(encoding="ascii")


def sign_operator(site: Site, inventory: Inventory, operator: str, public_key: Path) -> Path:
    """Sign an operator's public key for a day's work; return the certificate's path.

    Raises KosekiError for an operator who is unknown, ended, not yet or no longer valid.
    """
    rows = {row["id"]: row for row in inventory.shared["operators"]}
    if operator not in rows:
        raise KosekiError("unknown operator", operator, "enter the operator in operators.yml first")
    row = rows[operator]
    today = inventory.today
    valid = row["status"] == "active" and date.fromisoformat(
        row["valid_from"]
    ) <= today <= date.fromisoformat(row["valid_until"])
    if not valid:
        raise KosekiError(
            "this operator's account is not valid today",
            f"{operator}: {row['status']}, {row['valid_from']} to {row['valid_until']}",
            "renew it in operators.yml with an approval",
        )
    if not public_key.is_file():
        raise KosekiError("there is no such public key", str(public_key), "name the .pub file")
    signed = files_of(site).folder / "operators" / f"{operator}.pub"
    signed.parent.mkdir(exist_ok=True)
    shutil.copyfile(public_key, signed)
    hours = inventory.shared["certificate_policy"]["ssh_operator_hours"]
    options = [*LEAST, f"source-address={sources(inventory)}"]
    return _sign(site, files_of(site).user_ca, signed, operator, [operator], hours * HOUR, options)
