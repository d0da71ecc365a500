"""The items of a host: what each kind is made of, and the form in which thousands are compared.

An item is a kind, a name and a row of fields; a row is kept as one string, its fields joined by
tabs, so that a sweep compares strings and looks into a row only when it differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from koseki_ops.drift.model import SealLink

# Stands for any value in an expected field.
ANY = "*"
# What an engine was called before, in signed manifests and in marks that are still on hosts.
FORMER_ENGINES = {"ground": "baseline"}

FILE_COLUMNS = ("type", "mode", "owner", "group", "content", "flags")
COLUMNS: dict[str, tuple[str, ...]] = {
    "file": FILE_COLUMNS,
    "unit": FILE_COLUMNS,
    "sudoers": FILE_COLUMNS,
    "cron": FILE_COLUMNS,
    "setuid": ("mode", "owner", "group"),
    "capability": ("capabilities",),
    "program": ("mode", "owner", "group", "size", "time"),
    "package": ("version", "status"),
    "service": ("enabled", "active"),
    "user": ("uid", "gid", "name", "home", "shell", "password", "max_days", "expires"),
    "group": ("gid", "members"),
    "key": ("options",),
    "mount": ("type", "source", "options"),
    "kernel parameter": ("value",),
    "firewall rule": (),
    "firewall": ("order",),
    "socket": ("program",),
    "certificate": ("fingerprint", "subject", "not_after"),
    "etcd member": ("peers", "clients", "learner"),
    "patroni": ("value",),
    "setting": ("value", "pending_restart"),
    "role": ("attributes", "connections", "valid_until", "password"),
    "membership": ("options",),
    "role setting": ("value",),
    "database": ("owner", "encoding", "collation", "tablespace", "attributes", "grants"),
    "tablespace": ("owner", "location", "grants"),
    "hba": (),
    "hba order": ("order",),
    "extension": ("version", "schema"),
    "schema": ("owner", "grants"),
    "grant": ("owner", "grants"),
    "definer": ("owner", "body"),
    "trigger": ("state", "function"),
}
# A path has at most 4,096 bytes; each that is no text is written with four characters.
LONGEST_NAME, LONGEST_ROW = 16_384, 65_536
MOST_ITEMS = 200_000
FILES = ("file", "unit", "sudoers", "cron")

# Which part of the probe an item of a kind comes from.
PART_OF = {
    **dict.fromkeys(FILES, "files"),
    "setuid": "rights",
    "capability": "rights",
    "program": "programs",
    "package": "packages",
    "service": "services",
    "user": "accounts",
    "group": "accounts",
    "key": "keys",
    "mount": "mounts",
    "kernel parameter": "kernel",
    "firewall rule": "firewall",
    "firewall": "firewall",
    "socket": "sockets",
    "certificate": "certificates",
    "etcd member": "etcd",
    **dict.fromkeys(
        (
            "patroni",
            "setting",
            "role",
            "membership",
            "role setting",
            "database",
            "tablespace",
            "hba",
            "hba order",
            "extension",
            "schema",
            "grant",
            "definer",
            "trigger",
        ),
        "database",
    ),
}

Items = dict[str, dict[str, str]]


def pack(fields: Sequence[str]) -> str:
    """Return a row as one string; a tab inside a field is shown as a space."""
    row = "\t".join(fields)
    if row.count("\t") >= len(fields):
        return "\t".join(part.replace("\t", " ") for part in fields)
    return row


def unpack(kind: str, row: str) -> dict[str, str]:
    """Return a row's fields by column."""
    columns = COLUMNS[kind]
    if not columns:
        return {}
    return dict(zip(columns, row.split("\t"), strict=True))


@dataclass
class State:
    """What a host said it is.

    items: by kind and name; failed: why a part of the answer is missing, by part; clock: the host's
    (seconds since the epoch); container: its kind, empty for none; marks: which inventory each
    engine was last run from; measures: figures that are shown, not compared; full: file systems
    without room; leads: whether the database takes writes here, None without an answer; seals: the
    sealed chain of each vault here, oldest first; beyond: how
    many kernel parameters belong to the machine below this container.
    """

    items: Items = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    clock: float = 0.0
    container: str = ""
    marks: dict[str, str] = field(default_factory=dict)
    measures: dict[str, float] = field(default_factory=dict)
    full: dict[str, int] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    memory_kib: int = 0
    leads: bool | None = None
    seals: dict[str, tuple[SealLink, ...]] = field(default_factory=dict)
    not_applicable: int = 0

    def add(self, kind: str, name: str, fields: Sequence[str]) -> None:
        """Keep one item; ValueError for one that no host has."""
        row = pack(fields)
        # PostgreSQL's own answers name their kinds and fill their rows.
        if kind not in COLUMNS or row.count("\t") != max(0, len(COLUMNS[kind]) - 1):
            raise ValueError(f"no {kind[:40]!r} has {len(fields)} fields")
        if len(name) > LONGEST_NAME or len(row) > LONGEST_ROW:
            raise ValueError(f"{len(name) + len(row)} characters of {kind} {name[:40]!r}")
        items = self.items.setdefault(kind, {})
        if len(items) >= MOST_ITEMS:
            raise ValueError(f"more than {MOST_ITEMS} of {kind}")
        items[name] = row
