"""How long an image takes to be made and tried, and how large it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from koseki_ops.bench.table import Row, at_most
from koseki_ops.core.errors import KosekiError
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
    refused = subprocess.run(
        [KOSEKI, "image", "check", HOST, "--name", site.name], env=dict(surroundings), check=False
    )
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
            refused.returncode == REFUSED,
        ),
    ]


def _report_of(argv: list[str], surroundings: Mapping[str, str]) -> dict[str, object]:
    """Run a command of the toolkit; return the object on its last line."""
    done = subprocess.run(argv, env=dict(surroundings), capture_output=True, text=True, check=False)
    if done.returncode:
        raise KosekiError(
            f"`koseki {' '.join(argv[1:3])}` failed while it was measured",
            done.stderr.strip()[-300:],
            f"run `koseki {' '.join(argv[1:6])}` by itself",
        )
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found
