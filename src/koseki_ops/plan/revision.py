"""What an apply is made from: the inventory, all that decides how a host is made, git's name of it.

A change in it that was not applied makes what must be true on the hosts stale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePath

import koseki_ops
from koseki_ops.core.git import git
from koseki_ops.plan.inventory import SECRETS_FILE
from koseki_ops.plan.site import Site

INPUTS = (
    "roles",
    "host_programs",
    "platform_schema",
    "pyinfra_deploys",
    "playbooks",
    "plugins",
)
# The package at work: a host that keeps watch has it installed.
PACKAGE, PACKAGE_NAME = Path(koseki_ops.__file__).parent, "src/koseki_ops"
TREE_DIGITS = FILE_DIGITS = 16
VAULT_OF_SECRETS = f"group_vars/all/{SECRETS_FILE}"


@dataclass(frozen=True)
class Inputs:
    """What an apply is made from.

    tree: its hash; commit: git's name of it, with `+` when files differ from that commit; files:
    each file's hash, to name what changed.
    """

    tree: str
    commit: str
    files: Mapping[str, str]


def digest_of(file: Path) -> str:
    """Return the hash by which an input is compared."""
    return sha256(file.read_bytes()).hexdigest()[:FILE_DIGITS]


def inputs_of(site: Site) -> Inputs:
    """Return what an apply would be made from now."""
    inventory = str(site.inventory.relative_to(site.root))
    places = {name: site.root / name for name in (inventory, *INPUTS)} | {PACKAGE_NAME: PACKAGE}
    files = {}
    for place, start in places.items():
        for path, _folders, names in start.walk(follow_symlinks=True):
            if path.name == "__pycache__":
                continue
            for name in names:
                file = path / name
                # A link may lead to a group that has no values.
                if file.suffix != ".pyc" and file.is_file():
                    shown = PurePath(place, file.relative_to(start))
                    files[str(shown)] = digest_of(file)
    if site.watch_host and site.watch_host.secrets_digest:
        # The one input that is not there; by its hash it is compared all the same.
        files[f"{inventory}/{VAULT_OF_SECRETS}"] = site.watch_host.secrets_digest
    listed = "\n".join(f"{name} {files[name]}" for name in sorted(files))
    tree = sha256(listed.encode()).hexdigest()[:TREE_DIGITS]
    if site.watch_host:
        return Inputs(tree, site.watch_host.commit, files)
    return Inputs(tree, _commit(site.root, list(places)), files)


def _commit(root: Path, places: list[str]) -> str:
    """Return git's commit, `+` behind it when these places differ from it; empty without git."""
    if not (root / ".git").exists():
        return ""
    head = git(root, "rev-parse", "HEAD").text.strip()
    # 1: they differ.
    same = git(root, "diff", "--quiet", "HEAD", "--", *places, answers=(0, 1))
    return head[:12] + ("+" if same.code else "")
