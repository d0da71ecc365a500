"""The command tree: all of it is listed at once, and each part is there."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence

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
# What no group's help needs: the engines and the suites are programs of their own.
SLOWEST = ("ansible", "pyinfra", "pytest", "testinfra", "ansible_mitogen", "weasyprint")
# Groups whose commands take their words from the plan's typed model, a quarter of a second; the
# help of the others waits for none of it.
WITH_MODEL = frozenset(
    {
        *("costs", "duplicate", "image", "link", "procedure", "request", "secrets", "takeover"),
        *("terminal", "watch"),
    }
)
GROUPS = [
    name
    for name in cli.list_commands(CONTEXT)
    if isinstance(cli.get_command(CONTEXT, name), click.Group)
]


def test_help_lists_everything_and_imports_nothing_slow() -> None:
    """Whoever asks what there is waits for nothing that he does not call."""
    shown, imported = help_of((), SLOW)
    assert imported == []
    for name in cli.list_commands(CONTEXT):
        assert f"\n  {name} " in shown
    # Each in one line that is not cut off.
    assert "..." not in shown.split("Commands:")[1]


@pytest.mark.parametrize("name", GROUPS)
def test_help_of_a_group_imports_no_engine(name: str) -> None:
    """Nor the model, but where its commands' own words come from it."""
    shown, imported = help_of((name,), (*SLOWEST, "pydantic"))
    assert "Commands:" in shown
    assert imported == (["pydantic"] if name in WITH_MODEL else [])


def help_of(words: Sequence[str], names: Sequence[str]) -> tuple[str, list[str]]:
    """Return what a call with `--help` prints, and which of these modules it imported."""
    program = (
        "import sys\nfrom koseki_ops.cli import cli\n"
        f"cli.main([*{tuple(words)}, '--help'], standalone_mode=False)\n"
        f"print(*(name for name in {tuple(names)} if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr.split()


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
