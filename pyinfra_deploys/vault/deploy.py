"""The two vaults: a room for the databases' uploads, and generations out of their reach.

By hand: pyinfra @koseki/lab pyinfra_deploys/vault/deploy.py
"""

from __future__ import annotations

import shlex
from pathlib import Path

from pyinfra import host
from pyinfra.api import StringCommand, deploy, operation
from pyinfra_deploys.foundation.accounts import VAULT_GROUP
from pyinfra_deploys.foundation.host_data import HostData
from pyinfra_deploys.foundation.operations import (
    Commands,
    File,
    FileStates,
    ShellAnswer,
    ask,
    ensure,
    put_files,
)
from pyinfra_deploys.foundation.templates import environment

from koseki_ops.drift.judge.declared import Declared
from koseki_ops.plan.model import Vault

HERE = Path(__file__).parent
KEY = "/etc/pgbackrest/id_ed25519"
KNOWN_HOSTS = "/etc/pgbackrest/known_hosts"
SSHD = "/etc/ssh/sshd_config.d/20-koseki-vault.conf"
SERVICE = "/etc/systemd/system/koseki-seal@.service"
TIMER = "/etc/systemd/system/koseki-seal@.timer"
# As Debian's own package makes it; here before the package, so that the key can be its.
POSTGRES = (
    "adduser --quiet --system --group --home /var/lib/postgresql --no-create-home "
    "--shell /bin/bash --gecos 'PostgreSQL administrator' postgres"
)


def keys_folder(data: HostData) -> Path:
    """Return where the workstation keeps the public halves of the databases' keys."""
    folder = data.site.state / "backup"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@operation()
def upload_key(data: HostData) -> Commands:
    """Keep a database host's own key for its uploads, and note its public half here."""
    if "databases" not in data.groups:
        return
    noted = keys_folder(data) / f"{data.name}.pub"
    declared = Declared.of(data.name)
    declared.file(KEY, None, "0600", "postgres", "postgres")
    declared.file(f"{KEY}.pub", None, "0644", "postgres", "postgres")
    state = ask(FileStates, paths=(KEY,))[KEY]
    if not state.startswith("600 postgres postgres "):
        yield StringCommand(
            f"getent passwd postgres >/dev/null || {POSTGRES}; "
            "mkdir -p -m 0755 /etc/pgbackrest; "
            f"[ -e {KEY} ] || ssh-keygen -q -t ed25519 -N '' -C {data.name} -f {KEY}; "
            f"chown postgres:postgres {KEY} {KEY}.pub; chmod 0600 {KEY}"
        )
    (public,) = ask(ShellAnswer, question=f"cat {KEY}.pub")
    if not noted.exists() or noted.read_text(encoding="ascii") != f"{public}\n":
        noted.write_text(f"{public}\n", encoding="ascii")


def authorized_keys(data: HostData) -> str:
    """Return the keys that may upload to a vault of this host, each from its own address only."""
    lines = ["# Managed by koseki (pyinfra, vault/). Do not edit."]
    for name in data.inventory.hosts_in("databases"):
        noted = keys_folder(data) / f"{name}.pub"
        if noted.exists():
            address = data.inventory.address_of(name, data.name)
            public = noted.read_text(encoding="ascii").strip()
            lines.append(f'restrict,from="{address}" {public}')
    return "\n".join(lines) + "\n"


@operation()
def upload_keys(data: HostData, vaults: list[Vault]) -> Commands:
    """Admit the databases' keys; they are read when the turn comes, since they may be new."""
    keys = authorized_keys(data)
    yield from put_files._inner(  # noqa: SLF001 - pyinfra's own way to call an operation inside another
        files=[File(f"/etc/ssh/vault-keys/{vault.account}", keys) for vault in vaults]
    )


def known_hosts(data: HostData) -> str:
    """Return the vaults' host keys as a database host must see them.

    A vault that no apply has met yet comes with the first one after that.
    """
    lines = []
    for row in data.value("vaults"):
        for name in data.inventory.hosts_in(row["group"]):
            public = data.site.state / "ssh" / "hosts" / f"{name}.pub"
            if not public.exists():
                continue
            address = data.inventory.address_of(name, data.name)
            key = " ".join(public.read_text(encoding="ascii").split()[:2])
            lines.append(f"{name},{address} {key}\n")
    return "".join(lines)


@deploy("Keep the databases' way to the vaults")
def uploader(data: HostData) -> None:
    """On a database host: the key, and the vaults' host keys; on any other nothing."""
    upload_key(name="Keep the key for uploads", data=data)
    put_files(
        name="Know the vaults",
        files=[File(KNOWN_HOSTS, known_hosts(data))] if "databases" in data.groups else [],
    )


def _owned(vault: Vault) -> list[tuple[str, str, dict[str, str]]]:
    """Return what a vault has on its host, for the host's manifest."""
    account = {"shell": "/usr/sbin/nologin", "password": "locked"}
    rights = {"type": "d", "content": ""}
    return [
        ("user", vault.account, account),
        ("file", vault.root, {**rights, "mode": "755", "owner": "root", "group": "root"}),
        (
            "file",
            f"{vault.root}/repo",
            {**rights, "mode": "700", "owner": vault.account, "group": vault.account},
        ),
    ]


@deploy("Keep the vaults")
def vault_rooms(data: HostData, vaults: list[Vault]) -> None:
    """On a vault's host: account, room, door, seal; on any other nothing."""
    render = environment(HERE / "templates")
    seal = data.value("vault_seal")
    wanted, change = [], []
    for vault in vaults:
        wanted.append(
            f"{vault.account} /usr/sbin/nologin {VAULT_GROUP} 755 root 700 {vault.account}"
        )
        root, account = shlex.quote(vault.root), vault.account
        change.append(
            f"getent passwd {account} >/dev/null || useradd --system --user-group "
            f"--home-dir / --no-create-home {account}; "
            f"usermod --shell /usr/sbin/nologin --groups {VAULT_GROUP} {account}; "
            f"usermod --lock {account}; mkdir -p {root}/repo; chown root:root {root}; "
            f"chmod 0755 {root}; chown {account}:{account} {root}/repo; chmod 0700 {root}/repo"
        )
    questions = [
        f'echo "$(getent passwd {v.account} | cut -d: -f1,7 | tr : " ") '
        f"$(id -nG {v.account} 2>/dev/null | tr ' ' '\\n' | grep -x {VAULT_GROUP}) "
        f"$(stat -c '%a %U' {shlex.quote(v.root)} 2>/dev/null) "
        f"$(stat -c '%a %U' {shlex.quote(v.root)}/repo 2>/dev/null)\""
        for v in vaults
    ]
    ensure(
        name="Keep the vault's account and room",
        question="; ".join(questions) or ":",
        wanted=wanted,
        change="; ".join(change) or ":",
        owns=[owned for vault in vaults for owned in _owned(vault)],
    )
    upload_keys(name="Admit the databases' keys", data=data, vaults=vaults)
    put_files(
        name="Keep the vault's door",
        files=[File(SSHD, render(SSHD, vaults=vaults))] if vaults else [],
        validate=f'sshd -t -f "$STAGE{SSHD}"',
        then="sshd -t && systemctl reload ssh.service",
        rollback_unless_reachable=True,
    )
    units = [f"koseki-seal@{vault.name}.timer" for vault in vaults]
    put_files(
        name="Keep the seal",
        files=[
            File("/usr/local/sbin/koseki-seal", (HERE / "files/koseki-seal").read_bytes(), "0755"),
            File(SERVICE, render(SERVICE)),
            File(TIMER, render(TIMER, minutes=seal["every_minutes"])),
            *(
                File(
                    f"/etc/koseki/vaults/{vault.name}.conf",
                    f"ROOT={vault.root}\nACCOUNT={vault.account}\n"
                    f"KEEP_GENERATIONS={seal['keep_generations']}\nKEEP_DAYS={seal['keep_days']}\n",
                )
                for vault in vaults
            ),
        ]
        if vaults
        else [],
        then="systemctl daemon-reload",
    )
    ensure(
        name="Seal by the clock",
        question="; ".join(
            f'echo "$(systemctl is-enabled {unit}) $(systemctl is-active {unit})"' for unit in units
        )
        or ":",
        wanted=["enabled active"] * len(units),
        change=f"systemctl enable --quiet --now {' '.join(units)}" if units else ":",
        owns=[("service", unit, {"active": "active"}) for unit in units],
    )


def vault() -> None:
    """Settle one host's part in the vaults."""
    data = HostData.of(host)
    vaults = [Vault.model_validate(row) for row in data.value("vaults")]
    uploader(data=data)
    vault_rooms(data=data, vaults=[vault for vault in vaults if vault.group in data.groups])


vault()
