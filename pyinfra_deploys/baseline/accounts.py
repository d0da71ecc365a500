"""Who may work on a host: the engines' account, the operators, and nobody else."""

from __future__ import annotations

import shlex
from datetime import date
from io import BytesIO

from pyinfra import host
from pyinfra.api import FileUploadCommand, StringCommand, deploy, operation
from pyinfra_deploys.baseline.host_data import HostData, OperatorAccount
from pyinfra_deploys.baseline.operations import Commands, File, ShellAnswer, ask, ensure, put_files
from pyinfra_deploys.baseline.templates import render

from koseki_ops.drift.judge.declared import Declared
from koseki_ops.plan.model import AccountPolicy
from koseki_ops.plan.site import Site
from koseki_ops.trust.secrets import load_secrets
from koseki_ops.trust.ssh_ca import INSPECTION, INSPECTOR, watch_addresses, watch_principal

OWNER = "# Managed by koseki (pyinfra, baseline/accounts.py). Do not edit.\n"
SSH_GROUP, VAULT_GROUP, SUDO_GROUP = "koseki-ssh", "koseki-vault", "koseki-sudo"
GROUPS = (SSH_GROUP, VAULT_GROUP, SUDO_GROUP)
LOCKED_DAY = 1  # shadow(5): expired on 1970-01-02; 0 would be read as "never" by some tools
PASSWORD_FILE = "/run/koseki-password"  # noqa: S105 - a path

PREAUTH = """Name: Refuse a locked account before it is asked (koseki)
Default: yes
Priority: 1024
Auth-Type: Primary
Auth:
	requisite pam_faillock.so preauth
Account-Type: Primary
Account:
	required pam_faillock.so
"""
AUTHFAIL = """Name: Count failures and lock the account (koseki)
Default: yes
Priority: 0
Auth-Type: Primary
Auth:
	[default=die] pam_faillock.so authfail
"""


def account_question(names: list[str]) -> str:
    """Return a shell question for state of accounts.

    A line each: name, shell, L(ocked) P(assword) or - (none), maximum age, expiry day, groups.
    """
    listed = " ".join(map(shlex.quote, names))
    return (
        f"for u in {listed}; do getent passwd $u >/dev/null || continue; "
        "s=$(getent passwd $u | cut -d: -f7); "
        "p=$(getent shadow $u | cut -d: -f2); m=$(getent shadow $u | cut -d: -f5); "
        "e=$(getent shadow $u | cut -d: -f8); "
        'case $p in "!"*) p=L;; "*"|"") p=-;; *) p=P;; esac; '
        f"g=$(id -nG $u | tr ' ' '\\n' | grep -x -e {' -e '.join(GROUPS)} | sort | paste -sd,); "
        'echo "$u $s $p ${m:--} ${e:--} ${g:--}"; done'
    )


def wanted_state(account: OperatorAccount, max_days: int) -> str:
    """Return the line that `account_question` gives when the account is as it should be."""
    operator = account.operator
    if not account.open:
        return f"{operator.id} /usr/sbin/nologin L {max_days} {LOCKED_DAY} -"
    groups = ",".join(sorted([SSH_GROUP, *([SUDO_GROUP] if operator.sudo else [])]))
    return f"{operator.id} /bin/bash P {max_days} {account.expire_day} {groups}"


@operation()
def operator_account(site: Site, account: OperatorAccount, max_days: int) -> Commands:
    """Keep one operator's account: open with its validity, or locked and expired.

    Where the operator has no place, an account that is there all the same is locked.
    """
    operator = account.operator
    if account.belongs:
        _declare(account, max_days)
    states = ask(ShellAnswer, question=account_question([operator.id]))
    if states == [wanted_state(account, max_days)] or not (states or account.belongs):
        return
    name = operator.id
    if not states:
        yield StringCommand(
            f"useradd --create-home -K HOME_MODE=0700 -K UMASK=077 --shell /bin/bash {name}"
        )
    if not account.open:
        yield StringCommand(
            f"usermod --lock --expiredate {LOCKED_DAY} --shell /usr/sbin/nologin --groups '' "
            f"{name} && chage -M {max_days} {name}"
        )
        return
    if not states or states[0].split()[2] != "P":
        # Only a new account gets a password from us, and its owner must change it at once.
        secret = load_secrets(site)["operator_initial_passwords"][name]
        yield FileUploadCommand(BytesIO(f"{name}:{secret}\n".encode()), PASSWORD_FILE)
        yield StringCommand(
            f"chpasswd <{PASSWORD_FILE}; code=$?; rm {PASSWORD_FILE}; "
            f"[ $code -eq 0 ] && chage -d 0 {name}"
        )
    groups = ",".join([SSH_GROUP, *([SUDO_GROUP] if operator.sudo else [])])
    yield StringCommand(
        f"usermod --expiredate {account.expire_day} --shell /bin/bash --groups {groups} {name} && "
        f"chage -M {max_days} {name}"
    )


def _declare(account: OperatorAccount, max_days: int) -> None:
    """Say how this account is to be; its password is its owner's, so only that there is one."""
    expires = account.expire_day if account.open else LOCKED_DAY
    Declared.of(host.name).add(
        "user",
        account.operator.id,
        shell="/bin/bash" if account.open else "/usr/sbin/nologin",
        password="password" if account.open else "locked",
        max_days=str(max_days),
        expires=str(expires),
    )


def principals(data: HostData, today: date) -> tuple[File, ...]:
    """Return a principals file for each account: who may enter it, and from where."""
    addresses = ",".join(data.plan.workstation_addresses.listed)
    automation = data.plan.automation_account
    watch = ",".join(watch_addresses(data.inventory))
    asks = watch_principal(data.inventory, data.name)
    names = [account.operator.id for account in data.operators(today) if account.open]
    closed = [account.operator.id for account in data.operators(today) if not account.open]
    return (
        File(f"/etc/ssh/principals/{automation}", f'{OWNER}from="{addresses}" {automation}\n'),
        File(
            f"/etc/ssh/principals/{INSPECTOR}",
            f'{OWNER}from="{watch}" {asks}\n' if watch else f"{OWNER}# Nobody keeps watch.\n",
        ),
        *(File(f"/etc/ssh/principals/{n}", f'{OWNER}from="{addresses}" {n}\n') for n in names),
        *(File(f"/etc/ssh/principals/{n}", f"{OWNER}# Closed.\n") for n in closed),
    )


def _login_rules(policy: AccountPolicy) -> tuple[File, ...]:
    """Return the files that say how good a password is, and when whoever guesses is locked out."""
    return (
        File(
            "/etc/security/pwquality.conf.d/koseki.conf",
            render(
                "/etc/security/pwquality.conf",
                length=policy.password_min_length,
                classes=policy.password_min_classes,
            ),
        ),
        File(
            "/etc/security/faillock.conf",
            render(
                "/etc/security/faillock.conf",
                attempts=policy.lockout_attempts,
                seconds=policy.lockout_seconds,
            ),
        ),
        File("/usr/share/pam-configs/koseki-faillock-preauth", PREAUTH),
        File("/usr/share/pam-configs/koseki-faillock", AUTHFAIL),
    )


def _answering_account() -> None:
    """Keep the account that the watch enters: sshd starts one program by its shell."""
    ensure(
        name="Keep the account that answers the watch",
        question=account_question([INSPECTOR]),
        wanted=[f"{INSPECTOR} /bin/sh - 99999 - {SSH_GROUP}"],
        change=f"getent passwd {INSPECTOR} >/dev/null || "
        f"useradd --system --user-group --home-dir / --no-create-home {INSPECTOR}; "
        f"usermod --password '*' --shell /bin/sh --expiredate '' --groups {SSH_GROUP} "
        f"{INSPECTOR} && chage -M 99999 {INSPECTOR}",
        owns=[
            ("user", INSPECTOR, {"shell": "/bin/sh", "password": "locked", "expires": ""}),
            ("group", INSPECTOR, {}),
        ],
    )


@deploy("Keep accounts: the engines', the operators', nobody else's")
def accounts(data: HostData, today: date) -> None:
    """Keep groups, accounts, sudo, password quality and lockout."""
    automation = data.plan.automation_account
    policy = data.policy
    ensure(
        name="Keep the groups",
        question=f"getent group {' '.join(GROUPS)} | cut -d: -f1",
        wanted=GROUPS,
        change="; ".join(f"getent group {g} >/dev/null || groupadd --system {g}" for g in GROUPS),
        owns=[("group", group, {}) for group in GROUPS],
    )
    put_files(
        name="Keep sudo",
        files=(
            File(
                "/etc/sudoers.d/koseki",
                render(
                    "/etc/sudoers.d/koseki",
                    automation=automation,
                    inspector=INSPECTOR,
                    inspection=INSPECTION,
                ),
                "0440",
            ),
        ),
        validate='visudo -q -c -f "$STAGE/etc/sudoers.d/koseki"',
    )
    ensure(
        name="Keep the engines' account",
        question=account_question([automation]),
        wanted=[f"{automation} /bin/bash - 99999 - {SSH_GROUP}"],
        change=f"getent passwd {automation} >/dev/null || "
        f"useradd --system --create-home -K HOME_MODE=0700 {automation}; "
        f"usermod --password '*' --shell /bin/bash --expiredate '' --groups {SSH_GROUP} "
        f"{automation} && chage -M 99999 {automation}",
        owns=[("user", automation, {"shell": "/bin/bash", "password": "locked", "expires": ""})],
    )
    _answering_account()
    put_files(
        name="Keep password quality and lockout",
        files=_login_rules(policy),
        then="DEBIAN_FRONTEND=noninteractive pam-auth-update --package",
    )
    for account in data.operators(today):
        operator_account(
            name=f"Keep the account of {account.operator.id}",
            site=data.site,
            account=account,
            max_days=policy.password_max_days,
        )
    ensure(
        name="Lock root",
        question="passwd -S root | cut -d' ' -f2",
        wanted=["L"],
        change="usermod --lock root",
        owns=[("user", "root", {"password": "locked"})],
    )
