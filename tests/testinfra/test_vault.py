"""Vault: a store of ciphertext that can be filled, and neither emptied nor read (K-04)."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime, timedelta

from koseki_ops.core.language import _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.plan.model import Vault
from koseki_ops.verify.batch import ANSWER_SECONDS, Question
from koseki_ops.verify.expect import check, expect
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Everywhere, Facts, Questions, on_hosts

SEAL = "koseki-seal"
KEY = "/etc/pgbackrest/id_ed25519"
CERTIFICATE = f"ssh-keygen -L -f {KEY}-cert.pub; date -u +%FT%T"
SHELL_ATTEMPT = (
    f"cd / && timeout {ANSWER_SECONDS} runuser -u postgres -- ssh -F none -n -T -o BatchMode=yes "
    "-o StrictHostKeyChecking=yes -o UserKnownHostsFile=/etc/pgbackrest/known_hosts "
    "-o IdentitiesOnly=yes -i {key} {account}@{address} {command}"
)


# What is not there, and a control beside it that is: a search that could not be made finds neither.
SECRETS = """
control=$(mktemp -d) || exit 1
trap 'rm -rf "$control"' EXIT
printf 'BEGIN OPENSSH PRIVATE KEY\n' >"$control/key"
printf 'repo1-cipher-pass=\n' >"$control/pass"
grep -rIlsE 'cipher-pass|BEGIN ([A-Z]+ )*PRIVATE KEY' /etc/pgbackrest* {root} "$control"
printf '@@ %s\n' "$control"
"""


def questions(plan: Plan, host: str) -> Questions:
    """Ask the vaults how they are kept; try their doors with the uploader's own key."""
    if host == WORKSTATION:
        return {}
    asked: dict[str, str | Question] = {}
    for vault in plan.vaults_on(host):
        asked |= vault_questions(vault)
    if plan.is_in(host, "databases"):
        asked["certificate"] = f"TZ=UTC; export TZ; {CERTIFICATE}"
        for vault in plan.platform.vaults:
            address = plan.address(plan.vault_host(vault), host)
            attempt = SHELL_ATTEMPT.format(
                key=KEY, account=vault.account, address=address, command="id"
            )
            asked[f"shell {vault.name}"] = Question(attempt, aside=True)
    return asked


def vault_questions(vault: Vault) -> dict[str, str | Question]:
    """Return what is asked of a vault's host."""
    root, name = shlex.quote(vault.root), vault.name
    sealed = shlex.quote(f"{vault.root}-sealed")
    return {
        f"account {name}": f"getent passwd {vault.account}; passwd -S {vault.account}",
        f"sshd {name}": f"sshd -T -C user={vault.account},host=any,addr=192.0.2.1",
        f"parents {name}": (
            f'folder={root}; while [ "$folder" != / ]; do '
            "stat -c '%n %U %A' \"$folder\"; folder=${folder%/*}; folder=${folder:-/}; done"
        ),
        f"seal {name}": Question(f"{SEAL} verify {name}", aside=True),
        f"generations {name}": f"{SEAL} list {name}",
        # The manifest first: what is there after it, and has not changed since, was there then.
        f"newest {name}": (
            f"cat \"$(find {sealed} -ignore_readdir_race -name '*.manifest' | sort | tail -n 1)\""
        ),
        f"uploaded {name}": (
            f"find {root} -ignore_readdir_race -type f ! -name '*.pgbackrest.tmp*' "
            "-printf '%C@ %s %P\\n'"
        ),
        f"sealed {name}": (
            f"find {sealed} -ignore_readdir_race -type f ! -path '*/.work.*' -exec lsattr -d {{}} +"
        ),
        f"reach {name}": (
            f"cd / && setpriv --reuid={vault.account} --regid={vault.account} --clear-groups "
            f"sh -c 'ls {sealed}; touch {sealed}/x; "
            f"find {sealed} -ignore_readdir_race -type f | head -n 1'"
        ),
        f"timer {name}": "systemctl list-timers --all --no-legend --plain 'koseki-seal*'",
        f"secrets {name}": SECRETS.format(root=root),
    }


def settings(facts: Facts, vault: Vault) -> dict[str, str]:
    """Return sshd's effective settings for a vault's account."""
    return dict(line.partition(" ")[::2] for line in facts[f"sshd {vault.name}"].lines)


@on_hosts("vault_hosts")
def test_the_uploader_has_no_shell(plan: Plan, facts: Facts) -> None:
    """The uploading account is locked and has nologin: its key can do nothing but SFTP (K-04)."""
    for vault in plan.vaults_on(facts.host):
        lines = facts[f"account {vault.name}"].lines
        check(
            len(lines) == 2,
            _("the account {account}").format(account=vault.account),
            lines,
            facts.remedy,
        )
        shell, state = lines[0].rsplit(":", 1)[-1], lines[1].split()[1]
        expect((shell.rsplit("/", 1)[-1], state), ("nologin", "L"), facts.remedy)


@on_hosts("vault_hosts")
def test_the_uploader_is_kept_in_its_room(plan: Plan, facts: Facts) -> None:
    """A chroot, SFTP by force, nothing forwarded, no terminal (K-04)."""
    for vault in plan.vaults_on(facts.host):
        seen = settings(facts, vault)
        check(
            seen.get("chrootdirectory") == vault.root,
            f"chroot {vault.root}",
            seen.get("chrootdirectory"),
            facts.remedy,
            "ssh",
        )
        check(
            seen.get("forcecommand", "").startswith("internal-sftp"),
            _("internal-sftp by force"),
            seen.get("forcecommand"),
            facts.remedy,
            "ssh",
        )
        wanted = {"permittty": "no", "disableforwarding": "yes", "permituserrc": "no"}
        expect({key: seen.get(key) for key in wanted}, wanted, facts.remedy, "ssh")


@on_hosts("vault_hosts")
def test_the_room_cannot_be_left(plan: Plan, facts: Facts) -> None:
    """Every folder above the uploads is root's: nobody can move the room's walls (K-04)."""
    for vault in plan.vaults_on(facts.host):
        rows = [line.split() for line in facts[f"parents {vault.name}"].lines]
        check(rows, f"{vault.root}", facts[f"parents {vault.name}"], facts.remedy)
        weak = [" ".join(row) for row in rows if row[1] != "root" or "w" in row[2][5:]]
        expect(weak, [], facts.remedy)


@on_hosts("databases")
def test_the_key_opens_no_shell(plan: Plan, facts: Facts) -> None:
    """Tried with the uploader's own key from the database host: SFTP only, no command (K-04)."""
    for vault in plan.platform.vaults:
        said = facts[f"shell {vault.name}"]
        check(
            said.rc not in {0, 124, 255} and "sftp" in said.errors + said.text,
            _("{name}: sftp connections only").format(name=vault.name),
            said,
            _("run `koseki apply --limit {vault_host}`").format(vault_host=plan.vault_host(vault)),
        )


@on_hosts("databases")
def test_the_upload_certificate_lives(plan: Plan, facts: Facts) -> None:
    """Its end would be the end of the copies; it names this host and its addresses (K-04)."""
    said, policy = facts["certificate"], plan.platform.certificate_policy
    found = re.search(r"Valid: from \S+ to (\S+)", said.text)
    check(found, _("a certificate with an end"), said, facts.remedy)
    assert found is not None
    left = datetime.fromisoformat(found[1]) - datetime.fromisoformat(said.lines[-1])
    check(
        timedelta(0) < left <= timedelta(days=policy.ssh_host_days, hours=1),
        _("between now and {ssh_host_days} days").format(ssh_host_days=policy.ssh_host_days),
        _("{days} days left").format(days=left.days),
        facts.remedy,
    )
    row = plan.platform.host_addresses[facts.host]
    named = re.search(r"Principals:\s+(\S+)\s+Critical Options:\s+source-address (\S+)", said.text)
    check(named, _("one principal and the addresses that it holds from"), said, facts.remedy)
    assert named is not None
    wanted = (f"upload-{facts.host}", {str(row.city), str(row.line)})
    expect((named[1], set(named[2].split(","))), wanted, facts.remedy)


@on_hosts("vault_hosts")
def test_the_seal_is_whole(plan: Plan, facts: Facts) -> None:
    """Every sealed object has the hash in its manifest, and the chain of manifests holds (K-04)."""
    for vault in plan.vaults_on(facts.host):
        said = facts[f"seal {vault.name}"]
        check(
            said.rc == 0,
            _("the seal of {name} holds").format(name=vault.name),
            said,
            _("by hand: keep this host as it is, restore from the other vault, ask who was there"),
            "koseki-seal*",
        )


@on_hosts("vault_hosts")
def test_there_is_a_fresh_generation(plan: Plan, facts: Facts) -> None:
    """The timer seals on schedule, so that a deletion costs at most one interval (K-04)."""
    minutes = plan.platform.vault_seal.every_minutes
    for vault in plan.vaults_on(facts.host):
        lines = facts[f"generations {vault.name}"].lines
        check(lines, _("a sealed generation"), facts[f"generations {vault.name}"], facts.remedy)
        check(
            "koseki-seal" in facts[f"timer {vault.name}"].text,
            _("a timer that seals"),
            facts[f"timer {vault.name}"],
            facts.remedy,
        )
        newest = max(generation_moment(line) for line in lines)
        age = datetime.now(tz=UTC) - newest
        check(
            age < timedelta(minutes=2 * minutes + 2),
            _("sealed within {minutes} minutes").format(minutes=2 * minutes),
            age,
            _("run `journalctl -u koseki-seal@{name} -n 50` on {host}: a full disk?").format(
                name=vault.name, host=facts.host
            ),
            "koseki-seal*",
        )


def generation_moment(line: str) -> datetime:
    """Return when a generation was sealed, from its line in the list."""
    stamp = line.split(maxsplit=1)[0].split("-", maxsplit=1)[0]
    return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


@on_hosts("vault_hosts")
def test_the_newest_generation_holds_what_was_uploaded(plan: Plan, facts: Facts) -> None:
    """A seal over nothing is whole as well: every upload at rest stands in the manifest (K-04)."""
    for vault in plan.vaults_on(facts.host):
        head, _files, body = facts[f"newest {vault.name}"].text.partition("\nfiles ")
        check("sealed_at " in head, _("a manifest"), facts[f"newest {vault.name}"], facts.remedy)
        moment = generation_moment(head.split("sealed_at ")[1]).timestamp()
        sealed = {tuple(line.split(" ", 2)[1:]) for line in body.splitlines()[1:]}
        rows = [line.split(" ", 2) for line in facts[f"uploaded {vault.name}"].lines]
        rested = {(size, path) for changed, size, path in rows if float(changed) < moment}
        missing = sorted(path for _hash, path in rested - sealed)
        check(
            not missing,
            _("{count} files in the newest generation of {name}").format(
                count=len(rested), name=vault.name
            ),
            _("{count} are missing, {missing} among them").format(
                count=len(missing), missing=missing[:3]
            ),
            _("run `{seal} make {name}` on {host} and read what it says").format(
                seal=SEAL, name=vault.name, host=facts.host
            ),
            f"koseki-seal@{vault.name}",
        )


@on_hosts("vault_hosts")
def test_sealed_generations_cannot_be_changed(plan: Plan, facts: Facts) -> None:
    """Every sealed file is immutable: not even root changes one by mistake (K-04)."""
    for vault in plan.vaults_on(facts.host):
        lines = facts[f"sealed {vault.name}"].lines
        check(lines, _("sealed files"), facts[f"sealed {vault.name}"], facts.remedy)
        soft = [line.split()[-1] for line in lines if "i" not in line.split()[0]]
        expect(
            soft,
            [],
            _("run `{seal} make {name}` on {host}; find out who took the seal off").format(
                seal=SEAL, name=vault.name, host=facts.host
            ),
        )


@on_hosts("vault_hosts")
def test_the_uploader_cannot_reach_the_seal(plan: Plan, facts: Facts) -> None:
    """Tried as the uploading account: it neither sees, writes nor finds a sealed file (K-04)."""
    for vault in plan.vaults_on(facts.host):
        said = facts[f"reach {vault.name}"]
        check(
            not said.lines and said.errors.count("Permission denied") >= 2,
            "Permission denied",
            said,
            facts.remedy,
        )


@on_hosts("vault_hosts")
def test_no_key_lies_beside_the_ciphertext(plan: Plan, facts: Facts) -> None:
    """Whoever carries a vault away carries nothing that opens it (K-04)."""
    for vault in plan.vaults_on(facts.host):
        *found, control = facts[f"secrets {vault.name}"].lines or [""]
        known = {f"{control.removeprefix('@@ ')}/{name}" for name in ("key", "pass")}
        again = _("run `koseki verify vault`: this search did not end")
        check(known <= set(found), _("a search that ended"), facts[f"secrets {vault.name}"], again)
        expect(sorted(set(found) - known), [], _("by hand: remove it, and change that key"))


def test_the_vaults_have_different_hosts_and_accounts(plan: Plan, everywhere: Everywhere) -> None:
    """Two copies in one room, or behind one key, would be lost together (K-04)."""
    vaults = plan.platform.vaults
    for what in ("host", "account"):
        seen = [plan.vault_host(v) if what == "host" else v.account for v in vaults]
        check(
            len(set(seen)) == len(seen),
            _("one for each vault: {what}").format(what=what),
            seen,
            _("by hand: correct vaults.yml"),
        )
    for vault in vaults:
        check(
            facts_exist(everywhere, plan.vault_host(vault), vault),
            _("{name} answers").format(name=vault.name),
            _("nothing"),
            _("run `koseki apply --limit {vault_host}`").format(vault_host=plan.vault_host(vault)),
        )


def facts_exist(everywhere: Everywhere, host: str, vault: Vault) -> bool:
    """Say whether a vault's host knows the vault's account."""
    return bool(everywhere[host][f"account {vault.name}"].lines)
