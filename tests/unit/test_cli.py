"""The command tree: all of it is listed at once, and each part is there."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from koseki_ops.cli import ROOMS, cli

CONTEXT = click.Context(cli)
# What takes long to import, and what `koseki --help` needs none of.
SLOW = ("pydantic", "cryptography", "ansible", "pyinfra", "pytest")


def test_help_lists_everything_and_imports_nothing_slow():
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
def test_every_command_is_there_and_says_what_it_does(name: str):
    """With an example where it is no group."""
    command = cli.get_command(CONTEXT, name)
    assert command is not None
    assert command.name == name
    assert command.help
    assert isinstance(command, click.Group) or "Example: koseki" in command.help


def test_every_room_has_a_line():
    """A sentence, short enough for one line of a terminal."""
    for name, (target, line) in ROOMS.items():
        assert target.count(":") == 1, name
        assert line.endswith(".")
        assert len(line) <= 60
