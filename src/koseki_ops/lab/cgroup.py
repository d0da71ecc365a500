"""A control group for each machine, where systemd keeps its tree of units.

Machines that shared one would share their units' groups: when a unit ended on one machine, its
group went away under the same unit that was just starting on another.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _

MOUNTS = Path("/proc/mounts")
SECONDS_TO_EMPTY = 10


def groups_of(name: str) -> list[Path]:
    """Return a machine's group in each hierarchy that a systemd may use; none need exist."""
    found = []
    for line in MOUNTS.read_text(encoding="utf-8").splitlines():
        _ignored, place, kind, options, *_more = line.split()
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options.split(",")):
            found.append(Path(place, name))
    if not found:
        raise KosekiError(
            _("no control groups are mounted"),
            str(MOUNTS),
            _("run `mount -t cgroup2 none /sys/fs/cgroup`"),
        )
    return found


def make_groups(name: str) -> list[Path]:
    """Make a machine's groups, empty; what enters `cgroup.procs` of each is that machine."""
    groups = groups_of(name)
    remove_groups(name)
    for group in groups:
        group.mkdir()
    return groups


def remove_groups(name: str) -> None:
    """Remove a machine's groups, the innermost first; the machine has ended."""
    end = time.monotonic() + SECONDS_TO_EMPTY
    for group in groups_of(name):
        for folder, _ignored, _ignored in os.walk(group, topdown=False):
            while not _removed(Path(folder)):
                if time.monotonic() > end:
                    raise KosekiError(
                        _("a control group is still in use"),
                        _("{folder} after {seconds_to_empty} s").format(
                            folder=folder, seconds_to_empty=SECONDS_TO_EMPTY
                        ),
                        _("end what `cat {folder}/cgroup.procs` lists, then try again").format(
                            folder=folder
                        ),
                    )
                time.sleep(0.02)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError as error:
        # What was killed a moment ago may still be on its way out.
        if error.errno == errno.EBUSY:
            return False
        raise
    return True
