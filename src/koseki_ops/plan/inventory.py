"""Read an inventory the way every engine sees it: hosts, groups and raw values.

The subset of Ansible's inventory rules that this project allows: one `hosts.yml` with hosts and
groups only, and `group_vars/<group>/<concern>.yml`. A unit test holds the result against
`ansible-inventory`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _

if TYPE_CHECKING:
    from koseki_ops.plan.model import Platform

# libyaml's, where PyYAML was built with it: ten times as fast, and otherwise the same.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SECRETS_FILE = "secrets.yml"
WORKSTATION = "workstation"
# The counters of the municipalities that have joined, as an end of a flow: subnets, not hosts.
TERMINALS = "terminals"
# Their resident registries' servers, which exchange files: one address each, on the same lines.
REGISTRIES = "registries"
LINE_ENDPOINTS = (TERMINALS, REGISTRIES)


def load_yaml(path: Path, loader: Any = LOADER) -> Any:  # noqa: ANN401 - YAML is whatever the file says
    """Return the parsed file; raise KosekiError with the place of a syntax error.

    loader: a safe one, where a file has rules of its own.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), loader)  # noqa: S506 - a safe one
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise KosekiError(
            _("file is not valid YAML"),
            f"{place}: {error.problem}",
            _("correct that line; `koseki check` reads it again"),
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # A character or a date that is none has no place; nor has nesting without end.
        raise KosekiError(
            _("file is not valid YAML"),
            f"{path}: {error}",
            _("correct that file; `koseki check` reads it again"),
        ) from error
    except OSError as error:
        raise KosekiError(
            _("file cannot be read"), f"{path}: {error}", _("restore it: `git restore`")
        ) from error


@dataclass(frozen=True)
class Value:
    """One top-level value and the file it came from."""

    value: Any
    file: Path


@dataclass
class Group:
    """A group: its own hosts and its child groups, by name."""

    name: str
    hosts: list[str] = field(default_factory=list)
    children: list[str] = field(default_factory=list)


class Inventory:
    """Hosts, groups and values of one inventory folder.

    Values are raw: nothing is templated. `secrets.yml` is left out, since it is encrypted; see
    `koseki_ops.trust.secrets`.
    """

    def __init__(self, folder: Path) -> None:
        """Read `folder/hosts.yml`; values are read when asked for."""
        self.folder = folder
        self.groups: dict[str, Group] = {}
        tree = load_yaml(folder / "hosts.yml")
        if not isinstance(tree, Mapping) or set(tree) != {"all"}:
            raise KosekiError(
                _("hosts.yml must contain the one group all"),
                str(folder),
                _("write it as `inventories/iida/hosts.yml`"),
            )
        self._read_group("all", tree["all"])
        self._values: dict[str, dict[str, Value]] = {}

    def _read_group(self, name: str, body: object) -> None:
        group = self.groups.setdefault(name, Group(name))
        if body is None:
            return
        if not isinstance(body, Mapping) or not set(body) <= {"hosts", "children"}:
            raise KosekiError(
                _("hosts.yml may contain hosts and groups only"),
                _("{folder}: group {name}").format(folder=self.folder / "hosts.yml", name=name),
                _("move values to group_vars/"),
            )
        for host, values in (body.get("hosts") or {}).items():
            if values:
                raise KosekiError(
                    _("hosts.yml may contain hosts and groups only"),
                    _("{folder}: values at host {host}").format(
                        folder=self.folder / "hosts.yml", host=host
                    ),
                    _("move values to group_vars/"),
                )
            if host not in group.hosts:
                group.hosts.append(str(host))
        for child, child_body in (body.get("children") or {}).items():
            if child not in group.children:
                group.children.append(str(child))
            self._read_group(str(child), child_body)

    def hosts_in(self, group: str) -> list[str]:
        """Return the hosts of a group and of its children, in file order, each once."""
        if group not in self.groups:
            raise KosekiError(
                _("unknown group"),
                group,
                _("name a group of `hosts.yml`: {groups}").format(
                    groups=", ".join(sorted(self.groups))
                ),
            )
        found: dict[str, None] = {}
        entry = self.groups[group]
        for host in entry.hosts:
            found[host] = None
        for child in entry.children:
            for host in self.hosts_in(child):
                found[host] = None
        return list(found)

    @cached_property
    def hosts(self) -> list[str]:
        """Every host, in file order."""
        return self.hosts_in("all")

    def groups_of(self, host: str) -> list[str]:
        """Return the groups of a host, `all` first, parents before children."""
        return [name for name in self._by_depth if host in self.hosts_in(name)]

    def audited_key_files(self, host: str) -> list[str]:
        """Return the keys on a host whose reading is recorded; a folder ends with a slash."""
        table = self.platform.audit_key_files
        return sorted({path for group in self.groups_of(host) for path in table.get(group, ())})

    @cached_property
    def _by_depth(self) -> list[str]:
        depth: dict[str, int] = {}

        def visit(name: str, level: int) -> None:
            depth[name] = max(depth.get(name, 0), level)
            for child in self.groups[name].children:
                visit(child, level + 1)

        visit("all", 0)
        return sorted(depth, key=lambda name: (depth[name], name))

    def resolve(self, name: str) -> list[str]:
        """Return the hosts that a host or group name stands for."""
        if name in self.hosts:
            return [name]
        if name in self.groups:
            return self.hosts_in(name)
        raise KosekiError(
            _("unknown host or group"),
            name,
            _("name one of `hosts.yml`: {groups}").format(
                groups=", ".join([*self.hosts, *sorted(self.groups)])
            ),
        )

    def files_of(self, group: str) -> Iterator[Path]:
        """Yield the value files of a group, in the order in which they are merged."""
        folder = self.folder / "group_vars" / group
        if folder.is_dir():
            for path in sorted(folder.glob("*.yml")):
                if path.name != SECRETS_FILE:
                    yield path

    def group_values(self, group: str) -> dict[str, Value]:
        """Return a group's own values by name."""
        if group not in self._values:
            merged: dict[str, Value] = {}
            for path in self.files_of(group):
                content = load_yaml(path)
                if content is None:
                    continue
                if not isinstance(content, Mapping):
                    raise KosekiError(
                        _("a value file must be a mapping"),
                        str(path),
                        _("write `name: value` lines"),
                    )
                for key, value in content.items():
                    if key in merged:
                        raise KosekiError(
                            _("{key} is set twice for group {group}").format(key=key, group=group),
                            _("{file} and {name}").format(
                                file=merged[key].file.name, name=path.name
                            ),
                            _("keep `{key}` in one of the two files").format(key=key),
                        )
                    merged[str(key)] = Value(value, path)
            self._values[group] = merged
        return self._values[group]

    def values_of(self, host: str) -> dict[str, Any]:
        """Return a host's raw values: all, then parent groups, then child groups."""
        merged: dict[str, Any] = {}
        for group in self.groups_of(host):
            merged |= {key: item.value for key, item in self.group_values(group).items()}
        return merged

    @cached_property
    def shared(self) -> dict[str, Any]:
        """The raw values that hold for every host (`group_vars/all`): for the model and Ansible."""
        return {key: item.value for key, item in self.group_values("all").items()}

    @cached_property
    def platform(self) -> Platform:
        """The typed values; KosekiError with the first that cannot be read.

        Rules that span tables are `koseki_ops.plan.rules`.
        """
        from koseki_ops.plan.door import typed  # noqa: PLC0415 - the model is slow to import

        return typed(self.shared, self.file_of)

    def file_of(self, key: str) -> Path:
        """Return the file that sets a value, as `inventories/iida/…`. key: as a finding has it."""
        value = self.group_values("all").get(re.split(r"[.\[]", key, maxsplit=1)[0])
        path = value.file if value else self.folder / "group_vars" / "all"
        return path.relative_to(self.folder.parent.parent)

    @property
    def today(self) -> date:
        """The day it is for the platform's people, wherever this runs."""
        return self.platform.today

    @property
    def effective_day(self) -> date:
        """The day for which municipalities count as joined."""
        return self.platform.effective_day

    def address_of(self, host: str, seen_from: str) -> str | None:
        """Return the address of `host` (or the workstation) as `seen_from` sees it.

        Two ends inside the city use city addresses. The datacenter and whoever talks to it use
        line addresses. None: there is no way between the two.
        """
        own = self.platform.workstation_addresses
        tables = {WORKSTATION: own, **self.platform.host_addresses}
        here, there = tables[seen_from], tables[host]
        address = there.city if here.city and there.city else there.line
        return str(address) if address else None
