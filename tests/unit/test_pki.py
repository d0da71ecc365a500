"""The internal CA: what it signs, when it signs anew, and what it will not take for its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from koseki_ops.core.errors import KosekiError
from koseki_ops.trust.x509 import USAGES, Authority, Request, open_authority, sign, still_good

REQUEST = Request("primary1", ("10.0.0.1", "primary1.koseki.internal"), days=398, renew_days=133)


def public_key() -> str:
    """Return a new key's public half, as a host shows it."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A CA of the test's own."""
    return open_authority(tmp_path / "pki", "pass phrase", 3650)


def test_the_authority_is_made_once(tmp_path: Path) -> None:
    """Its key is encrypted and private; another pass phrase opens nothing."""
    folder = tmp_path / "pki"
    first = open_authority(folder, "pass phrase", 3650)
    assert open_authority(folder, "pass phrase", 3650).pem == first.pem
    assert b"ENCRYPTED" in (folder / "ca.key").read_bytes()
    assert (folder / "ca.key").stat().st_mode & 0o077 == 0
    with pytest.raises(KosekiError, match="does not open"):
        open_authority(folder, "another", 3650)


def test_a_certificate_says_what_was_asked(authority: Authority) -> None:
    """Names, life and use; no CA, and not a day more than 398."""
    key = public_key()
    found = x509.load_pem_x509_certificate(sign(authority, REQUEST, key).encode())
    found.verify_directly_issued_by(authority.certificate)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["primary1.koseki.internal"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert found.not_valid_after_utc - found.not_valid_before_utc <= timedelta(days=398)
    assert still_good(authority, REQUEST, key, sign(authority, REQUEST, key))


def test_a_third_of_its_life_is_the_time_to_renew(authority: Authority) -> None:
    """One day before that, it stays; at that day, it is signed anew."""
    key = public_key()
    fresh = sign(authority, replace(REQUEST, days=REQUEST.renew_days + 1), key)
    old = sign(authority, replace(REQUEST, days=REQUEST.renew_days), key)
    assert still_good(authority, REQUEST, key, fresh)
    assert not still_good(authority, REQUEST, key, old)


def test_what_was_made_ahead_of_time_is_signed_anew(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that was ahead and was set right: what was signed meanwhile holds nowhere (C3)."""
    key = public_key()
    monkeypatch.setattr("koseki_ops.trust.x509.BACKDATE", -timedelta(hours=1))
    assert not still_good(authority, REQUEST, key, sign(authority, REQUEST, key))


def test_anything_else_is_signed_anew(authority: Authority, tmp_path: Path) -> None:
    """Another key, name, use or CA, no certificate, and what is none."""
    key = public_key()
    good = sign(authority, REQUEST, key)
    assert not still_good(authority, REQUEST, public_key(), good)
    assert not still_good(authority, replace(REQUEST, common_name="secondary1"), key, good)
    assert not still_good(authority, replace(REQUEST, names=("10.0.0.2",)), key, good)
    for usages in ((USAGES["server"],), (USAGES["client"],)):
        narrower = replace(REQUEST, usages=usages)
        assert not still_good(authority, narrower, key, good)
        assert still_good(authority, narrower, key, sign(authority, narrower, key))
    stranger = open_authority(tmp_path / "stranger", "pass phrase", 3650)
    assert not still_good(authority, REQUEST, key, sign(stranger, REQUEST, key))
    assert not still_good(authority, REQUEST, key, "")
    assert not still_good(authority, REQUEST, key, good[:200])
