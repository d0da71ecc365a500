"""Where packages come from, and the ground's own packages."""

from __future__ import annotations

import hashlib
import re
import tarfile
import tempfile
from collections.abc import Iterator
from shlex import quote
from typing import Any

from pyinfra import host
from pyinfra.api import FactBase, FileUploadCommand, StringCommand, deploy, operation
from pyinfra_deploys.foundation.host_data import HostData
from pyinfra_deploys.foundation.operations import Absent, File, FileStates, ask, place

from koseki_ops.drift.declared import Declared
from koseki_ops.mirror import KEYRING, VAULT_SUITE

PUSHED = "/srv/koseki-packages"
# A run that was broken off leaves its package manager at work on the host: whoever comes next waits
# for it instead of failing at its lock.
APT = "flock --timeout 300 /run/koseki-apt.lock sh -c "
AT_REST = ("installed", "config-files", "not-installed")
KEY_ON_HOST = f"/usr/share/keyrings/{KEYRING}"
SOURCES = "/etc/apt/sources.list.d/koseki.sources"


class PackageStates(FactBase):  # type: ignore[misc] # pyinfra's classes are untyped here
    """Each package's status by name; a run that was broken off may have left it half way."""

    def command(self) -> str:
        """Return the question, asked when no package manager is at work."""
        return APT + quote(r"dpkg-query -W -f '${Package} ${db:Status-Status}\n'")

    def process(self, output: list[str]) -> dict[str, str]:
        """Return the status by name."""
        return dict(line.split() for line in output)


@operation()
def install(names: list[str]) -> Iterator[Any]:
    """Install what is missing of `names`, without recommendations.

    What a run that was broken off left half installed is finished first.
    """
    for name in names:
        Declared.of(host.name).package(name)
    states = ask(PackageStates)
    half = sorted(name for name, status in states.items() if status not in AT_REST)
    missing = sorted(name for name in set(names) if states.get(name) != "installed")
    if half:
        yield StringCommand(APT + quote("DEBIAN_FRONTEND=noninteractive dpkg --configure -a"))
    if half or missing:
        yield StringCommand(
            APT
            + quote(
                "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq "
                "--yes --fix-broken --no-install-recommends " + " ".join(missing)
            )
        )


@operation()
def push(data: HostData) -> Iterator[Any]:
    """Push the vault suite of the mirror over the management connection, when it differs.

    The datacenter host opens no connection of its own, not even for packages. Nothing to do on
    a host of the city, which asks the workstation.
    """
    if data.is_city:
        return
    mirror = data.mirror
    path = f"{PUSHED}/dists/{VAULT_SUITE}/InRelease"
    if ask(FileStates, paths=(path,))[path].endswith(mirror_digest(data)):
        return
    yield StringCommand(f"rm -rf {PUSHED}.new && mkdir -m 0755 {PUSHED}.new")
    with tempfile.NamedTemporaryFile(suffix=".tar") as bundle:
        with tarfile.open(bundle.name, "w") as tar:
            tar.add(mirror / "dists" / VAULT_SUITE, f"dists/{VAULT_SUITE}")
            for listed in sorted((mirror / "dists" / VAULT_SUITE).rglob("Packages")):
                for name in re.findall(r"^Filename: (\S+)$", listed.read_text(), re.MULTILINE):
                    tar.add(mirror / name, name)
        yield FileUploadCommand(bundle.name, f"{PUSHED}.new/bundle.tar")
    yield StringCommand(
        f"cd {PUSHED}.new && tar -x --no-same-owner -f bundle.tar && rm bundle.tar && cd / && "
        f"rm -rf {PUSHED} && mv {PUSHED}.new {PUSHED}"
    )


def mirror_digest(data: HostData) -> str:
    """Return the hash of the signed index that this host reads."""
    suite = data.value("debian_release") if data.is_city else VAULT_SUITE
    return hashlib.sha256((data.mirror / "dists" / suite / "InRelease").read_bytes()).hexdigest()


def source_entry(data: HostData) -> str:
    """Return the one package source of a host, in deb822 form."""
    if data.is_city:
        uri, suite = (
            f"http://{data.workstation}:{data.value('mirror_port')}",
            data.value("debian_release"),
        )
    else:
        uri, suite = f"file:{PUSHED}", VAULT_SUITE
    return (
        "# Managed by koseki (pyinfra, foundation/packages.py). Do not edit.\n"
        f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nSigned-By: {KEY_ON_HOST}\n"
    )


@deploy("Take packages from the platform's mirror alone")
def package_source(data: HostData) -> None:
    """Trust the platform's key, remove every other source, install the ground's packages."""
    push(name="Push the packages of a host that asks nobody", data=data)
    place(
        name="Name the mirror as the only source",
        files=(
            File(KEY_ON_HOST, (data.mirror / KEYRING).read_bytes()),
            File(SOURCES, source_entry(data)),
            File(
                "/etc/apt/apt.conf.d/90koseki",
                "// Managed by koseki (pyinfra, foundation/packages.py). Do not edit.\n"
                'APT::Install-Recommends "false";\nAcquire::Languages "none";\n',
            ),
            # Which state of the mirror this host's package lists are from.
            File("/var/lib/koseki/mirror.release", f"{mirror_digest(data)}\n"),
            # An installation or an upgrade starts and restarts nothing: roles and procedures do,
            # one member after the other.
            File(
                "/usr/sbin/policy-rc.d",
                "#!/bin/sh\n# Managed by koseki (pyinfra, foundation/packages.py). Do not edit.\n"
                "exit 101\n",
                "0755",
            ),
            Absent("/etc/apt/sources.list"),
            Absent("/etc/apt/sources.list.d/debian.sources"),
        ),
        then=APT + quote("apt-get update -qq"),
    )
    install(name="Install the ground's packages", names=data.packages)
