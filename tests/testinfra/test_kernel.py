"""Kernel: what is the machine's own, most of it shown on a booted one alone (K-01, K-11, K-20)."""

from __future__ import annotations

import re
import shlex

from koseki_ops.core.language import N_, _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.verify.batch import Question
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Facts, Questions, on_hosts

NO_KERNEL = N_("a container shares the machine's kernel; shown on a booted image")
NO_AUDIT = N_("a container has no audit of its own; shown on a booted image")
NO_BOOT = N_("a container is not booted by a boot loader; shown on a booted image")
NO_VOLUMES = N_("a container has no disks of its own; shown on a booted image")
NEEDS_BOOT = N_("by hand: restart this host: the kernel takes it at boot, and locks it")
# The parameters that a container has for itself: those of its network.
OWN_IN_CONTAINER = ("net.ipv4.", "net.ipv6.")

RULES = "/etc/audit/rules.d/koseki.rules"
# What the books need of the kernel, each the key that its records are found by.
RECORDED = frozenset(
    {
        "32-bit",
        "accounts",
        "as-root",
        "audit",
        "configuration",
        "keys",
        "modules",
        "mounts",
        "pam",
        "refused",
        "sealed",
        "sshd",
        "sudo",
        "time",
        "tracing",
    }
)
# Something is done whose only effect is its record, and that record is looked for by the process
# that did it: the daemon writes beside what happens, so it is given some seconds.
RECORD = """
systemctl is-active --quiet auditd.service || exit 1
pid=$(sh -c 'echo $$; exec {act}')
for _ in 1 2 3 4 5 6 7 8 9 10; do
    if ausearch --input-logs --start boot -p "$pid" -k {key} 2>/dev/null; then exit 0; fi
    sleep 1
done
exit 1
"""
ACTS = {
    "sudo": "chown root:root /etc/sudoers",
    "configuration": "chown root:root /etc/hosts",
    "keys": "head -c 1 /etc/ssh/ssh_host_ed25519_key >/dev/null",
}
# The session that asks was opened by a login: that has its record, under the session's number.
# Sessions are counted from one again at every boot.
LOGIN = "ausearch --input-logs --start boot --session $(cat /proc/self/sessionid) -m USER_START -i"
MODULES = """
for module in {modules}; do
    printf '%s: ' "$module"
    modprobe --show-depends "$module" 2>&1 | tail -n 1
done
"""
# Asked for as a plugged-in stick does, then by hand, past modprobe's refusal.
ATTEMPT = """
modprobe usb-storage
echo "modprobe $?"
insmod "$(modinfo -F filename usb-storage)" 2>&1 | grep -o 'Operation not permitted'
grep -E '^(usb_storage|uas) ' /proc/modules
"""
WATCH_RUNS = frozenset({"koseki-drift.service", "koseki-verify.service"})
BLACKLIST = "module_blacklist="
# An image's menu is its builder's; on a host that was installed otherwise GRUB's own is read.
MENU = "menu=/boot/koseki/grub.cfg; [ -e $menu ] || menu=/boot/grub/grub.cfg; "
# The hash of the boot loader's password stays on the host.
BOOT_LOADER = (
    f"{MENU}grep -hE 'superusers|password_pbkdf2' $menu"
    " | sed -E 's/(password_pbkdf2[[:space:]]+[^[:space:]]+[[:space:]]+grub\\.pbkdf2)\\..*/\\1/'"
)
# The firmware's own word: the last of five bytes. A BIOS has no such variables.
SECURE_BOOT = """
cd /sys/firmware/efi/efivars 2>/dev/null || exit 0
od -An -tu1 -j4 -N1 SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
"""
# File systems that keep something; the vaults' and databases' own content has other witnesses.
FIND = (
    "places=$(awk '$3 ~ /^(ext[234]|xfs|btrfs|overlay|tmpfs)$/ && $2 !~ /^\\/(proc|sys|dev)/ "
    "{{ print $2 }}' /proc/self/mounts); "
    "find $places -ignore_readdir_race -xdev \\( -path '/var/lib/postgresql/*/*' "
    "-o -path '/srv/vault/*/repo' -o -path '/srv/vault/*-sealed' \\) -prune -o {what} -print"
)
# Programs of Debian's that lend their owner's rights: to change a password, to become another user,
# to mount what fstab allows, to reach the bus, to sign for a host, to look into shadow, to hand in
# mail.
LENDING = frozenset(
    {
        "/usr/bin/chage",
        "/usr/bin/chfn",
        "/usr/bin/chsh",
        "/usr/bin/expiry",
        "/usr/bin/gpasswd",
        "/usr/bin/mount",
        "/usr/bin/newgrp",
        "/usr/bin/passwd",
        "/usr/bin/ssh-agent",
        "/usr/bin/su",
        "/usr/bin/sudo",
        "/usr/bin/umount",
        "/usr/libexec/opensmtpd/mail.local",
        "/usr/sbin/smtpctl",
        "/usr/lib/dbus-1.0/dbus-daemon-launch-helper",
        "/usr/lib/openssh/ssh-keysign",
        "/usr/sbin/unix_chkpwd",
    }
)


def questions(plan: Plan, host: str) -> Questions:
    """Ask each host for its kernel, its boot loader, its file systems and its records of use."""
    if host == WORKSTATION:
        return {}
    names = " ".join(plan.platform.kernel_parameters).replace(".", "/")
    files = " ".join(f"/proc/sys/{name}" for name in names.split())
    modules = " ".join(plan.platform.kernel_modules_refused)
    return {
        "parameters": f"grep -Hs '' {files}",
        # A session of its own: sudo switches images off for what it starts.
        "memory image": "su -s /bin/sh nobody -c 'ulimit -Hc'",
        "command line": "cat /proc/cmdline",
        "lockdown": "cat /sys/kernel/security/lockdown",
        "modules": Question(MODULES.format(modules=modules), aside=True),
        "attempt": ATTEMPT,
        "boot loader": BOOT_LOADER,
        "boot rights": f"{MENU}stat -c '%n %a %U %G' ${{menu%/*}} $menu",
        "secure boot": SECURE_BOOT,
        "audit units": "systemctl is-enabled audit-rules.service auditd.service; "
        "systemctl is-active auditd.service",
        "audit state": "auditctl -s",
        "audit rules": "auditctl -l",
        "audit file": f"grep -E '^-a' {RULES}",
        "engines": f"id -u {plan.platform.automation_account}",
        "audit settings": "grep -E '^[a-z_]+ = ' /etc/audit/auditd.conf",
        "audit rights": "stat -c '%n %a %U %G' /var/log/audit /var/log/audit/audit.log",
        **{
            f"record {key}": Question(RECORD.format(act=act, key=key), aside=True)
            for key, act in ACTS.items()
        },
        "login": Question(LOGIN, aside=True),
        "journal": "journalctl --directory /var/log/journal --list-boots --no-pager -q | wc -l; "
        "journalctl --directory /var/log/journal -b -k -n 1 --no-pager -q -o cat",
        "failed": "systemctl list-units --failed --plain --full --no-legend --no-pager",
        "mounts": "findmnt -rnbo TARGET,SIZE,OPTIONS",
        "world-writable": Question(
            FIND.format(what="\\( -type f -o -type d ! -perm -1000 \\) -perm -0002"), aside=True
        ),
        "lending": Question(FIND.format(what="-type f -perm /6000"), aside=True),
    }


def parameters(plan: Plan, facts: Facts, *, own: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Return the parameters as they are and as the plan says, by name.

    own: those that a container has too, or the others. A * of the plan is every interface.
    """
    seen = {
        path.removeprefix("/proc/sys/").replace("/", "."): value
        for path, _, value in (line.partition(":") for line in facts["parameters"].lines)
    }
    wanted = {}
    for name, value in plan.platform.kernel_parameters.items():
        pattern = re.escape(name).replace("\\*", "[^.]+")
        for found in [each for each in seen if re.fullmatch(pattern, each)] or [name]:
            if name.startswith(OWN_IN_CONTAINER) == own:
                wanted[found] = str(value)
    return {name: seen.get(name, "absent") for name in wanted}, wanted


@on_hosts("all")
def test_the_network_is_the_plans(plan: Plan, facts: Facts) -> None:
    """No host passes packets on or believes whoever tells it another way (K-01)."""
    seen, wanted = parameters(plan, facts, own=True)
    check(wanted, _("parameters in the plan"), _("none"), _("by hand: fill kernel_parameters"))
    expect(
        seen,
        wanted,
        _("run `systemctl restart systemd-sysctl` on {host}, and ask who changed it").format(
            host=facts.host
        ),
    )


@on_hosts("all")
def test_the_kernel_is_the_plans(plan: Plan, facts: Facts) -> None:
    """What would help whoever is on the host already is switched off (K-01)."""
    if facts.container:
        not_verified(_(NO_KERNEL))
    seen, wanted = parameters(plan, facts, own=False)
    check(wanted, _("parameters in the plan"), _("none"), _("by hand: fill kernel_parameters"))
    expect(
        seen,
        wanted,
        _("run `systemctl restart systemd-sysctl` on {host}, and ask who changed it").format(
            host=facts.host
        ),
    )


@on_hosts("all")
def test_no_memory_image_is_written(facts: Facts) -> None:
    """A program that dies leaves no copy of the registers it held (K-01)."""
    expect(facts["memory image"].text, "0", facts.remedy)


@on_hosts("all")
def test_the_command_line_is_the_plans(plan: Plan, facts: Facts) -> None:
    """The kernel was started with the plan's words: records from the first process on (K-20)."""
    if facts.container:
        not_verified(_(NO_BOOT))
    missing = set(plan.platform.kernel_command_line) - set(facts["command line"].text.split())
    expect(missing, set(), _("by hand: restart this host with the boot loader's own entry"))
    check(
        "[integrity]" in facts["lockdown"].text,
        _("the kernel is locked against root"),
        facts["lockdown"],
        _("by hand: restart this host with the boot loader's own entry"),
    )


@on_hosts("all")
def test_modules_are_refused(plan: Plan, facts: Facts) -> None:
    """Rare file systems and protocols are a way into the kernel: none can be loaded (K-01)."""
    if facts.container:
        not_verified(_(NO_KERNEL))
    answers = dict(line.partition(": ")[::2] for line in facts["modules"].lines)
    expect(set(answers), set(plan.platform.kernel_modules_refused), facts.remedy)
    words = facts["command line"].text.split()
    by_kernel = {
        module
        for word in words
        if word.startswith(BLACKLIST)
        for module in word.removeprefix(BLACKLIST).split(",")
    }
    # The module's own line is the last: the refusal, or that this kernel does not have it.
    loadable = {
        module: answer
        for module, answer in answers.items()
        if module.replace("-", "_") not in by_kernel
        and answer.strip() != "install /bin/false"
        and "not found in directory" not in answer
    }
    expect(loadable, {}, _("{remedy}, or add them to module_blacklist").format(remedy=facts.remedy))
    refused = [module for module, answer in answers.items() if "/bin/false" in answer]
    check(refused, _("refusals"), facts["modules"], facts.remedy)


@on_hosts("all")
def test_usb_storage_cannot_be_loaded(facts: Facts) -> None:
    """Root itself asks for the module of USB sticks and does not get it (K-01)."""
    if facts.container:
        not_verified(_(NO_KERNEL))
    expect(
        facts["attempt"].lines,
        ["modprobe 1", "Operation not permitted"],
        _("{remedy}; restart this host with the boot loader's own entry").format(
            remedy=facts.remedy
        ),
    )


@on_hosts("all")
def test_the_boot_loader_asks_for_a_password(facts: Facts) -> None:
    """Whoever stands before the machine cannot start it as root (K-09)."""
    if facts.container:
        not_verified(_(NO_BOOT))
    words = facts["boot loader"].text
    check(
        "set superusers=" in words and "grub.pbkdf2" in words,
        _("superusers and a password hash in grub.cfg"),
        facts["boot loader"],
        _("run `koseki image build {host}`: its image has to be made anew").format(host=facts.host),
    )
    rights = {row[0]: row[1:] for row in (line.split() for line in facts["boot rights"].lines)}
    open_to_others = {
        path: " ".join(row)
        for path, row in rights.items()
        if row[1:] != ["root", "root"] or int(row[0], 8) & 0o077
    }
    check(
        len(rights) == 2,
        _("a menu of GRUB's"),
        facts["boot rights"],
        _("run `koseki image build {host}`: its image has to be made anew").format(host=facts.host),
    )
    expect(
        open_to_others,
        {},
        _("run `chmod go= {rights}` on {host}").format(rights=" ".join(rights), host=facts.host),
    )


@on_hosts("all")
def test_the_firmware_starts_only_what_is_signed(facts: Facts) -> None:
    """A boot loader or a kernel that somebody put in its place is not started (K-09)."""
    if facts.container:
        not_verified(_(NO_BOOT))
    if not facts["secure boot"].text.strip():
        not_verified(_("started by a BIOS, or by a firmware that knows no Secure Boot"))
    expect(
        facts["secure boot"].text.strip(),
        "1",
        _("by hand: switch Secure Boot on at the hypervisor"),
    )


@on_hosts("all")
def test_records_of_use_are_kept(facts: Facts) -> None:
    """The kernel's records are taken by a daemon that starts with the machine (K-11, K-20)."""
    if facts.container:
        not_verified(_(NO_AUDIT))
    expect(facts["audit units"].lines, ["enabled", "enabled", "active"], facts.remedy, "auditd")
    state = dict(line.partition(" ")[::2] for line in facts["audit state"].lines)
    check(state.get("pid", "0") != "0", _("a daemon that listens"), state, facts.remedy, "auditd")
    expect(
        state.get("lost"),
        "0",
        _("by hand: raise audit_backlog_limit, and see what filled it"),
        "auditd",
    )


@on_hosts("all")
def test_nobody_changes_the_rules(facts: Facts) -> None:
    """Root itself can neither switch the records off nor pass for another person (K-11, K-20)."""
    if facts.container:
        not_verified(_(NO_AUDIT))
    state = dict(line.partition(" ")[::2] for line in facts["audit state"].lines)
    seen = {key: state.get(key) for key in ("enabled", "loginuid_immutable")}
    wanted = {"enabled": "2", "loginuid_immutable": "1 locked"}
    expect(seen, wanted, _(NEEDS_BOOT), "audit-rules")


@on_hosts("all")
def test_the_rules_are_loaded(plan: Plan, facts: Facts) -> None:
    """What the kernel records is what the baseline's file says, and what the books need (K-20)."""
    if facts.container:
        not_verified(_(NO_AUDIT))
    engines = (f"auid={plan.platform.automation_account} ", f"auid={facts['engines'].text} ")
    written = {
        line.replace("!=unset", "!=-1").replace(*engines) for line in facts["audit file"].lines
    }
    # The kernel keeps the system calls that a perm= stands for.
    loaded = {
        re.sub(r" -S \S+ ", " ", line) if " -F perm=" in line else line
        for line in facts["audit rules"].lines
    }
    expect(loaded, written, _(NEEDS_BOOT), "audit-rules")
    keys = {line.rpartition("key=")[2] for line in loaded}
    expect(RECORDED - keys, set(), facts.remedy)
    unwatched = {
        path
        for path in plan.audited_key_files(facts.host)
        if not any(f"={path.rstrip('/')} -F perm=r " in line for line in loaded)
    }
    expect(unwatched, set(), _(NEEDS_BOOT))


@on_hosts("all")
def test_the_engines_are_recorded_as_persons_are(plan: Plan, facts: Facts) -> None:
    """Each program that the most powerful account starts as root has its record (K-11, K-20)."""
    account = plan.platform.automation_account
    rule = f"-S execve,execveat -F euid=0 -F auid={account} -F key=as-root"
    seen = [line for line in facts["audit file"].lines if line.endswith("-F key=as-root")]
    check(any(rule in line for line in seen), rule, seen, facts.remedy)


@on_hosts("all")
def test_no_way_to_unseal_is_unrecorded(facts: Facts) -> None:
    """Both calls by which a file loses its immutable flag are recorded (K-04)."""
    calls = {"a1=0x40086602", "a1=0x401C5820"}
    sealed = [line for line in facts["audit file"].lines if line.endswith("-F key=sealed")]
    seen = {call for call in calls if any(f" -F {call} " in line for line in sealed)}
    expect(seen, calls, facts.remedy)


@on_hosts("all")
def test_what_is_done_is_recorded(facts: Facts) -> None:
    """A thing is done, and its record is there: rules that are loaded and silent are worthless."""
    if facts.container:
        not_verified(_(NO_AUDIT))
    missing = [key for key in ACTS if facts[f"record {key}"].rc]
    expect(
        missing,
        [],
        _("run `auditctl -s` on {host}; see /var/log/audit there").format(host=facts.host),
        "auditd",
    )


@on_hosts("all")
def test_a_login_is_recorded(facts: Facts) -> None:
    """Every login has its row: the one that this question came by, too (K-11)."""
    if facts.container:
        not_verified(_(NO_AUDIT))
    check(
        "res=success" in facts["login"].text,
        _("a record of this session's login"),
        facts["login"],
        _("by hand: see /var/log/audit and /etc/pam.d/sshd"),
        "auditd",
    )


@on_hosts("all")
def test_records_have_room_and_do_not_stop(plan: Plan, facts: Facts) -> None:
    """Records never stop by themselves, nor stop the registers; only root reads them (K-20)."""
    policy = plan.platform.audit_policy
    seen = dict(line.split(" = ", 1) for line in facts["audit settings"].lines)
    wanted = {
        "max_log_file": str(policy.log_mib),
        "num_logs": str(policy.logs),
        "max_log_file_action": "ROTATE",
        "space_left_action": "SYSLOG",
        "admin_space_left_action": "SYSLOG",
        "disk_full_action": "ROTATE",
        "disk_error_action": "SYSLOG",
    }
    expect({key: seen.get(key, "unset") for key in wanted}, wanted, facts.remedy)
    if facts.container:
        not_verified(_(NO_AUDIT))
    rights = [line.split() for line in facts["audit rights"].lines]
    lax = [" ".join(row) for row in rights if int(row[1], 8) & 0o027 or row[2] != "root"]
    check(len(rights) == 2, "/var/log/audit/audit.log", facts["audit rights"], facts.remedy)
    expect(
        lax,
        [],
        _("run `chmod go-w,o= /var/log/audit /var/log/audit/audit.log` on {host}").format(
            host=facts.host
        ),
    )


@on_hosts("all")
def test_the_journal_holds_this_boot(facts: Facts) -> None:
    """What the kernel said at boot is on the disk, for the next boot to read (K-20)."""
    if facts.container:
        not_verified(_(NO_BOOT))
    check(
        len(facts["journal"].lines) > 1 and int(facts["journal"].lines[0]) > 0,
        _("boots in /var/log/journal, this one too"),
        facts["journal"],
        facts.remedy,
        "systemd-journald",
    )


@on_hosts("all")
def test_no_unit_has_failed(facts: Facts) -> None:
    """A unit that failed is somebody's task that is not done.

    The watch's runs end so when they found something: that is told by their own alerts, and a night
    that was red must not make the next one red.
    """
    units = [line.split()[0] for line in facts["failed"].lines]
    failed = [unit for unit in units if unit not in WATCH_RUNS]
    unit = failed[0] if failed else ""
    expect(
        failed,
        [],
        _(
            "run `journalctl -u {unit} -n 50` on {host}, mend it,"
            " then `systemctl reset-failed` there"
        ).format(unit=unit, host=facts.host),
        unit,
    )


@on_hosts("all")
def test_volumes_are_mounted_as_planned(plan: Plan, facts: Facts) -> None:
    """Records cannot fill the system's volume, nor programs start where data lies (K-01)."""
    if facts.container:
        not_verified(_(NO_VOLUMES))
    mounted = {row[0]: row for row in (line.split() for line in facts["mounts"].lines)}
    for volume in plan.inventory.shared["volumes"]:
        if not plan.is_in(facts.host, *(volume.get("groups") or ["all"])):
            continue
        row = mounted.get(volume["mount"], [])
        check(
            row,
            _("a volume at {mount}").format(mount=volume["mount"]),
            sorted(mounted),
            _("run `koseki image build {host}`: its image has to be made anew").format(
                host=facts.host
            ),
        )
        missing = set(volume["options"]) - set(row[2].split(","))
        expect(
            missing,
            set(),
            _("run `mount -o remount {mount}` on {host}").format(
                mount=volume["mount"], host=facts.host
            ),
        )
        # What the file system needs for itself is not counted.
        least = volume["size_mib"] * 85 // 100
        check(
            int(row[1]) >> 20 >= least,
            _("{mount} of {size_mib} MiB").format(
                mount=volume["mount"], size_mib=volume["size_mib"]
            ),
            _("{room} MiB").format(room=int(row[1]) >> 20),
            _("run `koseki image build {host}`: its image has to be made anew").format(
                host=facts.host
            ),
        )


@on_hosts("all")
def test_nothing_is_writable_for_everybody(facts: Facts) -> None:
    """What everybody can write, anybody can replace; shared folders have the sticky bit (K-01)."""
    check(facts["world-writable"].rc == 0, _("an answer"), facts["world-writable"], facts.remedy)
    open_to_all = shlex.join(facts["world-writable"].lines)
    expect(
        facts["world-writable"].lines,
        [],
        _("run `chmod o-w {open_to_all}` on {host}, and ask who made them").format(
            open_to_all=open_to_all, host=facts.host
        ),
    )


@on_hosts("all")
def test_few_programs_lend_rights(facts: Facts) -> None:
    """A setuid program more is a way to root more (K-01)."""
    check(facts["lending"].rc == 0, _("an answer"), facts["lending"], facts.remedy)
    seen = set(facts["lending"].lines)
    check("/usr/bin/sudo" in seen, _("sudo among them"), facts["lending"], facts.remedy)
    expect(
        seen - LENDING,
        set(),
        _("by hand: remove the package that brought it, or take the bit from it"),
    )
