"""What an engine says it owns on a host, collected while it works.

Baseline: `place`, `install` and their like call `Declared.of(host)`; services: the callback reads
tasks' results. Both end as plain data in a HostResult: kind, name, and the fields that are known.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

from koseki_ops.drift.observe.policy import is_pruned, is_secret, kind_of

Rows = dict[str, dict[str, dict[str, str]]]

_by_host: dict[str, Declared] = {}


class Declared:
    """One host's declarations, by kind and name; fields that are not given are not declared."""

    def __init__(self) -> None:
        """Start with nothing declared."""
        self.rows: Rows = defaultdict(dict)

    @classmethod
    def of(cls, host: str) -> Declared:
        """Return the declarations of a host in this process."""
        return _by_host.setdefault(host, cls())

    def add(self, kind: str, name: str, **fields: str) -> None:
        """Declare an item, or more of its fields."""
        self.rows[kind].setdefault(name, {}).update(fields)

    def file(self, path: str, content: bytes | None, mode: str, owner: str, group: str) -> None:
        """Declare a file; without content, or when it is secret, its presence and rights alone."""
        fields = {"type": "f", "mode": _mode(mode), "owner": owner, "group": group}
        if content is not None and not is_secret(path):
            fields["content"] = hashlib.sha256(content).hexdigest()
        self.add(kind_of(path), path, **fields)

    def folder(self, path: str, mode: str, owner: str, group: str) -> None:
        """Declare a folder and its rights."""
        self.add(
            kind_of(path), path, type="d", mode=_mode(mode), owner=owner, group=group, content=""
        )

    def link(self, path: str, target: str) -> None:
        """Declare a symbolic link; one that masks a unit is that unit's state."""
        if target == "/dev/null" and path.startswith("/etc/systemd/system/"):
            self.add("service", path.rpartition("/")[2], enabled="masked")
        else:
            self.add(kind_of(path), path, type="l", mode="", content=target)

    def unit(self, name: str, *, active: bool) -> None:
        """Declare that a unit is enabled, and whether it runs; where it is wanted is not ours."""
        self.add("service", name, **({"active": "active"} if active else {}))

    def package(self, name: str) -> None:
        """Declare that a package is installed."""
        self.add("package", name, status="ii")


def _mode(mode: str) -> str:
    return mode.lstrip("0") or "0"


def merge(into: Rows, rows: Rows) -> None:
    """Add declarations to others."""
    for kind, names in rows.items():
        for name, fields in names.items():
            into.setdefault(kind, {}).setdefault(name, {}).update(fields)


def of_task(action: str, arguments: dict[str, Any], result: dict[str, Any]) -> Rows:
    """Return what one result of a task declares.

    arguments: the task's own, used when the result is kept back because it holds secrets.
    """
    found = Declared()
    for row in result.get("results") or [result]:
        if isinstance(row, dict) and not row.get("skipped") and not row.get("failed"):
            _of_row(found, action.rpartition(".")[2], arguments, row)
    return found.rows


def _of_row(found: Declared, action: str, arguments: dict[str, Any], row: dict[str, Any]) -> None:
    asked = (row.get("invocation") or {}).get("module_args") or {}
    if action in {"copy", "template", "file"}:
        given = {**_literal(arguments), **{k: v for k, v in row.items() if v is not None}}
        path = str(given.get("dest") or given.get("path") or "")
        state = given.get("state", "file")
        if not path.startswith("/") or state == "absent" or is_pruned(path):
            return
        fields = {
            column: _mode(str(given[column])) if column == "mode" else str(given[column])
            for column in ("mode", "owner", "group")
            if given.get(column)
        }
        letter = {"directory": "d", "link": "l"}.get(state, "f")
        found.add(kind_of(path), path, type=letter, **fields)
        if letter == "f" and row.get("checksum"):
            found.rows["_sha1"][path] = {"sha1": str(row["checksum"])}
    elif action == "apt":
        names = asked.get("package") or asked.get("name") or []
        for name in [names] if isinstance(names, str) else names:
            found.package(str(name))
    elif action in {"systemd_service", "systemd"}:
        name = str(row.get("name") or asked.get("name") or "")
        if name and (row.get("enabled") or asked.get("enabled")):
            found.unit(name, active=row.get("state") == "started")
    elif action == "user" and row.get("name") and row.get("state") != "absent":
        fields = {
            column: str(row[key])
            for column, key in (
                ("uid", "uid"),
                ("gid", "group"),
                ("home", "home"),
                ("shell", "shell"),
            )
            if row.get(key) is not None
        }
        found.add("user", str(row["name"]), **fields)


def _literal(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that no expression has to be worked out for."""
    return {k: v for k, v in arguments.items() if isinstance(v, str) and "{{" not in v}
