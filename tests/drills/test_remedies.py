"""What a red question says to do is done, as it stands and where it says: the question is green.

Which command of which remedy is run by which drill is a table, `remedies.yml`.
"""

from __future__ import annotations

import json
import re

import pytest

from drills.conftest import Platform
from koseki_ops.verify.runner import Reports

WITNESS = "application1"
SUITES = ("etcd", "kernel", "locks", "packages", "replication")
LOOSE = "/srv/drilled"
ON_A_HOST = re.compile(r"`([^`]+)` on ([a-z0-9-]+)")
# Writes one key again and again until etcd takes no more: what fills it is history.
FILL = """
set -eu
. /etc/default/etcd
ctl() {
    etcdctl --endpoints="$ETCD_ADVERTISE_CLIENT_URLS" --cacert="$ETCDCTL_CACERT" \\
        --cert="$ETCDCTL_CERT" --key="$ETCDCTL_KEY" "$@"
}
head -c 900000 /dev/urandom | base64 -w 0 >/run/junk
until ctl put /drill/junk </run/junk >/run/junk.said 2>&1; [ "$(ctl alarm list)" ]; do :; done
rm /run/junk /run/junk.said
"""


def advised(platform: Platform) -> list[tuple[str, str]]:
    """Return each command of the last verification's remedies with the host that it names."""
    results = json.loads(Reports.of(platform.site).results.read_text(encoding="utf-8"))
    failed = [test for test in results["tests"] if test["outcome"] == "failed"]
    found = [pair for test in failed for pair in ON_A_HOST.findall(test["remedy"])]
    known = platform.lab.inventory.hosts
    return list(dict.fromkeys((command, host) for command, host in found if host in known))


@pytest.mark.drill
def test_what_is_advised_mends_it(platform: Platform) -> None:
    """All at once, each with the command that its red question names.

    A store that is full, a cluster that does not act, a shell without a login, a package that is
    held, a file that everybody may write.
    """
    leader = platform.leader()
    assert leader is not None
    platform.sh(leader, "patronictl -c /etc/patroni/config.yml pause --wait")
    platform.sh(WITNESS, FILL)
    platform.sh("registry-link1", "systemctl enable debug-shell.service; apt-mark hold nano")
    platform.sh("registry-link1", f"echo x >{LOOSE}; chmod 666 {LOOSE}")
    assert platform.koseki("verify", *SUITES, check=False).returncode == 1
    told = advised(platform)
    wanted = {"koseki-etcd-compact", "patronictl", "systemctl", "apt-mark", "chmod"}
    rows = [(command, host) for command, host in told if command.split()[0] in wanted]
    assert {command.split()[0] for command, _ in rows} == wanted, told
    for command, host in rows:
        # Advised for each member; where the first one's has done it, another's has nothing to do.
        platform.sh(host, command, check=False)
    platform.sh("registry-link1", f"rm {LOOSE}")
    platform.green(*SUITES)
