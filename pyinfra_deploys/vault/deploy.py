"""The two vaults: a room for the databases' uploads, and generations out of their reach.

By hand: pyinfra @koseki/lab pyinfra_deploys/vault/deploy.py
"""

from __future__ import annotations

import shlex
from pathlib import Path

from pyinfra import host
from pyinfra.api import deploy
from pyinfra_deploys.baseline.accounts import VAULT_GROUP
from pyinfra_deploys.baseline.host_data import HostData
from pyinfra_deploys.baseline.operations import File, ensure, put_files
from pyinfra_deploys.baseline.templates import environment

from koseki_ops.plan.host_programs import program_files
from koseki_ops.plan.model import Vault
from koseki_ops.trust.ssh_ca import admitted_uploads

render = environment(Path(__file__).parent / "templates")
OWNER = "# Managed by koseki (pyinfra, vault/). Do not edit.\n"
SSHD = "/etc/ssh/sshd_config.d/20-koseki-vault.conf"
SERVICE = "/etc/systemd/system/koseki-seal@.service"
TIMER = "/etc/systemd/system/koseki-seal@.timer"


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


def _question(vault: Vault) -> str:
    """Return the command that tells how a vault's account and room are."""
    account, root = vault.account, shlex.quote(vault.root)
    return (
        f'echo "$(getent passwd {account} | cut -d: -f1,7 | tr : " ") '
        f"$(id -nG {account} 2>/dev/null | tr ' ' '\\n' | grep -x {VAULT_GROUP}) "
        f"$(stat -c '%a %U' {root} 2>/dev/null) "
        f"$(stat -c '%a %U' {root}/repo 2>/dev/null)\""
    )


def _change(vault: Vault) -> str:
    """Return the command that makes a vault's account and room, or mends them."""
    account, root = vault.account, shlex.quote(vault.root)
    return (
        f"getent passwd {account} >/dev/null || useradd --system --user-group "
        f"--home-dir / --no-create-home {account}; "
        f"usermod --shell /usr/sbin/nologin --groups {VAULT_GROUP} {account}; "
        f"usermod --lock {account}; mkdir -p {root}/repo; chown root:root {root}; "
        f"chmod 0755 {root}; chown {account}:{account} {root}/repo; chmod 0700 {root}/repo"
    )


def _seal_files(data: HostData, vaults: list[Vault]) -> list[File]:
    """Return the program that seals, when it runs, and what it is to seal."""
    if not vaults:
        return []
    seal = data.plan.vault_seal
    programs = program_files(data.site.root, "koseki_seal")
    return [
        *(File(file.path, file.source.read_bytes(), file.mode) for file in programs),
        File(SERVICE, render(SERVICE)),
        File(TIMER, render(TIMER, minutes=seal.every_minutes)),
        *(
            File(
                f"/etc/koseki/vaults/{vault.name}.conf",
                f"ROOT={vault.root}\nACCOUNT={vault.account}\n"
                f"KEEP_GENERATIONS={seal.keep_generations}\nKEEP_DAYS={seal.keep_days}\n",
            )
            for vault in vaults
        ),
    ]


@deploy("Keep the vaults")
def vault_rooms(data: HostData, vaults: list[Vault]) -> None:
    """On a vault's host: account, room, door, seal; on any other nothing."""
    ensure(
        name="Keep the vault's account and room",
        question="; ".join(map(_question, vaults)) or ":",
        wanted=[
            f"{vault.account} /usr/sbin/nologin {VAULT_GROUP} 755 root 700 {vault.account}"
            for vault in vaults
        ],
        change="; ".join(map(_change, vaults)) or ":",
        owns=[owned for vault in vaults for owned in _owned(vault)],
    )
    keys = f"{OWNER}{admitted_uploads(data.site, data.inventory, data.name)}"
    put_files(
        name="Admit the databases",
        files=[File(f"/etc/ssh/vault-keys/{vault.account}", keys) for vault in vaults],
    )
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
        files=_seal_files(data, vaults),
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
    vaults = data.plan.vaults
    vault_rooms(data=data, vaults=[vault for vault in vaults if vault.group in data.groups])


vault()
