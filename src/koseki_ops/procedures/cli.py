"""`koseki procedure`, `koseki enroll` and `koseki withdraw`: what may be done, and who is in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.core.progress import Progress
from koseki_ops.engines.cli import print_result
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.site import Site
from koseki_ops.procedures.base import LastRun, Order, Procedure, last_runs
from koseki_ops.procedures.delete import Delete
from koseki_ops.procedures.enroll import Enroll
from koseki_ops.procedures.municipality import Outcome
from koseki_ops.procedures.options import carry_out, procedure_options
from koseki_ops.procedures.rehearse_restore import RehearseRestore
from koseki_ops.procedures.restart_members import RestartMembers
from koseki_ops.procedures.switchover import Switchover
from koseki_ops.procedures.withdraw import Withdraw
from koseki_ops.verify.cli import print_results
from koseki_ops.verify.results import FAILED, PASSED

PROCEDURES: tuple[type[Procedure[Any]], ...] = (
    *(Switchover, RestartMembers, RehearseRestore),
    *(Enroll, Withdraw, Delete),
)


@click.group("procedure")
def procedure_group() -> None:
    """Ordered work on the running platform, and what became of it."""


@procedure_group.command("list")
@site_options
@json_option
def list_command(site: Site, *, as_json: bool) -> None:
    """List every procedure, and when and how its last run ended.

    Each is a command of its own: `koseki NAME --help`, `koseki NAME --dry-run`.

    Example: koseki procedure list
    """
    runs = last_runs(site)
    for kind in PROCEDURES:
        click.echo(f"{kind.name:18} {_(kind.title)}")
        click.echo(f"{'':18} {_sentence(runs.get(kind.name))}")
    if as_json:
        print_json(
            {
                "procedures": [
                    {
                        "name": kind.name,
                        "title": kind.title,
                        "last": vars(runs[kind.name]) if kind.name in runs else None,
                    }
                    for kind in PROCEDURES
                ]
            }
        )


def _sentence(run: LastRun | None) -> str:
    if run is None:
        return _("never run here")
    took = "" if run.seconds is None else _(" after {seconds:.0f} s").format(seconds=run.seconds)
    why = f": {run.reason}" if run.reason else ""
    return _("{at} by {by}, {outcome}{took}{why}").format(
        at=run.at, by=run.by, outcome=_(run.outcome), took=took, why=why
    )


@click.command("enroll")
@click.argument("slug")
@procedure_options
@site_options
@json_option
def enroll_command(site: Site, slug: str, order: Order | None, *, as_json: bool) -> None:
    """Bring a municipality onto the running platform; the others notice nothing.

    Its row, its day and the ids of 認容, 議決, 調印 stand in the inventory first. May be repeated.
    Exit 0: it is in, and the suites passed; 1: something failed; 2: something is missing before.

    Example: koseki enroll urugi
    """
    progress = Progress([])
    outcome = carry_out(Enroll(site, slug), order, progress)
    if outcome:
        _print_outcome(slug, outcome, round(progress.elapsed(), 1), as_json=as_json)


@click.command("withdraw")
@click.argument("slug")
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Folder for its data.")
@click.option(
    "--recipient",
    type=click.Path(path_type=Path),
    help="The municipality's certificate (PEM), which its data is encrypted for.",
)
@click.option("--delete", "deletes", is_flag=True, help="Delete what it left behind.")
@click.option("--confirmation", help="Id of its confirmation that it holds its data.")
@click.option("--by", help="The operator who deletes.")
@click.option("--approver", help="Another operator, who approved it.")
@procedure_options
@site_options
@json_option
def withdraw_command(  # noqa: PLR0913 - click gives each option its argument
    site: Site,
    slug: str,
    folder: Path | None,
    recipient: Path | None,
    confirmation: str | None,
    by: str | None,
    approver: str | None,
    order: Order | None,
    *,
    deletes: bool,
    as_json: bool,
) -> None:
    """Close every way in for a municipality that has left, and write its data for it.

    Its day (left_on) stands in the inventory first. What it leaves stays sealed, in the database
    and in the vaults' copies, until it is deleted with --delete. May be repeated.
    Exit 0: it is out, and the suites passed; 1: something failed; 2: something is missing before,
    or a host did not answer.

    Example: koseki withdraw urugi --to handover --recipient urugi.pem

    Example: koseki withdraw urugi --delete --confirmation 確認-1 --by sousa01 --approver sousa02
    """
    progress = Progress([])
    if deletes:
        if not (confirmation and by and approver):
            raise KosekiError(
                _("a deletion needs its confirmation and two operators"),
                f"--confirmation {confirmation}, --by {by}, --approver {approver}",
                _("give --confirmation, --by and --approver"),
            )
        deleted = carry_out(Delete(site, slug, confirmation, (by, approver)), order, progress)
        if deleted:
            _print_outcome(slug, deleted, round(progress.elapsed(), 1), as_json=as_json)
        return
    if folder is None or recipient is None:
        raise KosekiError(
            _("a folder and a certificate to encrypt for are needed"),
            f"--to {folder}, --recipient {recipient}",
            _("give --to and --recipient"),
        )
    found = carry_out(Withdraw(site, slug, recipient, folder), order, progress)
    if found is None:
        return
    outcome, export = found
    click.echo(
        _("{file}: {sum} rows, sha256 {sha256}").format(
            file=export.file, sum=sum(export.rows.values()), sha256=export.sha256
        )
    )
    _print_outcome(
        slug, outcome, round(progress.elapsed(), 1), as_json=as_json, export=vars(export)
    )


def _print_outcome(
    slug: str,
    outcome: Outcome,
    seconds: float,
    *,
    as_json: bool,
    export: object = None,
) -> None:
    """Print what was done, host by host, and leave with the contract's exit code."""
    print_result(outcome.applied, check=False)
    passed, failed = map(outcome.found.count, (PASSED, FAILED))
    if failed or outcome.found.unreachable:
        print_results(outcome.found)
    click.echo(
        _("{slug}: {passed} tests passed, {failed} failed, {seconds} s").format(
            slug=slug, passed=passed, failed=failed, seconds=seconds
        )
    )
    if as_json:
        print_json(
            {
                "municipality": slug,
                "changed": outcome.applied.changed,
                "passed": passed,
                "failed": outcome.applied.failed + failed,
                "seconds": seconds,
            }
            | ({"export": export} if export else {})
        )
    if outcome.applied.unreachable or outcome.applied.refused or outcome.found.unreachable:
        sys.exit(2)
    sys.exit(0 if outcome.holds else 1)
