"""`koseki image`: hosts as bootable machines."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from koseki_ops.core.language import _
from koseki_ops.core.progress import Progress
from koseki_ops.image import seal
from koseki_ops.image.build import build
from koseki_ops.image.check import REPORT, check
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.site import Site
from koseki_ops.verify.cli import print_results
from koseki_ops.verify.results import FAILED, PASSED, SKIPPED


@click.group("image")
def image_group() -> None:
    """Make the inventory's hosts as bootable machines, signed, and try them before they count."""


@image_group.command("build")
@click.argument("host")
@click.option(
    "--format",
    "form",
    type=click.Choice(seal.FORMATS),
    default=seal.FORMATS[0],
    help="qcow2, compressed (default), or raw.",
)
@site_options
@json_option
def build_command(site: Site, host: str, *, form: str, as_json: bool) -> None:
    """Build a host's image from the platform's mirror by the same deploys and roles.

    It holds no secret and nobody's identity: a machine makes its own at its first boot. The same
    commit gives the same bytes.

    Example: koseki image build primary1
    """
    progress = Progress([])
    image = build(site, host, form, progress.report)
    size, seconds = image.stat().st_size, progress.elapsed()
    click.echo(
        _("{image}: {size:.0f} MiB, signed, {seconds:.0f} s").format(
            image=image, size=size / (1 << 20), seconds=seconds
        )
    )
    if as_json:
        print_json({"image": str(image), "bytes": size, "seconds": seconds})


@image_group.command("check")
@click.argument("image", type=click.Path(path_type=Path))
@site_options
@json_option
def check_command(site: Site, image: Path, *, as_json: bool) -> None:
    """Boot an image in a network of its own, join it, verify it, restart it, cut its power.

    IMAGE: a file, or the host whose image was built last. What was found lies beside the image, in
    a folder of its name with `.check`. Exit 0: all passed; 1: something failed; 2: it may not be
    used, or does not boot.

    Example: koseki image check primary1
    """
    progress = Progress([])
    boot_check = check(site, _named(site, image), progress.report)
    for stage in boot_check.stages:
        click.echo(f"\n{stage.name} ({stage.seconds:.0f} s)")
        if stage.results:
            print_results(stage.results)
        else:
            click.echo(stage.text)
    audit = boot_check.audit
    click.echo(
        _("\nlynis {version}: {index} of 100 in {tests} tests").format(
            version=audit["version"], index=audit["index"], tests=audit["tests"]
        )
    )
    for kind in ("warnings", "suggestions"):
        for remark in audit[kind]:
            click.echo(
                f"  {kind[:-1]} {remark['test']}: {remark['text']} {remark['details']}".rstrip()
            )
    seconds = progress.elapsed()
    passed, failed, skipped = map(boot_check.count, (PASSED, FAILED, SKIPPED))
    click.echo(
        _(
            "\n{image} on {accelerator}: {passed} passed, {failed} failed, {skipped} "
            "not verified, {seconds:.0f} s"
        ).format(
            image=boot_check.image.name,
            accelerator=boot_check.accelerator,
            passed=passed,
            failed=failed,
            skipped=skipped,
            seconds=seconds,
        )
    )
    click.echo(_("report: {image}").format(image=boot_check.image.with_suffix(".check") / REPORT))
    if as_json:
        print_json(
            {
                "image": str(boot_check.image),
                "accelerator": boot_check.accelerator,
                "passed": passed,
                "failed": failed,
                "skipped": skipped,
                "seconds": round(seconds, 1),
            }
        )
    sys.exit(1 if failed else 0)


def _named(site: Site, image: Path) -> Path:
    """Return the image that was meant: a file, or a host's own in the site's folder."""
    if image.exists() or image.suffix:
        return image
    for form in seal.FORMATS:
        own = seal.folder_of(site) / f"{image}.{form}"
        if own.exists():
            return own
    return image
