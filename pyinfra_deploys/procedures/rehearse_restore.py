"""Restore every vault's copy beside a running server, and say whether it is what the leader has.

Started by `koseki restore rehearse`, which compares what the hosts say. By hand:
pyinfra @koseki/lab pyinfra_deploys/procedures/rehearse_restore.py --data rehearsal=NAME \
  --data marks=primary1 --data restores=secondary1
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
def rehearse(*words: str) -> Iterator[Any]:
    """Run the program on this host with these words, and take it away again."""
    yield FileUploadCommand(str(PROGRAM), ON_HOST)
    yield StringCommand(f"sh {ON_HOST} {' '.join(words)}; code=$?; rm {ON_HOST}; exit $code")


if host.name == host.data.marks:
    rehearse("mark", host.data.rehearsal, name="Name this moment in the log")
if host.name == host.data.restores:
    for vault in host.data.vaults:
        rehearse(
            "restore",
            host.data.rehearsal,
            str(vault["repository"]),
            name=f"Restore the copy of the vault {vault['name']} beside the running server",
        )
