"""The options that every command on a site shares."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import click

from koseki_ops.site import Site

lab_option = click.option(
    "--name", envvar="KOSEKI_NAME", metavar="LAB", help="Name of the lab (default: lab)."
)


def site_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--inventory` and `--name` and hand it the `Site` they mean."""

    @click.option(
        "-i",
        "--inventory",
        envvar="KOSEKI_INVENTORY",
        metavar="NAME",
        help="Inventory below inventories/ (default: lab).",
    )
    @lab_option
    @functools.wraps(command)
    def wrapper(*args: Any, inventory: str | None, name: str | None, **kwargs: Any) -> Any:  # noqa: ANN401 - hands through whatever the command takes
        return command(*args, site=Site.open(inventory, name), **kwargs)

    return wrapper


json_option = click.option(
    "--json", "as_json", is_flag=True, help="End with one JSON object on the last line."
)


def print_json(report: dict[str, Any]) -> None:
    """Print one JSON object on one line."""
    click.echo(json.dumps(report, ensure_ascii=False))
