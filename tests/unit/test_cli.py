"""The command tree: all of it is listed at once, and each part is there."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys

import click
import pytest

from koseki_ops.cli import ROOMS, cli
from koseki_ops.reference.commands import commands, examples, exit_codes

CONTEXT = click.Context(cli, **cli.context_settings)
# Those that do something by themselves: each command, and a group that can be called without one.
CALLABLE = [
    context
    for context in commands()
    if not isinstance(context.command, click.Group) or context.command.invoke_without_command
]
# What takes long to import, and what `koseki --help` needs none of.
SLOW = ("pydantic", "cryptography", "ansible", "pyinfra", "pytest")


def test_help_lists_everything_and_imports_nothing_slow() -> None:
    """Whoever asks what there is waits for nothing that he does not call."""
    program = (
        "import sys\nfrom koseki_ops.cli import cli\ncli.main(['--help'], standalone_mode=False)\n"
        f"print([name for name in {SLOW} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    for name in cli.list_commands(CONTEXT):
        assert f"\n  {name} " in done.stdout
    # Each in one line that is not cut off.
    assert "..." not in done.stdout.split("Commands:")[1]


@pytest.mark.parametrize("name", cli.list_commands(CONTEXT))
def test_every_command_is_where_the_tree_says(name: str) -> None:
    """By the name that it is listed under."""
    command = cli.get_command(CONTEXT, name)
    assert command is not None
    assert command.name == name
    assert command.help


@pytest.mark.parametrize("context", CALLABLE, ids=lambda context: context.command_path)
def test_every_command_has_examples_that_it_takes(context: click.Context) -> None:
    """Each of them is a call that this very command understands."""
    assert examples(context)
    for example in examples(context):
        # One is a substitution in another program's command line.
        inner = re.search(r"\$\((.+?)\)", example)
        _, *words = shlex.split(inner[1] if inner else example)
        path = context.command_path.split()[1:]
        assert words[: len(path)] == path, example
        assert context.command.make_context(context.info_name, words[len(path) :], CONTEXT)


@pytest.mark.parametrize("context", list(commands()), ids=lambda context: context.command_path)
def test_every_option_says_what_it_is_for(context: click.Context) -> None:
    """In the help, and so in docs/reference/cli.md."""
    options = [item for item in context.command.params if isinstance(item, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize("context", CALLABLE, ids=lambda context: context.command_path)
def test_a_command_with_exit_codes_of_its_own_names_them(context: click.Context) -> None:
    """Who calls it from a script reads them in its help."""
    assert context.command.callback
    body = inspect.getsource(inspect.unwrap(context.command.callback))
    if "sys.exit(" in body or "_become(" in body:
        assert exit_codes(context)


def test_every_room_has_a_line() -> None:
    """A sentence, short enough for one line of a terminal."""
    for name, (target, line) in ROOMS.items():
        assert target.count(":") == 1, name
        assert line.endswith(".")
        assert len(line) <= 60
