"""Restore every vault's copy beside a running server, and say whether it is what the leader has.

Started by `koseki restore rehearse`, which compares what the hosts say. By hand:
pyinfra @koseki/lab pyinfra_deploys/procedures/rehearse_restore.py --data rehearsal=NAME \
  --data marks=primary1 --data restores=secondary1 --data repositories=1,2
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyinfra import host
from pyinfra.api import FileUploadCommand, StringCommand, operation

PROGRAM = Path(__file__).parent / "files/rehearse-restore"
ON_HOST = "/run/koseki-rehearse-restore"


@operation()
def rehearse(place: str, *words: str) -> Iterator[Any]:
    """On the host `place`: run the program with these words, and take it away; elsewhere nothing.

    Every host passes every step, so that one host's step waits for the other's before it.
    """
    if host.name != place:
        return
    yield FileUploadCommand(str(PROGRAM), ON_HOST)
    yield StringCommand(f"sh {ON_HOST} {' '.join(words)}; code=$?; rm {ON_HOST}; exit $code")


rehearse(host.data.marks, "mark", host.data.rehearsal, name="Name this moment in the log")
rehearse(
    host.data.restores,
    "restore",
    host.data.rehearsal,
    *str(host.data.repositories).split(","),
    name="Restore every vault's copy beside the running server",
)
