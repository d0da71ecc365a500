"""Locks: wrong passwords, idle consoles, the three keys and media open nothing."""

from __future__ import annotations

from koseki_ops.core.language import _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Facts, Questions, on_hosts

PAM_STACK = "grep -hEv '^[[:space:]]*(#|$)' /etc/pam.d/common-{}"
# A login shell as a person at the console gets it, asked what it would do; then asked to undo it.
IDLE = """
env -i HOME=/root PATH="$PATH" bash -lc 'echo "idle $TMOUT"'
env -i HOME=/root PATH="$PATH" bash -lc 'TMOUT=0; echo "idle-after $TMOUT"'
env -i HOME=/root PATH="$PATH" sh -lc 'echo "idle-sh $TMOUT"'
"""
USB = "cat /etc/modprobe.d/*.conf /usr/lib/modprobe.d/*.conf /run/modprobe.d/*.conf"
KEPT_FROM_LOADING = ("usb-storage", "usb_storage")


def questions(_plan: Plan, host: str) -> Questions:
    """Ask each host for what its locks do now."""
    if host == WORKSTATION:
        return {}
    return {
        "auth": PAM_STACK.format("auth"),
        "account": PAM_STACK.format("account"),
        "password": PAM_STACK.format("password"),
        "faillock": "grep -hEv '^[[:space:]]*(#|$)' /etc/security/faillock.conf",
        "pwquality": "cat /etc/security/pwquality.conf.d/*.conf /etc/security/pwquality.conf",
        "idle": IDLE,
        "three keys": "systemctl show -P LoadState ctrl-alt-del.target",
        "debug shell": "systemctl show -P UnitFileState debug-shell.service",
        "usb": USB,
        "usb loaded": "grep -E '^(usb_storage|uas) ' /proc/modules",
    }


def settings(text: str) -> dict[str, str]:
    """Return `key = value` lines; a bare key is `yes`."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        words = line.split("#", 1)[0].strip()
        if words:
            key, _, value = words.partition("=")
            found[key.strip()] = value.strip() or "yes"
    return found


def module_settings(stack: str, module: str) -> dict[str, str] | None:
    """Return the arguments of a PAM module's lines, or None when the stack does not call it."""
    lines = [line for line in stack.splitlines() if module in line]
    if not lines:
        return None
    words = [word for line in lines for word in line.split(module, 1)[1].split()]
    return settings("\n".join(words))


@on_hosts("all")
def test_wrong_passwords_lock_the_account(plan: Plan, facts: Facts) -> None:
    """After the policy's attempts an account is locked for the policy's time (K-11)."""
    policy = plan.platform.account_policy
    arguments = module_settings(facts["auth"].text, "pam_faillock.so")
    check(
        arguments is not None and {"preauth", "authfail"} <= arguments.keys(),
        _("pam_faillock before and after the password is asked"),
        arguments if arguments is not None else _("not in common-auth"),
        facts.remedy,
    )
    effective = settings(facts["faillock"].text) | (arguments or {})
    seen = {key: effective.get(key, "unset") for key in ("deny", "unlock_time")}
    wanted = {"deny": str(policy.lockout_attempts), "unlock_time": str(policy.lockout_seconds)}
    expect(seen, wanted, facts.remedy)


@on_hosts("all")
def test_the_lock_holds_before_the_password(facts: Facts) -> None:
    """A locked account is refused even with the right password: preauth is required (K-11)."""
    stack = [line.split() for line in facts["auth"].lines]
    guards = [n for n, words in enumerate(stack) if "pam_faillock.so" in words[2:]]
    passwords = [n for n, words in enumerate(stack) if "pam_unix.so" in " ".join(words[1:])]
    check(
        guards and passwords and guards[0] < passwords[0] and guards[-1] > passwords[-1],
        _("pam_faillock preauth before pam_unix, authfail after it"),
        facts["auth"],
        facts.remedy,
    )


@on_hosts("all")
def test_passwords_are_good_ones(plan: Plan, facts: Facts) -> None:
    """A new password has the policy's length and kinds of characters, also for root (K-11)."""
    policy = plan.platform.account_policy
    arguments = module_settings(facts["password"].text, "pam_pwquality.so")
    check(
        arguments is not None,
        _("pam_pwquality is asked for every new password"),
        _("not in common-password"),
        facts.remedy,
    )
    effective = settings(facts["pwquality"].text) | (arguments or {})
    seen = {key: effective.get(key, "unset") for key in ("minlen", "minclass")}
    wanted = {
        "minlen": str(policy.password_min_length),
        "minclass": str(policy.password_min_classes),
    }
    expect(seen, wanted, facts.remedy)


@on_hosts("all")
def test_an_idle_console_logs_out(plan: Plan, facts: Facts) -> None:
    """A console left open closes itself, and its user cannot switch that off (K-09)."""
    seconds = str(plan.platform.account_policy.console_idle_seconds)
    seen = dict(line.partition(" ")[::2] for line in facts["idle"].lines)
    check(
        seen.get("idle") == seconds and seen.get("idle-sh") == seconds,
        _("login shells end after {seconds} s without input").format(seconds=seconds),
        facts["idle"],
        facts.remedy,
    )
    check(
        seen.get("idle-after") in {None, seconds},
        _("TMOUT is readonly"),
        facts["idle"],
        facts.remedy,
    )


@on_hosts("all")
def test_ctrl_alt_del_is_masked(facts: Facts) -> None:
    """Whoever stands before the machine cannot restart it with Ctrl-Alt-Del (K-09)."""
    expect(facts["three keys"].text, "masked", facts.remedy)


@on_hosts("all")
def test_no_shell_without_login(facts: Facts) -> None:
    """The debug shell of systemd would be root on a console without a password (K-09)."""
    check(
        facts["debug shell"].text in {"disabled", "masked", ""},
        _("debug-shell.service is off"),
        facts["debug shell"],
        _("run `systemctl disable --now debug-shell.service` on {host}").format(host=facts.host),
    )


@on_hosts("all")
def test_usb_storage_is_refused(facts: Facts) -> None:
    """Registers do not leave on a stick: the kernel's module is never loaded (K-01)."""
    rules = [line.split() for line in facts["usb"].lines if line.startswith("install ")]
    refused = {words[1] for words in rules if words[2:] and words[2].rsplit("/", 1)[-1] == "false"}
    check(
        refused & set(KEPT_FROM_LOADING),
        "install usb-storage /bin/false",
        [" ".join(words) for words in rules] or _("no install rule"),
        facts.remedy,
    )


@on_hosts("all")
def test_usb_storage_is_not_loaded(facts: Facts) -> None:
    """What was loaded before the rule came would still take a stick (K-01)."""
    if facts.container:
        not_verified(_("a container shares the machine's kernel; shown on a booted image"))
    expect(
        facts["usb loaded"].lines,
        [],
        _("by hand: unplug the device; then run `modprobe -r uas usb-storage` on {host}").format(
            host=facts.host
        ),
    )
