"""SSH: certificates only, from the workstation only, to named accounts only (K-11)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from koseki_ops.core.language import _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.verify.batch import Question
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Everywhere, Facts, Questions, on_hosts
from koseki_ops.verify.probes import certificate_login, expect_control, is_refused, key_login, login

SSHD = "sshd -T -C user={user},host=workstation,addr={address}"
HOST_CERTIFICATE = """
file=$(sshd -T | sed -n 's/^hostcertificate //p')
[ -n "$file" ] && ssh-keygen -L -f "$file"
"""
TRUSTED = """
file=$(sshd -T | sed -n 's/^trustedusercakeys //p')
[ -n "$file" ] && cut -d' ' -f1,2 "$file"
"""
WANTED = {
    "permitrootlogin": "no",
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "hostbasedauthentication": "no",
    "permitemptypasswords": "no",
    "permituserenvironment": "no",
    "pubkeyauthentication": "yes",
    "usepam": "yes",
    "loglevel": "VERBOSE",
    "disableforwarding": "yes",
}
# Broken or breaking: SHA-1, MD5, CBC, RC4, 3DES, DSA, and MACs that authenticate before encrypting.
OUTDATED = re.compile(
    r"sha1|md5|-cbc|arcfour|3des|ssh-dss|ssh-rsa(?!.*sha2)|umac-64|group1-|group14-sha1"
)
ALGORITHM_LISTS = ("ciphers", "macs", "kexalgorithms", "hostkeyalgorithms", "casignaturealgorithms")


def questions(plan: Plan, host: str) -> Questions:
    """Ask sshd for its effective settings; try doors from the workstation that must be shut."""
    if host == WORKSTATION:
        asked: dict[str, str | Question] = {
            "user ca": f"cut -d' ' -f1,2 {plan.site.state / 'ssh' / 'user_ca.pub'}",
            "host ca": f"ssh-keygen -l -f {plan.site.state / 'ssh' / 'host_ca.pub'}",
            "automation certificate": (
                f"ssh-keygen -L -f {plan.site.state / 'ssh' / 'automation-cert.pub'}"
            ),
        }
        for target in plan.inventory.hosts:
            asked |= attempts(plan, target)
        return asked
    automation = plan.platform.automation_account
    address = plan.address(WORKSTATION, host)
    return {
        "sshd": SSHD.format(user=automation, address=address),
        "sshd root": SSHD.format(user="root", address=address),
        "test": "sshd -t",
        "certificate": HOST_CERTIFICATE,
        "trusted": TRUSTED,
        "groups": "getent group",
        "passwd": "getent passwd",
        "today": "date +%Y-%m-%dT%H:%M:%S",
    }


def attempts(plan: Plan, host: str) -> dict[str, Question]:
    """Return the logins that a host must refuse."""
    automation = plan.platform.automation_account
    by_word = [
        "BatchMode=no",
        "NumberOfPasswordPrompts=0",
        "PubkeyAuthentication=no",
        "PreferredAuthentications=password,keyboard-interactive",
    ]
    asked = {
        f"root@{host}": certificate_login(plan, host, "root"),
        f"control@{host}": certificate_login(plan, host, automation),
        f"password@{host}": Question(login(plan, host, automation, by_word), aside=True),
    }
    asked[f"bare key@{host}"] = key_login(plan, host, automation, "automation")
    if plan.site.is_lab:
        asked[f"first key@{host}"] = key_login(plan, host, "root", "root_key")
    return asked


def sshd(facts: Facts, question: str = "sshd") -> dict[str, str]:
    """Return sshd's effective settings; repeated keys are joined."""
    found: dict[str, str] = {}
    for line in facts[question].lines:
        key, _, value = line.partition(" ")
        found[key] = f"{found[key]} {value}" if key in found else value
    return found


@on_hosts("all")
def test_sshd_takes_its_configuration(facts: Facts) -> None:
    """What is on disk loads: the next restart of sshd locks nobody out."""
    expect(
        facts["test"].rc,
        0,
        _("run `sshd -t` on {host} and correct what it says").format(host=facts.host),
        "ssh",
    )


@on_hosts("all")
def test_only_certificates_enter(facts: Facts) -> None:
    """No password, no root, no forwarding; every login leaves the key's id in the log (K-11)."""
    settings = sshd(facts)
    expect({key: settings.get(key) for key in WANTED}, WANTED, facts.remedy, "ssh")


@on_hosts("all")
def test_keys_in_home_folders_do_not_count(facts: Facts) -> None:
    """Nobody adds a door of their own: authorized_keys files are not read (K-11)."""
    expect(sshd(facts).get("authorizedkeysfile"), "none", facts.remedy, "ssh")


@on_hosts("all")
def test_only_named_accounts_enter(plan: Plan, facts: Facts) -> None:
    """It admits operators, engines, who answers the watch, the vault's uploader alone (K-11)."""
    settings = sshd(facts)
    users = set(settings.get("allowusers", "").split())
    groups = set(settings.get("allowgroups", "").split())
    check(users or groups, _("AllowUsers or AllowGroups"), _("no list"), facts.remedy, "ssh")
    accounts = {line.split(":")[0]: line.split(":")[3] for line in facts["passwd"].lines}
    for line in facts["groups"].lines:
        name, _password, gid, members = line.split(":")
        if name in groups:
            users |= {member for member in members.split(",") if member}
            users |= {account for account, primary in accounts.items() if primary == gid}
    known = {plan.platform.automation_account, "koseki-inspect"}
    known |= {row.id for row in plan.operators_on(facts.host)}
    known |= {vault.account for vault in plan.vaults_on(facts.host)}
    expect({user.split("@")[0] for user in users} - known, set(), facts.remedy, "ssh")


@on_hosts("all")
def test_algorithms_are_current(facts: Facts) -> None:
    """No SHA-1, no CBC, no DSA: what is recorded from the line today stays closed later (K-01)."""
    settings = sshd(facts)
    outdated = [
        f"{table} {name}"
        for table in ALGORITHM_LISTS
        for name in settings.get(table, "").split(",")
        if OUTDATED.search(name)
    ]
    check(settings.get("ciphers"), _("a list of ciphers"), settings.get("ciphers"), facts.remedy)
    expect(outdated, [], facts.remedy, "ssh")


@on_hosts("all")
def test_the_host_is_known_by_the_host_ca(facts: Facts, everywhere: Everywhere) -> None:
    """The engines never trust on first use: the host's key is signed by the platform's CA."""
    text = facts["certificate"].text
    authority = everywhere[WORKSTATION]["host ca"].text.split()
    check(
        len(authority) > 1,
        _("the host CA on the workstation"),
        authority,
        _("run `koseki ssh config`"),
    )
    check(
        authority[1] in text and "host certificate" in text,
        _("a host certificate signed by {authority}").format(authority=authority[1]),
        facts["certificate"],
        facts.remedy,
    )
    principals = text.split("Principals:")[1].split("Critical")[0].split()
    check(
        facts.host in principals,
        _("its principals hold {host}").format(host=facts.host),
        principals,
        facts.remedy,
    )


@on_hosts("all")
def test_the_host_certificate_lives(plan: Plan, facts: Facts) -> None:
    """Nobody can log in to a host whose certificate has run out: renewed a third before its end."""
    found = re.search(r"Valid: from \S+ to (\S+)", facts["certificate"].text)
    check(found, _("a certificate with an end"), facts["certificate"], facts.remedy)
    assert found is not None
    left = datetime.fromisoformat(found[1]) - datetime.fromisoformat(facts["today"].text)
    policy = plan.platform.certificate_policy
    check(
        timedelta(0) < left <= timedelta(days=policy.ssh_host_days, hours=1),
        _("between now and {ssh_host_days} days").format(ssh_host_days=policy.ssh_host_days),
        _("{days} days left").format(days=left.days),
        facts.remedy,
    )


@on_hosts("all")
def test_only_the_user_ca_is_trusted(facts: Facts, everywhere: Everywhere) -> None:
    """One CA says who a person is; a second one would be a second door (K-11)."""
    expect(facts["trusted"].lines, everywhere[WORKSTATION]["user ca"].lines, facts.remedy, "ssh")


@on_hosts("all")
def test_the_engines_enter_as_themselves(
    plan: Plan,
    everywhere: Everywhere,
    host_name: str,
    host: Any,  # noqa: ANN401 - testinfra has no types
) -> None:
    """A login of its own, by testinfra: the engines are not root, nor anybody's account (K-11)."""
    everywhere[host_name]
    everywhere[WORKSTATION]  # the watch does not enter as the engines
    said = host.run("id -un; id -u; uname -n")
    check(said.rc == 0, _("a login"), said.stderr, _("run `koseki ssh config`"), "ssh")
    account, number, name = said.stdout.split()
    expect((account, name), (plan.platform.automation_account, host_name), _("run `koseki apply`"))
    check(number != "0", _("an account without root's rights"), number, _("run `koseki apply`"))


@on_hosts("all")
def test_root_cannot_log_in(host_name: str, everywhere: Everywhere) -> None:
    """Not even with a certificate for root that the platform's own CA has signed (K-11)."""
    everywhere[host_name]
    expect_control(everywhere[WORKSTATION][f"control@{host_name}"], host_name)
    answer = everywhere[WORKSTATION][f"root@{host_name}"]
    check(
        is_refused(answer),
        "Permission denied",
        answer,
        _("run `koseki apply`"),
        "ssh",
        host_name,
    )


@on_hosts("all")
def test_the_first_key_is_gone(plan: Plan, host_name: str, everywhere: Everywhere) -> None:
    """The key that opened the fresh machine opens nothing any more (K-11)."""
    if not plan.site.is_lab:
        not_verified(_("the first contact's key is not kept for a machine outside the lab"))
    everywhere[host_name]
    answer = everywhere[WORKSTATION][f"first key@{host_name}"]
    check(
        is_refused(answer),
        "Permission denied",
        answer,
        _("run `koseki apply`"),
        "ssh",
        host_name,
    )


@on_hosts("all")
def test_passwords_are_not_even_asked(host_name: str, everywhere: Everywhere) -> None:
    """The host offers no method in which a password could be guessed (K-11)."""
    everywhere[host_name]
    answer = everywhere[WORKSTATION][f"password@{host_name}"]
    check(
        is_refused(answer) and "(publickey)" in answer.errors,
        "Permission denied (publickey)",
        answer,
        _("run `koseki apply`"),
        "ssh",
        host_name,
    )


@on_hosts("all")
def test_the_automation_key_alone_opens_nothing(host_name: str, everywhere: Everywhere) -> None:
    """Without its short-lived certificate the engines' key is worthless to a thief (K-11)."""
    everywhere[host_name]
    answer = everywhere[WORKSTATION][f"bare key@{host_name}"]
    check(
        is_refused(answer),
        "Permission denied",
        answer,
        _("run `koseki apply`"),
        "ssh",
        host_name,
    )


def test_the_automation_certificate_is_bound(plan: Plan, everywhere: Everywhere) -> None:
    """The engines' certificate is short-lived and holds from the workstation's address only."""
    text = everywhere[WORKSTATION]["automation certificate"].text
    addresses = plan.platform.workstation_addresses
    for address in (addresses.city, addresses.line):
        check(
            "source-address" in text and str(address) in text,
            _("source-address with {address}").format(address=address),
            text,
            _("run `koseki ssh config`"),
        )
    found = re.search(r"Valid: from (\S+) to (\S+)", text)
    check(found, _("a certificate with an end"), text, _("run `koseki ssh config`"))
    assert found is not None
    life = datetime.fromisoformat(found[2]) - datetime.fromisoformat(found[1])
    hours = plan.platform.certificate_policy.ssh_automation_hours
    check(
        life <= timedelta(hours=hours, minutes=10),
        _("a life of {hours} hours").format(hours=hours),
        life,
        _("run `koseki ssh config`"),
    )
