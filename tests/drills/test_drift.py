"""What a sweep says of a platform that is as it was applied, and of one that is not.

Drifts are seeded by generation (drifts.py), all at once, and each must be named right; an untouched
platform must show none, whatever its ordinary life brings; a host that misbehaves is named and does
not keep the others from being verified.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from drills import drifts
from drills.conftest import Platform, settled, wait_for
from drills.corelock import cores
from drills.ledger import LEDGER
from koseki_ops.drift.judge import manifest as manifests
from koseki_ops.drift.judge.manifest import Manifest
from koseki_ops.drift.model import Cause, Finding, Sweep, Verdict
from koseki_ops.plan.revision import inputs_of

EACH = 2
WATCH = "workstation1"
# Besides the drift itself: the folders it lies in, files that follow from a new account, a unit's
# own file beside its state.
CONSEQUENCES = (
    "/etc/subgid",
    "/etc/subuid",
    "/home/automation/.ssh",
    "/root/.ssh",
    "/etc/systemd/system/dbus.service.d",
    "/usr/lib/systemd/system/linked-",
    "/run/systemd/transient/door-",
    "/var/spool/cron",
    "/usr/bin/lent-",
    "/etc/cron.daily",
)
# A run may be red while the cluster still finds its new order; it must be green soon after.
UNTIL_WELL = """
    run=${unit%.timer}.service
    left=8
    until systemctl start "$run"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { journalctl --no-pager -o cat -n 80 -u "$run"; exit 1; }
        sleep 20
    done"""
MASTERLESS = ("-O", "exit")


def told(found: Sweep) -> list[str]:
    """Return the findings as lines, for a failed drill."""
    return [
        f"{f.host} {f.kind} {f.name} {f.place}: {f.cause} {f.why} {f.seen}" for f in found.findings
    ]


def manifests_of(platform: Platform) -> dict[str, Manifest]:
    """Return every host's manifest."""
    read = {host: manifests.read(platform.site, host) for host in platform.lab.inventory.hosts}
    return {host: manifest for host, manifest in read.items() if manifest is not None}


def forget_masters(platform: Platform, host: str) -> None:
    """End the shared connection to a host, so that the next sweep meets it anew."""
    argv = ["ssh", "-F", str(platform.site.ssh_config), *MASTERLESS, host]
    subprocess.run(argv, capture_output=True, check=False)


@pytest.fixture
def misbehaving(platform: Platform) -> Iterator[Platform]:
    """The platform, whose connections are forgotten before and after a host is changed."""
    yield platform
    for host in platform.lab.inventory.hosts:
        forget_masters(platform, host)


@pytest.mark.drill
def test_drift_says_where_it_comes_from(platform: Platform) -> None:
    """Changed on the host, not applied, from another commit; an apply mends what is its own."""
    host = "application1"
    role = platform.site.root / "roles/etcd/defaults/main.yml"
    original = role.read_bytes()
    platform.sh(host, "echo '# by hand' >>/etc/default/etcd; echo x >/etc/rogue.conf")

    def causes() -> dict[str, Cause]:
        return {f.name: f.cause for f in platform.sweep().findings if f.host == host}

    assert causes() == {
        "/etc/default/etcd": Cause.CHANGED_ON_HOST,
        "/etc/rogue.conf": Cause.UNMANAGED,
    }
    try:
        role.write_bytes(original + b"# another commit\n")
        assert causes()["inventory"] is Cause.NOT_APPLIED
        platform.sh(
            host,
            f"echo {inputs_of(platform.site).tree} >/var/lib/koseki/applied-services",
        )
        assert causes()["/etc/default/etcd"] is Cause.NOT_APPLIED
    finally:
        role.write_bytes(original)
    assert causes()["/etc/default/etcd"] is Cause.FOREIGN_COMMIT
    assert causes()["services"] is Cause.FOREIGN_COMMIT
    platform.koseki("apply", "--limit", host)
    # What was there before the apply and nobody declared is not blessed by it.
    assert causes() == {"/etc/rogue.conf": Cause.UNMANAGED}
    explained = platform.koseki("drift", "--limit", host, check=False)
    finding = next(f for f in platform.sweep().findings if f.name == "/etc/rogue.conf")
    assert finding.id in explained.stdout
    told = platform.koseki("drift", "--limit", host, "--explain", finding.id, check=False)
    assert "+x" in told.stdout
    assert "rm -- /etc/rogue.conf" in told.stdout
    platform.sh(host, "rm -- /etc/rogue.conf")


@pytest.mark.drill
@pytest.mark.leaves
def test_an_untouched_platform_shows_no_drift(platform: Platform) -> None:
    """After an apply all holds; so it does when the ordinary life of the hosts goes on.

    正 and 副 change places, journals rotate, package lists are fetched, timers' work is done.
    """
    assert set(manifests_of(platform)) == set(platform.lab.inventory.hosts)
    report = platform.report("drift")
    assert (report["drifted"], report["not_verified"], report["findings"]) == (0, 0, [])
    assert int(str(report["holds"])) > 10_000
    platform.koseki("switchover")
    for host in platform.lab.inventory.hosts:
        # The watch's own timers verify and sweep.
        with cores(2):
            LEDGER.counts.update({"verify": host == WATCH, "sweep": host == WATCH})
            platform.sh(
                host,
                "journalctl --rotate --quiet; journalctl --vacuum-size=1K --quiet\n"
                "systemctl start systemd-tmpfiles-clean.service apt-daily.service\n"
                "systemctl start dpkg-db-backup.service\n"
                "systemctl list-units --plain --no-legend 'koseki-*.timer' |"
                " while read -r unit rest\n"
                f"do {UNTIL_WELL}; done",
            )
    found = platform.sweep()
    drifted = [
        line
        for f, line in zip(found.findings, told(found), strict=True)
        if f.answer is Verdict.DRIFTED
    ]
    assert not drifted
    # A service that just restarts is looked at a second time.
    platform.sh("secondary1", "systemctl restart --no-block etcd.service")
    restarting = platform.sweep()
    assert not [f for f in restarting.findings if f.answer is Verdict.DRIFTED], told(restarting)
    settled(platform)
    assert not told(platform.sweep())


@pytest.mark.drill
@pytest.mark.leaves
def test_every_seeded_drift_is_found_and_named_right(platform: Platform) -> None:
    """Hundreds of drifts at once, more than a third of them things that nobody declared."""
    leader = platform.leader()
    assert leader
    planned = list(drifts.seeds(manifests_of(platform), leader, EACH))
    assert len(planned) >= 500
    assert sum(seed.cause is Cause.UNMANAGED for seed in planned) * 3 >= len(planned)
    for host in platform.lab.inventory.hosts:
        own = [seed for seed in planned if seed.host == host]
        platform.sh(host, drifts.script_of(own))

    def replayed() -> bool:
        lag = platform.sweep().hosts[0].measures.get("replication_lag_bytes")
        return lag is None or lag == 0

    wait_for(replayed, "the replica has what was seeded on the leader")
    found = platform.sweep()
    missed = [seed for seed in planned if not any(map(seed.is_named_by, found.findings))]
    assert not missed
    # Nothing is named that was not seeded, nor said to be unverified.
    assert not [told_one(f) for f in found.findings if not expected(f, planned)]
    assert all(finding.repair for finding in found.findings)
    assert "# seeded" not in "".join(f.diff for f in found.findings if "pgbackrest.conf" in f.name)


def told_one(finding: Finding) -> str:
    """Return a finding as a line."""
    return f"{finding.host} {finding.kind} {finding.name} {finding.place} {finding.seen}"


def expected(finding: Finding, planned: list[drifts.Seed]) -> bool:
    """Say whether a finding is a seeded drift's, or follows from one."""
    return finding.name.startswith(CONSEQUENCES) or any(s.is_named_by(finding) for s in planned)


MISCHIEF = {
    # The account's own shell is what sshd starts: whoever answers like that is no probe.
    "hangs": "echo begun; exec sleep 600",
    "floods": "exec cat /dev/zero",
    "babbles": 'while read -r line; do echo "$line"; done | head -c 200000',
    "lies": r"sh -s <<'end'" + "\nprintf '%s begin host\\nx\\n%s whole\\n'\nend",
    "refuses": "echo 'no' >&2; exit 3",
}


@pytest.mark.drill
@pytest.mark.leaves
def test_a_host_that_misbehaves_is_named_and_the_others_finish(misbehaving: Platform) -> None:
    """Each host in its own way at once, then another key, a wrong clock, a full disk."""
    platform = misbehaving
    inventory = platform.lab.inventory
    hosts = [*inventory.hosts_in("city"), *inventory.hosts_in("remote_backup")]
    for host, script in zip(hosts, MISCHIEF.values(), strict=True):
        shell = f"#!/bin/sh\n{script}\n"
        platform.sh(
            host,
            f"cat >/usr/local/bin/mischief <<'end_of_shell'\n{shell}end_of_shell\n"
            "chmod 755 /usr/local/bin/mischief; usermod --shell /usr/local/bin/mischief automation",
        )
        forget_masters(platform, host)
    done = platform.koseki("drift", "--wait", "8", check=False)
    assert done.returncode == 2, done.stdout
    for said in ("no whole answer within 8 s", "sent more than", "malformed answer", "exit 3"):
        assert said in done.stdout
    assert "Traceback" not in done.stderr
    for host in hosts:
        platform.sh(host, "usermod --shell /bin/bash automation; rm /usr/local/bin/mischief")
        forget_masters(platform, host)

    strange, late, full, tampered, good = hosts
    platform.sh(
        strange,
        "cd /etc/ssh && rm ssh_host_*key* && "
        "ssh-keygen -q -t ed25519 -N '' -f ssh_host_ed25519_key && "
        "sed -i /HostCertificate/d sshd_config.d/10-koseki.conf && systemctl restart ssh",
    )
    forget_masters(platform, strange)
    platform.sh(
        late,
        "mv /usr/bin/date /usr/bin/date.real && printf '#!/bin/sh\\nexec /usr/bin/date.real -d "
        '"-1 hour" "$@"\\n\' >/usr/bin/date && chmod 755 /usr/bin/date',
    )
    platform.sh(
        full,
        "mkdir /mnt/full && mount -t tmpfs -o nosuid,size=64k none /mnt/full; "
        "cat /dev/zero >/mnt/full/x 2>/dev/null; test -s /mnt/full/x",
    )
    path = manifests.path_of(platform.site, tampered)
    kept = path.read_bytes()
    path.write_bytes(kept.replace(b"root", b"toor", 1))
    try:
        found = platform.sweep()
    finally:
        path.write_bytes(kept)
    why = {f.host: f.why for f in found.findings if f.answer is Verdict.NOT_VERIFIED}
    assert why[strange].startswith("it shows another host key than its own")
    assert "s behind" in why[late]
    assert "KiB are left" in why[full]
    assert "was changed" in why[tampered]
    assert good not in why
    assert not [f for f in found.findings if f.host == good]
