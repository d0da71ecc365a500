"""`koseki costs`: what each municipality pays of what they share, and why exactly that (K-16)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from koseki_ops.calendar.business_days import Office
from koseki_ops.calendar.eras import in_era
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.costs import bills_cli
from koseki_ops.costs.given import day_of, year_of
from koseki_ops.costs.model import Agreement
from koseki_ops.costs.service import code_of, open_agreement
from koseki_ops.costs.shares import Division, Due, Share, divide, due_days
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.site import Site

agreement_option = click.option(
    "--agreement",
    "file",
    type=click.Path(path_type=Path),
    help="The agreement's file (default: agreements/INVENTORY.yml).",
)
year_option = click.option(
    "--fiscal-year",
    metavar="YEAR",
    help="Of a fee: this fiscal year alone, by the year in which it began.",
)
as_of_option = click.option(
    "--as-of", metavar="DATE", help="With what was known on that day (default: everything)."
)


@click.group("costs")
def costs_group() -> None:
    """Compute, explain, bill and settle the shares of what the municipalities pay together."""


for command in bills_cli.COMMANDS:
    costs_group.add_command(command)


@costs_group.command("compute")
@click.argument("items", nargs=-1, metavar="[ITEM]…")
@year_option
@as_of_option
@agreement_option
@site_options
@json_option
def compute_command(
    site: Site,
    *,
    items: tuple[str, ...],
    fiscal_year: str | None,
    as_of: str | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Show what each municipality pays, item by item; a fee's items by fiscal year.

    Example: koseki costs compute management --fiscal-year 2016
    """
    agreement, platform = open_agreement(site, file)
    municipalities, year = platform.municipalities, year_of(fiscal_year)
    wanted = [agreement.item(name) for name in items] or agreement.items
    divisions = [
        division
        for item in wanted
        for division in divide(agreement, municipalities, item, year, day_of(as_of))
    ]
    for division in divisions:
        _print(division, agreement)
    if as_json:
        print_json({"divisions": [as_json_row(division) for division in divisions]})


@costs_group.command("explain")
@click.argument("item")
@click.argument("municipality", metavar="MUNICIPALITY")
@year_option
@as_of_option
@agreement_option
@site_options
@json_option
def explain_command(
    site: Site,
    *,
    item: str,
    municipality: str,
    fiscal_year: str | None,
    as_of: str | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Show why a municipality pays exactly that: every number that a calculator needs.

    Example: koseki costs explain servers-2015 大鹿村
    """
    agreement, platform = open_agreement(site, file)
    municipalities, year = platform.municipalities, year_of(fiscal_year)
    code = code_of(municipalities, municipality)
    divisions = divide(agreement, municipalities, agreement.item(item), year, day_of(as_of))
    found = [(d, share) for d in divisions for share in d.shares if share.code6 == code]
    if not found:
        raise KosekiError(
            _("{municipality} has no share of {item}").format(municipality=municipality, item=item),
            _("it took no part"),
            _("choose another item or year: `koseki costs compute` lists the shares"),
        )
    for division, share in found:
        _explain(division, share)
    if as_json:
        print_json({"shares": [_share_row(d, share) for d, share in found]})


@costs_group.command("compare")
@click.option("--before", required=True, metavar="DATE", help="With what was known on that day.")
@click.option("--after", metavar="DATE", help="And on that one (default: with everything).")
@year_option
@agreement_option
@site_options
@json_option
def compare_command(
    site: Site,
    *,
    before: str,
    after: str | None,
    fiscal_year: str | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Show what a correction changed for whom; what was billed stays as it was billed.

    Example: koseki costs compare --before 2016-03-31
    """
    agreement, platform = open_agreement(site, file)
    municipalities, year = platform.municipalities, year_of(fiscal_year)
    rows = []
    for item in agreement.items:
        if year is not None and item.kind == "once":
            continue
        old, new = (
            {(d.name, s.code6): (s.name, s.yen) for d in divisions for s in d.shares}
            for divisions in (
                divide(agreement, municipalities, item, year, day)
                for day in (day_of(before), day_of(after))
            )
        )
        for key in [*old, *(key for key in new if key not in old)]:
            name = (old.get(key) or new[key])[0]
            was, now = (side[key][1] if key in side else 0 for side in (old, new))
            if was != now:
                rows.append({"item": key[0], "code6": key[1], "before": was, "after": now})
                click.echo(f"{key[0]:24} {name}  {was:,} → {now:,} ({now - was:+,})")
    if not rows:
        click.echo(_("nobody pays more or less"))
    if as_json:
        print_json({"changes": rows})


def _print(division: Division, agreement: Agreement) -> None:
    click.echo(
        _("{division}  {title}: {cost:,} yen, {reading}").format(
            division=division.name,
            title=division.item.title,
            cost=division.cost,
            reading=_(division.reading),
        )
    )
    for share in division.shares:
        rest = (
            _(", of which {rest} left over").format(rest=share.rest)
            if share.code6 == agreement.host
            else ""
        )
        parts = ""
        if division.item.instalments > 1:
            parts = _("  in {count}: {first:,}").format(
                count=len(share.instalments), first=share.instalments[0]
            )
        click.echo(f"  {share.code6} {share.name}  {share.yen:>15,}{rest}{parts}")


def _explain(division: Division, share: Share) -> None:
    estimate, item = division.estimate, division.item
    click.echo(f"{division.name}  {item.title}")
    click.echo(
        _("  C = {cost:,} yen ({source}, with tax)").format(
            cost=division.cost, source=division.amount.source
        )
    )
    click.echo(
        _("  S = {alone:,} yen ({source})").format(alone=share.alone, source=estimate.source)
    )
    click.echo(
        _("  M = {months} months").format(months=share.months)
        if item.by_months
        else _("  not by months")
    )
    for line in _derived(division, share):
        click.echo(f"  {line}")
    whole, part = divmod(share.exact.numerator, share.exact.denominator)
    if division.whole:
        factors = [division.cost, share.alone, *([share.months] if item.by_months else [])]
        product = " × ".join(f"{factor:,}" for factor in factors)
        click.echo(f"  {_(division.reading)} = {product} / {division.whole:,}")
    else:
        click.echo(f"  {_(division.reading)}")
    click.echo(
        _("  = {whole:,} + {part}/{denominator}, cut below one yen").format(
            whole=whole, part=part, denominator=share.exact.denominator
        )
    )
    if share.rest:
        click.echo(
            _("  + {rest} yen that all cuts leave over, borne by the host").format(rest=share.rest)
        )
    click.echo(_("  = {yen:,} yen").format(yen=share.yen))
    if dues := due_days(item, Office(), division.fiscal_year):
        for due, yen in zip(dues, share.instalments, strict=True):
            click.echo(f"  {yen:,} {_when(due)}")
    elif item.instalments > 1:
        click.echo(
            _("  in {instalments}: {amounts}").format(
                instalments=item.instalments,
                amounts=", ".join(f"{yen:,}" for yen in share.instalments),
            )
        )


def _derived(division: Division, share: Share) -> list[str]:
    """Return where C comes from, and a share month by month where it is computed so."""
    lines = []
    if division.percent is not None:
        lines.append(
            _("C = {yen:,} × {factor}/100, cut below one yen").format(
                yen=division.amount.yen, factor=100 + division.percent
            )
        )
    for run in division.runs:
        tax = "" if run.percent is None else f" × {100 + run.percent}/100"
        cost = f"{division.amount.yen:,} / 12 × {run.count}{tax}"
        if division.whole:
            lines.append(
                _("C of {first} to {last} = {cost}").format(
                    first=run.first, last=run.last, cost=cost
                )
            )
        elif share.code6 in run.codes:
            lines.append(
                _("{first} to {last}: {cost} × {alone:,} / {whole:,}").format(
                    first=run.first, last=run.last, cost=cost, alone=share.alone, whole=run.whole
                )
            )
    return lines


def _when(due: Due) -> str:
    if due.day is None:
        return _("due {agreed}; the holidays of that year are not published yet").format(
            agreed=due.agreed
        )
    moved = _(", agreed for {agreed}").format(agreed=due.agreed) if due.day != due.agreed else ""
    return _("due {day} ({in_era}{moved})").format(day=due.day, in_era=in_era(due.day), moved=moved)


def as_json_row(division: Division) -> dict[str, Any]:
    """Return a division as JSON keeps it: whole yen, and fractions as two whole numbers."""
    return {
        "item": division.item.id,
        "fiscal_year": division.fiscal_year,
        "cost": division.cost,
        "reading": division.reading,
        "whole": division.whole,
        "amount_source": division.amount.source,
        "estimate_source": division.estimate.source,
        "shares": [_share_row(division, share) for share in division.shares],
    }


def _share_row(division: Division, share: Share) -> dict[str, Any]:
    return {
        "item": division.name,
        "code6": share.code6,
        "name": share.name,
        "alone": share.alone,
        "months": share.months,
        "exact": [share.exact.numerator, share.exact.denominator],
        "yen": share.yen,
        "rest": share.rest,
        "instalments": list(share.instalments),
        "due": [
            {"agreed": due.agreed.isoformat(), "day": due.day and due.day.isoformat()}
            for due in due_days(division.item, Office(), division.fiscal_year)
        ],
    }
