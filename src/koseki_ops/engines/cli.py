"""`koseki apply`: the baseline, then the services."""

from __future__ import annotations

import sys

import click

from koseki_ops.core.formatting import in_short
from koseki_ops.core.language import _
from koseki_ops.core.progress import Progress
from koseki_ops.core.results import EngineResult
from koseki_ops.drift.observe.items import FORMER_ENGINES
from koseki_ops.engines import apply as engine
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.site import Site


def _today_called(_: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Return an engine by its name of today: scripts may still say `ground`."""
    return FORMER_ENGINES.get(value, value) if value else None


@click.command("apply")
@click.option("--check", is_flag=True, help="Change nothing; show what an apply would change.")
@click.option("--limit", multiple=True, metavar="HOST|GROUP", help="Only these (repeatable).")
@click.option(
    "--only",
    type=click.Choice([*engine.ENGINES, *FORMER_ENGINES]),
    metavar=f"[{'|'.join(engine.ENGINES)}]",
    callback=_today_called,
    help="Only the baseline (pyinfra) or only the services (Ansible).",
)
@site_options
@json_option
def apply_command(
    site: Site, *, check: bool, limit: tuple[str, ...], only: str | None, as_json: bool
) -> None:
    """Bring the hosts to what is in the inventory: the baseline, then the services.

    Exit 0: every host is as in the inventory (with --check: could be asked); 1: something
    failed; 2: bad input, an unhealthy cluster, or a host did not answer (the others went on).

    Example: koseki apply --check --limit databases
    """
    plan = engine.Plan(check, limit, (only,) if only else engine.ENGINES)
    progress = Progress([])
    result = engine.apply(site, plan, progress.report)
    print_result(result, check=check)
    if as_json:
        print_json(engine.as_json(result))
    if result.unreachable or result.refused:
        sys.exit(2)
    if result.failed:
        sys.exit(1)


def print_result(result: EngineResult, *, check: bool) -> None:
    """Print a line for each host, then each failure as a sentence."""
    verb = _("would change") if check else _("changed")
    for name, host in result.hosts.items():
        state = _("not touched") if host.unreachable else f"{host.changed} {verb}"
        failed = _(", {failed} failed").format(failed=host.failed) if host.failed else ""
        click.echo(f"{name:20} {state}{failed}")
        for error in host.errors:
            click.echo(f"  {in_short(error)}", err=True)
    click.echo(
        _("{changed} {verb}, {failed} failed, {seconds:.1f} s").format(
            changed=result.changed, verb=verb, failed=result.failed, seconds=result.seconds
        )
    )
