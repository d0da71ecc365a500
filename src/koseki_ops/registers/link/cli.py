"""`koseki link`: the exchange of files with the resident registries."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import click

from koseki_ops.core.foreign import as_asked
from koseki_ops.core.language import _
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import Platform
from koseki_ops.plan.rules import load_platform
from koseki_ops.plan.site import Site
from koseki_ops.registers.link import service
from koseki_ops.registers.requests.service import RegisterService


@click.group("link")
def link_group() -> None:
    """See the exchange of files with the resident registries; take a flow over by hand."""


def _platform(site: Site) -> Platform:
    return load_platform(Inventory(site.inventory))


def recorded(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the two words without which nothing is done by hand."""
    command = click.option("--by", required=True, metavar="OPERATOR", help="Who does it.")(command)
    return click.option("--reason", required=True, help="Why; it is recorded.")(command)


@link_group.command("key")
@click.argument("municipality")
@click.argument("file", type=click.Path(path_type=Path))
@site_options
def key_command(site: Site, municipality: str, file: Path) -> None:
    """Keep the public key that a municipality's registry comes with; the next apply admits it.

    Example: koseki link key oshika oshika-registry.pub -i iida
    """
    click.echo(service.keep_key(site, _platform(site), municipality, file))


@link_group.command("status")
@click.argument("municipality", required=False)
@site_options
@json_option
def status_command(site: Site, municipality: str | None, *, as_json: bool) -> None:
    """Show which number comes in each flow, in which mode, what waits, what is set aside and why.

    STANDS: it is in the way of its flow until a right file of that number comes.

    Example: koseki link status oshika
    """
    answers = service.ask(site, _platform(site), [municipality] if municipality else [], ["status"])
    with as_asked("the link's host"):
        for answer in answers:
            slug = answer["town"]
            for flow in answer["flows"]:
                by_hand = (
                    _("  by hand: {reason} ({by})").format(reason=flow["reason"], by=flow["by"])
                    if flow["reason"]
                    else ""
                )
                mode = by_hand if flow["mode"] == "manual" else ""
                click.echo(
                    _("{slug:10} {direction:3} {flow:16} next {next:6}{mode}  {term}").format(
                        slug=slug,
                        direction=flow["direction"],
                        flow=flow["flow"],
                        next=flow["next"],
                        mode=mode,
                        term=flow["term"],
                    )
                )
            for file in answer["waiting"]:
                click.echo(_("{slug:10} waits       {file}").format(slug=slug, file=file))
            for row in answer["quarantine"]:
                place = _("STANDS") if row["open"] else _("quarantine")
                click.echo(f"{slug:10} {place:11} {row['file']}: {row['code']}, {row['detail']}")
            if answer["outbox_set_aside"]:
                click.echo(
                    _("{slug:10} {outbox_set_aside} rows cannot be sent").format(
                        slug=slug,
                        outbox_set_aside=answer["outbox_set_aside"],
                    )
                )
    if as_json:
        print_json({"towns": answers})


def _changed(
    site: Site, municipality: str, words: list[str], decision: tuple[str, str], *, as_json: bool
) -> None:
    registers = RegisterService.of(site)
    reason, by = decision
    who = registers.operator(by)
    (answer,) = service.ask(
        site, registers.platform, [municipality], [*words, f"--reason={reason}", f"--by={who}"]
    )
    click.echo(", ".join(f"{key} {value}" for key, value in answer.items()))
    if as_json:
        print_json(answer)


@link_group.command("manual")
@click.argument("municipality")
@click.argument("flow")
@recorded
@site_options
@json_option
def manual_command(
    site: Site, municipality: str, flow: str, reason: str, by: str, *, as_json: bool
) -> None:
    """Take a flow over by hand: nothing of it is applied or sent until somebody orders it.

    Example: koseki link manual oshika address-change --reason 回線障害 --by sousa01
    """
    _changed(site, municipality, ["manual", flow], (reason, by), as_json=as_json)


@link_group.command("automatic")
@click.argument("municipality")
@click.argument("flow")
@recorded
@site_options
@json_option
def automatic_command(
    site: Site, municipality: str, flow: str, reason: str, by: str, *, as_json: bool
) -> None:
    """Let a flow go on by itself again, from the number that comes.

    Example: koseki link automatic oshika address-change --reason 復旧 --by sousa01
    """
    _changed(site, municipality, ["automatic", flow], (reason, by), as_json=as_json)


@link_group.command("resend")
@click.argument("municipality")
@click.argument("flow")
@click.argument("number", type=click.IntRange(min=1))
@recorded
@site_options
@json_option
def resend_command(
    site: Site, municipality: str, flow: str, number: int, reason: str, by: str, *, as_json: bool
) -> None:
    """Put a file that was sent into out/ once more: the same number, the same bytes.

    Example: koseki link resend oshika resident-record 12 --reason 受信側で紛失 --by sousa01
    """
    _changed(site, municipality, ["resend", flow, str(number)], (reason, by), as_json=as_json)


@link_group.command("apply-file")
@click.argument("municipality")
@click.argument("file")
@recorded
@site_options
@json_option
def apply_file_command(
    site: Site, municipality: str, file: str, reason: str, by: str, *, as_json: bool
) -> None:
    """Apply one waiting file of a flow that was taken over by hand.

    Example: koseki link apply-file oshika 204170-address-change-00000007.jsonl
    --reason 内容確認済み --by sousa01
    """
    _changed(site, municipality, ["release", file], (reason, by), as_json=as_json)


# Releases are software here; scripts may still call it by the name of before.
_former = copy(apply_file_command)
_former.name, _former.hidden = "release", True
link_group.add_command(_former)
