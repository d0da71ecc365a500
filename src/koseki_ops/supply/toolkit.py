"""What a host that keeps watch is given: the toolkit, its Python packages, what it asks with.

The toolkit and its packages are the baseline's (`pyinfra_deploys/watch_host/`), compared by one
hash each. What the engines note here while they work (host keys, certificates, manifests) is
handed over when they have ended. No authority's private key leaves the control node.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from koseki_ops.core.environment import for_fetching
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import put_folder
from koseki_ops.core.language import _
from koseki_ops.core.progress import OnProgress
from koseki_ops.core.subprocesses import run
from koseki_ops.plan.inventory import SECRETS_FILE, Inventory
from koseki_ops.plan.revision import digest_of, inputs_of
from koseki_ops.plan.site import WATCH_HOST_FILE, Site, WatchHost
from koseki_ops.remote.run import Result
from koseki_ops.remote.run import run as run_on
from koseki_ops.supply.mirror import mirror_folder
from koseki_ops.trust.secrets import secret_values, secrets_file
from koseki_ops.trust.ssh_ca import WATCH_HOSTS

LOCK = "requirements-watch.lock"
PYTHON = "3.13"  # Debian 13's own
# Places on the host: what root alone writes, and what the watch writes.
TOOLKIT, VENV, STATE = "/opt/koseki/toolkit", "/opt/koseki/venv", "/var/lib/koseki-watch"
ACCOUNT = "koseki-watch"
HANDED_OVER = f"{STATE}/.handed-over"
# What of the checkout goes to a host, the package itself as a wheel: the suites work there, by the
# others it is known what an apply would be made from.
FOLDERS = (
    "host_programs",
    "inventories",
    "platform_schema",
    "playbooks",
    "plugins",
    "pyinfra_deploys",
    "roles",
    "tests/testinfra",
)
FILES = ("ansible.cfg", "pyproject.toml")
PACKAGE = ("src", "pyproject.toml", "README.md", "LICENSE")
LEFT_OUT = ("__pycache__", "koseki_ops.egg-info")
# What of the site's state is handed over: no key that signs or opens anything, never a log.
NOTED = (
    "ssh/known_hosts",
    "ssh/user_ca.pub",
    "ssh/host_ca.pub",
    "ssh/hosts/*.pub",
    "ssh/uploads/*.pub",
    "pki/ca.crt",
    "cluster/ca.crt",
    "roles/ca.crt",
    "drift/manifests/*.json",
    # By the contents that the manifests speak of differences are shown.
    "drift/contents/*/*",
    "terminals/authority.pem",
    "link/*.pub",
    "drift/signing.pub",
    "drift/waivers.signed",
    # By it a sweep tells that a rehearsal is overdue.
    "evidence/rehearsals.jsonl*",
    # With it what is secret on a host is compared without being known.
    "drift/hash.key",
)
CONTENT = re.compile(r"[0-9a-f]{64}")
# What ssh says of a host that has not met us yet.
NOT_KNOWN = "Permission denied"
# What is handed over is root's, and the watch reads it: who runs as the watch cannot exchange what
# the watch verifies by. It writes beside it, in folders whose sticky bit lets it remove its own
# files alone. Laid beside first, so that a sweep never finds half; then what is not handed over any
# more goes, from folders that are root's.
TAKE_OVER = f"""set -eu; umask 077; cd {STATE}
listed=$(mktemp /run/koseki-listed.XXXXXX); trap 'rm -f "$listed"' EXIT
rm -rf .new; mkdir .new; tar -x --no-same-owner -f - -C .new; cd .new
find * -type f | sort >"$listed"
rooms='mirror SITE/ssh/hosts SITE/ssh/uploads SITE/pki SITE/cluster SITE/roles'
rooms="$rooms SITE/terminals SITE/link SITE/drift/manifests SITE/drift/contents"
mkdir -p $rooms; chown -R root:{ACCOUNT} .
find . -type f -exec chmod 0640 {{}} +; find . -type d -exec chmod 0750 {{}} +
chmod 1770 . SITE SITE/ssh SITE/drift
cd ..; cp -a --remove-destination .new/. .; rm -rf .new
find $rooms -type f | sort | comm -23 - "$listed" | xargs -r rm
"""


def watch_hosts(inventory: Inventory) -> list[str]:
    """Return the hosts that keep watch."""
    return inventory.hosts_in(WATCH_HOSTS)


# Its Python packages.


def wheelhouse(site: Site) -> Path:
    """Return where the packages of today's lock are kept, whether or not they are there."""
    digest = hashlib.sha256((site.root / LOCK).read_bytes()).hexdigest()
    return site.var / "wheelhouse" / digest[:16]


def build_wheelhouse(site: Site, on_progress: OnProgress) -> None:
    """Collect the packages that the lock names, from wherever this machine's pip is configured to.

    pip holds each against its hash; built aside, so that an interrupt leaves nothing half done.
    """
    folder = wheelhouse(site)
    if folder.exists():
        return
    on_progress(_("package mirror: fetching the toolkit's own packages"))
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        run(
            [
                *(sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check"),
                *("--no-deps", "--require-hashes", "--only-binary=:all:"),
                *("--python-version", PYTHON, "-r", str(site.root / LOCK), "-d", str(aside)),
            ],
            env=for_fetching(),
        )
        put_folder(aside, folder)
    finally:
        if aside.exists():
            shutil.rmtree(aside)


def wheels_bundle(site: Site) -> bytes:
    """Return the packages and their lock as a tar file."""
    folder = wheelhouse(site)
    if not folder.exists():
        raise KosekiError(
            _("the toolkit's own packages are missing"), str(folder), _("run `koseki mirror build`")
        )
    members = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return bundle({**members, LOCK: (site.root / LOCK).read_bytes()})


# The toolkit.


def toolkit_sources(site: Site) -> Iterator[tuple[str, Path]]:
    """Yield name and path of everything that makes the toolkit on a host what it is."""
    for name in (*FILES, *PACKAGE):
        if (site.root / name).is_file():
            yield name, site.root / name
    for folder in (*FOLDERS, "src"):
        for path in sorted((site.root / folder).rglob("*")):
            place = path.relative_to(site.root)
            there = path.is_symlink() or not path.is_dir()
            if there and not set(place.parts) & set(LEFT_OUT):
                yield str(place), path


def content_of(path: Path) -> bytes:
    """Return what makes a path what it is: its content, or where it leads."""
    return os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()


def toolkit_digest(site: Site, host: str) -> str:
    """Return one hash over the toolkit as this host should have it."""
    digest = hashlib.sha256(watch_host_file(site, host))
    for name, path in toolkit_sources(site):
        if _goes(name):
            digest.update(f"\0{name}\0".encode() + hashlib.sha256(content_of(path)).digest())
    return digest.hexdigest()


def _goes(name: str) -> bool:
    """Say whether a file goes to the host: a vault of secrets never does."""
    return not name.endswith(f"/{SECRETS_FILE}")


def watch_host_file(site: Site, host: str) -> bytes:
    """Return what the toolkit is told about where it is."""
    vault = secrets_file(site)
    secrets_digest = digest_of(vault) if vault.is_file() else ""
    commit = inputs_of(site).commit
    watch_host = WatchHost(host, site.inventory_name, site.name, commit, secrets_digest)
    return json.dumps(vars(watch_host), indent=1).encode() + b"\n"


def toolkit_bundle(site: Site, host: str) -> bytes:
    """Return the toolkit as a tar file: its package as a wheel, the rest as it is."""
    with tempfile.TemporaryDirectory(prefix="koseki-wheel-") as folder:
        copy, made = Path(folder) / "copy", Path(folder) / "made"
        for part in PACKAGE:
            source, target = site.root / part, copy / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        pip = [sys.executable, "-m", "pip", "wheel", "-qq", "--disable-pip-version-check"]
        run([*pip, "--no-deps", "--no-build-isolation", "--no-index", "-w", str(made), str(copy)])
        members = {path.name: path for path in made.iterdir()} | {
            name: path
            for name, path in toolkit_sources(site)
            if not name.startswith("src/") and _goes(name)
        }
        return bundle({**members, WATCH_HOST_FILE: watch_host_file(site, host)})


# What is handed over.


def noted(site: Site) -> dict[str, Path]:
    """Return what a host that keeps watch must know of this site, by its place below `var`.

    A content that holds a value of the vault is none of it: its difference is shown here alone.
    """
    hidden = [value.encode() for value in secret_values(site)]
    found = {
        f"{site.name}/{path.relative_to(site.state)}": path
        for pattern in NOTED
        for path in sorted(site.state.glob(pattern))
        if not (CONTENT.fullmatch(path.name) and _holds(path, hidden))
    }
    mirror = mirror_folder(site)
    for pattern in ("*.gpg", "*.json", "dists/*/*Release", "dists/*/main/*/Packages*"):
        found |= {f"mirror/{p.relative_to(mirror)}": p for p in sorted(mirror.glob(pattern))}
    return found


def _holds(path: Path, values: Iterable[bytes]) -> bool:
    content = path.read_bytes()
    return any(value in content for value in values)


def hand_over(site: Site, host: str) -> str:
    """Give a host that keeps watch what the engines noted here; return why it could not be.

    One question; sent only when it differs.
    """
    members = noted(site)
    take_over = TAKE_OVER.replace("SITE", site.name)
    # Another way to lay them down is another hand-over.
    digest = hashlib.sha256(take_over.encode())
    for name, path in sorted(members.items()):
        # What lies under its own hash needs no other.
        content = b"" if CONTENT.fullmatch(path.name) else path.read_bytes()
        digest.update(f"\0{name}\0".encode() + hashlib.sha256(content).digest())
    wanted = digest.hexdigest()
    done = _on(site, host, f"cat {HANDED_OVER} 2>/dev/null || echo nothing")
    if done.code == 0 and done.stdout.strip() != wanted:
        done = _on(site, host, f"{take_over}echo {wanted} >{HANDED_OVER}", bundle(members))
    return done.reason if done.code else ""


def _on(site: Site, host: str, script: str, stdin: bytes = b"") -> Result:
    return run_on(site, host, f"sudo -n sh -c {shlex.quote(script)}", stdin)


def bundle(members: Mapping[str, bytes | Path]) -> bytes:
    """Return a tar file of members by name: bytes, or a path (a link stays a link)."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, content in members.items():
            if isinstance(content, Path):
                tar.add(content, name, recursive=False, filter=_anonymous)
            else:
                row = tarfile.TarInfo(name)
                row.size = len(content)
                tar.addfile(row, io.BytesIO(content))
    return whole.getvalue()


def _anonymous(row: tarfile.TarInfo) -> tarfile.TarInfo:
    row.uid = row.gid = 0
    row.uname = row.gname = "root"
    return row
