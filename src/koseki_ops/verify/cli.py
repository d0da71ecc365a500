"""`koseki verify`: run the suites and say what holds, what does not and what to do."""

from __future__ import annotations

import sys

import click

from koseki_ops.core.formatting import in_short
from koseki_ops.core.language import N_, _
from koseki_ops.core.progress import Progress
from koseki_ops.core.terminal import painted
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.site import Site, project_root
from koseki_ops.verify.results import FAILED, PASSED, SKIPPED, Results, TestResult
from koseki_ops.verify.runner import Reports, suites_in, verify

SHOWN_FAILURES = 20


class VerifyCommand(click.Command):
    """The command, whose help has the suites that there are."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the suites below the options."""
        with formatter.section(_("Suites")):
            formatter.write_text(", ".join(suites_in(project_root())))


@click.command("verify", cls=VerifyCommand)
@click.argument("suites", nargs=-1, metavar="[SUITE]...")
@click.option("--limit", multiple=True, metavar="HOST|GROUP", help="Only these (repeatable).")
@site_options
@json_option
def verify_command(
    site: Site, *, suites: tuple[str, ...], limit: tuple[str, ...], as_json: bool
) -> None:
    """Ask the running hosts what is true and hold it against the inventory; changes nothing.

    Without SUITE all suites run. An HTML report and a JUnit file are left in
    var/<site>/reports/. Exit 0: all holds; 1: something does not; 2: the question
    was wrong or a host did not answer (the others were asked).

    Example: koseki verify replication backup --limit databases
    """
    progress = Progress([])
    asked = ", ".join(limit) or _("all hosts")
    progress.report(_("asking {hosts} of {site}").format(hosts=asked, site=site.name))
    results = verify(site, suites, limit)
    print_results(results)
    click.echo(_("report: {html}").format(html=Reports.of(site).html))
    if as_json:
        print_json(
            {
                "passed": results.count(PASSED),
                "failed": results.count(FAILED),
                "skipped": results.count(SKIPPED),
                "seconds": round(results.seconds, 1),
            }
        )
    sys.exit(exit_code(results))


def exit_code(results: Results) -> int:
    """Return 0 when all holds, 1 when something does not, 2 when a host or all was unreachable."""
    if results.unreachable or not (results.count(PASSED) or results.count(FAILED)):
        return 2
    return 1 if results.count(FAILED) else 0


def print_results(results: Results) -> None:
    """Print a line for each suite, then failures with what to do, then what was not verified."""
    for suite, tests in results.suites.items():
        counts = {outcome: sum(t.outcome == outcome for t in tests) for outcome in OUTCOMES}
        counted = ", ".join(
            _(OUTCOMES[outcome]).format(count=n) for outcome, n in counts.items() if n
        )
        colour = "red" if counts[FAILED] else "green" if counts[PASSED] else "yellow"
        click.echo(f"{suite:14} {painted(counted, colour)}")
    failures = results.with_outcome(FAILED)
    for test in failures[:SHOWN_FAILURES]:
        _print_failure(test)
    if len(failures) > SHOWN_FAILURES:
        click.echo(
            _("\n… and {count} more; the report has them all").format(
                count=len(failures) - SHOWN_FAILURES
            )
        )
    reasons: dict[str, int] = {}
    for test in results.with_outcome(SKIPPED):
        reasons[test.reason] = reasons.get(test.reason, 0) + 1
    for reason, count in reasons.items():
        click.echo(
            _("not verified ({count}): {reason}").format(count=count, reason=in_short(reason))
        )
    if results.left_out:
        click.echo(
            _("left out ({left_out}): tests about hosts outside --limit").format(
                left_out=results.left_out
            )
        )
    for host, unreachable_reason in results.unreachable.items():
        click.echo(
            _("koseki: {host} did not answer: {unreachable_reason}").format(
                host=host, unreachable_reason=in_short(unreachable_reason)
            ),
            err=True,
        )
    click.echo(
        _("{passed} passed, {failed} failed, {skipped} not verified, {seconds:.1f} s").format(
            passed=results.count(PASSED),
            failed=results.count(FAILED),
            skipped=results.count(SKIPPED),
            seconds=results.seconds,
        )
    )


OUTCOMES = {
    PASSED: N_("{count} passed"),
    FAILED: N_("{count} failed"),
    SKIPPED: N_("{count} not verified"),
}


def _print_failure(test: TestResult) -> None:
    click.echo(f"\n{painted(_('FAILED'), 'red', bold=True)} {test.id}")
    click.echo(f"  {test.why}")
    for name in (N_("expected"), N_("seen"), N_("remedy")):
        # A further line of it stands below its first, where no line of ours begins.
        counted = getattr(test, name).replace("\n", f"\n{'':12}")
        click.echo(f"  {_(name) + ':':10}{counted}")
    if test.journal:
        click.echo(_("  journal of {unit} on {host}:").format(unit=test.unit, host=test.host))
        for line in test.journal:
            click.echo(f"    {in_short(line)}")
