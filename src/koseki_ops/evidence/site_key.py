"""Signatures of what drift keeps on the workstation: manifests and the head of the history.

An ed25519 key of the site, made on the workstation and never leaving it. It shows that a file was
written by the toolkit; it cannot stop whoever may read the key, so heads are also printed.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import create_private, write_atomic
from koseki_ops.core.language import _

KEY_FILE = "signing.key"
# The public half, for hosts that read what was signed here and sign nothing of it themselves.
PUBLIC_FILE = "signing.pub"


def make_key(folder: Path) -> None:
    """Make the key of a site's drift folder (0600); one that is there stays.

    Safe against a kill at any moment and against a second process that makes it at the same time:
    the file appears whole, and the first one counts.
    """
    path = folder / KEY_FILE
    if path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    encoded = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    create_private(path, encoded)


def _load(folder: Path) -> Ed25519PrivateKey:
    path = folder / KEY_FILE
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise KosekiError(
            _("the drift signing key cannot be read"),
            f"{path}: {error}",
            _("restore it from the copy of the site's `var/` that is kept elsewhere"),
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KosekiError(
            _("the drift signing key is not an Ed25519 key"),
            str(path),
            _("restore it from the copy of the site's `var/` that is kept elsewhere"),
        )
    return key


def sign(folder: Path, content: bytes) -> bytes:
    """Return the signature (64 bytes) of `content` by the key in `folder`; `make_key` comes first.

    Raises KosekiError when the key is missing or unreadable.
    """
    return _load(folder).sign(content)


def publish(folder: Path) -> None:
    """Write the key's public half beside it, when it is not there yet."""
    public = _load(folder).public_key()
    encoded = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path = folder / PUBLIC_FILE
    if not path.exists() or path.read_bytes() != encoded:
        write_atomic(path, encoded)


def _published(folder: Path) -> Ed25519PublicKey:
    path = folder / PUBLIC_FILE
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise KosekiError(
            _("this host has no record of the last apply"),
            f"{path}: {error}",
            _("run `koseki apply` on the control node"),
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise KosekiError(
            _("the drift signing key is not an Ed25519 key"),
            str(path),
            _("run `koseki apply` on the control node"),
        )
    return key


def seal(folder: Path, body: bytes) -> bytes:
    """Return a file's content: the signature's hex digits on a line, then what it is of."""
    return sign(folder, body).hex().encode() + b"\n" + body + b"\n"


def opened(folder: Path, content: bytes, *, published: bool = False) -> bytes | None:
    """Return what `seal` wrapped, None when it is not as it was signed. published: as `verify`."""
    signature, _, body = content.rstrip(b"\n").partition(b"\n")
    try:
        signed = bytes.fromhex(signature.decode())
    except ValueError:
        signed = b""
    return body if verify(folder, body, signed, published=published) else None


def verify(folder: Path, content: bytes, signature: bytes, *, published: bool = False) -> bool:
    """Say whether `signature` is of `content` and by the key in `folder`.

    published: by the public half that was handed over, where another signs. Raises KosekiError
    when the key is missing or unreadable.
    """
    key = _published(folder) if published else _load(folder).public_key()
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True
