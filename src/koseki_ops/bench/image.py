"""How long an image takes to be made and tried, and how large it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from koseki_ops.bench.table import Row, at_most
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.subprocesses import ask
from koseki_ops.plan.site import Site

KOSEKI = str(Path(sys.executable).with_name("koseki"))
HOST = "primary1"
REFUSED = 2


def measure(site: Site, surroundings: Mapping[str, str]) -> list[Row]:
    """Build the primary server's image, try it, and flip one bit of it."""
    # The bare tree is cached; the first build of a checkout makes it, and that counts.
    built = _report_of(
        [KOSEKI, "image", "build", HOST, "--name", site.name, "--json"], surroundings
    )
    again = _report_of(
        [KOSEKI, "image", "build", HOST, "--name", site.name, "--json"], surroundings
    )
    tried = _report_of(
        [KOSEKI, "image", "check", HOST, "--name", site.name, "--json"], surroundings
    )
    image = Path(str(built["image"]))
    whole = image.read_bytes()
    image.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    argv = [KOSEKI, "image", "check", HOST, "--name", site.name]
    refused = ask(argv, env=surroundings, answers=(0, 1, REFUSED))
    image.write_bytes(whole)
    size = float(str(built["bytes"])) / 1e9
    return [
        at_most(
            "`koseki image build`, the first of a checkout", 120, [float(str(built["seconds"]))]
        ),
        at_most("`koseki image build`, another one", 120, [float(str(again["seconds"]))]),
        at_most("the image, qcow2 compressed", 1.5, [size], "GB"),
        at_most(
            f"`koseki image check` ({tried['passed']} checks on {tried['accelerator']})",
            360,
            [float(str(tried["seconds"]))],
        ),
        Row(
            "the same image with one bit flipped",
            "refused",
            "exit 2",
            refused.code == REFUSED,
        ),
    ]


def _report_of(argv: list[str], surroundings: Mapping[str, str]) -> dict[str, object]:
    """Run a command of the toolkit; return the object on its last line."""

    def failed(reason: str) -> KosekiError:
        return KosekiError(
            f"`koseki {' '.join(argv[1:3])}` failed while it was measured",
            reason,
            f"run `koseki {' '.join(argv[1:6])}` by itself",
        )

    done = ask(argv, env=surroundings, error=failed)
    found: dict[str, object] = json.loads(done.text.splitlines()[-1])
    return found
