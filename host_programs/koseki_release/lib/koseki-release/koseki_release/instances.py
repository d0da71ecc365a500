"""The instances, one a municipality: how each is, and starting it anew."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from koseki_release import places
from koseki_release.errors import Refused
from koseki_release.processes import answer, run

HEALTH_SECONDS = 20
OK = 200


@dataclass(frozen=True)
class Unit:
    """How an instance is: does it run, which version, is its socket open, will it come back."""

    active: bool
    version: str | None
    listening: bool
    enabled: bool


def known_instances() -> list[str]:
    """Return the municipalities that have an environment here."""
    return sorted(path.stem for path in places.ENVIRONMENT.glob("*.env"))


def instances(slugs: Sequence[str]) -> dict[str, Unit]:
    """Return how each instance is, as systemd and the kernel say."""
    if not slugs:
        return {}
    names = [unit.format(slug) for slug in slugs for unit in (places.UNIT, places.SOCKET_UNIT)]
    fields = "Id,ActiveState,MainPID,UnitFileState"
    shown = answer(["systemctl", "show", "--property", fields, *names])
    rows = {}
    for block in shown.strip().split("\n\n"):
        # A socket has no process of its own.
        row = {"MainPID": "0", **dict(line.partition("=")[::2] for line in block.splitlines())}
        rows[row.get("Id", "")] = row
    needed = {"ActiveState", "UnitFileState"}
    for name in names:
        if not needed <= rows.get(name, {}).keys() or not rows[name]["MainPID"].isdigit():
            raise Refused(f"systemd does not say how {name} is: run `systemctl status {name}`")
    found = {}
    for slug in slugs:
        service, listening = rows[places.UNIT.format(slug)], rows[places.SOCKET_UNIT.format(slug)]
        found[slug] = Unit(
            active=service["ActiveState"] == "active",
            version=running_version(int(service["MainPID"])),
            listening=listening["ActiveState"] == "active",
            enabled=service["UnitFileState"] == listening["UnitFileState"] == "enabled",
        )
    return found


def running_version(pid: int) -> str | None:
    """Return the version whose folder a process works in."""
    if pid == 0:
        return None
    try:
        folder = Path(f"/proc/{pid}/cwd").readlink()
    except FileNotFoundError:
        return None
    return folder.name if folder.parent == places.BASE / "releases" else None


def environment_text(values: dict[str, str]) -> str:
    """Return an environment file; systemd reads every value literally within single quotes."""
    lines = ["# Managed by koseki (koseki-release). Do not edit."]
    for name, value in sorted(values.items()):
        if "'" in value or "\n" in value or "\\" in value:
            raise Refused(
                f"an instance's environment cannot hold this ({name}): take the quote out"
            )
        lines.append(f"{name}='{value}'")
    return "\n".join(lines) + "\n"


def restart(slug: str, health: str) -> str:
    """Restart an instance and wait until it is healthy; return why it is not, or nothing.

    Its socket stays with systemd: who connects meanwhile waits, and nobody is refused.
    """
    # The limit of starts is for instances that fail by themselves.
    try:
        run(["systemctl", "reset-failed", places.UNIT.format(slug)])
        done = run(["systemctl", "restart", places.UNIT.format(slug)])
    except Refused as late:
        # Whoever switches goes back then, as from any other instance that is not healthy.
        return str(late)
    if done.returncode:
        return "it does not start"
    end = time.monotonic() + HEALTH_SECONDS
    reason = "no answer"
    while time.monotonic() < end:
        unit = instances([slug])[slug]
        if not unit.active:
            return "it ended by itself"
        reason = ask_health(slug, health)
        if not reason:
            return ""
        time.sleep(0.2)
    return reason


def ask_health(slug: str, path: str) -> str:
    """Ask an instance how it is; return what is wrong, or nothing."""
    connection = http.client.HTTPConnection("localhost", timeout=5)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(5)
        connection.sock.connect(str(places.SOCKETS / f"{slug}.sock"))
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error}"
    finally:
        connection.close()
    return "" if status == OK else f"its health answers {status}"
