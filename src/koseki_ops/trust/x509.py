"""The CAs on the workstation: X.509 for services and terminals, keys made where they belong.

A host shows its public key over the authenticated management connection; the CA signs it. No
private key travels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_atomic, write_private
from koseki_ops.core.language import _

# Clocks may differ by this much; a certificate is valid from a little before now.
BACKDATE = timedelta(minutes=5)
# Who certifies servers to whoever asks them.
INTERNAL_CA = "koseki internal CA"
# What a certificate's key may be used for, as roles name it.
USAGES = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}


@dataclass(frozen=True)
class Authority:
    """The CA's certificate and private key; without the key it recognises, and signs nothing."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | None

    @property
    def pem(self) -> str:
        """The certificate as text."""
        return self.certificate.public_bytes(Encoding.PEM).decode()


@dataclass(frozen=True)
class Request:
    """What a certificate must say.

    names: DNS names and addresses, sorted as given; days: its life; renew_days: it is signed anew
    when so many days or fewer are left; unit: the organisational unit, left out when empty;
    usages: what its key may be used for.
    """

    common_name: str
    names: tuple[str, ...]
    days: int
    renew_days: int
    unit: str = ""
    usages: tuple[x509.ObjectIdentifier, ...] = (
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    )


def open_authority(folder: Path, passphrase: str, days: int, name: str = INTERNAL_CA) -> Authority:
    """Return the CA in `folder`, made at first use; its key is encrypted with `passphrase`.

    days: the life of its own certificate; name: its common name.

    Where the certificate is alone, as on a host that keeps watch, so is what is returned. Raises
    KosekiError when the passphrase does not open the key.
    """
    key_file, certificate_file = folder / "ca.key", folder / "ca.crt"
    if certificate_file.exists() and not key_file.exists():
        return Authority(x509.load_pem_x509_certificate(certificate_file.read_bytes()), None)
    if not certificate_file.exists():
        _make_authority(folder, passphrase, days, name)
    try:
        key = load_pem_private_key(key_file.read_bytes(), passphrase.encode())
    except (ValueError, TypeError) as error:
        raise KosekiError(
            _("the passphrase does not open the CA's key"),
            str(key_file),
            _("restore the `secrets.yml` that it was made with (docs/operations/installation.md)"),
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KosekiError(
            _("the CA key is {name}, expected an EC key").format(name=type(key).__name__),
            str(key_file),
            _("restore it from the escrow copy of `pki/` (docs/operations/installation.md)"),
        )
    return Authority(x509.load_pem_x509_certificate(certificate_file.read_bytes()), key)


def _make_authority(folder: Path, passphrase: str, days: int, common_name: str) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    encrypted = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.encode())
    )
    write_private(folder / "ca.key", encrypted)
    # The certificate comes last: it says that the CA is whole.
    write_atomic(folder / "ca.crt", certificate.public_bytes(Encoding.PEM))


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def still_good(authority: Authority, request: Request, public_key: str, present: str) -> bool:
    """Say whether a certificate (PEM) is ours, for this key, these names and uses, and not old."""
    try:
        certificate = x509.load_pem_x509_certificate(present.encode())
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    now = datetime.now(UTC)
    left = certificate.not_valid_after_utc - now
    return (
        _pem(certificate.public_key()) == _pem(load_pem_public_key(public_key.encode()))
        and certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        == request.common_name
        and _names_of(certificate) == set(_general_names(request.names))
        and _usages_of(certificate) == set(request.usages)
        # One that was made while this clock was ahead holds nowhere yet.
        and certificate.not_valid_before_utc <= now
        and left > timedelta(days=request.renew_days)
    )


def _names_of(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    return set(extension.value)


def _usages_of(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return set()
    return set(extension.value)


def _pem(key: Any) -> bytes:  # noqa: ANN401 - any public key
    encoded: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _signing_key(authority: Authority, what: str) -> ec.EllipticCurvePrivateKey:
    if authority.key is None:
        raise KosekiError(
            _("the CA's key is not on this host"), what, _("run `koseki apply` on the control node")
        )
    return authority.key


def sign(authority: Authority, request: Request, public_key: str) -> str:
    """Return a certificate (PEM) for a host's or terminal's public key (PEM).

    Raises KosekiError where the CA's key is not.
    """
    signing = _signing_key(authority, request.common_name)
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, request.common_name)]
    if request.unit:
        subject.insert(0, x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, request.unit))
    now = datetime.now(UTC)
    key: Any = load_pem_public_key(public_key.encode())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(authority.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=request.days) - BACKDATE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(request.usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()),
            critical=False,
        )
    )
    if request.names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(_general_names(request.names)), critical=False
        )
    return builder.sign(signing, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def revocation_list(authority: Authority, revoked: Mapping[int, datetime], days: int) -> str:
    """Return the CA's list (PEM) of revoked certificates, good for so many days.

    revoked: when, by serial number. Raises KosekiError where the CA's key is not.
    """
    signing = _signing_key(authority, _("the list of revoked certificates"))
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - BACKDATE)
        .next_update(now + timedelta(days=days))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()),
            critical=False,
        )
        # A newer list has a greater number.
        .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
    )
    for serial, moment in sorted(revoked.items()):
        row = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(moment)
        builder = builder.add_revoked_certificate(row.build())
    return builder.sign(signing, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
