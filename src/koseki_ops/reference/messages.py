"""Every sentence that a person reads, as the code has it: what the catalogue must translate.

They stand in calls of `_`, `N_` and `ngettext`, in programs, suites and templates of pages; in the
help of every command and option; in what a suite and its tests say of themselves; and in click,
whose own sentences are shown with ours.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from jinja2 import Environment
from jinja2.ext import extract_from_ast

from koseki_ops.cli import cli
from koseki_ops.core.command_language import EXAMPLE, paragraphs
from koseki_ops.core.lazy_group import LazyGroup
from koseki_ops.reference.commands import commands
from koseki_ops.verify.plugin import first_sentence
from koseki_ops.verify.runner import SUITE_FOLDER

CALLS = frozenset({"_", "N_", "ngettext"})
# Where click keeps sentences that no command of ours shows: other shells, other systems.
CLICK_LEFT_OUT = frozenset({"_winconsole.py", "_termui_impl.py", "shell_completion.py"})


@dataclass(frozen=True)
class Message:
    """A sentence in English. many: its plural form, empty when it has one form alone."""

    text: str
    many: str = ""


def messages(root: Path) -> list[Message]:
    """Return every message of a checkout once, in the order of their texts."""
    found = {
        *in_sources(root / "src/koseki_ops"),
        *in_templates(root / "src/koseki_ops"),
        *in_sources(root / SUITE_FOLDER),
        *map(Message, of_suites(root / SUITE_FOLDER)),
        *map(Message, of_commands()),
        *of_click(),
    }
    return sorted(found, key=lambda message: (message.text, message.many))


def in_sources(folder: Path) -> Iterator[Message]:
    """Yield what is marked in the programs of a folder."""
    for path in sorted(folder.rglob("*.py")):
        yield from marked(ast.parse(path.read_text(encoding="utf-8")))


def marked(tree: ast.AST) -> Iterator[Message]:
    """Yield the literals in a program's calls of `_`, `N_` and `ngettext`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            texts = [
                argument.value
                for argument in node.args
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            ]
            if texts:
                yield Message(*texts)


def in_templates(folder: Path) -> Iterator[Message]:
    """Yield what is marked in the templates of a folder's pages."""
    for path in sorted(folder.rglob("templates/*.j2")):
        tree = Environment(autoescape=True).parse(path.read_text(encoding="utf-8"))
        for _line, _function, texts in extract_from_ast(tree, tuple(CALLS), babel_style=False):
            parts = texts if isinstance(texts, tuple) else (texts,)
            given = [text for text in parts if isinstance(text, str)]
            if given:
                yield Message(*given)


def of_suites(folder: Path) -> Iterator[str]:
    """Yield what each suite is about, and each of its questions, as the report shows them."""
    for path in sorted(folder.glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield first_sentence(ast.get_docstring(tree) or "")
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield first_sentence(ast.get_docstring(node) or "")


def of_commands() -> Iterator[str]:
    """Yield the help of every command by paragraphs, of every option, and a group's lines."""
    root = click.Context(cli, info_name="koseki", **cli.context_settings)
    for context in [root, *commands()]:
        command = context.command
        shown = paragraphs(command.help)
        yield from (text for text in shown if not text.startswith(EXAMPLE))
        if command.short_help:
            yield command.short_help
        for item in command.params:
            if isinstance(item, click.Option | click.Argument) and item.help:
                yield item.help
        if isinstance(command, LazyGroup):
            yield from (line for _module, line in command.places.values())


def of_click() -> Iterator[Message]:
    """Yield click's own sentences."""
    folder = Path(str(sys.modules["click"].__file__)).parent
    for path in sorted(folder.glob("*.py")):
        if path.name not in CLICK_LEFT_OUT:
            yield from marked(ast.parse(path.read_text(encoding="utf-8")))
