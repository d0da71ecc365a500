"""The part of `koseki costs` that the book of bills is written and printed by (K-16)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from koseki_ops.core.language import _
from koseki_ops.costs import bills, papers
from koseki_ops.costs.bills import Bill
from koseki_ops.costs.book import Entry
from koseki_ops.costs.given import day_of, whole_of, year_of
from koseki_ops.costs.service import CostService, code_of, stage_name
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.site import Site

agreement_option = click.option(
    "--agreement",
    "file",
    type=click.Path(path_type=Path),
    help="The agreement's file (default: agreements/INVENTORY.yml).",
)
by_option = click.option("--by", required=True, help="Who does it: an operator's id.")


@click.command("bill")
@click.argument("fiscal_year", metavar="YEAR")
@click.option("--planned", is_flag=True, help="What it will be, before the year: no bill yet.")
@by_option
@agreement_option
@site_options
@json_option
def bill_command(
    site: Site, *, fiscal_year: str, planned: bool, by: str, file: Path | None, as_json: bool
) -> None:
    """Draft the bill of a fiscal year for all municipalities; another person approves it.

    Exit 0: the draft is recorded; 2: it was refused, and nothing was.

    Example: koseki costs bill 2016 --by sousa01
    """
    service = CostService.open(site, file)
    bill = service.draft(year_of(fiscal_year), "planned" if planned else "notice", by)
    _print_drafted(bill, as_json=as_json)


@click.command("settle")
@click.argument("fiscal_year", metavar="YEAR")
@click.option("--due", required=True, metavar="DATE", help="By when a difference is paid.")
@by_option
@agreement_option
@site_options
@json_option
def settle_command(
    site: Site, *, fiscal_year: str, due: str, by: str, file: Path | None, as_json: bool
) -> None:
    """Draft what was billed of a fiscal year against what is owed; another person approves it.

    Exit 0: the draft is recorded; 2: it was refused, and nothing was.

    Example: koseki costs settle 2016 --due 2017-03-31 --by sousa01
    """
    service = CostService.open(site, file)
    bill = service.draft(year_of(fiscal_year), "settlement", by, day_of(due))
    _print_drafted(bill, as_json=as_json)


def _print_drafted(bill: Bill, *, as_json: bool) -> None:
    for code6 in dict.fromkeys(line.code6 for line in bill.lines):
        note = _("  (the host, not billed)") if code6 == bill.host else ""
        click.echo(f"  {code6} {bill.names[code6]}  {bill.balance(code6):>15,}{note}")
    total = sum(line.balance for line in bill.lines)
    click.echo(
        _(
            "{number}: {total:,} yen in all; to issue it, another operator runs "
            "`koseki costs approve {number} --by OPERATOR`"
        ).format(number=bill.number, total=total)
    )
    if as_json:
        print_json({"bill": bill.model_dump(mode="json")})


@click.command("approve")
@click.argument("number", metavar="BILL")
@by_option
@agreement_option
@site_options
@json_option
def approve_command(site: Site, *, number: str, by: str, file: Path | None, as_json: bool) -> None:
    """Issue a draft: nothing changes it any more. Its maker cannot; nor is an old draft taken.

    Exit 0: it is issued; 2: it was refused, and nothing was recorded.

    Example: koseki costs approve 2016-notice-1 --by sousa02
    """
    entry = CostService.open(site, file).approve(number, by)
    click.echo(
        _("{number} is issued; print it: `koseki costs print {number} --to FOLDER`").format(
            number=number
        )
    )
    if as_json:
        print_json({"bill": entry_row(entry)})


@click.command("pay")
@click.argument("number", metavar="BILL")
@click.argument("municipality", metavar="MUNICIPALITY")
@click.option("--yen", required=True, metavar="N", help="How much.")
@click.option("--on", required=True, metavar="DATE", help="On which day.")
@by_option
@agreement_option
@site_options
@json_option
def pay_command(
    site: Site,
    *,
    number: str,
    municipality: str,
    yen: str,
    on: str,
    by: str,
    file: Path | None,
    as_json: bool,
) -> None:
    """Note that a municipality paid (納入), or got back what a settlement returns.

    Exit 0: it is recorded; 2: it was refused, and nothing was.

    Example: koseki costs pay 2016-notice-1 高森町 --yen 1524302 --on 2016-11-28 --by sousa01
    """
    service = CostService.open(site, file)
    payment = service.pay(number, municipality, whole_of(yen), day_of(on), by)
    click.echo(
        _("payment {payment} is recorded; by mistake? `koseki costs unpay {payment}`").format(
            payment=payment
        )
    )
    if as_json:
        print_json({"payment": payment})


@click.command("unpay")
@click.argument("payment", metavar="PAYMENT")
@click.option("--reason", required=True, help="Why, in a line, without a name.")
@by_option
@agreement_option
@site_options
def unpay_command(site: Site, *, payment: str, reason: str, by: str, file: Path | None) -> None:
    """Note that a payment was noted by mistake; both rows stay.

    Exit 0: it is recorded; 2: it was refused, and nothing was.

    Example: koseki costs unpay 12 --reason 別の団体の入金 --by sousa01
    """
    CostService.open(site, file).take_back(whole_of(payment), reason, by)
    click.echo(_("payment {payment} counts no more").format(payment=payment))


@click.command("status")
@click.argument("fiscal_years", nargs=-1, metavar="[YEAR]…")
@agreement_option
@site_options
@json_option
def status_command(
    site: Site, *, fiscal_years: tuple[str, ...], file: Path | None, as_json: bool
) -> None:
    """Show what was drafted, issued and paid, and what is late or no longer right.

    Exit 0: all is as it should be; 1: something is late or was corrected; 2: it could not be asked.

    Example: koseki costs status 2016
    """
    service = CostService.open(site, file)
    years = [year_of(given) for given in fiscal_years] or bills.due_years(service.agreement)
    found = service.findings(years)
    entries = [entry for entry in service.book.entries.values() if entry.bill.fiscal_year in years]
    for entry in entries:
        _print_entry(entry)
    for finding in found:
        click.echo(f"koseki: {finding.fiscal_year}: {finding.what}: {finding.remedy}", err=True)
    click.echo(
        _("{count} papers, {wrong} late or corrected").format(count=len(entries), wrong=len(found))
    )
    if as_json:
        print_json(
            {
                "bills": [entry_row(entry) for entry in entries],
                "wrong": [
                    {"fiscal_year": one.fiscal_year, "what": one.what, "remedy": one.remedy}
                    for one in found
                ],
            }
        )
    sys.exit(1 if found else 0)


def _print_entry(entry: Entry) -> None:
    bill = entry.bill
    issued = (
        _("issued on {day}, approved by {by}").format(day=entry.issued_on, by=entry.approved_by)
        if entry.issued_on
        else _("a draft of {day}").format(day=bill.made_on)
    )
    click.echo(f"{bill.number}  {stage_name(bill.stage)}  {issued}")
    for payment in entry.payments:
        click.echo(
            _("  payment {number}: {name} {yen:,} yen on {day}").format(
                number=payment.number,
                name=bill.names[payment.code6],
                yen=payment.yen,
                day=payment.on,
            )
        )


def entry_row(entry: Entry) -> dict[str, Any]:
    """Return a bill and what became of it as JSON."""
    bill = entry.bill
    return {
        "number": bill.number,
        "fiscal_year": bill.fiscal_year,
        "stage": bill.stage,
        "made_on": bill.made_on.isoformat(),
        "made_by": bill.made_by,
        "issued_on": entry.issued_on and entry.issued_on.isoformat(),
        "approved_by": entry.approved_by,
        "settles": bill.settles,
        "municipalities": [
            {
                "code6": code6,
                "name": bill.names[code6],
                "yen": bill.balance(code6),
                "paid": entry.paid(code6),
            }
            for code6 in dict.fromkeys(line.code6 for line in bill.lines)
        ],
    }


@click.command("print")
@click.argument("number", metavar="BILL")
@click.argument("municipalities", nargs=-1, metavar="[MUNICIPALITY]…")
@click.option(
    "--to", "folder", required=True, type=click.Path(path_type=Path), help="Into this folder."
)
@agreement_option
@site_options
@json_option
def print_command(
    site: Site,
    *,
    number: str,
    municipalities: tuple[str, ...],
    folder: Path,
    file: Path | None,
    as_json: bool,
) -> None:
    """Print a bill as PDF and CSV from what was recorded of it: the same whenever it is printed.

    A file that is there with another content is not overwritten. Exit 0: printed; 2: refused.

    Example: koseki costs print 2016-notice-1 --to /srv/bills/2016
    """
    service = CostService.open(site, file)
    rows = service.platform.municipalities
    codes = [code_of(rows, given) for given in municipalities]
    service.book.read()
    written = papers.printed(service.book, service.book.entry(number), codes, folder)
    for path in written:
        click.echo(str(path))
    if as_json:
        print_json({"files": [str(path) for path in written]})


COMMANDS = (
    bill_command,
    settle_command,
    approve_command,
    pay_command,
    unpay_command,
    status_command,
    print_command,
)
