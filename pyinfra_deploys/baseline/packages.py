"""Where packages come from, and the baseline's own packages."""

from __future__ import annotations

import hashlib
import re
import tarfile
import tempfile
from collections.abc import Sequence
from shlex import join

from pyinfra import host
from pyinfra.api import FactBase, FileUploadCommand, StringCommand, deploy, operation
from pyinfra_deploys.baseline.host_data import HostData
from pyinfra_deploys.baseline.operations import Absent, Commands, File, FileStates, ask, put_files

from koseki_ops.drift.judge.declared import Declared
from koseki_ops.supply.mirror import KEYRING, VAULT_SUITE

PUSHED = "/srv/koseki-packages"
# A run that was broken off leaves its package manager at work on the host, whichever engine started
# it: whoever comes next waits for it instead of failing at its locks. dpkg waits for none of them,
# apt for the second alone; Perl, since bare Debian has it and knows the kernel's record locks.
PATIENCE_SECONDS = 300
LOCKS = ("/var/lib/apt/lists/lock", "/var/lib/dpkg/lock-frontend")
TURN = r"""
use strict; use Fcntl;
$SIG{ALRM} = sub { die "another package manager still works after SECONDS s\n" };
sub taken {
    open my $file, ">>", $_[0] or die "$_[0]: $!\n";
    fcntl($file, F_SETLKW, my $whole = pack("s s x4 q q l x4", F_WRLCK, 0, 0, 0, 0))
        or die "$_[0]: $!\n";
    return $file;
}
my ($lists, $frontend, @command) = @ARGV;
alarm SECONDS;
taken($lists);
# As dpkg's frontends do: the lock is held for it.
my $held = taken($frontend);
alarm 0;
$ENV{DPKG_FRONTEND_LOCKED} = 1;
exit(system(@command) != 0);
""".replace("SECONDS", str(PATIENCE_SECONDS))
AT_REST = ("installed", "config-files", "not-installed")
KEY_ON_HOST = f"/usr/share/keyrings/{KEYRING}"
SOURCES = "/etc/apt/sources.list.d/koseki.sources"


def in_turn(command: Sequence[str], locks: tuple[str, str] = LOCKS) -> str:
    """Return a shell command that runs dpkg when no other package manager is at work any more.

    locks: of the package lists, which is only waited for; of dpkg's frontends, which is held.
    """
    return join(["perl", "-e", TURN, *locks, *command])


# What was left half installed is finished first, by the one way that apt has for it.
FINISH = "DEBIAN_FRONTEND=noninteractive " + in_turn(["dpkg", "--configure", "-a"])
APT = f"apt-get -o DPkg::Lock::Timeout={PATIENCE_SECONDS}"
UPDATE = f"{APT} update -qq"


class PackageStates(FactBase[dict[str, str]]):
    """Each package's status by name; a run that was broken off may have left it half way."""

    def command(self) -> str:
        """Return the question; it takes no lock."""
        return r"dpkg-query -W -f '${Package} ${db:Status-Status}\n'"

    def process(self, output: list[str]) -> dict[str, str]:
        """Return the status by name."""
        return dict(line.split() for line in output)


@operation()
def install(names: list[str]) -> Commands:
    """Install what is missing of `names`, without recommendations.

    What a run that was broken off left half installed is finished first.
    """
    for name in names:
        Declared.of(host.name).package(name)
    states = ask(PackageStates)
    half = sorted(name for name, status in states.items() if status not in AT_REST)
    missing = sorted(name for name in set(names) if states.get(name) != "installed")
    if half or missing:
        yield StringCommand(FINISH)
        yield StringCommand(
            f"{UPDATE} && DEBIAN_FRONTEND=noninteractive {APT} install -qq --yes --fix-broken "
            "--no-install-recommends " + " ".join(missing)
        )


@operation()
def push(data: HostData) -> Commands:
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
    suite = data.plan.debian_release if data.is_city else VAULT_SUITE
    return hashlib.sha256((data.mirror / "dists" / suite / "InRelease").read_bytes()).hexdigest()


def source_entry(data: HostData) -> str:
    """Return the one package source of a host, in deb822 form."""
    if data.is_city:
        uri, suite = (
            f"http://{data.workstation}:{data.plan.mirror_port}",
            data.plan.debian_release,
        )
    else:
        uri, suite = f"file:{PUSHED}", VAULT_SUITE
    return (
        "# Managed by koseki (pyinfra, baseline/packages.py). Do not edit.\n"
        f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nSigned-By: {KEY_ON_HOST}\n"
    )


@deploy("Take packages from the platform's mirror alone")
def package_source(data: HostData) -> None:
    """Trust the platform's key, remove every other source, install the baseline's packages."""
    push(name="Push the packages of a host that asks nobody", data=data)
    put_files(
        name="Name the mirror as the only source",
        files=(
            File(KEY_ON_HOST, (data.mirror / KEYRING).read_bytes()),
            File(SOURCES, source_entry(data)),
            File(
                "/etc/apt/apt.conf.d/90koseki",
                "// Managed by koseki (pyinfra, baseline/packages.py). Do not edit.\n"
                'APT::Install-Recommends "false";\nAcquire::Languages "none";\n',
            ),
            # Which state of the mirror this host's package lists are from.
            File("/var/lib/koseki/mirror.release", f"{mirror_digest(data)}\n"),
            # An installation or an upgrade starts and restarts nothing: roles and procedures do,
            # one member after the other.
            File(
                "/usr/sbin/policy-rc.d",
                "#!/bin/sh\n# Managed by koseki (pyinfra, baseline/packages.py). Do not edit.\n"
                "exit 101\n",
                "0755",
            ),
            Absent("/etc/apt/sources.list"),
            Absent("/etc/apt/sources.list.d/debian.sources"),
        ),
        then=f"{FINISH} && {UPDATE}",
    )
    install(name="Install the baseline's packages", names=data.packages)
