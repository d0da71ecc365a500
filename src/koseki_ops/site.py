"""A site: one inventory on particular machines, with its state on this workstation."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from koseki_ops.errors import KosekiError

LAB_INVENTORY = "lab"
NAME_PATTERN = re.compile(r"[a-z][a-z0-9-]{0,19}")
RESERVED_NAMES = frozenset({"mirror", "keys", "base", "secrets"})


def project_root() -> Path:
    """Return the checkout: the nearest directory with `inventories/`, or `KOSEKI_ROOT`."""
    if chosen := os.environ.get("KOSEKI_ROOT"):
        return Path(chosen).resolve()
    here = Path.cwd().resolve()
    for candidate in (here, *here.parents, *Path(__file__).resolve().parents):
        if (candidate / "inventories").is_dir() and (candidate / "pyproject.toml").is_file():
            return candidate
    raise KosekiError(
        "no checkout of the toolkit found", f"looked upwards from {here}", "change into it"
    )


@dataclass(frozen=True)
class Site:
    """One inventory on particular machines.

    root: the checkout; inventory_name: a folder below `inventories/`; name: the lab's name, or
    the inventory's for anything that is not a lab.
    """

    root: Path
    inventory_name: str
    name: str

    @classmethod
    def open(cls, inventory_name: str | None = None, name: str | None = None) -> Site:
        """Return the site for an inventory (default `lab`) and a lab name (default `lab`)."""
        root = project_root()
        inventory_name = inventory_name or LAB_INVENTORY
        if not (root / "inventories" / inventory_name / "hosts.yml").is_file():
            known = sorted(p.parent.name for p in (root / "inventories").glob("*/hosts.yml"))
            raise KosekiError(
                "unknown inventory", inventory_name, f"choose one of {', '.join(known)}"
            )
        if name and inventory_name != LAB_INVENTORY:
            raise KosekiError(
                "only a lab takes a name", f"{name} for {inventory_name}", "leave --name out"
            )
        name = name or inventory_name
        if not NAME_PATTERN.fullmatch(name) or name in RESERVED_NAMES:
            raise KosekiError(
                "unusable lab name",
                name,
                "use up to 20 of a-z, 0-9 and -, starting with a letter, and none of "
                + ", ".join(sorted(RESERVED_NAMES)),
            )
        return cls(root, inventory_name, name)

    @property
    def is_lab(self) -> bool:
        """Whether the machines are this toolkit's own lab."""
        return self.inventory_name == LAB_INVENTORY

    @property
    def inventory(self) -> Path:
        """The inventory's folder."""
        return self.root / "inventories" / self.inventory_name

    @property
    def var(self) -> Path:
        """What all sites of this checkout share: mirror, keys, base trees."""
        return self.root / "var"

    @property
    def state(self) -> Path:
        """What belongs to this site alone."""
        return self.var / self.name

    @property
    def checkout_id(self) -> str:
        """Six hex digits that tell this checkout from another on the same machine."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:6]

    @property
    def netns(self) -> str:
        """The network namespace of this lab."""
        return f"koseki-{self.checkout_id}-{self.name}"

    @property
    def run_dir(self) -> Path:
        """Sockets: a short path, because a socket's name is limited to 107 bytes."""
        return Path("/run/koseki") / f"{self.checkout_id}-{self.name}"

    @property
    def ssh_config(self) -> Path:
        """The one SSH configuration of this site."""
        return self.state / "ssh" / "config"

    @property
    def vault_password_file(self) -> Path:
        """The password of this inventory's vault of secrets (`KOSEKI_VAULT_PASSWORD_FILE`)."""
        if chosen := os.environ.get("KOSEKI_VAULT_PASSWORD_FILE"):
            return Path(chosen)
        return self.var / "secrets" / f"{self.inventory_name}.password"
