"""The command: what is asked, and its answer as JSON."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import koseki_release
from koseki_release import __version__, places
from koseki_release.archive import MANIFEST, TAILS, open_release
from koseki_release.convergence import DesiredState, Host
from koseki_release.errors import Refused, RolledBack
from koseki_release.instances import ask_health, instances, known_instances
from koseki_release.record import broken_link, record
from koseki_release.unpacked import altered, current, kept, unpacked


def main() -> None:
    """Do what was asked; a refusal is one sentence and exit code 2."""
    parser = argparse.ArgumentParser("koseki-release", description=koseki_release.__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("verify")
    one.add_argument("--signers", type=Path, default=places.SIGNERS)
    one.add_argument("archive", type=Path)
    commands.add_parser("status")
    commands.add_parser("audit")
    commands.add_parser("converge").add_argument("--check", action="store_true")
    chosen = parser.parse_args()
    os.umask(0o022)
    try:
        match chosen.command:
            case "verify":
                report = verify(chosen.archive, chosen.signers)
            case "status":
                report = status()
            case "audit":
                report = audit()
            case _:
                report = converge(check=chosen.check)
    except Refused as error:
        print(f"koseki-release: {error}", file=sys.stderr)
        sys.exit(2)
    print(json.dumps(report, ensure_ascii=False))


def verify(archive: Path, signers: Path) -> dict[str, Any]:
    """Return who signed an archive, and what it is."""
    release = open_release(archive, signers)
    shown = {"signer": release.signer, "sha256": release.sha256, **release.manifest}
    shown["sql"] = {row["file"]: release.files[row["file"]].decode() for row in shown["schema"]}
    return shown


def status() -> dict[str, Any]:
    """Return what is unpacked, current and running."""
    states = instances(known_instances())
    now = current()
    path = json.loads((places.BASE / "current" / MANIFEST).read_bytes())["health"] if now else "/"
    return {
        "current": now,
        "unpacked": unpacked(),
        "kept": sorted(path.name.removesuffix(".tar.gz") for path in places.STATE.glob("*.tar.gz")),
        "instances": {
            slug: {**vars(unit), "ails": ask_health(slug, path)} for slug, unit in states.items()
        },
    }


def audit() -> dict[str, Any]:
    """Return whether the current release is, byte for byte, what an allowed signer signed."""
    version = current()
    found: dict[str, Any] = {
        "current": version,
        "record": broken_link(places.STATE / "record.jsonl"),
    }
    if version:
        release = open_release(kept(version), places.SIGNERS)
        found |= {"signer": release.signer, "signed": release.version, "altered": altered(release)}
    return found


def converge(*, check: bool) -> dict[str, Any]:
    """Bring this host to the state on standard input; return what was done."""
    wanted = DesiredState(**json.load(sys.stdin))
    host = Host(wanted, check=check)
    with one_at_a_time():
        try:
            host.converge()
        except Refused as error:
            if not check:
                # What was refused does not stay.
                for tail in TAILS:
                    Path(f"{places.INCOMING}{tail}").unlink(missing_ok=True)
                if not isinstance(error, RolledBack):
                    row = {"action": "refuse", "version": wanted.version, "who": wanted.who}
                    record(host.log, {**row, "why": str(error)})
            raise
    return {
        "changed": bool(host.done),
        "done": host.done,
        "needs_archive": host.needs_archive,
    }


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold this host's lock; a second run is refused at once."""
    with Path("/run/koseki-release.lock").open("a", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("another release is being switched on this host: wait for it") from None
        yield
