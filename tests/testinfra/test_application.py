"""Application: one signed release, an instance a municipality that reaches its own alone (K-08)."""

from __future__ import annotations

import json
import re

from koseki_ops.core.language import _
from koseki_ops.plan.model import Municipality
from koseki_ops.verify.expect import check, expect
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Facts, Questions, on_hosts

# What systemd-analyze may count against a unit, of 10.
EXPOSURE = 2.0
GATEWAY_GROUP = "www-data"
SOCKETS = "/run/koseki/application"
KEYS = "/etc/koseki/municipalities"

# Who works in a release's folder, and in which; a child of such a process is not an instance.
PROCESSES = """
for process in /proc/[0-9]*; do
    folder=$(readlink "$process/cwd") || continue
    case $folder in /opt/koseki/releases/*) ;; *) continue ;; esac
    [ "$(sed -n 's/^PPid:\\t//p' "$process/status")" = 1 ] || continue
    echo "$(stat -c %U "$process") ${folder##*/} $(ls -x "$process/root/etc/koseki/municipalities")"
done 2>/dev/null
"""
# Every municipality's account connects to every other's socket and reaches for its key.
ATTEMPTS = """
python3 - <<'PYTHON'
import errno, json, os, pwd, socket
slugs = json.loads('{slugs}')
for source in slugs:
    account = pwd.getpwnam("koseki-" + source)
    if os.fork() == 0:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        for target in slugs:
            said = []
            try:
                socket.socket(socket.AF_UNIX).connect("{sockets}/" + target + ".sock")
                said.append("inside")
            except OSError as error:
                said.append(errno.errorcode[error.errno])
            try:
                open("{keys}/" + target + "/client.key").close()
                said.append("read")
            except OSError as error:
                said.append(errno.errorcode[error.errno])
            print(source, target, *said, flush=True)
        os._exit(0)
    os.wait()
PYTHON
"""


def questions(plan: Plan, host: str) -> Questions:
    """Ask the application's hosts for release, instances, sockets and exposure."""
    if not plan.is_in(host, "application"):
        return {}
    slugs = [municipality.slug for municipality in plan.joined]
    units = " ".join(f"koseki-application@{slug}.service" for slug in slugs)
    return {
        "status": "koseki-release status",
        "audit": "koseki-release audit",
        "processes": PROCESSES,
        "sockets": f"stat -c '%n %U %G %a' {SOCKETS}/*",
        "attempts": ATTEMPTS.format(slugs=json.dumps(slugs), sockets=SOCKETS, keys=KEYS),
        "security": f"systemd-analyze security --no-pager {units} | grep -F 'Overall exposure'",
        "folders": "find /opt/koseki -ignore_readdir_race ! -type l "
        "! '(' -user root -perm /022 -prune ')' '(' ! -user root -o -perm /022 ')'",
    }


def names(plan: Plan) -> list[str]:
    """Return the instances' names: one a municipality, one for each that another may issue for."""
    stand_ins = [f"takeover-{municipality.slug}" for municipality in plan.cut_off]
    return [*(municipality.slug for municipality in plan.joined), *stand_ins]


@on_hosts("application")
def test_every_byte_is_what_was_signed(plan: Plan, facts: Facts) -> None:
    """The signature of the kept archive holds, and what is unpacked is what it holds (K-08)."""
    seen = facts["audit"]
    check(seen.rc == 0, _("an archive with an allowed signature"), seen, facts.remedy)
    expect(
        seen.json["altered"],
        [],
        _("find out who changed these files; {remedy}").format(remedy=facts.remedy),
    )
    version = plan.platform.application_release.version
    expect((seen.json["current"], seen.json["signed"]), (version, version), facts.remedy)


@on_hosts("application")
def test_the_change_record_is_whole(facts: Facts) -> None:
    """Each row of the change record follows the one before; none was edited or lost (K-08)."""
    seen = facts["audit"].json["record"]
    check(
        seen is None,
        _("a record without a break"),
        _("row {seen}").format(seen=seen),
        _("run `journalctl -t koseki-release` on {host} and compare the record with it").format(
            host=facts.host
        ),
    )


@on_hosts("application")
def test_the_release_belongs_to_root(facts: Facts) -> None:
    """No instance can change the program that it, or its neighbour, runs (K-01)."""
    check(facts["folders"].rc == 0, _("a search that ended"), facts["folders"], facts.remedy)
    expect(facts["folders"].lines, [], facts.remedy)


@on_hosts("application")
def test_each_municipality_has_its_instance(plan: Plan, facts: Facts) -> None:
    """One process a municipality, as its own account, of the plan's version (K-01, K-08)."""
    seen = sorted(" ".join(line.split()[:2]) for line in facts["processes"].lines)
    version = plan.platform.application_release.version
    wanted = sorted(f"koseki-{name} {version}" for name in names(plan))
    expect(seen, wanted, facts.remedy, "koseki-application@*")


@on_hosts("application")
def test_each_instance_is_healthy(facts: Facts, municipality: Municipality) -> None:
    """It runs, comes back after a boot, and reaches its database with its schema (K-08)."""
    seen = facts["status"].json["instances"].get(municipality.slug, {"ails": "no such instance"})
    unit = f"koseki-application@{municipality.slug}"
    expect(seen["ails"], "", facts.remedy, unit)
    states = {name: seen[name] for name in ("active", "listening", "enabled")}
    expect(states, dict.fromkeys(states, True), facts.remedy, unit)


@on_hosts("application")
def test_no_instance_of_a_municipality_that_has_not_joined(plan: Plan, facts: Facts) -> None:
    """What is served is what has joined by the effective date (K-02)."""
    expect(set(facts["status"].json["instances"]), set(names(plan)), facts.remedy)


@on_hosts("application")
def test_each_socket_opens_for_the_gateway_only(plan: Plan, facts: Facts) -> None:
    """A municipality's socket is root's and the gateway's, nobody else's (K-01)."""
    wanted = {f"{SOCKETS}/{name}.sock root {GATEWAY_GROUP} 660" for name in names(plan)}
    expect(set(facts["sockets"].lines), wanted, facts.remedy)


@on_hosts("application")
def test_no_municipality_reaches_another(facts: Facts, pair: tuple[str, str]) -> None:
    """Neither another's socket nor its key: refused for lack of a right, not by chance (K-01)."""
    rows = {tuple(line.split()[:2]): line.split()[2:] for line in facts["attempts"].lines}
    expect(rows.get(pair, []), ["EACCES", "EACCES"], facts.remedy)


@on_hosts("application")
def test_each_instance_sees_its_own_keys_only(plan: Plan, facts: Facts) -> None:
    """Within its own view of the files there is one municipality (K-01)."""
    seen = {line.split()[0]: line.split()[2:] for line in facts["processes"].lines}
    expect(seen, {f"koseki-{name}": [name] for name in names(plan)}, facts.remedy)


@on_hosts("application")
def test_each_instance_is_locked_in(facts: Facts, municipality: Municipality) -> None:
    """systemd-analyze counts at most 2.0 of 10 against each instance (K-01)."""
    found = dict(re.findall(r"koseki-application@(\w+)\.service: ([\d.]+)", facts["security"].text))
    check(
        municipality.slug in found and float(found[municipality.slug]) <= EXPOSURE,
        _("an exposure of at most {exposure}").format(exposure=EXPOSURE),
        found.get(municipality.slug, facts["security"]),
        facts.remedy,
    )
