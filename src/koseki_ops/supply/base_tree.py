"""The bare Debian tree that every lab machine starts from, made from the platform's own mirror."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import put_folder
from koseki_ops.core.language import _
from koseki_ops.core.progress import OnProgress
from koseki_ops.core.subprocesses import run
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.supply.mirror import KEYRING, VAULT_SUITE, mirror_folder, verify_mirror

RECIPE = "2"  # raise it when what is done to the tree changes
# Addresses are the installer's business on a real machine; the lab gives them by networkd.
UNITS = ("systemd-networkd.service",)


def _digest(site: Site, packages: Sequence[str], suite: str) -> str:
    parts = [RECIPE, *sorted(packages)]
    release = mirror_folder(site) / "dists" / suite / "InRelease"
    parts.append(hashlib.sha256(release.read_bytes()).hexdigest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def ensure_base_tree(site: Site, inventory: Inventory, on_progress: OnProgress) -> Path:
    """Return the tree of a bare machine, built if the mirror or the recipe has changed since.

    Raises KosekiError when the mirror is missing or does not verify.
    """
    # The smaller suite: in the larger one lies what some service pulls in although Debian calls it
    # required, and a bare machine would get that, too.
    return ensure_tree(site, inventory.platform.packages["base"], VAULT_SUITE, on_progress)


def ensure_tree(site: Site, packages: Sequence[str], suite: str, on_progress: OnProgress) -> Path:
    """Return a tree with these packages of one of the mirror's suites; built when it is not there.

    Raises KosekiError when the mirror is missing or does not verify.
    """
    release = mirror_folder(site) / "dists" / suite / "InRelease"
    if not release.exists():
        raise KosekiError(
            _("there is no package mirror"),
            str(mirror_folder(site)),
            _("run `koseki mirror build`"),
        )
    tree = site.var / "base" / _digest(site, packages, suite)
    if tree.is_dir():
        return tree
    verify_mirror(site)
    on_progress(_("base tree: building a bare Debian from the mirror"))
    aside = tree.with_name(f".{tree.name}.{os.getpid()}")
    aside.parent.mkdir(parents=True, exist_ok=True)
    mirror = mirror_folder(site)
    # copy: and not file:, since apt inside the tree cannot see this computer's folders.
    source = f"deb [signed-by={mirror / KEYRING}] copy:{mirror} {suite} main"
    try:
        run(
            [
                "mmdebstrap",
                "--mode=root",
                "--variant=minbase",
                f"--include={','.join(packages)}",
                suite,
                str(aside),
                source,
            ]
        )
        _finish(aside)
        # Whoever built it at the same time was quicker: the same tree.
        if not tree.is_dir():
            put_folder(aside, tree)
    finally:
        if aside.exists():
            shutil.rmtree(aside)
    return tree


def _finish(tree: Path) -> None:
    """Leave the tree as an installer leaves a machine that has never been started."""
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (tree / "etc/apt/sources.list").unlink(missing_ok=True)
    for unit in UNITS:
        wants = tree / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        link = wants / unit
        if not link.is_symlink():
            link.symlink_to(f"/usr/lib/systemd/system/{unit}")
