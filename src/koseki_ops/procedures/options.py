"""The options that every procedure shares, and the one way its command runs it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from koseki_ops.core.language import _
from koseki_ops.core.progress import Progress
from koseki_ops.plan.cli_options import who
from koseki_ops.procedures.base import Order, Procedure, perform


def procedure_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--reason` and `--dry-run`, and hand it an `Order` or None for a dry run."""

    @click.option("--reason", default="", metavar="TEXT", help="Why, for the record.")
    @click.option("--dry-run", is_flag=True, help="Only show what it would do.")
    @functools.wraps(command)
    def wrapper(*args: Any, reason: str, dry_run: bool, **kwargs: Any) -> Any:  # noqa: ANN401 - hands through whatever the command takes
        return command(*args, order=None if dry_run else Order(reason, who()), **kwargs)

    return wrapper


def carry_out[Outcome](
    procedure: Procedure[Outcome], order: Order | None, progress: Progress
) -> Outcome | None:
    """Run a procedure; without an order ask only what it asks before, and say what it would do."""
    if order is None:
        procedure.preflight()
        for line in procedure.describe():
            click.echo(line)
        click.echo(_("nothing was changed"))
        return None
    return perform(procedure, order, progress.report)
