"""What a sweep looks at on a host, what it leaves out, and the reason for each thing left out."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

# Directories that are the platform's alone: what nobody declared there is unmanaged.
ROOTS = (
    "/etc",
    "/opt",
    "/root",
    "/srv",
    "/usr/lib/systemd/system",
    "/usr/local",
    "/var/lib/koseki",
    "/var/spool/cron",
)
# Programs and libraries that would have to be replaced to hide something.
PROGRAMS = ("/usr/bin", "/usr/sbin", "/usr/lib/postgresql", "/usr/lib/systemd")
# Units that exist until the next boot only; sessions (`.scope`) come and go with people.
RUNTIME_UNITS = ("/run/systemd/system", "/run/systemd/transient", "/run/systemd/system.control")

# Not looked into, as find(1) patterns, each with its reason.
PRUNED = {
    "/root/.ansible": "Ansible's working folder; it writes and removes modules there",
    "/root/.cache": "programs' caches",
    "/root/.local": "programs' histories and states",
    "/root/.bash_history": "what was typed; grows with every session",
    "/root/.psql_history": "what was typed; grows with every session",
    "/root/.lesshst": "what was looked for; changes with every session",
    "/etc/audit/audit.rules.prev": "the rules of before, kept at boot when they have changed",
    "/root/.viminfo": "what was looked for; changes with every session",
    "/srv/koseki-packages/pool": "packages that the signed index beside it vouches for",
    "/srv/koseki/exchange/*/*/*": "files between a registry and its municipality's database",
    "/srv/vault/*/repo/*": "ciphertext that the databases upload",
    "/srv/vault/*-sealed/*": "sealed generations of that ciphertext, a new one every quarter hour",
    "/var/lib/koseki/seal": "the seal's own notes, rewritten at every seal",
    "/var/lib/koseki/tablespaces/*/*": "the registers' data",
    "/opt/koseki/venv/lib/*": "packages; the nightly verification holds each against its record",
    "/var/lib/koseki/releases/incoming*": "a release on its way, before its signature is verified",
    "*.koseki-new": "a file on its way to its place, for the blink of an apply",
}
# Content not compared (owner and mode are), each with its reason.
VOLATILE = {
    "/etc/passwd": "compared account by account",
    "/etc/passwd-": "the state before the last change of accounts",
    "/etc/shadow": "compared account by account, without passwords",
    "/etc/shadow-": "the state before the last change of accounts",
    "/etc/group": "compared group by group",
    "/etc/group-": "the state before the last change of groups",
    "/etc/gshadow": "compared group by group",
    "/etc/gshadow-": "the state before the last change of groups",
    "/etc/subuid-": "the state before the last change of accounts",
    "/etc/subgid-": "the state before the last change of accounts",
    "/etc/machine-id": "made by the host at its first boot",
    "/etc/audit/audit.rules": "written at boot from rules.d, which is compared",
    "/etc/adjtime": "written by the clock's service",
    "/etc/.updated": "the time of an update, written at boot",
    "/etc/resolv.conf": "written by the network's service",
    "/var/lib/koseki/backup-status.json": "a measure, rewritten every few minutes",
    "/var/lib/koseki/firewall.loaded": "written when the rules are loaded; the rules are compared",
}
# Hashed together with a key that the controller sends: the hash alone tells nothing of a content.
SECRETS = (
    "/etc/ssh/ssh_host_*_key",
    "/var/lib/koseki-watch/*/ssh/watch",
    "/var/lib/koseki-watch/*/ssh/watch-datacenter",
    "/etc/pgbackrest/pgbackrest.conf",
    "/etc/shadow*",
    "/etc/gshadow*",
    "*.key",
    "*/id_rsa",
    "*/id_ecdsa",
    "*/id_ed25519",
    "*/.pgpass*",
    "*password*",
    "*secret*",
)
# Kernel parameters that decide what an attacker may do. A container has those of its network
# only: of the others a sweep says that they are not verified.
KERNEL = (
    "dev/tty/ldisc_autoload",
    "fs/protected_fifos",
    "fs/protected_hardlinks",
    "fs/protected_regular",
    "fs/protected_symlinks",
    "fs/suid_dumpable",
    "kernel/core_pattern",
    "kernel/core_uses_pid",
    "kernel/ctrl-alt-del",
    "kernel/dmesg_restrict",
    "kernel/io_uring_disabled",
    "kernel/kexec_load_disabled",
    "kernel/kptr_restrict",
    "kernel/modules_disabled",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/perf_event_paranoid",
    "kernel/randomize_va_space",
    "kernel/sysrq",
    "kernel/unprivileged_bpf_disabled",
    "kernel/unprivileged_userns_clone",
    "kernel/yama/ptrace_scope",
    "net/core/bpf_jit_harden",
    "net/ipv4/conf/all/accept_redirects",
    "net/ipv4/conf/all/accept_source_route",
    "net/ipv4/conf/all/forwarding",
    "net/ipv4/conf/all/log_martians",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/all/secure_redirects",
    "net/ipv4/conf/all/send_redirects",
    "net/ipv4/conf/default/accept_redirects",
    "net/ipv4/conf/default/accept_source_route",
    "net/ipv4/conf/default/log_martians",
    "net/ipv4/conf/default/rp_filter",
    "net/ipv4/conf/default/secure_redirects",
    "net/ipv4/conf/default/send_redirects",
    "net/ipv4/icmp_echo_ignore_broadcasts",
    "net/ipv4/icmp_ignore_bogus_error_responses",
    "net/ipv4/ip_forward",
    "net/ipv4/tcp_rfc1337",
    "net/ipv4/tcp_syncookies",
    "net/ipv6/conf/all/accept_ra",
    "net/ipv6/conf/all/accept_redirects",
    "net/ipv6/conf/all/accept_source_route",
    "net/ipv6/conf/all/disable_ipv6",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/default/accept_ra",
    "net/ipv6/conf/default/accept_redirects",
    "net/ipv6/conf/default/accept_source_route",
    "vm/mmap_min_addr",
    "vm/unprivileged_userfaultfd",
)
NETWORK_PARAMETER = "net/"
# Settings that Patroni rewrites with the roles of the members, or that a session brings along.
VOLATILE_SETTINGS = frozenset(
    {
        "application_name",
        "archive_cleanup_command",
        "client_encoding",
        "hot_standby_feedback",
        "primary_conninfo",
        "primary_slot_name",
        "recovery_end_command",
        "recovery_min_apply_delay",
        "recovery_target",
        "recovery_target_action",
        "recovery_target_inclusive",
        "recovery_target_lsn",
        "recovery_target_name",
        "recovery_target_time",
        "recovery_target_timeline",
        "recovery_target_xid",
        "restore_command",
        "session_authorization",
        "statement_timeout",
        "synchronous_standby_names",
        "transaction_deferrable",
        "transaction_isolation",
        "transaction_read_only",
    }
)
# Memberships that an open request lends to an operator (docs/requests.md), and a declared takeover
# to whoever stands in (docs/takeover.md): they belong to a row in the town's database, come and go
# with it, and a manifest must neither learn nor miss them. A membership that no such row covers is
# drift like any other. The database's own answer names what is granted; it still does for two
# minutes after the end, while the host's timer takes it back.
GRANTED = "granted"
GRANTED_NAME = re.compile(
    r"operator_[a-z0-9]+ in koseki_[a-z0-9]+_(?:read|correct) by postgres"
    r"|koseki_([a-z0-9]+)_takeover in koseki_\1_read by postgres"
)
# Services that come with a session, a question on the bus or a terminal, and go by themselves.
PASSING_SERVICE = re.compile(
    r"(?:user@|user-runtime-dir@|session-|getty@|serial-getty@|console-getty|container-getty@|"
    r"systemd-|run-credentials-|modprobe@|sshd@|dbus-:|dbus\.|emergency\.|rescue\.)"
)
# Mounts that the kernel, the service manager or the lab's container make.
PASSING_MOUNT = re.compile(r"(?:/proc|/sys|/dev|/run)(?:/|$)")


def is_secret(path: str) -> bool:
    """Say whether a file is compared by its keyed hash only."""
    return any(fnmatchcase(path, pattern) for pattern in SECRETS)


def is_pruned(path: str) -> bool:
    """Say whether a path is not looked at, so that nobody can own it."""
    return any(fnmatchcase(path, pattern) for pattern in PRUNED)


def kind_of(path: str) -> str:
    """Return what kind of thing the file at a path is."""
    if path.startswith(("/etc/systemd/system/", "/usr/lib/systemd/system/", "/run/systemd/")):
        return "unit"
    if path.startswith("/etc/sudoers"):
        return "sudoers"
    if path.startswith(("/etc/cron", "/var/spool/cron")):
        return "cron"
    return "file"
