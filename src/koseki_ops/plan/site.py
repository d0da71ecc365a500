"""A site: one inventory on particular machines, with its state on this workstation."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.plan.inventory import WORKSTATION

LAB_INVENTORY = "lab"
# What a site's workshop is called: the machines of an image while it is made or checked.
BUILD_LAB = "-image"
NAME_PATTERN = re.compile(rf"[a-z][a-z0-9-]{{0,19}}({BUILD_LAB})?")
RESERVED_NAMES = frozenset({"mirror", "keys", "base", "reports", "roots", "secrets", "wheelhouse"})
# Beside pyproject.toml where an apply has put the toolkit on a host that keeps watch.
WATCH_HOST_FILE = "station.json"


# What no program between here and a host reads as anything but a part of a name: ssh expands `%`,
# a list of paths ends at `:`, a command line at a blank. tools/set-up refuses the same.
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+@=~-]*")


def project_root() -> Path:
    """Return the checkout: the nearest directory with `inventories/`, or `KOSEKI_ROOT`.

    Raises KosekiError when there is none, or in a path that ssh, Ansible or a shell would misread.
    """
    if chosen := os.environ.get("KOSEKI_ROOT"):
        return _plain(Path(chosen).resolve())
    here = Path.cwd().resolve()
    for candidate in (here, *here.parents, *Path(__file__).resolve().parents):
        if (candidate / "inventories").is_dir() and (candidate / "pyproject.toml").is_file():
            return _plain(candidate)
    raise KosekiError(
        _("no checkout of the toolkit found"),
        _("looked upwards from {here}").format(here=here),
        _("change into the checkout (`cd`)"),
    )


def _plain(root: Path) -> Path:
    if not PLAIN_PATH.fullmatch(str(root)):
        raise KosekiError(
            _("ssh and Ansible would misread the checkout's path"),
            str(root),
            _("move it to a path of ASCII letters, digits and `. _ + @ = ~ -`, as `/srv/koseki`"),
        )
    return root


@dataclass(frozen=True)
class WatchHost:
    """What the toolkit was told when it was put on a host that keeps watch.

    host: this host's name in the inventory; inventory, name: the site that it watches; commit: the
    checkout's, empty when that was none of git's; secrets_digest: the hash of the inventory's vault
    of secrets as it is encrypted, empty without one. The vault itself does not go along.
    """

    host: str
    inventory: str
    name: str
    commit: str
    secrets_digest: str = ""


def watch_host_of(root: Path) -> WatchHost | None:
    """Return what was told to the toolkit at `root`, or None on the control node."""
    file = root / WATCH_HOST_FILE
    if not file.exists():
        return None
    try:
        return WatchHost(**json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise KosekiError(
            _("the toolkit does not know which host it is on"),
            f"{file}: {error}",
            _("run `koseki apply` on the control node"),
        ) from error


@dataclass(frozen=True)
class Site:
    """One inventory on particular machines.

    root: the checkout; inventory_name: a folder below `inventories/`; name: the lab's name, or
    the inventory's for anything that is not a lab; watch_host: set where the toolkit itself was put
    by an apply, on a host that keeps watch: there it asks, and neither signs nor changes.
    """

    root: Path
    inventory_name: str
    name: str
    watch_host: WatchHost | None = None

    @classmethod
    def open(cls, inventory_name: str | None = None, name: str | None = None) -> Site:
        """Return the site for an inventory (default `lab`) and a lab name (default `lab`).

        On a host that keeps watch there is one site, which is the default.
        """
        root = project_root()
        watch_host = watch_host_of(root)
        if watch_host:
            inventory_name, name = inventory_name or watch_host.inventory, name or watch_host.name
            if (inventory_name, name) != (watch_host.inventory, watch_host.name):
                raise KosekiError(
                    _("{host} watches another site").format(host=watch_host.host),
                    f"{inventory_name} {name}",
                    _("leave -i and --name out: {inventory} {watch_host} is meant").format(
                        inventory=watch_host.inventory, watch_host=watch_host.name
                    ),
                )
            return cls(root, inventory_name, name, watch_host)
        inventory_name = inventory_name or LAB_INVENTORY
        if not (root / "inventories" / inventory_name / "hosts.yml").is_file():
            known = sorted(p.parent.name for p in (root / "inventories").glob("*/hosts.yml"))
            raise KosekiError(
                _("unknown inventory"),
                inventory_name,
                _("give -i one of {known}").format(known=", ".join(known)),
            )
        if name and inventory_name != LAB_INVENTORY and name != inventory_name + BUILD_LAB:
            raise KosekiError(
                _("only a lab takes a name"),
                _("{name} for {inventory_name}").format(name=name, inventory_name=inventory_name),
                _("leave --name out"),
            )
        name = name or inventory_name
        if not NAME_PATTERN.fullmatch(name) or name in RESERVED_NAMES:
            raise KosekiError(
                _("unusable lab name"),
                name,
                _(
                    "give --name up to 20 of a-z, 0-9 and -, starting with a letter, and "
                    "none of {reserved_names}"
                ).format(reserved_names=", ".join(sorted(RESERVED_NAMES))),
            )
        return cls(root, inventory_name, name)

    @property
    def is_lab(self) -> bool:
        """Whether the machines are this toolkit's own, in a namespace on this computer."""
        own = self.inventory_name == LAB_INVENTORY or self.name.endswith(BUILD_LAB)
        return own and self.watch_host is None

    @property
    def build_lab(self) -> Site:
        """The site, of the same inventory, whose machines are images being made or tested."""
        return replace(self, name=self.name + BUILD_LAB)

    @property
    def main(self) -> Site:
        """The site itself or, of a build lab, the one whose authorities and records it uses."""
        return replace(self, name=self.name.removesuffix(BUILD_LAB))

    @property
    def origin(self) -> str:
        """The end of the plan's flows that this toolkit stands at."""
        return self.watch_host.host if self.watch_host else WORKSTATION

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
    def drift(self) -> Path:
        """What drift is told from, and the key that signs it."""
        return self.state / "drift"

    @property
    def manifests(self) -> Path:
        """Where it is written down what must be true on each host."""
        return self.drift / "manifests"

    @property
    def vault_password_file(self) -> Path:
        """The password of this inventory's vault of secrets (`KOSEKI_VAULT_PASSWORD_FILE`)."""
        if chosen := os.environ.get("KOSEKI_VAULT_PASSWORD_FILE"):
            return Path(chosen)
        return self.var / "secrets" / f"{self.inventory_name}.password"
