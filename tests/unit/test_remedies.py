"""Every remedy of the suites works as it stands, is a document, or says that it needs hands.

They are read from the suites' own text: whoever writes a new one meets these rules at once.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

from calls import read
from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.site import Site
from koseki_ops.verify.remedies import BY_HAND, DOCUMENT, commands, for_site

ROOT = Path(__file__).parents[2]
SUITES = sorted((ROOT / "tests/testinfra").glob("test_*.py"))
TABLE = ROOT / "tests/drills/remedies.yml"
# Where the remedy stands among the arguments.
PLACES = {"expect": 2, "check": 3}
HOST = "primary1"
ORDINARY = f"run `koseki apply --limit {HOST}`, then verify again"
# What a host or a municipality is called in a remedy that names one.
HOSTS = ("host", "host_name", "target", "leader")
OTHERS = {"limits": f"--limit {HOST}"}
# The package that brings a program: Debian's smallest system has these, the others are the plan's.
ESSENTIAL = ("apt", "coreutils", "dpkg", "findutils", "passwd", "util-linux", "mount")
PROGRAMS = {
    "apt-get": "apt",
    "apt-mark": "apt",
    "auditctl": "auditd",
    "cd": "coreutils",
    "chmod": "coreutils",
    "chronyc": "chrony",
    "dpkg": "dpkg",
    "echo": "coreutils",
    "journalctl": "systemd-sysv",
    "modprobe": "linux-image-amd64",
    "mount": "mount",
    "passwd": "passwd",
    "patronictl": "patroni",
    "pg_lsclusters": "postgresql-{postgresql_version}",
    "pgbackrest": "pgbackrest",
    "psql": "postgresql-{postgresql_version}",
    "rm": "coreutils",
    "runuser": "util-linux",
    "smtpctl": "opensmtpd",
    "sshd": "openssh-server",
    "sysctl": "systemd-sysv",
    "systemctl": "systemd-sysv",
    "xargs": "findutils",
}
NOT_YET = "not yet run"
# Where a sentence has a value, with or without a format of its own.
FIELD = re.compile(r"\{(\w+)(?:[:!][^}]*)?\}")


@dataclass
class Module:
    """A suite's text: its constants, its functions, and where it asks for something."""

    name: str
    tree: ast.Module
    constants: dict[str, ast.expr] = field(default_factory=dict)
    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)

    @classmethod
    @cache
    def of(cls, path: Path) -> Module:
        """Read a suite."""
        made = cls(path.name, ast.parse(path.read_text(encoding="utf-8")))
        for node in made.tree.body:
            if isinstance(node, ast.FunctionDef):
                made.functions[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                made.constants[node.targets[0].id] = node.value
        return made

    def text(self, node: ast.expr, local: Mapping[str, ast.expr], place: str) -> str:
        """Return a remedy's text; what is only known then is some host or thing."""
        made = self.made(node, local, place)
        if made:
            return made
        match node:
            case ast.Constant(value=str() as text):
                return text
            case ast.JoinedStr():
                return "".join(
                    self.part(part.value, local, place)
                    if isinstance(part, ast.FormattedValue)
                    else self.text(part, local, place)
                    for part in node.values
                )
            case ast.Attribute(attr="remedy"):
                return ORDINARY
            case ast.Name(id=name) if name in local:
                return self.text(local[name], local, place)
            case ast.Name(id=name) if name in self.constants:
                return self.text(self.constants[name], {}, place)
        raise AssertionError(f"{place}: a remedy that cannot be read: {ast.unparse(node)}")

    def made(self, node: ast.expr, local: Mapping[str, ast.expr], place: str) -> str:
        """Return the text that a call stands for, a translation or a function's; else nothing."""
        match node:
            case ast.Call(func=ast.Name(id="_" | "N_"), args=[sentence]):
                return self.text(sentence, local, place)
            case ast.Call(func=ast.Attribute(value=sentence, attr="format"), keywords=words):
                values = {word.arg: self.part(word.value, local, place) for word in words}
                return FIELD.sub(lambda found: values[found[1]], self.text(sentence, local, place))
            case ast.Call(func=ast.Name(id=name)) if name in self.functions:
                returned = [
                    each.value
                    for each in ast.walk(self.functions[name])
                    if isinstance(each, ast.Return) and each.value is not None
                ]
                assert len(returned) == 1, f"{place}: {name} has more than one end"
                return self.text(returned[0], {}, place)
        return ""

    def part(self, node: ast.expr, local: Mapping[str, ast.expr], place: str) -> str:
        """Return what stands for an interpolated value."""
        try:
            return self.text(node, local, place)
        except AssertionError:
            said = ast.unparse(node)
            is_host = said in HOSTS or re.search(r"\.host$|host|hosts_in|min\(others\)", said)
            return HOST if is_host else OTHERS.get(said, "x")


@dataclass(frozen=True)
class Remedy:
    """One remedy: where it stands, its text, and whether the failure names a host."""

    place: str
    text: str
    names_host: bool


def found(path: Path) -> Iterator[Remedy]:
    """Yield a suite's remedies."""
    module = Module.of(path)
    for function in module.functions.values():
        local = {
            node.targets[0].id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        on_hosts = any("on_hosts" in ast.unparse(mark) for mark in function.decorator_list)
        for node in ast.walk(function):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id not in PLACES:
                continue
            place = f"{module.name}:{node.lineno}"
            given = {word.arg: word.value for word in node.keywords}
            index = PLACES[node.func.id]
            value = given.get("remedy") or node.args[index]
            yield Remedy(place, module.text(value, local, place), on_hosts)


REMEDIES = [remedy for path in SUITES for remedy in found(path)]
COMMANDS = sorted({command for remedy in REMEDIES for command in commands(remedy.text)})


def test_all_suites_are_read() -> None:
    """A suite whose remedies nobody finds would pass all that follows."""
    assert {remedy.place.split(":")[0] for remedy in REMEDIES} == {path.name for path in SUITES}
    assert len(REMEDIES) > 250


@pytest.mark.parametrize("remedy", REMEDIES, ids=[remedy.place for remedy in REMEDIES])
def test_a_remedy_is_a_command_a_document_or_hands(remedy: Remedy) -> None:
    """To "purge them", "ask again", "see that host" leaves whoever reads it where he was."""
    documents = DOCUMENT.findall(remedy.text)
    assert [name for name in documents if not (ROOT / name).is_file()] == []
    assert commands(remedy.text) or documents or remedy.text.startswith(BY_HAND), remedy.text
    assert remedy.text.count("`") % 2 == 0


@pytest.mark.parametrize("remedy", REMEDIES, ids=[remedy.place for remedy in REMEDIES])
def test_a_command_on_a_host_names_it(remedy: Remedy) -> None:
    """A host's command is followed by ` on ` and which one."""
    for command in commands(remedy.text):
        if not command.startswith("koseki "):
            rest = remedy.text.partition(f"`{command}`")[2]
            assert re.match(r" (on (primary1|the member named)|there)\b", rest), remedy.text


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_can_be_run_as_it_stands(command: str) -> None:
    """Its words are the toolkit's, with all that they ask for, or its programs are on a host."""
    assert not re.search(r"…|\b[A-Z]{4,}\b|<|\$", command), f"{command}: a place to fill in"
    if command.startswith("koseki "):
        read(command)
    else:
        for part in re.split(r" && | \| |; ", command):
            words = shlex.split(part)
            for word in {words[0], *(words[4:5] if words[0] == "runuser" else [])}:
                assert is_there(word), f"{command}: where does {word} come from?"


def is_there(program: str) -> bool:
    """Say whether a program is the plan's: one of its packages, or its roles' and deploys'."""
    if program.startswith("koseki-"):
        places = [*ROOT.glob(f"host_programs/*/sbin/{program}")]
        return bool(places)
    inventory = ROOT / "inventories/iida/group_vars/all/packages.yml"
    table = yaml.safe_load(inventory.read_text(encoding="utf-8"))["packages"]
    return PROGRAMS[program] in {*ESSENTIAL, *(name for row in table.values() for name in row)}


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("koseki ")])
@pytest.mark.parametrize(
    ("inventory", "name", "words"),
    [(None, None, ""), (None, "mine", " --name mine"), ("iida", None, " -i iida")],
)
def test_a_command_means_the_site_that_was_asked(
    command: str, inventory: str | None, name: str | None, words: str
) -> None:
    """Without the inventory's name a remedy for Iida would change the lab."""
    if command.startswith("koseki lab "):
        words = words if name else ""
    told = for_site(f"run `{command}`", Site.open(inventory, name))
    assert told == f"run `{command}{words}`"
    read(commands(told)[0])


def test_a_command_on_a_host_is_left_alone() -> None:
    """Hosts know no inventories."""
    assert for_site("run `rm x` on y", Site.open("iida")) == "run `rm x` on y"


def test_an_unknown_command_does_not_pass() -> None:
    """What is read by the command tree can fail."""
    for command in ("koseki verfy", "koseki takeover end", "koseki apply --limt x", "koseki lab"):
        with pytest.raises((click.ClickException, KosekiError)):
            read(command)


def test_each_command_has_its_drill_or_says_not_yet() -> None:
    """A row for each command of a remedy, none for a command that is gone; drills that exist."""
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    rows = {row["command"]: row["drill"] for row in table}
    assert len(rows) == len(table)
    assert sorted(rows) == COMMANDS
    drills = {
        f"{path.name}::{name}"
        for path in (ROOT / "tests/drills").glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {drill for drill in rows.values() if drill != NOT_YET} <= drills
