"""The package mirror: sources read from the machine, and nothing believed that is not signed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.site import Site
from koseki_ops.supply import mirror
from koseki_ops.supply.mirror import (
    KEYRING,
    Source,
    mirror_folder,
    own_release,
    parse_sources,
    plain_name,
    upstream_lines,
    valid_until,
    verify_mirror,
)

HERE = "http://upstream.invalid/debian"
SECURITY = "http://upstream.invalid/security"
VENDOR = "http://vendor.invalid/apt"
LONG_AGO = "Thu, 01 Jan 2026 00:00:00 +0000"

DEB822 = f"""\
# This machine's own.
Types: deb deb-src
URIs: {HERE}/
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: {SECURITY}
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.invalid/
Suites: bookworm
"""


def test_both_forms_of_apt_sources_are_read() -> None:
    """deb822 and one-line entries; what is switched off or for sources only is none."""
    assert list(parse_sources("debian.sources", DEB822)) == [
        Source(HERE, ("bookworm", "bookworm-updates")),
        Source(SECURITY, ("bookworm-security",)),
    ]
    one_line = f"deb [arch=amd64] {HERE} bookworm main\ndeb-src {HERE} bookworm main\n# deb x y z\n"
    assert list(parse_sources("sources.list", one_line)) == [Source(HERE, ("bookworm",))]


def test_only_debians_own_sources_lead_upstream() -> None:
    """The hosts' release is asked where this machine gets its own; a vendor is left out."""
    sources = [*parse_sources("debian.sources", DEB822), Source(VENDOR, ("llvm-15",))]
    lines = [line.split("] ")[1] for line in upstream_lines(sources, "bookworm", "trixie")]
    assert lines == [
        f"{HERE} trixie main",
        f"{HERE} trixie-updates main",
        f"{SECURITY} trixie-security main",
    ]
    with pytest.raises(KosekiError, match="no Debian source"):
        upstream_lines([Source(VENDOR, ("llvm-15",))], "bookworm", "trixie")


def test_small_readings() -> None:
    """An epoch in a file name is dropped; the release is read or asked for."""
    assert plain_name("chrony_1%3a4.6-1_amd64.deb") == "chrony_4.6-1_amd64.deb"
    assert own_release('ID=debian\nVERSION_CODENAME="trixie"\n') == "trixie"
    with pytest.raises(KosekiError, match="not a Debian"):
        own_release("ID=other\n")


@pytest.fixture
def copied(tmp_path: Path) -> Site:
    """A site whose mirror is this checkout's real one, by hard links."""
    here = Site.open()
    site = Site(tmp_path, here.inventory_name, here.name)
    shutil.copytree(mirror_folder(here), mirror_folder(site), copy_function=os.link)
    return site


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file without touching the one it is linked to."""
    content = change(path.read_bytes())
    path.unlink()
    path.write_bytes(content)


def package(folder: Path) -> Path:
    """Return the smallest package."""
    return min((folder / "pool").iterdir(), key=lambda path: path.stat().st_size)


def test_the_real_mirror_holds(copied: Site) -> None:
    """Every hash and the signature."""
    assert verify_mirror(copied) > 100


TAMPERINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "one byte of a package": (
        lambda folder: rewrite(package(folder), lambda old: old[:-1] + bytes([old[-1] ^ 1])),
        "is altered (",
    ),
    "a package too many": (
        lambda folder: shutil.copy(package(folder), folder / "pool/guest_1_all.deb"),
        "altered by an unsigned file",
    ),
    "a package too few": (lambda folder: package(folder).unlink(), "incomplete"),
    "an index": (
        lambda folder: rewrite(
            next((folder / "dists").glob("trixie/main/*/Packages")),
            lambda old: old.replace(b"SHA256: ", b"SHA256:  ", 1),
        ),
        "is altered (",
    ),
    "no signature": (lambda folder: (folder / "dists/trixie/InRelease").unlink(), "unsigned"),
    "another text under the signature": (
        lambda folder: rewrite(
            folder / "dists/trixie/InRelease", lambda old: old.replace(b"koseki", b"intruder", 1)
        ),
        "not signed by the platform's key",
    ),
    "no key": (lambda folder: (folder / KEYRING).unlink(), "without its key"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_an_altered_or_unsigned_mirror_is_refused(copied: Site, name: str) -> None:
    """One sentence: what is wrong with which file, and what to do."""
    tamper, said = TAMPERINGS[name]
    tamper(mirror_folder(copied))
    with pytest.raises(KosekiError, match="koseki mirror build --refresh") as refused:
        verify_mirror(copied)
    assert said in str(refused.value)


def test_there_must_be_a_mirror(tmp_path: Path) -> None:
    """Before the first build, the remedy is to build."""
    with pytest.raises(KosekiError, match="run `koseki mirror build`"):
        verify_mirror(Site(tmp_path, "lab", "lab"))


def test_the_signed_lists_have_an_end(tmp_path: Path) -> None:
    """What was once right is not right for ever; lists from before they had one end as well."""
    site = Site(tmp_path, "lab", "lab")
    folder = mirror_folder(site)
    (folder / "pool").mkdir(parents=True)
    mirror.write_suite(folder, "trixie", {})
    mirror.sign_suites(site, folder, ["trixie"])
    days = timedelta(days=mirror.VALID_DAYS)
    now = datetime.now(UTC)
    assert now < valid_until(site) - days + timedelta(minutes=1) < now + timedelta(minutes=2)
    release = folder / "dists/trixie/Release"
    text = release.read_text(encoding="utf-8")
    assert "Valid-Until: " in text
    old = re.sub(r"^Valid-Until: .*\n", "", text, flags=re.MULTILINE)
    release.write_text(re.sub(r"^Date: .*$", f"Date: {LONG_AGO}", old, flags=re.MULTILINE))
    mirror.sign_suites(site, folder, ["trixie"])
    assert valid_until(site) == parsedate_to_datetime(LONG_AGO) + days
    rewrite(folder / "dists/trixie/InRelease", lambda old: old.replace(b"2026", b"2036"))
    with pytest.raises(KosekiError, match="not signed by the platform's key"):
        valid_until(site)
