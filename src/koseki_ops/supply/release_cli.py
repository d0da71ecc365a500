"""`koseki release`: build, sign and verify releases of the application."""

from __future__ import annotations

from pathlib import Path

import click

from koseki_ops.core.language import _
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.site import Site
from koseki_ops.supply import release

file_argument = click.argument("file", type=click.Path(path_type=Path))

part_option = click.option(
    "--as",
    "part",
    type=click.Choice(list(release.TAILS)),
    required=True,
    help="Who signs: whoever wrote the release, or whoever runs it.",
)


@click.group("release")
def release_group() -> None:
    """Build, sign and verify releases of the application; only signed ones reach a host."""


@release_group.command("build")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="Folder (default: the site's).")
@site_options
def build_command(site: Site, source: Path, output: Path | None) -> None:
    """Pack a source folder with its release.yml; the same source gives the same bytes.

    Example: koseki release build sample_application
    """
    archive = release.build(source, output or release.folder_of(site))
    click.echo(archive)


@release_group.command("key")
@part_option
@site_options
def key_command(site: Site, part: str) -> None:
    """Make a signing key and allow it, unless there is one. In production: offline, each its own.

    Example: koseki release key --as city
    """
    click.echo(release.make_key(site, part))


@release_group.command("sign")
@file_argument
@part_option
@click.option("--key", type=click.Path(path_type=Path), help="Private key (default: the site's).")
@site_options
def sign_command(site: Site, file: Path, part: str, key: Path | None) -> None:
    """Sign an archive: the vendor's signature is FILE.sig beside it, the city's FILE.city.sig.

    Example: koseki release sign --as city var/lab/release/sample-application-1.1.0.tar.gz
    """
    click.echo(release.sign(file, key or release.key_of(site, part), part))


@release_group.command("verify")
@file_argument
@click.option(
    "--signers", type=click.Path(path_type=Path), help="Allowed signers (default: the site's)."
)
@site_options
@json_option
def verify_command(site: Site, file: Path, signers: Path | None, *, as_json: bool) -> None:
    """Show who signed an archive and what it is, by the program that hosts verify with.

    Example: koseki release verify var/lab/release/sample-application-1.1.0.tar.gz
    """
    found = release.verify(file.resolve(), (signers or release.signers_of(site)).resolve())
    click.echo(
        _(
            "{name} {version}: signed by {signer}, {count} files, schema "
            "{schema_version}, sha256 {sha256}"
        ).format(
            name=found["name"],
            version=found["version"],
            signer=found["signer"],
            count=len(found["files"]),
            schema_version=found["schema_version"],
            sha256=found["sha256"],
        )
    )
    if as_json:
        print_json({key: value for key, value in found.items() if key != "sql"})
