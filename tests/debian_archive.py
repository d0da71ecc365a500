"""A small Debian archive, made and signed by Debian's own tools, where no archive is asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

# Of the archive: name, version, further fields.
PACKAGES = {
    "apt": ("2.9", "Essential: yes\nPriority: required"),
    "one": ("1:4.6-1", "Depends: beneath"),
    "beneath": ("1.0", ""),
    "vaults-own": ("1.0", ""),
    "unasked": ("1.0", ""),
}
CITY = {"apt_2.9_all.deb", "one_4.6-1_all.deb", "beneath_1.0_all.deb", "vaults-own_1.0_all.deb"}
VAULT = {"apt_2.9_all.deb", "vaults-own_1.0_all.deb"}


def packed(folder: Path, name: str, version: str, fields: str) -> None:
    """Make a package without a file in it."""
    control = folder / name / "DEBIAN/control"
    control.parent.mkdir(parents=True)
    more = f"{fields}\n" if fields else ""
    control.write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\n{more}"
        "Maintainer: nobody <nobody@example.invalid>\nDescription: a sample\n",
        encoding="ascii",
    )
    target = folder / "pool" / f"{name}_{version.partition(':')[2] or version}_all.deb"
    target.parent.mkdir(exist_ok=True)
    subprocess.run(["dpkg-deb", "-Znone", "-b", control.parents[1], target], check=True)


def make_archive(folder: Path, home: Path) -> None:
    """Make the archive in a folder, signed by a key that is made in another; its public half too.

    home: for gpg, a short path of its own.
    """
    for name, (version, fields) in PACKAGES.items():
        packed(folder, name, version, fields)

    def say(*argv: str) -> bytes:
        return subprocess.run(argv, cwd=folder, capture_output=True, check=True).stdout

    architecture = say("dpkg", "--print-architecture").decode().strip()
    listed = folder / f"dists/trixie/main/binary-{architecture}"
    listed.mkdir(parents=True)

    (listed / "Packages").write_bytes(say("apt-ftparchive", "packages", "pool"))
    named = ("Suite=trixie", "Codename=trixie", f"Architectures={architecture}", "Components=main")
    options = [f"-oAPT::FTPArchive::Release::{field}" for field in named]
    base = listed.parents[1]
    (base / "Release").write_bytes(say("apt-ftparchive", *options, "release", str(base)))
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet"]
    try:
        say(*gpg, "--passphrase", "", "--quick-generate-key", "archive", "ed25519", "sign", "never")
        say(*gpg, "--output", str(folder / "keyring.gpg"), "--export")
        say(*gpg, "--clearsign", "--output", str(base / "InRelease"), str(base / "Release"))
    finally:
        say("gpgconf", "--homedir", str(home), "--kill", "gpg-agent")
