"""A second lab from one provisioning: another root with the same site, on the same snapshot.

The other root is a checkout of its own, with its own network namespace, sockets and machines, so
that plan and roles can be changed in it. It shares what nobody changes (mirror, base tree,
wheelhouse, secrets' password) and reads the snapshot's layers; all else is a copy.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.git import git
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import run
from koseki_ops.lab.lab import Lab
from koseki_ops.plan.site import Site

# Of the site's state: what a lab makes anew when it starts, and what is written while it runs.
OWN = ("hosts", "snapshots", "reports", "lab.json", "lab.lock", "apply.lock", "mirror.log")
SHARED = ("base", "keys", "mirror", "secrets", "wheelhouse")
# Secrets are encrypted, and in no repository.
UNTRACKED = ("inventories/lab/group_vars/all/secrets.yml",)


def clone(site: Site, snapshot: str, root: Path) -> Site:
    """Make `root` another root of this site as it is now, and return it; no machine starts.

    A lab that an earlier clone left running there is taken down first. `Lab.restore` with the
    same snapshot's name boots the hosts. Raises KosekiError when this lab has no such snapshot.
    """
    layers = site.state / "snapshots" / snapshot / "layers.json"
    if not layers.exists():
        raise KosekiError(_("no such snapshot"), snapshot, _("make one with `koseki lab snapshot`"))
    other = replace(site, root=root)
    if root.exists():
        if (root / "inventories").exists():
            Lab(other).down()
        shutil.rmtree(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    # The same commit, so that what both would apply has the same name; then what differs from it.
    run(["git", "clone", "--quiet", "--shared", "--no-checkout", str(site.root), str(root)])
    git(root, "checkout", "--quiet", "--detach", _commit(site.root))
    for name in _listed(site.root, "--modified", "--others", "--exclude-standard"):
        _copy(site.root / name, root / name)
    for name in UNTRACKED:
        _copy(site.root / name, root / name)
    for name in SHARED:
        (root / "var").mkdir(exist_ok=True)
        (root / "var" / name).symlink_to(site.var / name)

    def left_out(folder: str, _names: list[str]) -> tuple[str, ...]:
        return OWN if Path(folder) == site.state else ()

    shutil.copytree(site.state, other.state, symlinks=True, ignore=left_out)
    kept = other.state / "snapshots" / snapshot
    kept.mkdir(parents=True)
    shutil.copyfile(layers, kept / layers.name)
    return other


def _commit(root: Path) -> str:
    return git(root, "rev-parse", "HEAD").text.strip()


def _listed(root: Path, *which: str) -> list[str]:
    listed = git(root, "ls-files", "-z", *which).text
    return [name for name in listed.split("\0") if name]


def _copy(source: Path, target: Path) -> None:
    """Bring a file as it is here: changed, new, or gone."""
    target.unlink(missing_ok=True)
    if source.exists() or source.is_symlink():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
