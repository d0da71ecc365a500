"""The terminals' CA: whom it certifies, what it revokes, and what the gateway is told."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import Platform
from koseki_ops.plan.rules import load_platform
from koseki_ops.plan.site import Site, WatchHost
from koseki_ops.trust import terminals
from koseki_ops.trust.secrets import init_secrets, load_secrets
from koseki_ops.trust.x509 import open_authority

ROOT = Path(__file__).resolve().parents[2]
WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A lab's site with secrets of its own."""
    ignore = shutil.ignore_patterns("secrets.yml")
    shutil.copytree(ROOT / "inventories", tmp_path / "inventories", symlinks=True, ignore=ignore)
    made = Site(tmp_path, "lab", "lab")
    made.var.mkdir()
    init_secrets(made)
    return made


@pytest.fixture
def platform(site: Site) -> Platform:
    """The plan, typed."""
    return load_platform(Inventory(site.inventory), date(2026, 11, 1))


def request(path: Path, key: Key, name: str = "anything") -> Path:
    """Write a terminal's request, as its own tool would make it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    path.write_bytes(made.public_bytes(Encoding.PEM))
    return path


def told(site: Site) -> x509.CertificateRevocationList:
    """Return the list of revoked certificates as the gateway reads it."""
    text = (terminals.folder_of(site) / "authority.pem").read_text(encoding="ascii")
    return x509.load_pem_x509_crl(text[text.index("-----BEGIN X509 CRL") :].encode())


def test_the_plan_decides_what_a_certificate_says(
    site: Site, platform: Platform, tmp_path: Path
) -> None:
    """Municipality and terminal, for a client alone; what the request asks for counts nothing."""
    key = ec.generate_private_key(ec.SECP256R1())
    asked = request(tmp_path / "asked.csr", key, name="iida-01")
    path = terminals.issue(site, platform, "oshika-01", asked)
    found = x509.load_pem_x509_certificate(path.read_bytes())
    assert found.subject.rfc4514_string() == "CN=oshika-01,OU=oshika"
    usages = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert found.not_valid_after_utc - found.not_valid_before_utc <= timedelta(days=398)
    assert path.stem == terminals.serial_text(found.serial_number)


def test_the_terminals_ca_is_not_the_hosts(site: Site, platform: Platform, tmp_path: Path) -> None:
    """A server's certificate is no terminal's, nor the other way round."""
    passphrase = load_secrets(site)["pki_ca_passphrase"]
    hosts = open_authority(site.state / "pki", passphrase, 3650)
    asked = request(tmp_path / "asked.csr", ec.generate_private_key(ec.SECP256R1()))
    found = x509.load_pem_x509_certificate(
        terminals.issue(site, platform, "iida-01", asked).read_bytes()
    )
    assert found.issuer != hosts.certificate.subject
    with pytest.raises(ValueError, match=r"(?i)issuer"):
        found.verify_directly_issued_by(hosts.certificate)


@pytest.mark.parametrize(
    ("terminal", "key", "sentence"),
    [
        ("iida-99", ec.generate_private_key(ec.SECP256R1()), "no such terminal in the plan"),
        ("iida-01", WEAK, "weak"),
        ("iida-01", None, "not a certificate request"),
    ],
)
def test_a_bad_request_is_one_sentence(
    site: Site, platform: Platform, tmp_path: Path, terminal: str, key: Key | None, sentence: str
) -> None:
    """A terminal that is not of the plan, a weak key, a file that is something else."""
    asked = tmp_path / "asked.csr"
    if key is None:
        asked.write_text("-----BEGIN NOTHING-----\n")
    else:
        request(asked, key)
    with pytest.raises(KosekiError, match=sentence) as caught:
        terminals.issue(site, platform, terminal, asked)
    assert "\n" not in str(caught.value)


def test_what_was_revoked_is_in_the_list(site: Site, platform: Platform, tmp_path: Path) -> None:
    """By name all of a terminal's, by serial number one; a second time changes nothing."""
    for number in range(2):
        asked = request(tmp_path / f"{number}.csr", ec.generate_private_key(ec.SECP256R1()))
        terminals.issue(site, platform, "anan-01", asked)
    terminals.ensure_authority(site, platform)
    assert list(told(site)) == []
    first, second = (row.serial for row in terminals.issued(site))
    assert terminals.revoke(site, platform, terminals.serial_text(first)) == [first]
    assert terminals.revoke(site, platform, "anan-01") == [second]
    assert terminals.revoke(site, platform, "anan-01") == []
    assert {row.serial_number for row in told(site)} == {first, second}
    with pytest.raises(KosekiError, match="no such certificate"):
        terminals.revoke(site, platform, "iida-01")


def test_a_terminal_that_left_the_plan_is_revoked(
    site: Site, platform: Platform, tmp_path: Path
) -> None:
    """The next apply's question is enough, and coming back does not undo it."""
    asked = request(tmp_path / "asked.csr", ec.generate_private_key(ec.SECP256R1()))
    terminals.issue(site, platform, "achi-01", asked)
    municipalities = [
        municipality.model_copy(update={"terminals": ["achi-02"]})
        if municipality.slug == "achi"
        else municipality
        for municipality in platform.municipalities
    ]
    terminals.ensure_authority(site, platform.model_copy(update={"municipalities": municipalities}))
    assert len(list(told(site))) == 1
    terminals.ensure_authority(site, platform)
    assert len(list(told(site))) == 1


def test_the_list_stays_until_it_must_change(site: Site, platform: Platform) -> None:
    """A second apply finds the same bytes; one that runs out in a third of its life is new."""
    path = terminals.folder_of(site) / "authority.pem"
    terminals.ensure_authority(site, platform)
    before = path.read_bytes()
    terminals.ensure_authority(site, platform)
    assert path.read_bytes() == before
    ends = told(site).next_update_utc
    assert ends is not None
    days = (ends - datetime.now(UTC)).days
    policy = platform.certificate_policy.model_copy(update={"renew_when_days_left": days + 1})
    terminals.ensure_authority(site, platform.model_copy(update={"certificate_policy": policy}))
    assert path.read_bytes() != before


def test_a_list_made_ahead_of_time_is_made_anew(
    site: Site, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All counters are refused by a list that does not hold yet: the next apply heals it (C3)."""
    with monkeypatch.context() as ahead:
        ahead.setattr("koseki_ops.trust.x509.BACKDATE", -timedelta(hours=1))
        terminals.ensure_authority(site, platform)
    assert told(site).last_update_utc > datetime.now(UTC)
    terminals.ensure_authority(site, platform)
    assert told(site).last_update_utc <= datetime.now(UTC)


def test_a_lab_plays_every_terminal_and_what_must_open_nothing(
    site: Site, platform: Platform
) -> None:
    """Keys for the lab alone; made once; the revoked one is in the list, the expired one is old."""
    terminals.ensure_authority(site, platform)
    terminals.ensure_stand_ins(site, platform)
    folder = terminals.stand_ins_of(site)
    names = {row.id for row in platform.terminals} | set(terminals.NEVER_ADMITTED)
    assert {path.stem for path in folder.glob("*.crt")} == names
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("*.key"))
    before = {path: path.read_bytes() for path in folder.glob("*.*")}
    terminals.ensure_stand_ins(site, platform)
    assert {path: path.read_bytes() for path in folder.glob("*.*")} == before
    revoked, expired, stranger = (
        x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
        for name in terminals.NEVER_ADMITTED
    )
    assert [row.serial_number for row in told(site)] == [revoked.serial_number]
    assert expired.not_valid_after_utc < datetime.now(UTC)
    assert stranger.subject == revoked.subject


def test_a_host_that_keeps_watch_is_no_authority(
    site: Site, platform: Platform, tmp_path: Path
) -> None:
    """It neither signs nor revokes nor makes a CA: one sentence, and nothing is written."""
    watch = replace(site, watch_host=WatchHost("workstation1", "lab", "lab", ""))
    asked = request(tmp_path / "oshika-01.csr", ec.generate_private_key(ec.SECP256R1()))
    for act in (
        lambda: terminals.issue(watch, platform, "oshika-01", asked),
        lambda: terminals.revoke(watch, platform, "oshika-01"),
        lambda: terminals.ensure_authority(watch, platform),
        lambda: terminals.ensure_stand_ins(watch, platform),
    ):
        with pytest.raises(KosekiError, match=r"no authority for terminals \(workstation1\)"):
            act()
    assert not terminals.folder_of(watch).exists()
