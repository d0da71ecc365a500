"""Every sentence that a person reads, as the code has it: what the catalogue must translate.

They stand in calls of `_`, `N_` and `ngettext`; in the help of every command and option; and in
click, whose own sentences are shown with ours.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from koseki_ops.cli import cli
from koseki_ops.core.command_language import EXAMPLE, paragraphs
from koseki_ops.core.lazy_group import LazyGroup
from koseki_ops.reference.commands import commands

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
    found = {*in_sources(root / "src/koseki_ops"), *map(Message, of_commands()), *of_click()}
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
