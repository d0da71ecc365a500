"""Bring this host to a release: unpack, switch, go back when an instance is not healthy."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koseki_release import places
from koseki_release.archive import (
    MANIFEST,
    START,
    TAILS,
    Release,
    digest,
    open_release,
    version_of,
)
from koseki_release.errors import Refused, RolledBack
from koseki_release.instances import environment_text, instances, known_instances, restart
from koseki_release.processes import answer, systemctl
from koseki_release.record import last_chosen, record
from koseki_release.unpacked import altered, current, kept, manifest_bytes, point, start_script


@dataclass
class DesiredState:
    """What this host is to be: version, environment of each instance, who asks, what is allowed."""

    version: str
    sha256: str
    instances: dict[str, dict[str, str]]
    who: str
    allow_downgrade: bool = False
    restart: bool = False


class Host:
    """Brings this host to what is wanted; with check, says only what it would do."""

    def __init__(self, wanted: DesiredState, *, check: bool) -> None:
        """Start with nothing done."""
        self.wanted, self.check = wanted, check
        self.done: list[str] = []
        self.needs_archive = False
        self.log = places.STATE / "record.jsonl"

    def would(self, what: str) -> bool:
        """Note a change; return whether to make it."""
        self.done.append(what)
        return not self.check

    def converge(self) -> None:
        """Bring this host to what is wanted, or leave it as it was and say why."""
        wanted = self.wanted
        archive = kept(wanted.version)
        if places.INCOMING.exists() and digest(places.INCOMING.read_bytes()) == wanted.sha256:
            archive = places.INCOMING
        elif not is_kept(archive) or digest(archive.read_bytes()) != wanted.sha256:
            if not self.check:
                places.STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.needs_archive = True
            return
        release = open_release(archive, places.SIGNERS)
        if release.version != wanted.version:
            raise Refused(
                f"the archive holds {release.version}, not {wanted.version}: "
                "name the version that was built"
            )
        before = current()
        self.reject_downgrade(before)
        missing = [name for name in release.manifest["packages"] if not installed(name)]
        if missing:
            raise Refused(
                f"{wanted.version} needs packages that are not installed ({', '.join(missing)}): "
                "add them to packages.yml and build the mirror"
            )
        self.unpack(release)
        touched = self.environments()
        if self.check and (self.done or before != wanted.version):
            self.note_switch(before)
            return
        self.sockets()
        self.switch(release, before, touched)

    def reject_downgrade(self, before: str | None) -> None:
        """Refuse an older release than the one that runs, or than the last that was chosen here.

        The record remembers what a folder that was emptied, or a link that was moved, does not.
        """
        chosen = last_chosen(self.log)
        if self.wanted.allow_downgrade:
            return
        for version, why in ((before, "is running"), (chosen, "was the last to be chosen here")):
            if version and version_of(self.wanted.version) < version_of(version):
                raise Refused(
                    f"{version} {why} and {self.wanted.version} is older: to go back on purpose, "
                    "set allow_downgrade with this version"
                )

    def note_switch(self, before: str | None) -> None:
        """Say under check what a switch would be."""
        if before != self.wanted.version:
            self.would(f"switch from {before or 'nothing'} to {self.wanted.version}")

    def unpack(self, release: Release) -> None:
        """Put the verified files in their folder in one step; mend a folder that was altered."""
        folder = places.BASE / "releases" / release.version
        if places.INCOMING.exists() and not self.check:
            self.keep_archive(release, kept(release.version))
        strange = altered(release) if folder.exists() else [release.version]
        if not strange or not self.would(f"unpack {release.version}"):
            return
        aside = folder.with_name(f".{release.version}.new")
        if aside.exists():
            shutil.rmtree(aside)
        files = {
            **release.files,
            MANIFEST: manifest_bytes(release.manifest),
            START: start_script(release.manifest),
        }
        for name, content in files.items():
            path = aside / name
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.write_bytes(content)
            mode = release.manifest["files"].get(name, {}).get("mode", "0644")
            path.chmod(0o755 if name == START else int(mode, 8))
        if folder.exists():
            # Altered: instances may be running from it, so it is moved, not emptied.
            old = folder.with_name(f".{release.version}.altered")
            if old.exists():
                shutil.rmtree(old)
            folder.rename(old)
        aside.rename(folder)
        row: dict[str, Any] = {
            "action": "unpack",
            "version": release.version,
            "sha256": release.sha256,
        }
        row |= {"signer": release.signer, "who": self.wanted.who, "result": "ok"}
        if strange != [release.version]:
            row["altered"] = strange
            self.wanted.restart = True
        record(self.log, row)

    def keep_archive(self, release: Release, archive: Path) -> None:
        """Keep archive and signature, so that what is unpacked can always be proved."""
        same = archive.exists() and digest(archive.read_bytes()) == release.sha256
        if archive.exists() and not same and (places.BASE / "releases" / release.version).exists():
            raise Refused(
                f"another archive of {release.version} was released here before: "
                "give what changed a version of its own"
            )
        # The same archive may have come with a signature that was not asked for before.
        for tail in TAILS:
            Path(f"{places.INCOMING}{tail}").rename(f"{archive}{tail}")

    def environments(self) -> set[str]:
        """Keep what each instance is told; return the instances whose environment changed."""
        touched = set()
        for slug, values in self.wanted.instances.items():
            path = places.ENVIRONMENT / f"{slug}.env"
            text = environment_text(values)
            if path.exists() and path.read_text(encoding="utf-8") == text:
                continue
            touched.add(slug)
            if self.would(f"tell {slug} its environment"):
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                aside = path.with_suffix(".new")
                aside.write_text(text, encoding="utf-8")
                aside.chmod(0o644)
                aside.rename(path)
        for slug in known_instances():
            if slug not in self.wanted.instances and self.would(f"close the instance of {slug}"):
                names = [places.SOCKET_UNIT.format(slug), places.UNIT.format(slug)]
                systemctl("disable", "--now", *names)
                (places.ENVIRONMENT / f"{slug}.env").unlink()
                record(self.log, {"action": "close", "instance": slug, "who": self.wanted.who})
        return touched

    def sockets(self) -> None:
        """Open the socket of every instance; systemd holds it, whoever serves behind it."""
        states = instances(list(self.wanted.instances))
        shut = [slug for slug, unit in states.items() if not (unit.listening and unit.enabled)]
        if shut and self.would(f"open the sockets of {', '.join(shut)}"):
            names = [
                unit.format(slug) for slug in shut for unit in (places.SOCKET_UNIT, places.UNIT)
            ]
            systemctl("enable", *names)
            systemctl("start", *(places.SOCKET_UNIT.format(slug) for slug in shut))

    def switch(self, release: Release, before: str | None, touched: set[str]) -> None:
        """Let every instance run this version, or all of them the one before."""
        states = instances(list(self.wanted.instances))
        behind = [
            slug
            for slug, unit in states.items()
            if self.wanted.restart
            or slug in touched
            or not unit.active
            or unit.version != release.version
        ]
        # A run that was broken off may have moved the link already: the instances remember.
        elder = {unit.version for unit in states.values() if unit.version} - {release.version}
        goes_back = before if before != release.version else (min(elder) if elder else None)
        if before == release.version and not behind:
            return
        what = f"switch from {goes_back} to" if goes_back else "run"
        if not self.would(f"{what} {release.version}: {', '.join(behind) or 'no instance yet'}"):
            return
        row = {"action": "switch", "version": release.version, "from": goes_back}
        row |= {"sha256": release.sha256, "signer": release.signer, "who": self.wanted.who}
        point(release.version)
        met: list[str] = []
        for slug in behind:
            met.append(slug)
            why = restart(slug, release.manifest["health"])
            if why:
                self.go_back(
                    goes_back, met, {**row, "result": "failed", "instance": slug, "why": why}
                )
        record(self.log, {**row, "instances": len(behind), "result": "ok"})

    def go_back(self, version: str | None, met: list[str], row: dict[str, Any]) -> None:
        """Return every instance that was touched to the version before, and say why."""
        record(self.log, row)
        why = f"{row['version']} is not healthy for {row['instance']} ({row['why']})"
        if version is None:
            (places.BASE / "current").unlink()
            systemctl("stop", *(places.UNIT.format(slug) for slug in met))
            raise RolledBack(f"{why}, and no release was here before: see its journal")
        point(version)
        health = json.loads((places.BASE / "releases" / version / MANIFEST).read_bytes())["health"]
        still = {slug: reason for slug in met if (reason := restart(slug, health))}
        end = {"action": "roll-back", "version": version, "from": row["version"]}
        end |= {"who": self.wanted.who, "instances": len(met)}
        record(self.log, {**end, "result": "failed" if still else "ok", "why": why})
        if still:
            raise RolledBack(f"{why}; {version} is back, but not healthy for {', '.join(still)}")
        raise RolledBack(
            f"{why}: every instance runs {version} again; see the journal of that instance"
        )


def is_kept(archive: Path) -> bool:
    """Say whether an archive is kept with all its signatures."""
    return all(Path(f"{archive}{tail}").exists() for tail in TAILS)


def installed(package: str) -> bool:
    """Say whether a Debian package is installed."""
    # It exits with 1 for a package that it does not know, and with 2 when it could not look.
    shown = answer(["dpkg-query", "-W", "-f", "${db:Status-Status}", package], (0, 1))
    return shown == "installed"
