"""Drifts to seed, by generation: each kind in each place where it can be.

A seed is a shell command for one host and what a sweep must say of it. All seeds of a list stand
beside each other: none touches what another does, and none cuts the sweep's own way (sshd, sudo,
PAM, names). A third and more are things that nobody declared.
"""

from __future__ import annotations

import hashlib
import itertools
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from koseki_ops.drift.judge.manifest import Manifest
from koseki_ops.drift.model import Cause, Finding

CHANGED, UNMANAGED = Cause.CHANGED_ON_HOST, Cause.UNMANAGED
# What the sweep comes in by, and what other seeds of the list stand on.
SPARED = (
    "/etc/ssh", "/etc/pam", "/etc/sudo", "/etc/security", "/etc/nsswitch", "/etc/ld.so",
    "/etc/login", "/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow", "/etc/sub",
    "/etc/environment", "/etc/profile", "/etc/bash", "/etc/systemd", "/etc/hosts",
    "/etc/hostname", "/etc/machine", "/etc/etcd", "/etc/patroni", "/etc/koseki",
    "/etc/postgresql", "/etc/haproxy", "/etc/default", "/etc/nftables.conf", "/etc/apt",
    "/etc/dpkg", "/etc/alternatives", "/etc/mtab", "/etc/localtime", "/etc/os-release",
    "/etc/pgbackrest", "/var/lib/koseki", "/srv", "/root", "/usr/local", "/opt", "/etc/python",
    "/etc/shells", "/etc/adjtime", "/etc/resolv.conf", "/etc/.", "/usr/lib", "/etc/opt",
    "/etc/host.conf", "/etc/gai.conf", "/etc/fstab", "/etc/debian_version", "/etc/deluser.conf",
    "/etc/adduser.conf", "/etc/cron",
)  # fmt: skip


@dataclass(frozen=True)
class Seed:
    """A drift: where, how it is made, and the finding that must name it.

    name: the finding's, or its beginning when it ends in `…`; place: empty for any field.
    """

    host: str
    script: str
    kind: str
    name: str
    cause: Cause
    place: str = ""

    def is_named_by(self, finding: Finding) -> bool:
        """Say whether a finding is this drift's."""
        if (finding.host, finding.kind, finding.cause) != (self.host, self.kind, self.cause):
            return False
        if self.place and finding.place != self.place:
            return False
        if self.name.endswith("…"):
            return finding.name.startswith(self.name[:-1])
        return finding.name == self.name


def seeds(manifests: Mapping[str, Manifest], leader: str, each: int) -> Iterator[Seed]:
    """Yield the drifts of a platform. each: how many places of a kind are taken on each host."""
    for host, manifest in manifests.items():
        yield from changed_files(host, manifest, each)
        yield from changed_rows(host, manifest, each)
        yield from unmanaged_files(host, each)
        yield from unmanaged_rows(host, each)
    yield from of_databases(manifests, leader, each)


# An empty file has no first line to change.
EMPTY = hashlib.sha256().hexdigest()


def _safe(manifest: Manifest, letter: str) -> Iterator[str]:
    for path, row in sorted(manifest.items["file"].items()):
        fields = row.split("\t")
        if fields[0] == letter and not path.startswith(SPARED) and " " not in path:
            whole = letter != "f" or fields[4] not in {"", EMPTY}
            whole = whole and not fields[4].startswith("keyed:")
            if whole and not fields[5]:
                yield path


def changed_files(host: str, manifest: Manifest, each: int) -> Iterator[Seed]:
    """Yield changes of what is there: content, rights, flags, links, absence."""
    paths = _safe(manifest, "f")
    for field, change in (
        ("content", "printf '# seeded\\n' >>{}"),
        ("content", "sed -i '1s/^/ /' {}"),
        ("mode", "chmod 0606 {}"),
        ("owner", "chown nobody {}"),
        ("group", "chgrp nogroup {}"),
        ("flags", "chattr +i {}"),
        ("", "rm {}"),
        ("type", "rm {} && ln -s hostname {}"),
    ):
        for path in itertools.islice(paths, each):
            yield Seed(host, change.replace("{}", path), "file", path, CHANGED, field)
    folders = (path for path in _safe(manifest, "d") if path.count("/") > 2)
    for path in itertools.islice(folders, each):
        yield Seed(host, f"chmod 0757 {path}", "file", path, CHANGED, "mode")
    links = (path for path in _safe(manifest, "l") if "/rc" not in path)
    for path in itertools.islice(links, each):
        yield Seed(host, f"ln -sfn /dev/full {path}", "file", path, CHANGED, "content")
    timers = [path for path in manifest.items["unit"] if path.startswith("/etc/systemd/system/")]
    plain = [p for p in sorted(timers) if p.endswith((".timer", ".service")) and ".d/" not in p]
    plain = [p for p in plain if manifest.items["unit"][p].startswith("f\t")]
    for path in plain[:each]:
        yield Seed(host, f"printf '# seeded\\n' >>{path}", "unit", path, CHANGED, "content")


def changed_rows(host: str, manifest: Manifest, each: int) -> Iterator[Seed]:
    """Yield changes of units, accounts, packages, rights, rules and parameters."""
    timers = [
        name
        for name, row in sorted(manifest.items["service"].items())
        if name.endswith(".timer") and "timers.target.wants" in row and row.endswith("\tactive")
    ]
    for number, name in enumerate(timers[: 2 * each]):
        if number % 2:
            yield Seed(host, f"systemctl stop {name}", "service", name, CHANGED, "active")
        else:
            command = f"systemctl disable --quiet {name}"
            yield Seed(host, command, "service", name, CHANGED, "enabled")
    yield Seed(
        host,
        "rm -f /etc/systemd/system/ctrl-alt-del.target && systemctl daemon-reload",
        "service",
        "ctrl-alt-del.target",
        CHANGED,
        "enabled",
    )
    yield from changed_accounts(host, manifest, each)
    yield from changed_programs(host, each)
    yield from changed_rules(host, manifest, each)


def changed_accounts(host: str, manifest: Manifest, each: int) -> Iterator[Seed]:
    """Yield changes of accounts, groups and packages."""
    accounts = ("games", "news", "uucp", "irc", "list", "backup")
    for number, name in enumerate(a for a in accounts if a in manifest.items["user"]):
        command, field = (
            (f"usermod --shell /bin/sh {name}", "shell"),
            (f"usermod --password '$y$j9T$x$y' {name}", "password"),
            (f"usermod --expiredate 2099-01-01 {name}", "expires"),
            (f"usermod --home /tmp {name}", "home"),
            (f"chage -M 5 {name}", "max_days"),
            (f"usermod --comment seeded {name}", "name"),
        )[number]
        yield Seed(host, command, "user", name, CHANGED, field)
    for group in ("voice", "video", "tape")[:each]:
        yield Seed(host, f"usermod -aG {group} man", "group", group, CHANGED, "members")
    held = ("nano", "tzdata", "e2fsprogs")[:each]
    for name in held:
        yield Seed(host, f"apt-mark hold {name} >/dev/null", "package", name, CHANGED, "status")
    # Which the package's own file says; its database is edited where a purge would pull others.
    yield Seed(
        host,
        "sed -i '/^Package: iputils-ping$/,/^$/s/^Version: .*/Version: 3:1-1/' "
        "/var/lib/dpkg/status",
        "package",
        "iputils-ping",
        CHANGED,
        "version",
    )


def changed_programs(host: str, each: int) -> Iterator[Seed]:
    """Yield changes of programs and of the rights that they lend."""
    for path in ("/usr/bin/chfn", "/usr/bin/chsh", "/usr/bin/expiry")[:each]:
        yield Seed(host, f"chmod u-s,g-s {path}", "setuid", path, CHANGED)
    for path in ("/usr/bin/nano", "/usr/bin/tac", "/usr/bin/shuf", "/usr/bin/ptx")[:each]:
        command = f"cp {path} /run/x && printf x >>/run/x && cat /run/x >{path} && rm /run/x"
        yield Seed(host, command, "program", path, CHANGED, "size")
    for path in ("/usr/bin/tsort", "/usr/bin/yes", "/usr/bin/pinky")[:each]:
        yield Seed(host, f"rm {path}", "program", path, CHANGED)


def changed_rules(host: str, manifest: Manifest, each: int) -> Iterator[Seed]:
    """Yield changes of the kernel's parameters and of the firewall."""
    for name, value in (
        ("net.ipv4.conf.all.log_martians", "0"),
        ("net.ipv4.tcp_syncookies", "2"),
        ("net.ipv4.conf.all.accept_source_route", "1"),
        ("net.ipv4.icmp_echo_ignore_broadcasts", "0"),
        ("net.ipv4.conf.all.secure_redirects", "1"),
    )[:each]:
        if name in manifest.items["kernel parameter"]:
            path = f"/proc/sys/{name.replace('.', '/')}"
            command = f"old=$(cat {path}); echo {value} >{path}; [ $old != {value} ]"
            yield Seed(host, command, "kernel parameter", name, CHANGED, "value")
    yield Seed(
        host,
        "nft delete rule inet koseki output handle $(nft -a list chain inet koseki output | "
        "sed -n 's/.*limit rate.*handle //p')",
        "firewall rule",
        "table inet koseki chain output: limit rate…",
        CHANGED,
    )


def _put(path: str, content: str = "seeded", mode: str = "0644") -> str:
    folder = path.rpartition("/")[0]
    return (
        f"mkdir -p {folder} && printf '%s\\n' {shlex.quote(content)} >{shlex.quote(path)} && "
        f"chmod {mode} {shlex.quote(path)}"
    )


def unmanaged_files(host: str, each: int) -> Iterator[Seed]:
    """Yield files, programs, jobs, units and rights that nobody declared."""
    for number in range(each):
        for path in (
            f"/etc/seeded-{number}.conf",
            f"/etc/profile.d/seeded-{number}.sh",
            f"/etc/apt/apt.conf.d/99seeded-{number}",
            f"/etc/systemd/journald.conf.d/99-seeded-{number}.conf",
            f"/etc/modprobe.d/seeded-{number}.conf",
            f"/usr/local/bin/seeded-{number}",
            f"/usr/local/lib/with blanks {number}",
            f"/usr/local/etc/文字{number}",
            f"/root/seeded-{number}",
            f"/opt/seeded-{number}",
            f"/srv/seeded-{number}",
            f"/var/lib/koseki/seeded-{number}",
        ):
            yield Seed(host, _put(path), "file", path, UNMANAGED)
        path = f"/etc/sudoers.d/seeded-{number}"
        yield Seed(host, _put(path, "# seeded", "0440"), "sudoers", path, UNMANAGED)
        for path in (f"/etc/cron.d/seeded-{number}", f"/etc/cron.daily/seeded-{number}"):
            yield Seed(host, _put(path, "# seeded"), "cron", path, UNMANAGED)
        path = f"/var/spool/cron/crontabs/seeded-{number}"
        yield Seed(host, _put(path, "@daily true", "0600"), "cron", path, UNMANAGED)
        units = "/etc/systemd/system"
        path = f"{units}/seeded-{number}.service"
        yield Seed(host, _put(path, "[Service]\nExecStart=/bin/true"), "unit", path, UNMANAGED)
        path = f"{units}/seeded-{number}.timer"
        yield Seed(host, _put(path, "[Timer]\nOnCalendar=daily"), "unit", path, UNMANAGED)
        path = f"{units}/dbus.service.d/seeded-{number}.conf"
        yield Seed(host, _put(path, "[Service]"), "unit", path, UNMANAGED)
        unit = f"linked-{number}.service"
        command = (
            f"{_put(f'/usr/lib/systemd/system/{unit}', '[Service]')} && "
            f"ln -s /usr/lib/systemd/system/{unit} {units}/multi-user.target.wants/{unit}"
        )
        yield Seed(host, command, "service", unit, UNMANAGED)
        for folder in ("/usr/bin", "/var/tmp", "/home"):  # noqa: S108 - a place like others
            path = f"{folder}/lent-{number}"
            command = f"cp /usr/bin/true {path} && chmod 4755 {path}"
            yield Seed(host, command, "setuid", path, UNMANAGED)
        path = f"/var/lib/capable-{number}"
        command = f"cp /usr/bin/true {path} && setcap cap_net_raw=ep {path}"
        yield Seed(host, command, "capability", path, UNMANAGED)


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{:043d}"


def unmanaged_rows(host: str, each: int) -> Iterator[Seed]:
    """Yield accounts, keys, packages, rules, doors and mounts that nobody declared."""
    for number in range(each):
        name = f"seeded-{number}"
        yield Seed(host, f"useradd --no-create-home {name}", "user", name, UNMANAGED)
        yield Seed(host, f"groupadd spare-{number}", "group", f"spare-{number}", UNMANAGED)
        for place, home in enumerate(("/root", "/home/automation")):
            path = f"{home}/.ssh/authorized_keys"
            key = KEY.format(1000 * place + number)
            command = f"mkdir -p {home}/.ssh && echo '{key} k{number}' >>{path}"
            yield Seed(host, command, "key", f"{path}: SHA256:…", UNMANAGED)
        package = f"seeded-package-{number}"
        control = (
            f"Package: {package}\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@example.jp>"
        )
        yield Seed(
            host,
            f"mkdir -p /run/{package}/DEBIAN && "
            f"printf '{control}\\nDescription: x\\n' >/run/{package}/DEBIAN/control && "
            f"dpkg-deb --build /run/{package} >/dev/null && dpkg -i /run/{package}.deb "
            ">/dev/null 2>&1",
            "package",
            package,
            UNMANAGED,
        )
        rule = f"tcp dport {6000 + number} accept"
        yield Seed(
            host,
            f"nft add rule inet koseki input {rule}",
            "firewall rule",
            f"table inet koseki chain input: {rule}",
            UNMANAGED,
        )
        table = f"seeded{number}"
        yield Seed(
            host,
            f"nft add table inet {table} && nft add chain inet {table} c",
            "firewall rule",
            f"table inet {table} chain c",
            UNMANAGED,
        )
        port = 4000 + number
        yield Seed(
            host,
            f"systemd-run --quiet --unit=door-{number} systemd-socket-activate -l {port} cat",
            "socket",
            f"tcp *:{port}",
            UNMANAGED,
        )
        yield Seed(host, ":", "service", f"door-{number}.service", UNMANAGED)
        path = f"/mnt/seeded-{number}"
        command = f"mkdir -p {path} && mount -t tmpfs -o nosuid,size=1m none {path}"
        yield Seed(host, command, "mount", path, UNMANAGED)


def psql(statement: str, database: str = "postgres") -> str:
    """Return the command with which a member's own superuser runs a statement."""
    return (
        f"setpriv --reuid postgres --regid postgres --init-groups psql -XqtA -d {database} "
        f"-v ON_ERROR_STOP=1 -c {shlex.quote(statement)}"
    )


def of_databases(manifests: Mapping[str, Manifest], leader: str, each: int) -> Iterator[Seed]:
    """Yield drifts of the cluster: made on the leader, seen on every member."""
    members = [host for host, manifest in manifests.items() if manifest.items.get("role")]
    members.sort(key=lambda host: host != leader)
    municipalities = sorted(
        name
        for name in manifests[leader].items["database"]
        if name not in {"postgres", "template0", "template1", "koseki_template"}
    )[:each]
    for number, municipality in enumerate(municipalities):
        for script, kind, name, cause, place in (
            *of_cluster(number, municipality),
            *of_one_database(municipality),
        ):
            for turn, host in enumerate(members):
                yield Seed(host, ":" if turn else script, kind, name, cause, place)
    for host in members:
        yield from of_a_member(host, each)


def of_cluster(number: int, municipality: str) -> Iterator[tuple[str, str, str, Cause, str]]:
    """Yield drifts of what all databases share: script, kind, name, cause and place of each."""
    role, member, database = f"seeded_{number}", f"m_{number}", f"seeded_{number}"
    yield psql(f"CREATE ROLE {role}"), "role", role, UNMANAGED, ""
    yield (
        psql(f"CREATE ROLE {member}; GRANT pg_monitor TO {member}"),
        "membership",
        f"{member} in pg_monitor…",
        UNMANAGED,
        "",
    )
    yield ":", "role", member, UNMANAGED, ""
    yield psql(f"CREATE DATABASE {database}"), "database", database, UNMANAGED, ""
    limit = f"ALTER DATABASE {municipality} CONNECTION LIMIT 7"
    yield psql(limit), "database", municipality, CHANGED, "attributes"
    public = f"GRANT CONNECT ON DATABASE {municipality} TO PUBLIC"
    yield psql(public), "database", municipality, CHANGED, "grants"
    yield (
        psql(f"ALTER ROLE {municipality}_app CREATEDB"),
        "role",
        f"{municipality}_app",
        CHANGED,
        "",
    )
    memory = f"ALTER ROLE {municipality}_app SET work_mem = '64MB'"
    yield psql(memory), "role setting", f"{municipality}_app in all: work_mem", UNMANAGED, ""


def of_one_database(municipality: str) -> Iterator[tuple[str, str, str, Cause, str]]:
    """Yield drifts in a municipality's own database, as `of_cluster` does."""
    yield (
        psql("CREATE SCHEMA seeded", municipality),
        "schema",
        f"{municipality} seeded",
        UNMANAGED,
        "",
    )
    table = psql("CREATE TABLE public.seeded (x int)", municipality)
    yield table, "grant", f"{municipality} public.seeded", UNMANAGED, ""
    public = psql("GRANT SELECT ON platform.probe TO PUBLIC", municipality)
    yield public, "grant", f"{municipality} platform.probe", CHANGED, "grants"
    function = "CREATE FUNCTION public.seeded() RETURNS int LANGUAGE sql SECURITY DEFINER "
    definer = psql(f"{function}AS 'SELECT 1'", municipality)
    yield definer, "definer", f"{municipality} public.seeded()", UNMANAGED, ""
    extension = psql("CREATE EXTENSION pgcrypto SCHEMA public", municipality)
    yield extension, "extension", f"{municipality} pgcrypto", UNMANAGED, ""


def of_a_member(host: str, each: int) -> Iterator[Seed]:
    """Yield drifts of a member's own settings, access rules and files."""
    reload = psql("SELECT pg_reload_conf()")
    for name, value in (("work_mem", "9MB"), ("log_statement", "all"), ("jit", "off"))[:each]:
        script = f"{psql(f"ALTER SYSTEM SET {name} = '{value}'")} && {reload}"
        yield Seed(host, script, "setting", name, CHANGED, "value")
    rule = "host all all 10.0.0.0/8 trust"
    data = "$(find /var/lib/postgresql -maxdepth 3 -name pg_hba.conf)"
    read = "host all all 10.0.0.0 255.0.0.0 trust"
    yield Seed(host, f"echo '{rule}' >>{data}", "hba", read, UNMANAGED)
    file = "/etc/pgbackrest/pgbackrest.conf"
    yield Seed(host, f"printf '# seeded\\n' >>{file}", "file", file, CHANGED, "content")


def script_of(planned: list[Seed]) -> str:
    """Return one shell script that makes all drifts of one host and names those it cannot make."""
    lines = ["set -u", "failed=0"]
    for number, seed in enumerate(planned):
        lines.append(f"( {seed.script}\n) || {{ echo 'not seeded: {number}'; failed=1; }}")
    return "\n".join([*lines, "exit $failed"])
