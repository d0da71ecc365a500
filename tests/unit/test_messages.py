"""What a person reads when something is wrong: the field's words, and always what to do now.

All of `src`, the deploys and the plugins are read by their syntax trees. In
`KosekiError(what, seen, remedy)` the remedy is a command, an option, a document, a file or a key;
where a command is named, it is there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from calls import unknown_in
from koseki_ops.plan.site import project_root
from koseki_ops.reference.commands import commands

ROOT = project_root()
SOURCE = ROOT / "src/koseki_ops"
PYTHON = (
    "host_programs",
    "plugins",
    "pyinfra_deploys",
    "sample_application",
    "src",
    "tests",
    "tools",
)
ERRORS = {"KosekiError", "Refusal"}
# What each name of a file stands for.
type Names = Mapping[str, list[ast.expr]]
# Stands for a value that is only known at run time.
VALUE = "…"

# A command in backticks, an option, a document or another file, a key of the inventory, a variable.
NAMED = re.compile(
    r"`[^`]+`|(?<![\w-])-{1,2}[a-z…][a-z-]*|\bdocs/[\w./-]+\.md|\b[\w*-]+\.(?:yml|pub|sql)\b"
    r"|\bread …|\b[A-Z]+(?:_[A-Z]+)+\b|\b[a-z]+(?:_[a-z]+)+\b"
)
# Where a remedy is not written at the site, but comes with what was caught: file, and why.
HANDED_ON = {
    "bench/duplicates.py": "the remedy of the finding that should not be there",
    "costs/model.py": "the rule of the model that was broken says how the value is right",
    "plan/rules.py": "the rule that was broken says how the value is right",
    "drift/scheduled.py": "the remedy of the error that is reported, and what it cost",
    "supply/release.py": "the program that verifies on the hosts says it",
}

# The dialect of this house, which a stranger would have to learn; docs/glossary.md has the field's
# words. The first column is what it was used for.
DIALECT: Mapping[str, str] = {
    "say": r"say|says|said|saying",
    "tell": r"tell|tells|told",
    "a scheduled run": r"beats?|slept",
    "the control node": r"seats?",
    "the watch host": r"stations?",
    "a service": r"desks?",
    "an attempt to connect": r"knock(?:s|ed|ing)?",
    "a municipality": r"towns?|tenants?",
    "an audit": r"witness(?:es)?|testimony|court|trials?",
    "unreachable": r"silent|silence",
    "granted": r"lent|lends?",
    "another": r"strangers?",
    "repaired": r"mends?|mended",
}
WORD = re.compile(rf"(?<![a-z-])(?:{'|'.join(DIALECT.values())})(?![a-z-])", re.IGNORECASE)
# Of these there is one word each, in every name of the house (`municipality`, `attempt`).
ONE_WORD = re.compile(
    r"(?<![a-z])(?:towns?|tenants?|knock(?:s|ed|ing)?|visit(?:s|ors?|ed))(?![a-z])", re.IGNORECASE
)
ANYWHERE = re.compile(r"town|tenant|knock|visit", re.IGNORECASE)
JINJA = re.compile(r"\{[{%].*?[%}]\}", re.DOTALL)
ROLE_VARIABLE = re.compile(r"(?<![a-z_])[a-z]\w*_tenants\b")
# A name that is another one's: etcd calls a member without data so.
NAMES_ELSEWHERE = {"WITNESS"}
# Where such a word is another one's, or a key that others read: the text, and why.
ELSEWHERE = {
    "told": "the key in the record of sent alerts, and in the history of before",
    "told.json": "the record of sent alerts, on disk",
    "said": "the key in the history's rows and in an image's check.json",
    "silence": "the key in a verification's JSON",
    "silent": "the key in the JSON of `koseki request list`; goss's output format",
    "witness": "the key in an image's check.json; etcd's term for a member without data",
    "WITNESS": "etcd's term for a member without data",
    ".witness.json": "the audit beside an image, on disk",
    "stranger": "a lab's certificate of another CA, on disk",
    "station.json": "what the toolkit on a watch host knows of itself, on disk",
    "town": "the key in the JSON of `koseki link`",
    "towns": "the key in the JSON of `koseki link status`",
    "koseki_tenants": "the filter's name in an inventory of before",
    "db_proxy_tenants": "a value's name in an inventory of before",
    "municipal_accounts_tenants": "a value's name in inventories",
    "says": "the key of a requirement's sentence in docs/clauses.yml",
}


@dataclass(frozen=True)
class Site:
    """A place where an error is made: file and line, and what its remedy can be."""

    place: str
    remedies: tuple[str, ...]


@cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax trees of `src` and of what its engines load, by file."""
    return {
        str(path.relative_to(SOURCE if folder == SOURCE else ROOT)): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for folder in (SOURCE, ROOT / "pyinfra_deploys", ROOT / "plugins", ROOT / "tools")
        for path in sorted(folder.rglob("*.py"))
    }


def texts(node: ast.expr, names: Names) -> list[str]:
    """Return what an expression can be as text, values as VALUE."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(texts(part, names)[0] for part in parts)]
        case ast.FormattedValue(value=value):
            return texts(value, names)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [texts(left, names)[0] + texts(right, names)[0]]
        case ast.Call(func=ast.Attribute(value=text, attr="format"), keywords=given):
            values = {str(row.arg): texts(row.value, names)[0] for row in given}
            return [filled(form, values) for form in texts(text, names)]
    return [text for one in choices(node, names) for text in texts(one, names)] or [VALUE]


def filled(form: str, values: Mapping[str, str]) -> str:
    """Return a message with its places filled in."""
    return re.sub(r"\{(\w+)[^}]*\}", lambda match: values.get(match[1], VALUE), form)


def choices(node: ast.expr, names: Names) -> list[ast.expr]:
    """Return the expressions of which an expression is one."""
    found: list[ast.expr] = []
    match node:
        case ast.Call(func=ast.Name(id="_" | "N_" | "ngettext"), args=forms):
            found = forms[:2]
        case ast.IfExp(body=body, orelse=orelse):
            found = [body, orelse]
        case ast.BoolOp(values=values):
            found = values
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)):
            found = names.get(name, [])
        case ast.Starred(value=ast.Name(id=name) | ast.Call(args=[_, ast.Name(id=name)])):
            found = [row.elts[-1] for row in names.get(name, []) if isinstance(row, ast.Tuple)]
    return found


def names_in(tree: ast.AST) -> Names:
    """Return what is assigned to each name in a tree, and what each of its functions returns."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
        if isinstance(node, ast.FunctionDef):
            returned = [inner.value for inner in node.body if isinstance(inner, ast.Return)]
            found.setdefault(node.name, []).extend(value for value in returned if value)
    return found


def sites() -> Iterator[Site]:
    """Yield every place in `src` where an error is made."""
    for file, tree in trees().items():
        names = names_in(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS:
                remedy = next((k.value for k in node.keywords if k.arg == "remedy"), None)
                remedy = remedy or node.args[min(2, len(node.args) - 1)]
                yield Site(f"{file}:{node.lineno}", tuple(texts(remedy, names)))


def test_every_remedy_names_what_to_do() -> None:
    """A command, an option, a document, a file, a key: never 'see the log' alone."""
    found = list(sites())
    assert len(found) > 200  # one that reads nothing finds nothing
    vague = [
        f"{site.place}: {remedy}"
        for site in found
        if site.place.partition(":")[0] not in HANDED_ON
        for remedy in site.remedies
        if not NAMED.search(remedy)
    ]
    assert vague == []


@pytest.mark.parametrize("remedy", ["see its log", "mend it", "look with ps", "", "ask again"])
def test_what_names_nothing_is_found(remedy: str) -> None:
    """The rule itself can be red."""
    assert not NAMED.search(remedy)


def documented(tree: ast.Module) -> set[int]:
    """Return the ids of a tree's nodes that are documentation: strings that stand by themselves."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def named(node: ast.AST) -> str:
    """Return the identifier that a node brings, or none."""
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return name
        case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
            return name
        case ast.Attribute(attr=name, ctx=ast.Store()):
            return name
        case _:
            return ""


def identifiers(tree: ast.AST) -> Iterator[str]:
    """Yield every identifier of a tree, where it is made and where it is used."""
    for node in ast.walk(tree):
        for field in ("name", "asname", "arg", "attr", "id"):
            if isinstance(name := getattr(node, field, None), str):
                yield name


def words_of(name: str) -> str:
    """Return the words of an identifier: those of `ask_later` and of `HostState`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ")


def test_identifiers_are_the_fields_words() -> None:
    """Nobody has to learn a dialect to read a function's name."""
    found = [
        f"{file}: {name}"
        for file, tree in trees().items()
        for node in ast.walk(tree)
        if (name := named(node)) and name not in NAMES_ELSEWHERE and WORD.search(words_of(name))
    ]
    assert found == []


def test_names_in_programs_of_hosts_are_the_fields_words() -> None:
    """Whoever reads a program on a host at night has no dialect to learn either."""
    files = [
        path
        for path in sorted((ROOT / "host_programs").rglob("*"))
        if path.is_file()
        and (path.suffix == ".py" or path.read_bytes().startswith(b"#!/usr/bin/python3"))
    ]
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (name := named(node)) and WORD.search(words_of(name))
    ]
    assert len(files) > 18
    assert found == []


def test_one_word_for_a_municipality_and_for_an_attempt() -> None:
    """Tests and the programs of hosts too: nobody asks whether a tenant is another thing."""
    files = [path for folder in PYTHON for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        if ANYWHERE.search(text := path.read_text(encoding="utf-8"))  # to parse all takes long
        for name in identifiers(ast.parse(text))
        if ONE_WORD.search(words_of(name))
    ]
    assert len(files) > 400  # one that reads nothing finds nothing
    assert found == []


def test_suites_use_the_one_word_in_their_texts() -> None:
    """Their questions, their findings and the programs in them: a person reads them at night."""
    found = []
    for path in sorted((ROOT / "tests/testinfra").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documentation = documented(tree)
        found += [
            f"{path.name}:{node.lineno}: {match[0]}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if id(node) not in documentation and (match := ONE_WORD.search(node.value))
        ]
    assert found == []


def test_templates_use_the_one_word() -> None:
    """Names within Jinja's marks; a role's variable keeps the name that inventories know."""
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for folder in ("inventories", "molecule", "playbooks", "roles", "src")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in {".j2", ".yml"} and path.is_file()
        for marked in JINJA.findall(path.read_text(encoding="utf-8"))
        if (match := ONE_WORD.search(ROLE_VARIABLE.sub("", marked)))
    ]
    assert found == []


@pytest.mark.parametrize(
    "program",
    ["def of_town(): ...", "plan.towns", "f(tenant=1)", "import a as knocks", "NEW_TOWN = 1"],
)
def test_another_word_is_found(program: str) -> None:
    """The rule itself can be red, wherever a name stands; a word within a word is another one."""
    assert any(ONE_WORD.search(words_of(name)) for name in identifiers(ast.parse(program)))
    assert not ONE_WORD.search(words_of("evtowner"))


def test_messages_are_the_fields_words() -> None:
    """No text of the code speaks it either, whoever reads it: a person, a journal, a program."""
    found = []
    for file, tree in trees().items():
        documentation = documented(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
                if id(node) not in documentation and text not in ELSEWHERE and WORD.search(text):
                    found.append(f"{file}:{node.lineno}: {text[:60]}")
    assert found == []


def test_help_is_in_the_fields_words() -> None:
    """A command's documentation is what `-h` prints."""
    found = [
        f"{context.command_path}: {match[0]}"
        for context in commands()
        if (match := WORD.search(context.command.help or ""))
    ]
    assert found == []


CALL = re.compile(r"`(?:\.venv/bin/)?(koseki (?!-)[^`]+)`")


def calls() -> Iterator[tuple[str, str]]:
    """Yield the calls of `koseki` that texts of the code name, with their place."""
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr | ast.Constant):
                text = texts(node, {})[0] if not isinstance(node, ast.Constant) else node.value
                if isinstance(text, str):
                    yield from ((f"{file}:{node.lineno}", call) for call in CALL.findall(text))


def words_of_call(call: str) -> list[str]:
    """Return the words behind `koseki`, without those of another program."""
    return call.partition(" -- ")[0].split()[1:]


def test_every_command_that_a_message_names_is_there() -> None:
    """With its options: a remedy that cannot be typed is none."""
    found = list(calls())
    assert len(found) > 60
    assert {
        place: wrong for place, call in found if (wrong := unknown_in(words_of_call(call)))
    } == {}


def test_a_command_that_is_not_there_is_found() -> None:
    """The rule itself can be red: a command, and an option, that nobody made."""
    assert unknown_in(["frobnicate"]) == ["koseki frobnicate"]
    assert unknown_in(["drift", "frobnicate"]) == ["koseki drift frobnicate"]
    assert unknown_in(["lab", "frobnicate", "--json"]) == ["koseki lab frobnicate"]
    assert unknown_in(["verify", "SUITE", "--frobnicate"]) == ["koseki verify --frobnicate"]
    assert not unknown_in(["verify", "SUITE", "--limit", "HOST"])
    assert not unknown_in(["lab", "COMMAND"])


def test_what_stands_elsewhere_is_still_there() -> None:
    """An exception that nobody needs any more is taken off the list."""
    text = "\n".join(
        path.read_text(encoding="utf-8") for path in SOURCE.rglob("*") if path.suffix == ".py"
    )
    assert [
        word for word in ELSEWHERE if not re.search(rf"\b{re.escape(word.strip('.'))}\b", text)
    ] == []
    assert [file for file in HANDED_ON if not Path(SOURCE, file).is_file()] == []
