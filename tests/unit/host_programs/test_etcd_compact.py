"""Room in etcd's store is made in one command, and nothing is done where that is not the fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

PROGRAM = (
    Path(__file__).parents[3] / "host_programs/koseki_etcd_compact/sbin/koseki-etcd-compact"
).resolve()
MEMBERS = ("https://192.0.2.1:2379", "https://192.0.2.2:2379", "https://192.0.2.3:2379")
QUOTA = 1000
# Says what a member of the file `state` would, and writes down what it was asked.
ETCDCTL = """#!{python}
import json, pathlib, sys
state = json.loads(pathlib.Path({state!r}).read_text())
options = [word for word in sys.argv[1:] if word.startswith("--")]
words = [word for word in sys.argv[1:] if not word.startswith("--") and word not in ("-w", "json")]
url = next(word for word in options if word.startswith("--endpoints=")).partition("=")[2]
with pathlib.Path({calls!r}).open("a") as file:
    file.write(json.dumps([url, *words]) + "\\n")
name = " ".join(words[:2])
if name in state["refuses"]:
    print('{{"level":"warn","msg":"retrying"}}', file=sys.stderr)
    print("Error: " + state["refuses"][name], file=sys.stderr)
    sys.exit(1)
members = state["members"]
if name == "member list":
    print(json.dumps({{"members": [
        {{"name": f"m{{n}}", "clientURLs": [each]}} for n, each in enumerate(members)]}}))
elif name == "endpoint status":
    n = members.index(url)
    done = [json.loads(line) for line in pathlib.Path({calls!r}).read_text().splitlines()]
    size = state["keys"] if [url, "defrag"] in done else state["size"]
    header = {{"revision": 7 + n, "member_id": n}}
    print(json.dumps([{{"Status": {{"header": header, "leader": 0, "dbSize": size}}}}]))
elif name == "alarm list":
    print(state["alarms"])
elif words[0] == "get":
    print("/junk/a/1\\n\\n/junk/a/2\\n\\n/koseki/x/leader\\n")
"""


class Cluster:
    """A member's host: settings, and an etcdctl that answers from a file."""

    def __init__(self, folder: Path) -> None:
        """Begin with a store that history has filled."""
        self.calls, self.state = folder / "calls", folder / "state"
        self.told: dict[str, Any] = {
            "members": MEMBERS,
            "size": QUOTA,
            "keys": 50,
            "alarms": "",
            "refuses": {},
        }
        program = folder / "etcdctl"
        program.write_text(
            ETCDCTL.format(python=sys.executable, state=str(self.state), calls=str(self.calls))
        )
        program.chmod(0o755)
        self.settings = folder / "etcd"
        self.settings.write_text(
            "# settings\n"
            f"ETCD_ADVERTISE_CLIENT_URLS={MEMBERS[1]}\nETCD_QUOTA_BACKEND_BYTES={QUOTA}\n"
            "ETCDCTL_CACERT=/ca\nETCDCTL_CERT=/crt\nETCDCTL_KEY=/key\n"
        )
        self.path = f"{folder}:{os.environ['PATH']}"

    def run(self, **told: object) -> subprocess.CompletedProcess[str]:
        """Run the program there."""
        self.state.write_text(json.dumps({**self.told, **told}))
        self.calls.write_text("")
        return program([str(self.settings)], self.path)

    @property
    def changes(self) -> list[list[str]]:
        """What was asked of whom that changes something."""
        rows = [json.loads(line) for line in self.calls.read_text().splitlines()]
        return [row for row in rows if row[1] in {"compact", "defrag"} or row[1:3] == DISARM]


DISARM = ["alarm", "disarm"]


def program(words: Sequence[str], path: str, uid: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the program as whoever has this number, as far as it can tell."""
    code = (
        f"import os; os.geteuid = lambda: {uid}; import runpy, sys; sys.argv[0] = {str(PROGRAM)!r}"
    )
    code += f"; runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Three members, the first leads, the second is this host."""
    return Cluster(tmp_path)


def test_history_goes_everywhere_and_the_alarm_last(cluster: Cluster) -> None:
    """One member after the other, the leader last; keys stay."""
    done = cluster.run()
    assert (done.returncode, done.stderr) == (0, "")
    own, leader, other = MEMBERS[1], MEMBERS[0], MEMBERS[2]
    defrags = [[own, "defrag"], [other, "defrag"], [leader, "defrag"]]
    assert cluster.changes == [[own, "compact", "9"], *defrags, [own, *DISARM]]
    assert done.stdout.splitlines()[-1] == "there is room on all 3 members, and no alarm"


def test_who_compacted_before_us_is_no_failure(cluster: Cluster) -> None:
    """Twice at once, or again: the same end."""
    said = "etcdserver: mvcc: required revision has been compacted"
    assert cluster.run(refuses={"compact 9": said}).returncode == 0
    assert cluster.changes[-1][1:] == DISARM


def test_other_data_on_a_member_is_left_as_it_is(cluster: Cluster) -> None:
    """CORRUPT is no lack of room: disarmed, nobody would ever know."""
    done = cluster.run(alarms="memberID:2 alarm:CORRUPT")
    assert done.returncode == 1
    assert "docs/remedies.md" in done.stderr
    assert cluster.changes == []


def test_keys_that_fill_it_are_named(cluster: Cluster) -> None:
    """Compaction does not help: whose they are is said."""
    done = cluster.run(keys=QUOTA)
    assert done.returncode == 1
    assert "/junk/a (2), /koseki/x (1)" in done.stderr


def test_an_alarm_that_comes_back_is_told(cluster: Cluster) -> None:
    """Somebody writes on."""
    done = cluster.run(alarms="memberID:2 alarm:NOSPACE")
    assert done.returncode == 1
    assert "alarm:NOSPACE was raised again" in done.stderr


@pytest.mark.parametrize("name", ["member list", "endpoint status", "compact 9", "defrag"])
def test_the_reason_is_etcds_own(cluster: Cluster, name: str) -> None:
    """Whoever refuses is named with his words, and nothing follows."""
    done = cluster.run(refuses={name: "context deadline exceeded"})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "192.0.2" in done.stderr
    assert "context deadline exceeded" in done.stderr
    assert DISARM not in [row[1:] for row in cluster.changes]


def test_in_other_hands_or_elsewhere_it_refuses(cluster: Cluster, tmp_path: Path) -> None:
    """An operator, a host that is no member, a host without etcdctl: one sentence, exit 2."""
    for done, said in (
        (program([str(cluster.settings)], cluster.path, uid=1000), "sudo koseki-etcd-compact"),
        (program([str(tmp_path / "nowhere")], cluster.path), "no member of etcd"),
        (program([str(cluster.settings)], str(tmp_path / "empty")), "etcdctl is missing"),
    ):
        assert done.returncode == 2
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
