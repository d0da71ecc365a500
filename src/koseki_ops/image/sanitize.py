"""What an image must not hold: who a machine is, what it has seen, and any secret.

A machine makes its own keys and id at its first boot; its certificates and its secrets come with
the first apply.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

DAY = 86400
# Who the machine was that the image was made on, and what that one saw, by glob; folders stay.
IDENTITY_FILES = (
    "etc/ssh/ssh_host_*",
    # A package makes itself a certificate that nothing here uses.
    "etc/ssl/certs/ssl-cert-snakeoil.pem",
    "etc/*-",
    "etc/.pwd.lock",
    "etc/.updated",
    "etc/systemd/network/10-host0.network",
    "root/.ansible",
    "root/.ssh",
    "var/.updated",
    "var/backups/*",
    # What an installation made once and a machine needs, as the word list for passwords, stays.
    "var/cache/apt/*",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/*",
    "var/cache/man/*",
    "var/lib/chrony/*",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/*-old",
    "var/lib/private/*",
    "var/lib/systemd/credential.secret",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/timers/*",
    "var/log/journal/*",
    "var/tmp/*",
    "home/*/.ansible",
    "home/*/.cache",
    "run/*",
    "tmp/*",
)
# Where a machine's own files are; what packages bring below /usr is the same on every machine.
OWN = ("etc", "home", "opt", "root", "srv", "usr/local", "var")
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----\s+[A-Za-z0-9+/]")
CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
# Looked through in pieces that overlap, since a file may be larger than memory.
PIECE, OVERLAP = 4 << 20, 4096
EMPTY_MACHINE_ID = ""
LOCKED = "!"


@dataclass(frozen=True)
class Found:
    """A file that would give something away. path: below the tree; what: in words."""

    path: str
    what: str


def strip_identity(
    tree: Path, secrets: Sequence[str], authorities: Sequence[x509.Certificate], moment: int
) -> list[Found]:
    """Take away identity, traces and secrets; return the files that were removed for a secret.

    authorities: whose certificates go with their keys, their own included; moment: the build's, in
    seconds.
    """
    _clear(tree)
    (tree / "etc/machine-id").write_text(EMPTY_MACHINE_ID, encoding="ascii")
    _lock(tree / "etc/shadow", moment // DAY)
    gone = []
    for part in OWN:
        for found in scan(tree, secrets, part):
            (tree / found.path).unlink()
            # Its public half and certificate are of no use without it, and this machine's own.
            for public in (f"{found.path}.pub", f"{found.path}-cert.pub"):
                (tree / public).unlink(missing_ok=True)
            gone.append(found)
    for path in list(_certified(tree / "etc", authorities)):
        path.unlink()
        gone.append(Found(str(path.relative_to(tree)), "a certificate of the build lab"))
    return gone


def _clear(tree: Path) -> None:
    """Take away who the machine was and what it saw."""
    for pattern in IDENTITY_FILES:
        for path in sorted(tree.glob(pattern)):
            _remove(path)
    # Folders stay: daemons are not made to make their own.
    for path in (tree / "var/log").rglob("*"):
        if not path.is_dir() or path.is_symlink():
            path.unlink()
    for link in (tree / "etc/ssl/certs").iterdir():
        if link.is_symlink() and not link.exists() and link.readlink().parent == Path():
            link.unlink()


def _certified(folder: Path, authorities: Sequence[x509.Certificate]) -> Iterator[Path]:
    """Yield the files that hold a certificate of one of these authorities."""
    for path in sorted(folder.rglob("*")):
        # The world's own authorities are a package's.
        if path.is_relative_to(folder / "ssl"):
            continue
        if (
            not path.is_file()
            or path.is_symlink()
            or CERTIFICATE not in (data := path.read_bytes())
        ):
            continue
        if any(
            _is_signed_by(certificate, authority)
            for certificate in x509.load_pem_x509_certificates(data)
            for authority in authorities
        ):
            yield path


def _is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, InvalidSignature):
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _lock(shadow: Path, today: int) -> None:
    """Leave no password behind, nor the day on which an account was made."""
    lines = []
    for line in shadow.read_text(encoding="utf-8").splitlines():
        fields = line.split(":")
        if fields[1].startswith("$"):
            fields[1] = LOCKED
        if fields[2] not in {"", "0"}:
            fields[2] = str(today)
        lines.append(":".join(fields))
    shadow.write_text("\n".join(lines) + "\n", encoding="utf-8")


def scan(tree: Path, secrets: Sequence[str], part: str = ".") -> Iterator[Found]:
    """Yield every file below a part of a tree that holds a secret's value or a private key.

    Debian's packages bring keys that everybody has, in libraries that test themselves by them: a
    key counts among a machine's own files, a secret's value everywhere.
    """
    wanted = [value.encode() for value in secrets]
    own = [tree / name for name in OWN]
    for folder, _, names in os.walk(tree / part):
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_symlink() or not path.is_file():
                continue
            keys = any(path.is_relative_to(place) for place in own)
            for piece in _pieces(path):
                if what := _gives_away(piece, wanted, keys=keys):
                    yield Found(str(path.relative_to(tree)), what)
                    break


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        before = b""
        while piece := file.read(PIECE):
            yield before + piece
            before = piece[-OVERLAP:]


def _gives_away(piece: bytes, secrets: Sequence[bytes], *, keys: bool) -> str:
    if keys and PRIVATE_KEY.search(piece):
        return "a private key"
    if any(secret in piece for secret in secrets):
        return "a secret of the site"
    return ""


def clamp_mtimes(tree: Path, moment: int) -> None:
    """Make nothing in a tree younger than a moment (seconds)."""
    for folder, folders, names in os.walk(tree, topdown=False):
        for name in (*folders, *names):
            path = Path(folder, name)
            if path.lstat().st_mtime > moment:
                os.utime(path, (moment, moment), follow_symlinks=False)
    os.utime(tree, (moment, moment))
