"""Accounts: one person, one account, with validity dates; nobody else can log in (K-11)."""

from __future__ import annotations

import shlex
from datetime import UTC, date, datetime, timedelta

from koseki_ops.core.language import _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.plan.model import Operator
from koseki_ops.verify.batch import Question
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Everywhere, Facts, Questions, on_hosts
from koseki_ops.verify.probes import certificate_login, expect_control, is_refused

EPOCH = date(1970, 1, 1)
NO_LOGIN = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false", "/bin/sync")
# The first user id that Debian gives to people.
FIRST_PERSON = 1000
NOBODY = 65534

KEYS = """
getent passwd | cut -d: -f6 | sort -u | while read -r home; do
    for file in "$home"/.ssh/authorized_keys "$home"/.ssh/authorized_keys2; do
        if [ -s "$file" ]; then echo "$file"; fi
    done
done
"""
PRINCIPALS = """
pattern=$(sshd -T | sed -n 's/^authorizedprincipalsfile //p')
for account in {accounts}; do
    file=$(printf '%s' "$pattern" | sed "s/%u/$account/")
    if [ -s "$file" ]; then sed -E "/^[[:space:]]*(#|$)/d; s/^/$account /" "$file"; fi
done
"""


def questions(plan: Plan, host: str) -> Questions:
    """Ask each host for its accounts, never for a hash; try ended accounts from outside."""
    if host == WORKSTATION:
        names = [operator.id for operator in ended(plan)]
        return {
            f"{name}@{target}": certificate_login(plan, target, name)
            for target in plan.inventory.hosts
            for name in ([*names, plan.platform.automation_account] if names else [])
        }
    ids = [operator.id for operator in plan.platform.operators]
    asked: dict[str, str | Question] = {
        "passwd": "getent passwd",
        "status": "passwd -S --all",
        "ages": "cut -d: -f1,3- /etc/shadow",
        "keys": KEYS,
        "principals": PRINCIPALS.format(accounts=shlex.join(["root", "postgres", *ids])),
    }
    for operator in plan.operators_on(host):
        asked[f"sudo {operator.id}"] = f"sudo -l -U {operator.id}"
    return asked


def ended(plan: Plan) -> list[Operator]:
    """Return the operators whose time is over, or has not begun, wherever they worked."""
    return [row for row in plan.platform.operators if not plan.is_valid(row)]


def accounts(facts: Facts) -> dict[str, list[str]]:
    """Return the fields of `getent passwd` by account."""
    return {line.split(":")[0]: line.split(":") for line in facts["passwd"].lines}


def status(facts: Facts) -> dict[str, str]:
    """Return P (usable password), L (locked) or NP (none) by account."""
    return {line.split()[0]: line.split()[1] for line in facts["status"].lines}


def ages(facts: Facts, account: str) -> list[str]:
    """Return the shadow fields of an account after its password; empty when there is none."""
    for line in facts["ages"].lines:
        name, *fields = line.split(":")
        if name == account:
            return fields
    return []


def expiry(facts: Facts, account: str) -> str:
    """Return the day on which an account ends, or why there is none."""
    fields = ages(facts, account)
    if len(fields) < 6 or not fields[5]:
        return "no end"
    return str(EPOCH + timedelta(days=int(fields[5])))


@on_hosts("all")
def test_every_operator_has_an_account_where_the_plan_says(plan: Plan, facts: Facts) -> None:
    """An operator's row gives an account on exactly the hosts it covers (K-11)."""
    wanted = {operator.id for operator in plan.operators_on(facts.host)}
    known = {operator.id for operator in plan.platform.operators}
    expect(known & accounts(facts).keys(), wanted, facts.remedy)


@on_hosts("all")
def test_operators_end_on_their_day(plan: Plan, facts: Facts) -> None:
    """An account ends by itself on its last day, so that nobody has to remember (K-11)."""
    for operator in plan.operators_on(facts.host):
        if not plan.is_valid(operator):
            continue
        # shadow's day is the first day on which the account is refused; chage -E takes either
        # reading, so the last valid day and the day after it are both right.
        last = operator.valid_until
        seen = expiry(facts, operator.id)
        check(
            seen in {str(last), str(last + timedelta(days=1))},
            _("{id} ends after {last}").format(id=operator.id, last=last),
            seen,
            facts.remedy,
        )


@on_hosts("all")
def test_ended_operators_are_locked_and_keep_their_id(plan: Plan, facts: Facts) -> None:
    """An ended person's account stays, locked and expired: its id is never reused (K-11)."""
    today = datetime.now(tz=UTC).date()
    for operator in ended(plan):
        if operator not in plan.operators_on(facts.host):
            expect(
                accounts(facts).get(operator.id),
                None,
                _("lock it; {remedy}").format(remedy=facts.remedy),
            )
            continue
        expect(f"{operator.id} {status(facts).get(operator.id)}", f"{operator.id} L", facts.remedy)
        seen = expiry(facts, operator.id)
        check(
            seen != "no end" and date.fromisoformat(seen) <= today,
            _("{id} has expired").format(id=operator.id),
            seen,
            facts.remedy,
        )


@on_hosts("all")
def test_ended_operators_cannot_log_in(plan: Plan, host_name: str, everywhere: Everywhere) -> None:
    """Even a certificate that the platform's CA signs for an ended person is refused (K-11)."""
    if not ended(plan):
        not_verified(_("no operator has ended"))
    everywhere[host_name]  # a host that is away refuses everybody: that would prove nothing
    control = f"{plan.platform.automation_account}@{host_name}"
    expect_control(everywhere[WORKSTATION][control], host_name)
    for operator in ended(plan):
        answer = everywhere[WORKSTATION][f"{operator.id}@{host_name}"]
        check(
            is_refused(answer),
            _("{id} is refused: Permission denied").format(id=operator.id),
            answer,
            _("run `koseki apply --limit {host_name}`; until then lock the account by hand").format(
                host_name=host_name
            ),
            "ssh",
        )


@on_hosts("all")
def test_principals_name_the_person_and_nobody_else(plan: Plan, facts: Facts) -> None:
    """A certificate opens its owner's account only, from the workstation only (K-11)."""
    table = plan.platform.workstation_addresses
    source = f'from="{table.city},{table.line}"'
    wanted = {
        f"{operator.id} {source} {operator.id}"
        for operator in plan.operators_on(facts.host)
        if plan.is_valid(operator)
    }
    expect(set(facts["principals"].lines), wanted, facts.remedy)


@on_hosts("all")
def test_nobody_else_can_log_in(plan: Plan, facts: Facts) -> None:
    """No shared and no forgotten account: a usable password belongs to an operator (K-11)."""
    allowed = {row.id for row in plan.operators_on(facts.host) if plan.is_valid(row)}
    usable = {name for name, state in status(facts).items() if state != "L"}
    expect(
        usable - allowed,
        set(),
        _("run `echo {accounts} | xargs -n 1 passwd --lock` on {host}").format(
            accounts=shlex.join(sorted(usable - allowed)), host=facts.host
        ),
    )


@on_hosts("all")
def test_accounts_of_people_are_in_the_plan(plan: Plan, facts: Facts) -> None:
    """Every account with a person's id and a shell stands in the plan (K-11)."""
    allowed = {row.id for row in plan.operators_on(facts.host)} | {plan.platform.automation_account}
    people = {
        name
        for name, fields in accounts(facts).items()
        if FIRST_PERSON <= int(fields[2]) < NOBODY and fields[6] not in NO_LOGIN
    }
    expect(
        people - allowed,
        set(),
        _("by hand: remove them, or add their row to operators.yml with approval"),
    )


@on_hosts("all")
def test_root_is_locked_and_alone(facts: Facts) -> None:
    """Nobody is root: the password is locked and no second account has user id 0 (K-11)."""
    expect(status(facts).get("root"), "L", facts.remedy)
    expect(
        {n for n, f in accounts(facts).items() if f[2] == "0"},
        {"root"},
        _("by hand: find out who made the other, and remove it"),
    )


@on_hosts("all")
def test_automation_has_no_password(plan: Plan, facts: Facts) -> None:
    """The engines' account is entered with a certificate only (K-11)."""
    name = plan.platform.automation_account
    expect(status(facts).get(name), "L", facts.remedy)


@on_hosts("all")
def test_no_key_opens_an_account_without_a_certificate(plan: Plan, facts: Facts) -> None:
    """A key left in a home folder would outlive its owner's certificates (K-11)."""
    vault_roots = tuple(vault.root for vault in plan.vaults_on(facts.host))
    left = [file for file in facts["keys"].lines if not file.startswith(vault_roots or ("//",))]
    expect(
        left,
        [],
        _("run `rm -- {left}` on {host}: who enters comes with a certificate").format(
            left=shlex.join(left), host=facts.host
        ),
    )


@on_hosts("all")
def test_sudo_asks_for_the_persons_own_password(plan: Plan, facts: Facts) -> None:
    """Who may become root does so with their own password; the others may not (K-11)."""
    for operator in plan.operators_on(facts.host):
        said = facts[f"sudo {operator.id}"].text
        may = "may run the following" in said
        wanted = operator.sudo and plan.is_valid(operator)
        check(
            may == wanted and "NOPASSWD" not in said and "!authenticate" not in said,
            (
                _("{operator} may use sudo, with a password")
                if wanted
                else _("{operator} may not use sudo")
            ).format(operator=operator.id),
            said.splitlines()[-1] if said else facts[f"sudo {operator.id}"],
            facts.remedy,
        )


@on_hosts("all")
def test_passwords_age(plan: Plan, facts: Facts) -> None:
    """A password is changed within the policy's days (K-11)."""
    days = plan.platform.account_policy.password_max_days
    valid = [row.id for row in plan.operators_on(facts.host) if plan.is_valid(row)]
    if not valid:
        not_verified(_("no operator has an account on this host"))
    seen = {account: "".join(ages(facts, account)[2:3]) for account in valid}
    expect(seen, dict.fromkeys(valid, str(days)), facts.remedy)
