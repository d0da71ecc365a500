"""The terminals' CA: who may knock at the web gateway, and who no longer may.

An authority apart from the hosts' own: a server's certificate opens no counter, a terminal's no
server. A certificate's subject is the municipality (OU) and the terminal (CN), as the plan says;
what a request asks for counts for nothing. Under `var/<site>/terminals/`: the CA, `issued/` by
serial number, `revoked.json`, and `authority.pem`, which the gateway trusts: the CA's certificate
with its list of revoked ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_atomic, write_private
from koseki_ops.core.language import _
from koseki_ops.plan.model import Platform, Terminal
from koseki_ops.plan.site import Site
from koseki_ops.trust.secrets import load_secrets
from koseki_ops.trust.x509 import (
    Authority,
    Request,
    open_authority,
    revocation_list,
    sign,
    still_good,
)

CA_NAME = "koseki terminals CA"
SMALLEST_RSA = 2048
# What a lab's stand-ins hold beside the plan's terminals: certificates that must open nothing.
REVOKED, EXPIRED, FOREIGN = "revoked", "expired", "stranger"
NEVER_ADMITTED = (REVOKED, EXPIRED, FOREIGN)


@dataclass(frozen=True)
class Issued:
    """One certificate that was signed for a terminal; revoked: since when, or None."""

    serial: int
    terminal: str
    municipality: str
    until: datetime
    revoked: datetime | None


def folder_of(site: Site) -> Path:
    """Return where a site keeps the terminals' CA and what it signed."""
    return site.state / "terminals"


def stand_ins_of(site: Site) -> Path:
    """Return where a lab keeps the keys of the terminals that it plays."""
    return folder_of(site) / "lab"


def _open(site: Site, platform: Platform) -> Authority:
    if site.watch_host:
        raise KosekiError(
            _("this host has no authority for terminals"),
            site.origin,
            _("run `koseki terminal` on the control node"),
        )
    passphrase = str(load_secrets(site)["pki_ca_passphrase"])
    days = platform.certificate_policy.authority_days
    return open_authority(folder_of(site), passphrase, days, CA_NAME)


def ensure_authority(site: Site, platform: Platform) -> None:
    """Keep what the gateway trusts: made at first use, anew when it changed or a third is left.

    Certificates of terminals that left the plan, or whose municipality has left, are revoked.
    Raises KosekiError when the CA cannot be opened.
    """
    authority = _open(site, platform)
    planned = {(row.municipality, row.id) for row in _staying(platform)}
    left = [
        row.serial
        for row in issued(site)
        if row.revoked is None and (row.municipality, row.terminal) not in planned
    ]
    _note_revoked(site, left)
    _publish(site, platform, authority)


def _staying(platform: Platform) -> list[Terminal]:
    """Return the terminals of municipalities that have not left."""
    day = platform.effective_day
    gone = {
        municipality.slug for municipality in platform.municipalities if municipality.has_left(day)
    }
    return [row for row in platform.terminals if row.municipality not in gone]


def issued(site: Site) -> list[Issued]:
    """Return every certificate that was signed for a terminal, the oldest first."""
    revoked = _revoked(site)
    found = []
    for path in (folder_of(site) / "issued").glob("*.crt"):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        names = {item.oid: str(item.value) for item in certificate.subject}
        found.append(
            Issued(
                certificate.serial_number,
                names[NameOID.COMMON_NAME],
                names[NameOID.ORGANIZATIONAL_UNIT_NAME],
                certificate.not_valid_after_utc,
                revoked.get(certificate.serial_number),
            )
        )
    return sorted(found, key=lambda row: (row.until, row.terminal))


def issue(site: Site, platform: Platform, terminal: str, request: Path) -> Path:
    """Sign the request (PKCS#10, PEM) of a terminal of the plan; return the certificate's path.

    Raises KosekiError for a terminal that is not of the plan, and for a request that is none or
    whose key is weak.
    """
    row = _of_plan(platform, terminal)
    public = _public_key(request)
    text = sign(_open(site, platform), _request(platform, row), public)
    return _keep(site, text)


def revoke(site: Site, platform: Platform, which: str) -> list[int]:
    """Revoke a certificate by its serial number (hexadecimal), or all of a terminal by its name.

    Returns the serial numbers that were revoked now; the gateway knows after the next apply.
    Raises KosekiError when no such certificate was signed.
    """
    authority = _open(site, platform)
    matching = [row for row in issued(site) if which in {row.terminal, serial_text(row.serial)}]
    if not matching:
        raise KosekiError(_("no such certificate"), which, _("see `koseki terminal list`"))
    serials = [row.serial for row in matching if row.revoked is None]
    _note_revoked(site, serials)
    _publish(site, platform, authority)
    return serials


def serial_text(serial: int) -> str:
    """Return a serial number as nginx logs it: hexadecimal, upper case, whole bytes."""
    text = f"{serial:X}"
    return text.zfill(len(text) + len(text) % 2)


def _of_plan(platform: Platform, terminal: str) -> Terminal:
    staying = _staying(platform)
    for row in staying:
        if row.id == terminal:
            return row
    known = ", ".join(row.id for row in staying)
    raise KosekiError(
        _("no such terminal in the plan"),
        terminal,
        _("add it to municipalities.yml, or name one of {known}").format(known=known),
    )


def _request(platform: Platform, row: Terminal) -> Request:
    policy = platform.certificate_policy
    return Request(
        row.id,
        (),
        policy.lifetime_days,
        policy.renew_when_days_left,
        row.municipality,
        (ExtendedKeyUsageOID.CLIENT_AUTH,),
    )


def _public_key(request: Path) -> str:
    remedy = _("make it on the terminal, as docs/gateway.md shows")
    try:
        found = x509.load_pem_x509_csr(request.read_bytes())
        key = found.public_key()
        whole = found.is_signature_valid
    except (OSError, ValueError, InvalidSignature) as error:
        raise KosekiError(_("not a certificate request"), f"{request}: {error}", remedy) from error
    if not whole:
        raise KosekiError(_("the request's signature is not its key's"), str(request), remedy)
    strong = isinstance(key, ec.EllipticCurvePublicKey) or (
        isinstance(key, rsa.RSAPublicKey) and key.key_size >= SMALLEST_RSA
    )
    if not strong:
        raise KosekiError(
            _("the request's key is weak or of another type than EC and RSA"), str(request), remedy
        )
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _keep(site: Site, certificate: str) -> Path:
    serial = x509.load_pem_x509_certificate(certificate.encode()).serial_number
    path = folder_of(site) / "issued" / f"{serial_text(serial)}.crt"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, certificate)
    return path


def _revoked(site: Site) -> dict[int, datetime]:
    path = folder_of(site) / "revoked.json"
    if not path.exists():
        return {}
    rows: Mapping[str, str] = json.loads(path.read_text(encoding="ascii"))
    return {int(serial, 16): datetime.fromisoformat(moment) for serial, moment in rows.items()}


def _note_revoked(site: Site, serials: Sequence[int]) -> None:
    if not serials:
        return
    now = datetime.now(UTC).replace(microsecond=0)
    rows = _revoked(site) | dict.fromkeys(serials, now)
    text = {serial_text(serial): moment.isoformat() for serial, moment in sorted(rows.items())}
    write_atomic(folder_of(site) / "revoked.json", json.dumps(text, indent=1) + "\n")


def _publish(site: Site, platform: Platform, authority: Authority) -> None:
    """Write the CA's certificate and its list of revoked ones, when what is there is not that."""
    path, revoked = folder_of(site) / "authority.pem", _revoked(site)
    policy = platform.certificate_policy
    if path.exists() and _is_current(path, authority, revoked, policy.renew_when_days_left):
        return
    write_atomic(path, authority.pem + revocation_list(authority, revoked, policy.lifetime_days))


def _is_current(
    path: Path, authority: Authority, revoked: Mapping[int, datetime], renew_days: int
) -> bool:
    text = path.read_text(encoding="ascii")
    if not text.startswith(authority.pem):
        return False
    present = x509.load_pem_x509_crl(text.removeprefix(authority.pem).encode())
    ends, now = present.next_update_utc, datetime.now(UTC)
    return (
        {row.serial_number for row in present} == set(revoked)
        and ends is not None
        # One that was made while this clock was ahead holds nowhere yet.
        and present.last_update_utc <= now
        and ends - now > timedelta(days=renew_days)
    )


# A lab plays the terminals: it holds their keys, which in production never leave the counter.


def ensure_stand_ins(site: Site, platform: Platform) -> None:
    """Keep a key and a certificate for each terminal of the plan, and those that open nothing.

    `revoked`, `expired` and `stranger` (another CA's) bear the name of the plan's first terminal.
    """
    authority, folder = _open(site, platform), stand_ins_of(site)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    gone = _revoked(site)
    for row in _staying(platform):
        request, public = _request(platform, row), _stand_in_key(folder / f"{row.id}.key")
        path = folder / f"{row.id}.crt"
        present = path.read_text(encoding="ascii") if path.exists() else ""
        if not still_good(authority, request, public, present) or _serial(present) in gone:
            write_atomic(path, _keep(site, sign(authority, request, public)).read_bytes())
    if all((folder / f"{name}.crt").exists() for name in NEVER_ADMITTED):
        return
    first = _request(platform, platform.terminals[0])
    for name in NEVER_ADMITTED:
        public, signing, days = _stand_in_key(folder / f"{name}.key"), authority, first.days
        if name == FOREIGN:
            signing = open_authority(folder / name, CA_NAME, first.days, CA_NAME)
        if name == EXPIRED:
            days = 0
        asked = Request(first.common_name, (), days, 0, first.unit, first.usages)
        text = sign(signing, asked, public)
        if name == REVOKED:
            _keep(site, text)
            _note_revoked(site, [_serial(text)])
        write_atomic(folder / f"{name}.crt", text)
    _publish(site, platform, authority)


def _serial(certificate: str) -> int:
    return x509.load_pem_x509_certificate(certificate.encode()).serial_number


def _stand_in_key(path: Path) -> str:
    """Return the public half of a stand-in's key (PEM), made at first use."""
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(path, pem)
    key = load_pem_private_key(path.read_bytes(), None)
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
