"""Packages: Debian's own, from the platform's signed mirror, exactly the plan's (K-08)."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from koseki_ops.core.language import _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.supply.mirror import KEYRING, VALID_DAYS, mirror_folder, valid_until
from koseki_ops.verify.apt import switched_on
from koseki_ops.verify.expect import check, expect
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Everywhere, Facts, Questions, on_hosts

SOURCES = """
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    if [ -s "$file" ]; then grep -HEv '^[[:space:]]*(#|$)' "$file"; fi
done
for file in /etc/apt/sources.list.d/*.sources; do
    if [ -s "$file" ]; then grep -HE '^(URIs|Suites|Signed-By|Enabled|Trusted|Allow)' "$file"; fi
done
"""
PYTHON = """
find /usr/bin /usr/local/bin /usr/lib /opt -ignore_readdir_race -maxdepth 1 -name 'python*'
"""
# What installs by itself; it once restarted Patroni in production.
BY_ITSELF = ("unattended-upgrades", "needrestart", "packagekit")


def questions(plan: Plan, host: str) -> Questions:
    """Ask each host what is installed and where more would come from."""
    if host == WORKSTATION:
        return {"keyring": f"sha256sum < {mirror_folder(plan.site) / KEYRING}"}
    return {
        "installed": ("dpkg-query -W -f '${binary:Package} ${Version} ${db:Status-Abbrev}\\n'"),
        "audit": "dpkg --audit",
        "held": "apt-mark showhold",
        "sources": SOURCES,
        "targets": "apt-get indextargets --format '$(REPO_URI)|$(RELEASE)|$(SIGNED_BY)'",
        "trusted": "ls -A /etc/apt/trusted.gpg.d; ls /etc/apt/trusted.gpg",
        "keyring": (
            "sha256sum < \"$(apt-get indextargets --format '$(SIGNED_BY)' | sort -u | head -n 1)\""
        ),
        "weak": "apt-config dump | grep -iE 'AllowUnauthenticated|AllowInsecure|AllowWeak'",
        "periodic": "apt-config dump APT::Periodic::Unattended-Upgrade",
        "release": '. /etc/os-release && echo "$VERSION_CODENAME"',
        "python": PYTHON,
    }


def installed(facts: Facts) -> dict[str, str]:
    """Return the version of each installed package."""
    rows = [line.split() for line in facts["installed"].lines]
    return {row[0].split(":")[0]: row[1] for row in rows if row[2] == "ii"}


@cache
def mirrored(folder: Path, suite: str) -> frozenset[tuple[str, str]]:
    """Return every package and version that a suite of the mirror holds."""
    found = set()
    for index in (folder / "dists" / suite).glob("main/binary-*/Packages"):
        name = ""
        for line in index.read_text(encoding="utf-8").splitlines():
            if line.startswith("Package: "):
                name = line.removeprefix("Package: ")
            elif line.startswith("Version: "):
                found.add((name, line.removeprefix("Version: ")))
    return frozenset(found)


@on_hosts("all")
def test_the_release_is_the_plans(plan: Plan, facts: Facts) -> None:
    """One Debian release on every host: versions that were tested together (K-08)."""
    expect(
        facts["release"].text,
        plan.platform.debian_release,
        _("by hand: this host has to be installed anew"),
    )


@on_hosts("all")
def test_what_the_plan_asks_for_is_installed(plan: Plan, facts: Facts) -> None:
    """Every package of the inventory's concerns is there and whole (K-08)."""
    wanted = plan.packages_for(facts.host)
    missing = sorted(wanted - installed(facts).keys())
    check(
        not missing,
        _("{count} packages of the plan").format(count=len(wanted)),
        _("missing: {missing}").format(missing=missing),
        facts.remedy,
    )


@on_hosts("all")
def test_nothing_is_half_installed(facts: Facts) -> None:
    """An interrupted installation leaves a daemon that fails at the next restart (K-08)."""
    for name in ("audit", "held"):
        check(
            facts[name].rc == 0, _("an answer: {name}").format(name=name), facts[name], facts.remedy
        )
    expect(
        facts["audit"].text,
        "",
        _("run `dpkg --configure -a` on {host} and read what it says").format(host=facts.host),
    )
    held = shlex.join(facts["held"].lines)
    expect(
        facts["held"].lines,
        [],
        _("run `apt-mark unhold {held}` on {host}, or write down why it is held").format(
            held=held, host=facts.host
        ),
    )
    broken = [
        line for line in facts["installed"].lines if line.split()[2] not in {"ii", "rc", "un"}
    ]
    expect(
        broken,
        [],
        _("run `dpkg --configure -a` on {host} and read what it says").format(host=facts.host),
    )


@on_hosts("all")
def test_everything_came_from_the_mirror(plan: Plan, facts: Facts) -> None:
    """Each installed package stands in the signed mirror with that very version (K-08)."""
    suite = plan.platform.debian_release if plan.stands_in_city(facts.host) else "vault"
    known = mirrored(mirror_folder(plan.site), suite)
    check(
        known,
        _("suite {suite} in the mirror").format(suite=suite),
        _("no package index"),
        _("run `koseki mirror build`"),
    )
    strangers = {
        f"{name} {version}"
        for name, version in installed(facts).items()
        if (name, version) not in known
    }
    expect(
        strangers,
        set(),
        _("by hand: purge what no suite has, or list it in packages.yml; `koseki mirror build`"),
    )


def test_the_mirror_is_not_frozen(plan: Plan) -> None:
    """An old mirror is as well signed as a new one: what is mended since is not in it (K-08)."""
    left = valid_until(plan.site) - datetime.now(UTC)
    check(
        left > timedelta(days=VALID_DAYS / 3),
        _("lists that hold for more than {valid_days} days").format(valid_days=VALID_DAYS // 3),
        _("{days} days are left").format(days=left.days),
        _("run `koseki mirror build --refresh`, then `koseki apply`"),
    )


@on_hosts("all")
def test_the_mirror_is_the_only_source(plan: Plan, facts: Facts) -> None:
    """No other place to install from is configured, not even one that is unreachable (K-08)."""
    if plan.stands_in_city(facts.host):
        address = plan.address(WORKSTATION, facts.host)
        wanted = f"http://{address}:{plan.platform.mirror_port}"
    else:
        wanted = "file:/"
    places = {line.split("|")[0] for line in facts["targets"].lines}
    check(
        places and all(place.startswith(wanted) for place in places),
        _("only {wanted}").format(wanted=wanted),
        places,
        facts.remedy,
    )
    other = [
        line
        for line in facts["sources"].lines
        if ("URIs:" in line and wanted not in line) or ".list:" in line
    ]
    expect(other, [], facts.remedy)


@on_hosts("all")
def test_only_the_platforms_key_is_trusted(facts: Facts, everywhere: Everywhere) -> None:
    """A package that the platform did not sign is not installed (K-08)."""
    keyrings = {line.split("|")[2] for line in facts["targets"].lines}
    check(
        len(keyrings) == 1 and "" not in keyrings, _("one keyring for all"), keyrings, facts.remedy
    )
    expect(facts["keyring"].text, everywhere[WORKSTATION]["keyring"].text, facts.remedy)
    # Debian's own keys come with the base; no source refers to them.
    strange = [name for name in facts["trusted"].lines if not name.startswith("debian-archive-")]
    expect(strange, [], _("remove these keys; {remedy}").format(remedy=facts.remedy))
    lax = switched_on(facts["weak"].lines)
    expect(lax, [], _("by hand: remove these settings from /etc/apt/apt.conf.d"))


@on_hosts("all")
def test_nothing_upgrades_by_itself(facts: Facts) -> None:
    """An upgrade at night once restarted Patroni and moved the leader; only apply upgrades."""
    present = set(BY_ITSELF) & installed(facts).keys()
    expect(
        present,
        set(),
        _("run `apt-get purge {names}` on {host}").format(
            names=shlex.join(sorted(present)), host=facts.host
        ),
    )
    expect(switched_on(facts["periodic"].lines), [], facts.remedy)


@on_hosts("remote_backup")
def test_the_datacenter_host_has_no_python(facts: Facts) -> None:
    """What the sealed copy's host cannot run cannot be turned against it (K-04)."""
    expect(facts["python"].lines, [], _("by hand: purge it, and whatever installed it"))
