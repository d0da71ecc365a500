"""`koseki mirror`: build, verify and serve the package mirror."""

from __future__ import annotations

import functools
import http.server

import click

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.core.progress import Progress
from koseki_ops.plan.cli_options import json_option, print_json, site_options
from koseki_ops.plan.site import Site
from koseki_ops.supply.mirror import build_mirror, mirror_folder, valid_until, verify_mirror
from koseki_ops.supply.toolkit import build_wheelhouse


@click.group("mirror")
def mirror_group() -> None:
    """Keep the platform's own signed package mirror, the hosts' only source."""


@mirror_group.command("build")
@click.option("--refresh", is_flag=True, help="Ask upstream again, also when nothing is missing.")
@site_options
def build_command(site: Site, *, refresh: bool) -> None:
    """Collect what the inventory needs, with dependencies, into a signed repository.

    Upstream is whatever Debian source this machine's apt is configured with; the toolkit's own
    Python packages, for the hosts that keep watch, come from wherever its pip is configured to.

    Example: koseki mirror build --refresh
    """
    progress = Progress([])
    build_mirror(site, progress.report, refresh=refresh)
    build_wheelhouse(site, progress.report)


@mirror_group.command("verify")
@site_options
@json_option
def verify_command(site: Site, *, as_json: bool) -> None:
    """Re-check the signature and every hash; name what was altered.

    Exit 0: all of it is right; 2: something was altered or is missing.

    Example: koseki mirror verify
    """
    count = verify_mirror(site)
    click.echo(_("{count} packages, every hash and the signature are right").format(count=count))
    end = valid_until(site)
    click.echo(_("its lists hold until {end}").format(end=end.date().isoformat()))
    if as_json:
        print_json({"packages": count, "valid_until": end.isoformat()})


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, keeps connections open, logs errors only."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing of what went well: apt asks for hundreds of files."""


@mirror_group.command("serve")
@click.option("--bind", required=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), required=True, help="Port to listen on.")
@site_options
def serve_command(site: Site, *, bind: str, port: int) -> None:
    """Serve the mirror over HTTP until ended; apt checks the signature, not the transport.

    Example: koseki mirror serve --bind 10.20.10.5 --port 8080
    """
    handler = functools.partial(_Quiet, directory=str(mirror_folder(site)))
    try:
        server = http.server.ThreadingHTTPServer((bind, port), handler)
    except OSError as error:
        raise KosekiError(
            _("cannot listen"),
            f"{bind}:{port}: {error.strerror}",
            _("give another --bind or --port"),
        ) from error
    server.serve_forever()
