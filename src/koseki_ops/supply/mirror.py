"""The platform's own package mirror: what the inventory needs, signed with the platform's key.

Where packages come from is read from this machine's own apt configuration and written nowhere.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import chain
from pathlib import Path
from urllib.parse import unquote

from koseki_ops.core.environment import for_fetching
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import put_folder, write_private
from koseki_ops.core.language import _
from koseki_ops.core.progress import OnProgress
from koseki_ops.core.subprocesses import ask, run
from koseki_ops.plan.host_kinds import HOST_KINDS
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site

KEYRING = "koseki-archive-keyring.gpg"
RECORD = "koseki-mirror.json"
VAULT_SUITE = "vault"
# The datacenter's hosts take nothing else; their packages are pushed to them.
VAULT_CONCERNS = (*chain.from_iterable(k.packages for k in HOST_KINDS if not k.in_city), "image")
UPSTREAM_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# As long as what upstream had is taken for what it has: apt on the hosts refuses lists that are
# older, a nightly verification tells it before.
VALID_DAYS = 45
# Every Debian host has these, whatever else it has.
ESSENTIAL = ("apt", "?essential", "?priority(required)")


def mirror_folder(site: Site) -> Path:
    """Return the signed repository of this checkout."""
    return site.var / "mirror"


def _signing_key(site: Site) -> Path:
    return site.var / "keys" / "mirror" / "signing-key.asc"


# This machine's own sources.


@dataclass(frozen=True)
class Source:
    """One entry of this machine's apt configuration: where from, and which suites."""

    uri: str
    suites: tuple[str, ...]


def own_release(os_release: str) -> str:
    """Return the code name in an os-release text, as `bookworm`."""
    found = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', os_release, re.MULTILINE)
    if not found:
        raise KosekiError(
            _("this machine is not a Debian release"),
            "/etc/os-release",
            _("run it on Debian 13 (docs/operations/installation.md)"),
        )
    return found[1]


def parse_sources(name: str, text: str) -> Iterator[Source]:
    """Yield the binary package sources of one apt file, deb822 (`.sources`) or one-line."""
    if name.endswith(".sources"):
        for stanza in re.split(r"\n\s*\n", text):
            fields = _deb822(stanza)
            enabled = fields.get("enabled", "yes") not in {"no", "false"}
            if enabled and "deb" in fields.get("types", "").split():
                for uri in fields.get("uris", "").split():
                    yield Source(uri.rstrip("/"), tuple(fields.get("suites", "").split()))
        return
    for line in text.splitlines():
        found = re.match(r"\s*deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)", line)
        if found:
            yield Source(found[1].rstrip("/"), (found[2],))


def _deb822(stanza: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    last = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in {" ", "\t"} and last:
            fields[last] += " " + line.strip()
        elif ":" in line:
            key, _, value = line.partition(":")
            last = key.strip().lower()
            fields[last] = value.strip()
    return fields


def upstream_lines(sources: list[Source], own: str, wanted: str) -> list[str]:
    """Return one-line sources for `wanted`, from those that give this machine its own Debian.

    A source counts when one of its suites is this machine's release, its updates or its security
    updates; anything else (a vendor's repository) is left out.
    """
    lines = []
    for source in sources:
        for suite in source.suites:
            stem, _ignored, tail = suite.partition("-")
            if stem in {own, "stable"} and tail in {"", "updates", "security"}:
                line = f"deb [signed-by={UPSTREAM_KEYRING}] {source.uri} "
                line += f"{wanted}{'-' + tail if tail else ''} main"
                if line not in lines:
                    lines.append(line)
    if not lines:
        raise KosekiError(
            _("this machine's apt configuration names no Debian source"),
            _("looked for {own} in /etc/apt").format(own=own),
            _("add one to `/etc/apt/sources.list.d/`"),
        )
    return lines


def _machine_sources() -> list[Source]:
    folder = Path("/etc/apt")
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    found: list[Source] = []
    for path in files:
        if path.is_file() and path.suffix in {".list", ".sources"}:
            found += parse_sources(path.name, path.read_text(encoding="utf-8"))
    return found


# Building.


def build_mirror(
    site: Site, on_progress: OnProgress = lambda _line: None, *, refresh: bool = False
) -> bool:
    """Collect what the inventory needs into a signed repository; return whether it was built.

    Built aside and put in place in one step: an interrupted build changes nothing. With the
    same inventory and an intact mirror that still holds nothing is asked of anybody, unless
    `refresh`.
    """
    inventory = Inventory(site.inventory)
    release = inventory.platform.debian_release
    own = own_release(Path("/etc/os-release").read_text(encoding="utf-8"))
    lines = upstream_lines(_machine_sources(), own, release)
    packages = inventory.platform.packages
    inputs = hashlib.sha256(json.dumps([packages, lines, release]).encode()).hexdigest()
    folder = mirror_folder(site)
    record = folder / RECORD
    known = record.exists() and json.loads(record.read_text())["inputs"] == inputs
    # What has ended is no answer to what upstream has today.
    if not refresh and known and valid_until(site) > datetime.now(UTC):
        verify_mirror(site)
        on_progress(_("package mirror: complete"))
        return False
    every = sorted({name for names in packages.values() for name in names})
    vault = sorted({name for concern in VAULT_CONCERNS for name in packages[concern]})
    aside = folder.with_name(f".mirror.{os.getpid()}")
    try:
        with _private_apt(lines) as apt:
            on_progress(_("package mirror: reading the upstream index"))
            _fetch([*apt, "update", "-qq"])
            wanted = {release: _resolve(apt, every), VAULT_SUITE: _resolve(apt, vault)}
            union = {**wanted[VAULT_SUITE], **wanted[release]}
            on_progress(_("package mirror: fetching {count} packages").format(count=len(union)))
            _fetch([*apt, "install", "-qq", "--yes", "--download-only", *ESSENTIAL, *every])
            _fetch([*apt, "install", "-qq", "--yes", "--download-only", *ESSENTIAL, *vault])
            _fill_pool(apt, union, aside / "pool")
        for suite, files in wanted.items():
            write_suite(aside, suite, files)
        sign_suites(site, aside, list(wanted))
        (aside / RECORD).write_text(json.dumps({"inputs": inputs, "packages": len(union)}))
        _verify_folder(aside)
        put_folder(aside, folder)
    finally:
        if aside.exists():
            shutil.rmtree(aside)
    on_progress(_("package mirror: {count} packages, signed").format(count=len(union)))
    return True


def download(site: Site, package: str, folder: Path) -> Path:
    """Fetch one package that the platform does not ask for, such as a tool to compare it with.

    Returns the file. Raises KosekiError when this machine's sources do not have it.
    """
    release = Inventory(site.inventory).platform.debian_release
    own = own_release(Path("/etc/os-release").read_text(encoding="utf-8"))
    with _private_apt(upstream_lines(_machine_sources(), own, release)) as apt:
        _fetch([*apt, "update", "-qq"])
        _fetch(["env", f"--chdir={folder}", *apt, "download", "-qq", package])
    return next(folder.glob(f"{package}_*.deb"))


@contextmanager
def _private_apt(lines: list[str]) -> Iterator[list[str]]:
    """Yield an apt-get that knows only `lines`, with nothing installed."""
    if not UPSTREAM_KEYRING.exists():
        raise KosekiError(
            _("Debian's own keys are missing"),
            str(UPSTREAM_KEYRING),
            _("run `apt-get install debian-archive-keyring`"),
        )
    with tempfile.TemporaryDirectory(prefix="koseki-mirror-") as name:
        root = Path(name)
        for part in ("etc/apt/preferences.d", "state/lists/partial", "cache/archives/partial"):
            (root / part).mkdir(parents=True)
        (root / "status").write_text("")
        (root / "sources.list").write_text("\n".join(lines) + "\n")
        # Its sandbox user could not read a private folder; the folder is root's alone anyway.
        options = {
            "Dir::Etc": f"{root}/etc/apt",
            "Dir::Etc::SourceList": f"{root}/sources.list",
            "Dir::Etc::SourceParts": "-",
            "Dir::State": f"{root}/state",
            "Dir::State::status": f"{root}/status",
            "Dir::Cache": f"{root}/cache",
            "APT::Sandbox::User": "root",
            "APT::Install-Recommends": "false",
            "Acquire::Languages": "none",
            "Acquire::ForceHash": "SHA256",  # --print-uris would give the weakest
        }
        yield ["apt-get", *(f"-o{key}={value}" for key, value in options.items())]


def _fetch(argv: list[str]) -> str:
    return run(argv, env=for_fetching())


def _resolve(apt: list[str], names: list[str]) -> dict[str, str]:
    """Return file name and hash of every package that `names` need, themselves included."""
    printed = _fetch([*apt, "install", "-qq", "--yes", "--print-uris", *ESSENTIAL, *names])
    found: dict[str, str] = {}
    for line in printed.splitlines():
        match = re.fullmatch(r"'(\S+)' (\S+) (\d+) SHA256:([0-9a-f]{64})", line)
        if match:
            found[match[2]] = match[4]
    if not found:
        raise KosekiError(
            _("the upstream index resolved to nothing"),
            printed[:80].strip(),
            _("check the sources in `/etc/apt/`, then run `koseki mirror build` again"),
        )
    return found


def plain_name(archive_name: str) -> str:
    """Return a file name that needs no quoting: without the epoch, decoded."""
    return unquote(re.sub(r"_\d+%3a", "_", archive_name))


def _fill_pool(apt: list[str], wanted: dict[str, str], pool: Path) -> None:
    cache = next(Path(o.split("=", 1)[1]) for o in apt if o.startswith("-oDir::Cache="))
    pool.mkdir(parents=True)
    for name, digest in wanted.items():
        source = cache / "archives" / name
        if not source.exists():
            raise KosekiError(
                _("a package did not arrive"), name, _("run `koseki mirror build` again")
            )
        if _sha256(source) != digest:
            raise KosekiError(
                _("a package arrived altered"), name, _("run `koseki mirror build` again")
            )
        shutil.move(source, pool / plain_name(name))


def _not_listed(reason: str) -> KosekiError:
    return KosekiError(
        _("apt-ftparchive failed"),
        reason,
        _("check the room on the disk with `df`, then run `koseki mirror build` again"),
    )


def write_suite(folder: Path, suite: str, files: dict[str, str]) -> None:
    """Write a suite's lists, with an end: files: those of the pool that are in it, by name."""
    architecture = run(["dpkg", "--print-architecture"]).strip()
    place = folder / "dists" / suite / "main" / f"binary-{architecture}"
    place.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="list-") as name:
        # apt-ftparchive lists a folder: give it one with this suite's packages only.
        chosen = Path(name) / "pool"
        chosen.mkdir()
        for file in files:
            os.link(folder / "pool" / plain_name(file), chosen / plain_name(file))
        index = ask(["apt-ftparchive", "packages", "pool"], cwd=name, error=_not_listed).out
    (place / "Packages").write_bytes(index)
    (place / "Packages.xz").write_bytes(lzma.compress(index, preset=6))
    fields = {
        # In seconds; apt-ftparchive makes the moment of it, Valid-Until.
        "ValidTime": str(VALID_DAYS * 86_400),
        "Origin": "koseki",
        "Label": "koseki",
        "Suite": suite,
        "Codename": suite,
        "Architectures": architecture,
        "Components": "main",
    }
    options = [f"-oAPT::FTPArchive::Release::{key}={value}" for key, value in fields.items()]
    base = place.parent.parent
    (base / "Release").write_text(run(["apt-ftparchive", *options, "release", str(base)]))


def sign_suites(site: Site, folder: Path, suites: list[str]) -> None:
    """Sign each suite's Release with the platform's key, which is made at first use."""
    stored = _signing_key(site)
    # A short path of its own: gpg's agent makes a socket there.
    with tempfile.TemporaryDirectory(prefix="koseki-gpg-") as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--no-tty"]
        try:
            if stored.exists():
                run([*gpg, "--import", str(stored)])
            else:
                identity = ["koseki package mirror", "ed25519", "sign", "never"]
                run([*gpg, "--passphrase", "", "--quick-generate-key", *identity])
                stored.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private(stored, run([*gpg, "--armor", "--export-secret-keys"]))
            run([*gpg, "--yes", "--output", str(folder / KEYRING), "--export"])
            for suite in suites:
                base = folder / "dists" / suite
                release = str(base / "Release")
                run([*gpg, "--yes", "--clearsign", "--output", str(base / "InRelease"), release])
        finally:
            run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"])


# Verifying.


def verify_mirror(site: Site) -> int:
    """Re-check the signature and every hash; return the number of packages.

    Raises KosekiError, naming the file, when anything is missing, unsigned, altered or extra. A
    host that keeps watch has the signed lists alone, and those are checked.
    """
    folder = mirror_folder(site)
    if not (folder / RECORD).exists():
        raise KosekiError(
            _("there is no package mirror"), str(folder), _("run `koseki mirror build`")
        )
    if site.watch_host:
        return len(_all_listed(folder))
    return _verify_folder(folder)


def valid_until(site: Site) -> datetime:
    """Return until when the mirror's signed lists hold, the earliest of them.

    One from before they had an end ends as long after it was made as a new one does. Raises
    KosekiError when a list is not signed, or says neither.
    """
    folder = mirror_folder(site)
    ends = []
    for base in (folder / "dists").iterdir():
        text = _signed_text(base / "InRelease", folder / KEYRING)
        fields = dict(re.findall(r"^(Date|Valid-Until): (.+)$", text, re.MULTILINE))
        try:
            made = parsedate_to_datetime(fields["Date"])
            end = parsedate_to_datetime(fields["Valid-Until"]) if "Valid-Until" in fields else None
        except (KeyError, ValueError) as error:
            raise _altered(base / "InRelease", _("without a date")) from error
        ends.append(end or made + timedelta(days=VALID_DAYS))
    if not ends:
        raise KosekiError(
            _("there is no package mirror"), str(folder), _("run `koseki mirror build`")
        )
    return min(ends)


def _altered(path: Path, why: str) -> KosekiError:
    return KosekiError(
        _("the package mirror is {why}").format(why=why),
        str(path),
        _("run `koseki mirror build --refresh`"),
    )


def _all_listed(folder: Path) -> dict[str, str]:
    """Return the hash of every package by file name, from lists whose signatures hold."""
    keyring = folder / KEYRING
    if not keyring.exists():
        raise _altered(keyring, _("without its key"))
    return dict(entry for base in (folder / "dists").iterdir() for entry in _listed(base, keyring))


def _verify_folder(folder: Path) -> int:
    listed = _all_listed(folder)
    pool = {f"pool/{path.name}": path for path in (folder / "pool").iterdir()}
    for name in sorted(listed.keys() - pool.keys()):
        raise _altered(folder / name, _("incomplete"))
    for name in sorted(pool.keys() - listed.keys()):
        raise _altered(folder / name, _("altered by an unsigned file"))
    with ThreadPoolExecutor() as workers:
        digests = workers.map(lambda name: (name, _sha256(pool[name])), listed)
        for name, digest in digests:
            if digest != listed[name]:
                raise _altered(folder / name, _("altered"))
    return len(listed)


def _listed(suite: Path, keyring: Path) -> Iterator[tuple[str, str]]:
    """Yield file name and hash of a suite's packages, its own indexes checked first."""
    release = _signed_text(suite / "InRelease", keyring)
    for digest, name in re.findall(r"^ ([0-9a-f]{64}) +\d+ (\S+)$", release, re.MULTILINE):
        index = suite / name
        if not index.exists() or _sha256(index) != digest:
            raise _altered(index, _("altered"))
        if index.name == "Packages":
            for stanza in index.read_text(encoding="utf-8").split("\n\n"):
                fields = dict(re.findall(r"^(Filename|SHA256): (\S+)$", stanza, re.MULTILINE))
                if fields:
                    yield fields["Filename"], fields["SHA256"]


# gpgv's exit codes for a bad signature, and for one of nobody's or none at all.
NOT_SIGNED = (1, 2)


def _signed_text(signed: Path, keyring: Path) -> str:
    if not signed.exists():
        raise _altered(signed, _("unsigned"))
    argv: list[str | Path] = [
        "gpgv",
        "--quiet",
        "--keyring",
        keyring.resolve(),
        "--output",
        "-",
        signed,
    ]
    done = ask(argv, answers=(0, *NOT_SIGNED))
    if done.code in NOT_SIGNED:
        raise _altered(signed, _("not signed by the platform's key"))
    return done.out.decode("utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
