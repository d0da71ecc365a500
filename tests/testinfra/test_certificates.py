"""Certificates: from the platform's CA, alive, short-lived, and their keys where they belong."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from koseki_ops.core.language import _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.verify.batch import Question
from koseki_ops.verify.expect import check, expect
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Everywhere, Facts, Questions, on_hosts

# Where services keep what they own. Debian's store of public authorities is not the platform's.
PLACES = "/etc /var/lib/etcd /var/lib/postgresql /var/lib/koseki /root /home"
NOT_OURS = " ".join(
    f"--exclude-dir={name}" for name in ("certs", "ca-certificates", "pg_wal", "base", "member")
)
CERTIFICATES = f"""
grep -rIlsE {NOT_OURS} 'BEGIN CERTIFICATE' {PLACES} | while read -r file; do
    echo "file $file"
    cat "$file"
done
"""
# Private keys stay where they are: only their public half, owner and mode are read.
KEYS = f"""
grep -rIlsE {NOT_OURS} 'BEGIN ([A-Z]+ )*PRIVATE KEY' {PLACES} | while read -r file; do
    echo "file $file $(stat -c '%U %G %a' "$file")"
    case $file in
    /etc/ssh/*) ;;
    *) openssl pkey -in "$file" -pubout -passin pass: 2>/dev/null ;;
    esac
done
"""
# A daemon hangs up on who says nothing for some seconds (etcd: five), which on a busy machine is a
# client that was not let on between its connection and its first word: three are sent at most.
PRESENTED = """
for pause in 0 2 4; do
    sleep "$pause"
    said=$(openssl s_client -connect {address}:{port} {more} </dev/null 2>&1)
    code=$?
    case $said in *'BEGIN CERTIFICATE'*) break ;; esac
done
printf '%s\n' "$said"
exit "$code"
"""
# Services that present a certificate by group: their ports, as the plan calls them, and how to ask.
PRESENTING = {
    "etcd_members": {"etcd_clients": "", "etcd_peers": ""},
    "databases": {"postgresql": "-starttls postgres", "patroni": ""},
}
GATEWAY_PORT = 443
# Who certifies for which purpose: folders in the site's state, and what a key of each may do.
AUTHORITIES = {"servers": "pki", "cluster": "cluster", "roles": "roles"}
USES = {
    "servers": {ExtendedKeyUsageOID.SERVER_AUTH},
    "cluster": {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH},
    "roles": {ExtendedKeyUsageOID.CLIENT_AUTH},
}
# What the running processes let in: files that they were started with, or read at a reload.
ETCD_TRUSTS = """
pid=$(systemctl show -P MainPID etcd.service)
for name in ETCD_TRUSTED_CA_FILE ETCD_PEER_TRUSTED_CA_FILE; do
    cat "$(tr '\\0' '\\n' <"/proc/$pid/environ" | sed -n "s/^$name=//p")"
done
"""
POSTGRESQL_TRUSTS = "cat \"$(runuser -u postgres -- psql -XAtqc 'show ssl_ca_file')\""
# PostgreSQL alone is asked for by this name: by itself when it comes back, and by clients whose
# proxy listens there. Its certificate opens nothing (see `USES`).
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
ASKED_AT_HOME = "/etc/patroni/tls/postgresql.crt"
GRACE = timedelta(days=1)


@dataclass(frozen=True)
class Kept:
    """A file on a host: where, who may read it (owner, group, mode), and what it says."""

    path: str
    owner: str
    group: str
    mode: int
    text: str


def presented_ports(plan: Plan, host: str) -> dict[int, str]:
    """Return the ports on which a host must present its certificate, with openssl's options."""
    presenting = {
        getattr(plan.ports, name): more
        for group, services in PRESENTING.items()
        if plan.is_in(host, group)
        for name, more in services.items()
    }
    return presenting | ({GATEWAY_PORT: ""} if plan.is_in(host, "application") else {})


def questions(plan: Plan, host: str) -> Questions:
    """Ask the city's hosts for certificates, the public halves of keys, and what ports present."""
    if host == WORKSTATION:
        return {
            purpose: f"cat {plan.site.state / folder / 'ca.crt'}"
            for purpose, folder in AUTHORITIES.items()
        }
    asked: dict[str, str | Question] = {"keys": KEYS, "certificates": CERTIFICATES}
    if plan.is_in(host, "etcd_members"):
        asked["etcd trusts"] = ETCD_TRUSTS
    if plan.is_in(host, "databases"):
        asked["PostgreSQL trusts"] = POSTGRESQL_TRUSTS
    for port, more in presented_ports(plan, host).items():
        command = PRESENTED.format(address=plan.address(host, host), port=port, more=more)
        asked[f"port {port}"] = Question(command, aside=True)
    return asked


@lru_cache
def certificates_in(text: str) -> list[x509.Certificate]:
    """Return the certificates in a PEM text; empty when there is none."""
    if "BEGIN CERTIFICATE" not in text:
        return []
    return x509.load_pem_x509_certificates(text.encode())


def kept(text: str) -> list[Kept]:
    """Return the files in a listing; a file without owner and mode has them empty."""
    found = []
    for part in f"\n{text}".split("\nfile ")[1:]:
        first, _, rest = part.partition("\n")
        words = first.split()
        owner, group, mode = words[1:] or ("", "", "0")
        found.append(Kept(words[0], owner, group, int(mode, 8), rest))
    return found


def authorities(everywhere: Everywhere) -> dict[str, x509.Certificate]:
    """Return the platform's CAs by purpose, as the workstation keeps them."""
    found = {}
    for purpose, folder in AUTHORITIES.items():
        said = everywhere[WORKSTATION][purpose]
        own_ones = certificates_in(said.text)
        check(
            own_ones,
            _("a CA in var/<site>/{folder}").format(folder=folder),
            said,
            _("run `koseki apply`"),
        )
        found[purpose] = own_ones[0]
    return found


def own(facts: Facts, everywhere: Everywhere) -> dict[str, x509.Certificate]:
    """Return the certificates of a host that name a CA of the platform's, without the CAs."""
    subjects = [ca.subject for ca in authorities(everywhere).values()]
    return {
        file.path: certificate
        for file in kept(facts["certificates"].text)
        for certificate in certificates_in(file.text)[:1]
        if certificate.issuer in subjects and certificate.subject not in subjects
    }


def purpose_of(certificate: x509.Certificate, everywhere: Everywhere) -> str:
    """Return which CA's key signed a certificate; empty when none did."""
    for purpose, ca in authorities(everywhere).items():
        if is_signed_by(certificate, ca):
            return purpose
    return ""


def names_of(certificate: x509.Certificate) -> set[str]:
    """Return the names and addresses that a certificate is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    alternatives = extension.value
    return set(alternatives.get_values_for_type(x509.DNSName)) | {
        str(address) for address in alternatives.get_values_for_type(x509.IPAddress)
    }


def is_signed_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Say whether the CA's key made the certificate's signature."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def common_name(certificate: x509.Certificate) -> str:
    """Return a certificate's common name."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def public_half(pem: str) -> bytes:
    """Return a public key as the bytes that tell it from another."""
    key = load_pem_public_key(pem.encode())
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def half_of(certificate: x509.Certificate) -> bytes:
    """Return the public key of a certificate in the same form."""
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@on_hosts("city")
def test_every_certificate_is_the_platforms(facts: Facts, everywhere: Everywhere) -> None:
    """What names the platform's CA was signed by it, so that a forged one is found (K-01)."""
    found = own(facts, everywhere)
    check(found, _("certificates of the platform"), _("none"), facts.remedy)
    forged = [
        path for path, certificate in found.items() if not purpose_of(certificate, everywhere)
    ]
    expect(forged, [], _("delete them; {remedy}").format(remedy=facts.remedy))


@on_hosts("city")
def test_certificates_live_and_are_renewed_in_time(
    plan: Plan, facts: Facts, everywhere: Everywhere
) -> None:
    """None has run out, and none is older than an ordinary apply lets it get (K-08)."""
    policy = plan.platform.certificate_policy
    now = datetime.now(tz=UTC)
    late = {
        path: f"{(certificate.not_valid_after_utc - now).days} days left"
        for path, certificate in own(facts, everywhere).items()
        if certificate.not_valid_before_utc > now + GRACE
        or certificate.not_valid_after_utc - now
        < timedelta(days=policy.renew_when_days_left) - GRACE
    }
    check(
        not late,
        _("more than {renew_when_days_left} days left").format(
            renew_when_days_left=policy.renew_when_days_left
        ),
        late,
        facts.remedy,
    )


@on_hosts("city")
def test_certificates_do_not_live_longer_than_the_policy(
    plan: Plan, facts: Facts, everywhere: Everywhere
) -> None:
    """A stolen key is worth at most the policy's days (K-08)."""
    days = plan.platform.certificate_policy.lifetime_days
    long = {
        path: f"{(c.not_valid_after_utc - c.not_valid_before_utc).days} days"
        for path, c in own(facts, everywhere).items()
        if c.not_valid_after_utc - c.not_valid_before_utc > timedelta(days=days) + GRACE
    }
    check(not long, _("at most {days} days").format(days=days), long, facts.remedy)


@on_hosts("etcd_members", "databases", "application")
def test_ports_present_the_hosts_certificate(
    plan: Plan, facts: Facts, everywhere: Everywhere
) -> None:
    """What a daemon presents now is the CA's, alive, and for this host: not what a file says."""
    now = datetime.now(tz=UTC)
    names = {f"{facts.host}.{plan.platform.domain}", str(plan.address(facts.host, facts.host))}
    for port in presented_ports(plan, facts.host):
        said = facts[f"port {port}"]
        found = certificates_in(said.text)
        check(found, _("a certificate on port {port}").format(port=port), said, facts.remedy)
        certificate = found[0]
        check(
            purpose_of(certificate, everywhere) and certificate.not_valid_after_utc > now,
            _("port {port} presents a living certificate of the platform's CA").format(port=port),
            _("{issuer}, until {end}").format(
                issuer=certificate.issuer.rfc4514_string(),
                end=certificate.not_valid_after_utc,
            ),
            _("reload the daemon on port {port}; {remedy}").format(port=port, remedy=facts.remedy),
        )
        expect(names - names_of(certificate), set(), facts.remedy)


@on_hosts("city")
def test_no_certificate_serves_another_purpose(facts: Facts, everywhere: Everywhere) -> None:
    """What shows a server opens no door, what opens the databases shows no server (K-01, S01)."""
    wrong = {}
    for path, certificate in own(facts, everywhere).items():
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        purpose = purpose_of(certificate, everywhere)
        if purpose and not set(uses) <= USES[purpose]:
            wrong[path] = f"{purpose}: {sorted(str(use) for use in uses)}"
    expect(wrong, {}, facts.remedy)


@on_hosts("city")
def test_no_server_is_called_by_the_loopback(facts: Facts, everywhere: Everywhere) -> None:
    """Whoever listens on a host's own loopback would pass for the server elsewhere (K-01, S01)."""
    called = {
        path
        for path, certificate in own(facts, everywhere).items()
        if names_of(certificate) & LOOPBACK
    }
    expect(called - {ASKED_AT_HOME}, set(), facts.remedy)


@on_hosts("etcd_members")
def test_each_service_trusts_the_authority_of_its_purpose(
    plan: Plan, facts: Facts, everywhere: Everywhere
) -> None:
    """A municipality's role is nobody to etcd, a member nobody to PostgreSQL (K-01, S01)."""
    cas = authorities(everywhere)
    asked = {"etcd trusts": "cluster"}
    if plan.is_in(facts.host, "databases"):
        asked["PostgreSQL trusts"] = "roles"
    for question, purpose in asked.items():
        trusted = certificates_in(facts[question].text)
        check(
            trusted,
            _("an authority ({question})").format(question=question),
            facts[question],
            facts.remedy,
        )
        seen = {common_name(certificate) for certificate in trusted}
        expect(seen, {common_name(cas[purpose])}, facts.remedy)


@on_hosts("all")
def test_private_keys_are_private(facts: Facts) -> None:
    """Only a key's owner, or a service's own group, reads it; nobody else on the host (K-04)."""
    open_keys = {
        f"{file.path} {file.owner}:{file.group} {file.mode:o}"
        for file in kept(facts["keys"].text)
        if file.mode & 0o027 or (file.mode & 0o040 and file.group in {"users", "nogroup", "adm"})
    }
    closed = " ".join(sorted(row.split()[0] for row in open_keys))
    expect(
        open_keys,
        set(),
        _("run `chmod go= {closed}` on {host}; {remedy}").format(
            closed=closed, host=facts.host, remedy=facts.remedy
        ),
    )


@on_hosts("city")
def test_every_certificate_has_its_key_on_its_host(facts: Facts, everywhere: Everywhere) -> None:
    """A certificate without its key here is of no use, or its key is somewhere else (K-08)."""
    halves = {
        public_half(file.text)
        for file in kept(facts["keys"].text)
        if "BEGIN PUBLIC KEY" in file.text
    }
    found = own(facts, everywhere)
    alone = [path for path, certificate in found.items() if half_of(certificate) not in halves]
    expect(alone, [], facts.remedy)


def test_no_key_is_on_two_hosts(plan: Plan, everywhere: Everywhere) -> None:
    """A private key is made on its host and never leaves it; the CA's stays here (K-08)."""
    holders: dict[bytes, set[str]] = {}
    for host in plan.hosts_in("city"):
        for file in kept(everywhere[host]["keys"].text):
            if "BEGIN PUBLIC KEY" in file.text:
                holders.setdefault(public_half(file.text), set()).add(host)
    check(holders, _("private keys on the city's hosts"), _("none"), _("run `koseki apply`"))
    shared = [sorted(hosts) for hosts in holders.values() if len(hosts) > 1]
    expect(
        shared, [], _("by hand: delete the copies, renew the certificate, find out who copied them")
    )
    for ca in authorities(everywhere).values():
        expect(
            sorted(holders.get(half_of(ca), set())),
            [],
            _("by hand: the CA's key has left the workstation: replace it"),
        )


@on_hosts("db_clients")
def test_each_municipality_has_a_key_of_its_own(
    plan: Plan, facts: Facts, everywhere: Everywhere
) -> None:
    """A municipality's certificate names its role; only its own Unix user reads the key (K-01).

    The application's key is on the application's hosts alone: who reads what a registry sends
    cannot be the application.
    """
    found = own(facts, everywhere)
    keys = {Path(file.path): file for file in kept(facts["keys"].text)}
    roles = {}
    if plan.is_in(facts.host, "application"):
        roles["client"] = "app"
    if plan.is_in(facts.host, "registry_link"):
        roles["link"] = "link"
    for municipality in plan.joined:
        folder = Path("/etc/koseki/municipalities") / municipality.slug
        names = {Path(p).name: common_name(c) for p, c in found.items() if Path(p).parent == folder}
        wanted = {f"{name}.crt": f"{municipality.database}_{role}" for name, role in roles.items()}
        expect(names, wanted, facts.remedy)
        for name in roles:
            key = keys.get(folder / f"{name}.key")
            seen = (key.owner, oct(key.mode & 0o077)) if key else "no key"
            expect(seen, (f"koseki-{municipality.slug}", "0o0"), facts.remedy)


def test_the_second_backup_holds_no_key_of_the_platform(plan: Plan, everywhere: Everywhere) -> None:
    """The datacenter cannot read or pretend anything: its only keys are its own sshd's (K-04)."""
    for host in plan.hosts_in("remote_backup"):
        found = [file.path for file in kept(everywhere[host]["keys"].text)]
        strange = [path for path in found if not path.startswith("/etc/ssh/ssh_host_")]
        seen = everywhere[host]["keys"]
        check(
            found, _("its own sshd's keys"), seen, _("run `koseki verify certificates`"), host=host
        )
        expect(
            strange, [], _("by hand: delete them there, and replace what they opened"), host=host
        )
