"""The first contact with a host: whether it was met bare, and by which key it is known."""

from __future__ import annotations

from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_changed, write_private
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import run
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.trust.ssh_ca import files_of


def begin(site: Site, host: str) -> None:
    """Note that a host was met as its installer left it; its first manifest ends that.

    An apply that is broken off leaves no manifest, and the next one does not meet a bare host: by
    this note it still knows that everything there is the engines' own work.
    """
    write_private(_note(site, host), "")


def has_begun(site: Site, host: str) -> bool:
    """Say whether a host was met bare and has no manifest since."""
    return _note(site, host).exists()


def end(site: Site, host: str) -> None:
    """Forget that a host was met bare: what must be true on it is written down now."""
    _note(site, host).unlink(missing_ok=True)


def _note(site: Site, host: str) -> Path:
    return site.manifests / f"{host}.begun"


def pin(site: Site, inventory: Inventory, host: str, key: str) -> None:
    """Write down the public key that a host's console shows, in place of an older one.

    Such a host was made from an image: it lets the engines in, has no certificate yet, and holds
    nothing but their own work.
    """
    files = files_of(site)
    old = files.pinned.read_text(encoding="ascii").splitlines() if files.pinned.exists() else []
    lines = [line for line in old if line.split()[0] != host]
    files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_changed(files.pinned, "\n".join([*lines, f"{host} {key}"]) + "\n")
    begin(site, host)
    ensure_site_ssh(site, inventory)


def shown_key(site: Site, inventory: Inventory, host: str, fingerprint: str) -> str:
    """Return a host's public key as the line shows it, when it is the one that the console shows.

    fingerprint: `SHA256:` and 43 characters, read on the host's console by a person. Raises
    KosekiError when the host does not answer or another key does.
    """
    address = inventory.address_of(host, site.origin)
    scan = ["ssh-keyscan", "-t", "ed25519", "-T", "10", str(address)]
    lines = run([*_line_of(site), *scan]).splitlines()
    if not lines:
        raise KosekiError(
            _("{host} shows no ed25519 key").format(host=host),
            str(address),
            _("run `ssh-keyscan -t ed25519 {address}`, and check sshd on {host}").format(
                address=address, host=host
            ),
        )
    key = " ".join(lines[-1].split()[1:3])
    seen = run(["ssh-keygen", "-l", "-f", "-"], f"{key}\n").split()[1]
    if seen != fingerprint:
        raise KosekiError(
            _("{host} shows another key than its console").format(host=host),
            _("{seen}, not {fingerprint}").format(seen=seen, fingerprint=fingerprint),
            _("read the console again (docs/images.md); if they differ still, somebody intercepts"),
        )
    return key


def _line_of(site: Site) -> list[str]:
    """Return what a program stands behind to see a site's hosts."""
    return ["nsenter", f"--net=/run/netns/{site.netns}"] if site.is_lab else []
