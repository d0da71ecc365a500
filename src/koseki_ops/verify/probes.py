"""Attempts from the workstation that must be refused: logins with the wrong things."""

from __future__ import annotations

import shlex

from koseki_ops.core.language import _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.verify.batch import ANSWER_SECONDS, CommandResult, Question
from koseki_ops.verify.expect import check
from koseki_ops.verify.expectations import Plan

# From before now: a host whose clock is behind would refuse it for that alone.
VALIDITY = "-5m:+2m"
REFUSAL = "Permission denied"
# What ssh itself ends with: when it was refused, and when there was no answer on a busy machine,
# which is no refusal and is asked again.
PATIENT = """
for _ in 1 2 3; do
    output=$({attempt} 2>&1 >/dev/null)
    code=$?
    case $code,$output in 255,*'{refusal}'*) break ;; 255,*) ;; *) break ;; esac
done
printf '%s\\n' "$output" >&2
exit $code
"""


def login(plan: Plan, host: str, account: str, options: list[str], raw: str = "") -> str:
    """Return the shell words that try to log in as `account` with these options alone.

    raw: words for the shell to expand. Neither the site's configuration nor its open connections
    take part: nothing but what is written here can open the door.
    """
    address = plan.address(host, WORKSTATION)
    command = ["ssh", "-F", "none", "-n", "-T", "-l", account]
    for option in (
        "BatchMode=yes",
        f"ConnectTimeout={ANSWER_SECONDS}",
        "ControlPath=none",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "LogLevel=ERROR",
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={plan.site.state / 'ssh' / 'known_hosts'}",
        f"HostKeyAlias={host}",
        *options,
    ):
        command += ["-o", option]
    attempt = f"{shlex.join(command)} {raw} {address} true"
    return PATIENT.format(attempt=attempt, refusal=REFUSAL)


# A key of the occasion's own: in memory, gone when the attempt ends.
FOLDER = """
folder=$(mktemp -d /run/koseki-verify-key.XXXXXX) || exit 1
trap 'rm -rf "$folder"' EXIT
"""
KEY = '-o IdentityFile="$folder/key"'


def certificate_login(plan: Plan, host: str, account: str) -> Question:
    """Try to log in with a certificate that the platform's own CA signs for the occasion.

    It lives for two minutes. For accounts that must be refused, and the engines' own as a control:
    nobody is ever logged in under a person's name.
    """
    authority = shlex.quote(str(plan.site.state / "ssh" / "user_ca"))
    attempt = login(plan, host, account, [], KEY)
    return Question(
        f"""{FOLDER}
ssh-keygen -q -t ed25519 -N '' -C verification -f "$folder/key" || exit 1
ssh-keygen -q -s {authority} -I verification -n {shlex.quote(account)} \\
    -V {VALIDITY} "$folder/key.pub" || exit 1
{attempt}
""",
        aside=True,
    )


def key_login(plan: Plan, host: str, account: str, key: str) -> Question:
    """Try to log in with one of the site's keys alone, without the certificate beside it."""
    # ssh takes a certificate that lies beside a key without being told: so the key is copied.
    source = shlex.quote(str(plan.site.state / "ssh" / key))
    attempt = login(plan, host, account, [], KEY)
    return Question(f'{FOLDER}cp {source} "$folder/key" || exit 1\n{attempt}\n', aside=True)


def expect_control(answer: CommandResult, host: str) -> None:
    """Hold that a certificate made so opens what it should: else a refusal says nothing."""
    check(
        answer.rc == 0,
        _("the engines' account opens with such a certificate"),
        answer,
        _("run `koseki apply --limit {host}`, then verify again").format(host=host),
        "ssh",
        host,
    )


def is_refused(answer: CommandResult) -> bool:
    """Say whether a login was refused by the host, and did not fail for another reason."""
    return answer.rc != 0 and REFUSAL in answer.errors
