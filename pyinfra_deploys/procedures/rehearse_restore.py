"""Restore every vault's copy beside a running server, and say whether it is what the leader has.

Started by `koseki restore rehearse`, which compares what the hosts say. By hand:
pyinfra @koseki/lab pyinfra_deploys/procedures/rehearse_restore.py --data rehearsal=NAME \
  --data marks=primary1 --data restores=secondary1 --data repositories=1,2
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyinfra import host
from pyinfra.api import FileUploadCommand, StringCommand, operation
from pyinfra_deploys.baseline.operations import Commands

from koseki_ops.plan.host_programs import HOST_PROGRAMS

PROGRAM = Path(__file__).parents[2] / HOST_PROGRAMS / "rehearse_restore/rehearse-restore"
ON_HOST = "/run/koseki-rehearse-restore"


@operation()
def rehearse(place: str, words: Sequence[str]) -> Commands:
    """On the host `place`: run the program with these words, and take it away; elsewhere nothing.

    Every host passes every step, so that one host's step waits for the other's before it.
    """
    if host.name != place:
        return
    yield FileUploadCommand(str(PROGRAM), ON_HOST)
    yield StringCommand(f"sh {ON_HOST} {' '.join(words)}; code=$?; rm {ON_HOST}; exit $code")


rehearse(
    name="Name this moment in the log",
    place=host.data.marks,
    words=["mark", host.data.rehearsal],
)
rehearse(
    name="Restore every vault's copy beside the running server",
    place=host.data.restores,
    words=["restore", host.data.rehearsal, *str(host.data.repositories).split(",")],
)
