"""The vault of secrets of an inventory: one whole file, real variable names.

Encrypted with Ansible's own vault format, so that Ansible reads it as it is. Its password comes
from a file, or from a command (an executable file whose standard output is the password); never
from the repository.
"""

from __future__ import annotations

import os
import secrets as random_source
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_private
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import ask
from koseki_ops.plan.inventory import SECRETS_FILE, Inventory
from koseki_ops.plan.site import Site

# The classes of characters that a policy for passwords counts; a drawn one has some of each.
CLASSES = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "-_")
# 32 characters of 64: 190 bits, above the 128 that AES-256's pass phrases are stretched for.
LENGTH = 32
# What is shorter would be found, and hidden, in words that have nothing to do with it.
SHORTEST_SECRET = 6


def secrets_file(site: Site) -> Path:
    """Return where the encrypted secrets of a site's inventory live."""
    return site.inventory / "group_vars" / "all" / SECRETS_FILE


def read_password(site: Site) -> bytes:
    """Return the vault password from its file or command.

    Raises KosekiError when it is missing, empty, or its command fails.
    """
    path = site.vault_password_file
    if not path.exists():
        raise KosekiError(
            _("the vault password is missing"),
            str(path),
            _(
                "put it there, or name its file or command in KOSEKI_VAULT_PASSWORD_FILE; "
                "`koseki secrets init` makes a new one with new secrets"
            ),
        )
    if os.access(path, os.X_OK):

        def failed(reason: str) -> KosekiError:
            return KosekiError(
                _("the command for the vault password failed"),
                f"{path}: {reason}",
                _("run `{path}` by hand and remove the cause").format(path=path),
            )

        password = ask([path], error=failed).out.strip()
    else:
        password = path.read_bytes().strip()
    if not password:
        raise KosekiError(
            _("the vault password is empty"),
            str(path),
            _("restore it from escrow (docs/operations/installation.md)"),
        )
    return password


def load_secrets(site: Site) -> dict[str, Any]:
    """Return the decrypted secrets by variable name.

    Raises KosekiError when the file or the password is missing, or the password is wrong.
    """
    path = secrets_file(site)
    if not path.exists():
        raise KosekiError(
            _("the inventory has no secrets"), str(path), _("run `koseki secrets init` first")
        )
    password = read_password(site)
    # Ansible takes a third of a second to import; only those who need secrets pay for it.
    from ansible.errors import AnsibleError  # noqa: PLC0415
    from ansible.parsing.vault import VaultLib, VaultSecret  # noqa: PLC0415

    try:
        text = VaultLib([("default", VaultSecret(password))]).decrypt(path.read_bytes())
    except AnsibleError as error:
        raise KosekiError(
            _("the vault password does not open the secrets"),
            _("{path} with {vault_password_file}").format(
                path=path, vault_password_file=site.vault_password_file
            ),
            _("name the right password in KOSEKI_VAULT_PASSWORD_FILE"),
        ) from error
    content = yaml.safe_load(text)
    if not isinstance(content, dict):
        raise KosekiError(
            _("the secrets are not a mapping"),
            str(path),
            _("restore the file: `git restore`"),
        )
    return content


def secret_values(site: Site) -> list[str]:
    """Return the values of a site's secrets, so that none is shown or handed on.

    None on a host that keeps watch: no vault is there. Raises as `load_secrets` does.
    """
    found: list[str] = []

    def gather(value: object) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                gather(inner)
        elif isinstance(value, list):
            for inner in value:
                gather(inner)
        elif len(str(value)) >= SHORTEST_SECRET:
            found.append(str(value))

    gather({} if site.watch_host else load_secrets(site))
    return found


def wanted_secrets(inventory: Inventory) -> dict[str, Any]:
    """Return the names of the secrets that an inventory asks for; a mapping where rows matter."""
    platform = inventory.platform
    wanted: dict[str, Any] = {"pki_ca_passphrase": None, "boot_loader_password": None}
    for vault in platform.vaults:
        wanted[vault.cipher_secret] = None
    wanted["operator_initial_passwords"] = {row.id: None for row in platform.operators}
    return wanted


def drawn() -> str:
    """Return a new secret that our own policy for passwords accepts, whatever is drawn.

    It has each class, and begins with a letter or a digit, so that no program takes it for an
    option; those that are thrown away cost a bit and a half of chance.
    """
    while True:
        found = "".join(random_source.choice("".join(CLASSES)) for _ in range(LENGTH))
        if found[0].isalnum() and all(set(found) & set(letters) for letters in CLASSES):
            return found


def _filled(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Return `present` with every missing secret made, and how many were made."""
    result, made = dict(present), 0
    for name, rows in wanted.items():
        if rows is not None:
            result[name], more = _filled(rows, present.get(name) or {})
            made += more
        elif not present.get(name):
            result[name] = drawn()
            made += 1
    return result, made


def init_secrets(site: Site) -> int:
    """Make the vault password and every secret that is missing; return how many were made.

    What is there stays: running it again after an operator joined adds that operator's row.
    """
    from ansible.parsing.vault import VaultLib, VaultSecret  # noqa: PLC0415

    path, password_file = secrets_file(site), site.vault_password_file
    if path.exists():
        present = load_secrets(site)
    else:
        present = {}
        if not password_file.exists():
            password_file.parent.mkdir(parents=True, exist_ok=True)
            write_private(password_file, random_source.token_urlsafe(LENGTH).encode() + b"\n")
    content, made = _filled(wanted_secrets(Inventory(site.inventory)), present)
    if made:
        vault = VaultLib([("default", VaultSecret(read_password(site)))])
        plain = yaml.safe_dump(content, allow_unicode=True, sort_keys=True)
        write_private(path, vault.encrypt(plain))
    return made
