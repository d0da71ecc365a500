"""A call of `koseki`, as a message, a remedy or a document has it, against the command tree."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

import click

from koseki_ops.cli import cli

HELP = {"-h", "--help"}
# A command's name, or one that nobody made: no option, and no place to fill in (`SLUG`, `…`).
NAME = re.compile(r"[a-z][a-z-]*")


def led(words: Sequence[str]) -> tuple[click.Context, list[str]]:
    """Return the context of the command that words lead to, and the words that are left."""
    context, rest = click.Context(cli, info_name="koseki"), list(words)
    while isinstance(context.command, click.Group) and rest:
        inner = context.command.get_command(context, rest[0])
        if inner is None:
            break
        context = click.Context(inner, parent=context, info_name=rest.pop(0))
    return context, rest


def named(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the command's path and the options of a call, whose values may be left open.

    A word where a command of a group should stand counts as one: nothing takes it.
    """
    context, rest = led(words)
    options = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    if isinstance(context.command, click.Group) and rest:
        if NAME.fullmatch(rest[0]):
            return context.command_path, [rest[0]]
        if not rest[0].startswith("-"):
            return context.command_path, []  # whichever of its commands
    return context.command_path, options


def unknown_in(words: Sequence[str]) -> list[str]:
    """Return what of a call the command tree does not know."""
    path, options = named(words)
    command = led(path.split()[1:])[0].command
    known = {name for parameter in command.params for name in parameter.opts} | HELP
    return sorted(f"{path} {option}" for option in set(options) - known)


def read(call: str) -> None:
    """Let the command tree read a whole call as it stands; click's own error when it does not."""
    context, rest = led(shlex.split(call)[1:])
    command = context.command
    if isinstance(command, click.Group):
        alone = command.invoke_without_command and (not rest or rest[0].startswith("-"))
        if not alone:
            raise click.UsageError(f"{call}: no such command")
    command.make_context(context.info_name, rest, parent=context.parent)
