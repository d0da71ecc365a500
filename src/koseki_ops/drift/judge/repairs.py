"""The commands, as root on the host, that mend what no apply mends."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from koseki_ops.drift.judge.compare import Difference
from koseki_ops.drift.observe.items import FILES

LOAD_RULES = "nft -f /etc/nftables.conf"


def _sql(statement: str, database: str = "postgres") -> str:
    return f"-u postgres psql -d {shlex.quote(database)} -c {shlex.quote(statement)}"


def _in_database(statement: str) -> Callable[[Difference], str]:
    """Return a statement about `database thing` names."""

    def command(difference: Difference) -> str:
        database, _, thing = difference.name.partition(" ")
        return _sql(statement.format(thing), database)

    return command


def _plain(command: str) -> Callable[[Difference], str]:
    return lambda difference: command.format(shlex.quote(difference.name))


def _statement(statement: str) -> Callable[[Difference], str]:
    return lambda difference: _sql(statement.format(difference.name))


def _key(difference: Difference) -> str:
    path, _, key = difference.name.partition(": ")
    return f"nano {shlex.quote(path)}  # take out {key}"


def _socket(difference: Difference) -> str:
    protocol, _, local = difference.name.partition(" ")
    option, port = ("-Hlntp" if protocol == "tcp" else "-Hlnup"), local.rpartition(":")[2]
    return f"ss {option} sport = :{port}  # then end {difference.seen.removeprefix('program=')}"


def _membership(difference: Difference) -> str:
    member, _, rest = difference.name.partition(" in ")
    return _sql(f'REVOKE "{rest.partition(" by ")[0]}" FROM "{member}"')


def _trigger(difference: Difference) -> str:
    """Drop a trigger, or bring it to its state; of a table or of an event, which has no dot."""
    database, _, rest = difference.name.partition(" ")
    name, _, place = rest.partition(" on ")
    table = "." in place
    if difference.unmanaged:
        what = f'TRIGGER "{name}" ON {place}' if table else f'EVENT TRIGGER "{name}"'
        return _sql(f"DROP {what}", database)
    if table:
        return _sql(f'ALTER TABLE {place} {difference.expected} TRIGGER "{name}"', database)
    return _sql(f'ALTER EVENT TRIGGER "{name}" {difference.expected}', database)


def _role_setting(difference: Difference) -> str:
    who, _, rest = difference.name.partition(" in ")
    where, _, setting = rest.partition(": ")
    role = "ALL" if who == "all" else f'"{who}"'
    place = "" if where == "all" else f' IN DATABASE "{where}"'
    return _sql(f"ALTER ROLE {role}{place} RESET {setting}")


def _file(difference: Difference) -> str:
    recursive = "-r " if difference.seen.startswith("folder") else ""
    return f"rm {recursive}-- {shlex.quote(difference.name)}"


REMOVALS: dict[str, Callable[[Difference], str]] = {
    "package": _plain("apt-get purge --yes {}"),
    "user": _plain("userdel --remove {}"),
    "group": _plain("groupdel {}"),
    "service": _plain("systemctl disable --now {}"),
    "key": _key,
    "socket": _socket,
    "setuid": _plain("chmod u-s,g-s {}"),
    "capability": _plain("setcap -r {}"),
    "firewall rule": lambda _: LOAD_RULES,
    "mount": _plain("umount {}"),
    "database": _statement('DROP DATABASE "{}"'),
    "role": _statement('DROP ROLE "{}"'),
    "tablespace": _statement('DROP TABLESPACE "{}"'),
    "membership": _membership,
    "role setting": _role_setting,
    "extension": _in_database('DROP EXTENSION "{}"'),
    "schema": _in_database('DROP SCHEMA "{}"'),
    "grant": _in_database("DROP TABLE {}"),
    "definer": _in_database("DROP FUNCTION {}"),
    "trigger": _trigger,
    "setting": _statement("ALTER SYSTEM RESET {}"),
    "etcd member": _plain("etcdctl member remove {}"),
    "hba": lambda _: "systemctl reload patroni.service",
    "patroni": _plain("patronictl -c /etc/patroni/config.yml edit-config --set {}=null --force"),
}


def removal(difference: Difference) -> str:
    """Return the command that takes away what is unmanaged."""
    return REMOVALS.get(difference.kind, _file)(difference)


def _reinstall(difference: Difference) -> str:
    # The package that brought it has its first state.
    return (
        "sh -c 'apt-get install --reinstall --yes -o Dpkg::Options::=--force-confmiss "
        "-o Dpkg::Options::=--force-confnew "
        f"$(dpkg -S {shlex.quote(difference.name)} | cut -d: -f1)'"
    )


def _right(program: str) -> Callable[[Difference], str]:
    return lambda difference: (
        f"{program} {shlex.quote(difference.expected)} {shlex.quote(difference.name)}"
    )


def _flags(difference: Difference) -> str:
    flag = f"+{difference.expected}" if difference.expected else f"-{difference.seen}"
    return f"chattr {flag} {shlex.quote(difference.name)}"


def _link(difference: Difference) -> str:
    if not difference.expected.startswith("link to "):
        return _reinstall(difference)
    target = shlex.quote(difference.expected.removeprefix("link to "))
    return f"ln -sfn {target} {shlex.quote(difference.name)}"


def _version(difference: Difference) -> str:
    version = difference.expected.removeprefix("version=").split()[0]
    wanted = shlex.quote(f"{difference.name}={version}")
    return f"apt-get install --yes --allow-downgrades {wanted}"


def _enabled(difference: Difference) -> str:
    verb = {"": "disable", "masked": "mask"}.get(difference.expected, "enable")
    return f"systemctl {verb} {shlex.quote(difference.name)}"


def _setting(difference: Difference) -> str:
    return f"{_sql(f'ALTER SYSTEM RESET {difference.name}')} -c 'SELECT pg_reload_conf()'"


HOLDERS = (*FILES, "program", "setuid")
# By kind and field; an empty field is the item as a whole, and stands for fields not named here.
MENDINGS: dict[tuple[str, str], Callable[[Difference], str]] = {
    **{(kind, "mode"): _right("chmod") for kind in HOLDERS},
    **{(kind, "owner"): _right("chown") for kind in HOLDERS},
    **{(kind, "group"): _right("chgrp") for kind in HOLDERS},
    **{(kind, "flags"): _flags for kind in FILES},
    **{(kind, ""): _link for kind in FILES},
    **{(kind, ""): _reinstall for kind in ("program", "setuid", "capability")},
    ("package", ""): _version,
    ("service", "enabled"): _enabled,
    ("service", "active"): _plain("systemctl start {}"),
    ("service", ""): _plain("systemctl enable --now {}"),
    ("firewall rule", ""): lambda _: LOAD_RULES,
    ("firewall", ""): lambda _: LOAD_RULES,
    ("kernel parameter", ""): lambda d: f"sysctl -w {shlex.quote(f'{d.name}={d.expected}')}",
    ("mount", ""): _plain("mount {}"),
    ("setting", ""): _setting,
    ("trigger", "state"): _trigger,
    ("hba", ""): lambda _: "systemctl reload patroni.service",
    ("hba order", ""): lambda _: "systemctl reload patroni.service",
}


def mending(difference: Difference) -> str:
    """Return the command that brings back what no engine declared; empty: an apply does."""
    kind, place = difference.kind, difference.place
    command = MENDINGS.get((kind, place)) or MENDINGS.get((kind, ""))
    return command(difference) if command else ""
