"""The command tree of `koseki`: parses, prints, sets exit codes."""

from __future__ import annotations

import sys

import click

from koseki_ops.errors import KosekiError
from koseki_ops.lab.cli import lab_group
from koseki_ops.mirror_cli import mirror_group

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=CONTEXT)
def cli() -> None:
    """Provision, verify and evidence the shared family-register platform.

    Exit codes: 0 it holds, 1 it does not hold, 2 the question could not be asked.
    """


cli.add_command(lab_group)
cli.add_command(mirror_group)


def main() -> None:
    """Run the command; a KosekiError becomes one sentence and exit code 2."""
    try:
        cli.main(prog_name="koseki", standalone_mode=True)
    except KosekiError as error:
        click.echo(f"koseki: {error}", err=True)
        sys.exit(2)
