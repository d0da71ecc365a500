"""The options that every command on a site shares."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import click

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.formatting import json_line
from koseki_ops.core.language import _
from koseki_ops.plan.site import Site

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
    click.echo(json_line(report))


def end_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--until` and `--hours`: two ways to say when something ends by itself."""
    hours = click.option("--hours", type=click.IntRange(1), metavar="N", help="Or: in N hours.")
    until = click.option(
        "--until", metavar="TIME", help="When it ends, as 2026-12-01T17:00 (the site's zone)."
    )
    return until(hours(command))


def end_of(until: str | None, hours: int | None, zone: ZoneInfo) -> datetime:
    """Return the moment that one of the two says; KosekiError for none, both, or no moment."""
    if (until is None) == (hours is None):
        raise KosekiError(
            _("an end is needed"),
            _("neither was given")
            if until is None
            else _("--until {until} and --hours {hours}").format(until=until, hours=hours),
            _("give exactly one of --until and --hours"),
        )
    if until is None:
        return datetime.now(UTC) + timedelta(hours=hours or 0)
    try:
        end = datetime.fromisoformat(until)
    except ValueError as error:
        raise KosekiError(
            _("--until is not a date-time"), until, _("write it as `2026-12-01T17:00`")
        ) from error
    return end if end.tzinfo else end.replace(tzinfo=zone)


def who() -> str:
    """Return the account on this machine that a command was typed by."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
