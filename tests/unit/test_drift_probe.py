"""What of a host's answer is believed, and what is named as not verified."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from koseki_ops.drift.observe import policy, probe
from koseki_ops.drift.observe.items import COLUMNS, PART_OF, State, unpack
from koseki_ops.drift.observe.probe import MalformedError, assemble, parse
from koseki_ops.drift.observe.transport import Bounds, ask_all
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site

MARK = "@0123"
HASH = "a" * 64
FILES = (
    "f\t644\troot\troot\0\0/etc/hosts\0"
    "l\t777\troot\troot\0/dev/null\0/etc/systemd/system/x.target\0"
)
PARTS = {
    "host": "1795564800.5\n100.1 20\n-\n99999 999999 /\n9 9999 /srv\n900 1000 /mnt\n",
    "mark": "baseline 0123\n",
    "files": FILES,
    "hashes": f"{HASH}  /etc/hosts\0",
    "secrets": "",
    "flags": "i /etc/hosts\n",
    "rights": "setuid\t4755\troot\troot\0/usr/bin/su\0/usr/bin/ping cap_net_raw=ep\n",
    "programs": "755\troot\troot\t10\t1.5\0/usr/bin/su\0",
    "packages": "dpkg\tamd64\t1\tii \nlibc6\tamd64\t2\tii \n"
    "libc6\ti386\t2\tii \nadduser\tall\t3\thi \n",
    "services": "ssh.service loaded active running OpenBSD\nx.service loaded activating start X\n",
    "accounts": "/etc/passwd:root:x:0:0:root:/root:/bin/bash\n/etc/group:root:x:0:b,a\n"
    "/etc/shadow:root:locked:99999:\n",
    "keys": "/root/.ssh/authorized_keys\trestrict ssh-ed25519 AAAA op@x\n",
    "mounts": "1 0 0:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
    "2 1 0:2 / /run rw - tmpfs t rw\n",
    "kernel": "/proc/sys/net/ipv4/ip_forward:0\n/proc/sys/kernel/sysrq:16\n",
    "firewall": "table inet koseki {\n\tchain input {\n\t\tpolicy drop;\n"
    "\t\tcounter\n\t\tcounter\n\t}\n}\n",
    "sockets": 'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=7,fd=3))\n'
    'udp UNCONN 0 0 0.0.0.0:45000 0.0.0.0:* users:(("chronyd",pid=8,fd=3))\n'
    "/proc/7/exe /usr/sbin/sshd\n",
    "certificates": "file /etc/x.crt\nno certificate\n",
    "etcd": "1, started, primary1, https://a:2380, https://a:2379, false\n",
    "database": json.dumps(
        {"setting": [["work_mem", "8MB", "false"], ["primary_conninfo", "x", "false"]]}
    )
    + "\n"
    + json.dumps({"leads": True, "lag": 5, "replicas": 1})
    + "\n",
    "status": "",
    "cost": "0m0.01s 0m0.02s\n0m0.30s 0m0.10s\n2048\n",
}


def answer(codes: dict[str, int] | None = None, **parts: str) -> bytes:
    """Return a whole answer of the probe, with some parts or exit codes other than usual."""
    text = ""
    for name, content in {**PARTS, **parts}.items():
        code = (codes or {}).get(name, 0)
        text += f"{MARK} begin {name}\n{content}\n{MARK} end {name} {code}\n"
    return f"{text}{MARK} whole\n".encode()


def said(**parts: str) -> State:
    """Return what is read from an answer."""
    return parse(answer(None, **parts), b"", MARK)


def row(state: State, kind: str, name: str) -> dict[str, str]:
    """Return one item's fields."""
    return unpack(kind, state.items[kind][name])


def test_a_whole_answer_is_read_part_by_part() -> None:
    """Each kind of item is there with its fields; nothing is named as missing."""
    state = said()
    assert state.failed == {}
    assert row(state, "file", "/etc/hosts") == {
        "type": "f", "mode": "644", "owner": "root", "group": "root", "content": HASH, "flags": "i"
    }  # fmt: skip
    assert row(state, "service", "x.target") == {"enabled": "masked", "active": "inactive"}
    assert set(state.items["package"]) == {"dpkg", "libc6", "libc6:i386", "adduser"}
    assert row(state, "setuid", "/usr/bin/su")["mode"] == "4755"
    assert row(state, "capability", "/usr/bin/ping") == {"capabilities": "cap_net_raw=ep"}
    assert row(state, "user", "root")["password"] == "locked"
    assert row(state, "group", "root")["members"] == "a,b"
    assert set(state.items["mount"]) == {"/"}
    assert row(state, "socket", "tcp 0.0.0.0:22") == {"program": "/usr/sbin/sshd"}
    assert set(state.items["setting"]) == {"work_mem"}
    assert len(state.items["firewall rule"]) == 4  # the chain, its policy, twice a counter
    assert state.measures["replication_lag_bytes"] == 5
    assert state.full == {"/srv": 9}
    assert state.cpu_seconds == pytest.approx(0.43)
    (key,) = state.items["key"]
    assert key.startswith("/root/.ssh/authorized_keys: SHA256:")
    assert key.endswith("op@x")


@pytest.mark.parametrize(
    ("content", "marks"),
    [
        ("ground 01\nservices 02\n", {"baseline": "01", "services": "02"}),
        ("ground 01\nbaseline 03\n", {"baseline": "03"}),
    ],
)
def test_a_mark_by_an_engines_former_name_counts(content: str, marks: dict[str, str]) -> None:
    """A host whose last apply was an older toolkit's says `ground`; a newer mark beside it wins."""
    assert said(mark=content).marks == marks


def test_every_kind_has_a_part_and_every_part_a_reader() -> None:
    """No kind of item can be forgotten when a part of an answer is missing."""
    assert set(PART_OF) == set(COLUMNS)
    assert set(PART_OF.values()) <= set(probe.READERS)
    assert set(PARTS) == set(probe.READERS)


def test_what_an_open_request_grants_is_no_drift() -> None:
    """A membership that the database names as granted is left out; any other stands (K-05)."""
    granted, stray = (
        f"operator_sousa01 in koseki_{t}_read by postgres" for t in ("oshika", "iida")
    )
    wide = "operator_sousa01 in koseki_application by postgres"
    rows: list[dict[str, Any]] = [
        {"membership": [[name, "inherit"] for name in (granted, stray, wide)]}
    ]
    rows += [{"granted": [granted, wide]}, {"granted": None}]
    content = "".join(f"{json.dumps(row)}\n" for row in rows)
    assert set(said(database=content).items["membership"]) == {stray, wide}


def test_a_clients_port_is_another_each_time() -> None:
    """Of an open UDP port that the kernel chose only the program counts."""
    assert "udp any port of chronyd" in said().items["socket"]


def test_a_container_answers_for_its_network_alone() -> None:
    """Kernel parameters of a container are its host's: not verified, and counted as such."""
    host = PARTS["host"].replace("-", "systemd-nspawn")
    contained, whole = said(host=host), said()
    assert set(contained.items["kernel parameter"]) == {"net.ipv4.ip_forward"}
    assert contained.not_applicable == 1
    assert len(whole.items["kernel parameter"]) == 2
    assert whole.not_applicable == 0


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("hashes", f"{'Z' * 64}  /etc/hosts\0"),
        ("hashes", "abc  /etc/hosts\0"),
        ("hashes", f"{HASH}  /etc/hosts"),
        ("files", "f\t644\troot\0\0/etc/hosts\0"),
        ("files", "f\twrong\troot\troot\0\0/etc/hosts\0"),
        ("files", "f\t644\troot\troot\0/etc/hosts\0"),
        ("packages", "one word\n"),
        ("accounts", "root:x:0:0\n"),
        ("accounts", "/etc/passwd:root:x\n"),
        ("rights", "setuid\t4755\troot\troot\0"),
        ("rights", "not a capability\n"),
        ("programs", "755\troot\n"),
        ("services", "x\n"),
        ("sockets", "tcp\n"),
        ("mounts", "nothing\n"),
        ("etcd", "Error: context deadline exceeded\n"),
        ("database", "{not json\n"),
        ("database", "[1]\n"),
        ("host", "noon\n"),
        ("cost", "\n"),
        ("status", "{}"),
    ],
)
def test_a_part_that_lies_about_its_form_is_not_verified(part: str, content: str) -> None:
    """A malformed line takes its part out of the comparison, by name; the others stand."""
    state = said(**{part: content})
    assert set(state.failed) <= {part, "files"}
    named = "files" if PART_OF.get("file") == "files" and part == "hashes" else part
    assert "malformed" in state.failed[named]
    assert state.items["user" if part != "accounts" else "package"]


@pytest.mark.parametrize("part", ["hashes", "secrets", "flags", "files", "database", "firewall"])
def test_a_part_that_failed_on_the_host_is_not_verified(part: str) -> None:
    """Exit codes are looked at, and the first complaint is the reason."""
    errors = f"{MARK} begin {part}\nno such thing\nmore\n".encode()
    state = parse(answer({part: 1}), errors, MARK)
    assert "no such thing" in state.failed["files" if part in probe.FILE_PARTS else part]
    if part in probe.FILE_PARTS:
        assert "file" not in state.items


def test_a_part_that_is_missing_is_not_verified() -> None:
    """A probe that does not answer everything cannot make the rest look good."""
    whole = answer()
    text = whole.decode()
    start, end = text.index(f"{MARK} begin sockets"), text.index(f"{MARK} begin certificates")
    state = parse((text[:start] + text[end:]).encode(), b"", MARK)
    assert state.failed == {"sockets": "it is missing in the answer"}


@pytest.mark.parametrize("cut", [0, 1, 100, 1000, -1])
def test_an_answer_that_was_cut_off_is_none(cut: int) -> None:
    """Wherever it ends, an answer without its end is no answer."""
    with pytest.raises(MalformedError):
        parse(answer()[:cut], b"", MARK)


def test_no_name_of_a_file_can_end_a_part() -> None:
    """The mark is new in each probe and known to root on the host alone."""
    one, other = assemble("00"), assemble("00")
    assert one.mark != other.mark
    assert len(one.mark) > 30
    state = said(files=FILES + "f\t644\troot\troot\0\0/etc/@0 whole\n@9 end files 0\n\0")
    assert "/etc/@0 whole\n@9 end files 0\n" in state.items["file"]


def test_the_key_of_secrets_is_in_the_program_alone() -> None:
    """It travels on standard input; no program gets it as an argument."""
    text = assemble("c0ffee").text
    assert text.count("c0ffee") == 1
    assert 'printf %s "$key"' in text  # a shell's own printf: no process, no argument list


def test_who_came_in_is_read_from_the_journal() -> None:
    """Name, place and time of each session; anything else in the journal is not."""
    said = (
        "1795563003.5 h sshd-session[1]: Accepted publickey for sousa01 from 10.0.0.5 port 1 ssh2\n"
        '1795563004.5 h sshd-session[1]: Accepted certificate ID "sousa01" (serial 1)\n'
    )
    assert probe.sessions_in(said) == [(1795563003.5, "sousa01 from 10.0.0.5")]


def test_every_parameter_of_the_plan_is_swept() -> None:
    """A parameter that the plan sets and no sweep looks at could change unseen."""
    plan = Inventory(Site.open().inventory).shared["kernel_parameters"]
    single = {name.replace(".", "/") for name in plan if "*" not in name}
    assert single
    assert single <= set(policy.KERNEL)


def test_what_is_left_out_has_a_reason() -> None:
    """Whoever adds an exception says why."""
    for reasons in (policy.PRUNED, policy.VOLATILE):
        assert all(len(reason) > 10 for reason in reasons.values())


def test_a_unit_is_enabled_by_links_alone() -> None:
    """Where it is wanted, or masked; any other link of systemd's stays a file of its own."""
    links = {
        "multi-user.target.wants/ssh.service": "/usr/lib/systemd/system/ssh.service",
        "graphical.target.requires/ssh.service": "/usr/lib/systemd/system/ssh.service",
        "dbus-org.service": "/usr/lib/systemd/system/other.service",
    }
    rows = "".join(
        f"l\t777\troot\troot\0{target}\0/etc/systemd/system/{name}\0"
        for name, target in links.items()
    )
    state = said(files=FILES + rows)
    enabled = row(state, "service", "ssh.service")
    assert enabled["enabled"] == "graphical.target.requires,multi-user.target.wants"
    assert enabled["active"] == "active"
    assert set(state.items["unit"]) == {"/etc/systemd/system/dbus-org.service"}


def test_a_service_on_its_way_is_not_active() -> None:
    """One that starts again and again has failed; what is not there at rest is nothing."""
    state = said(
        services="a.service loaded activating auto-restart-queued A\n\n"
        "b.service loaded deactivating stop B\n"
        "c.service not-found inactive dead C\n"
        "d.service not-found failed failed D\n"
        "e.service loaded inactive dead E\n"
    )
    services = {name: unpack("service", text) for name, text in state.items["service"].items()}
    assert services["a.service"]["active"] == "failing"
    assert services["d.service"]["active"] == "failed"
    assert not {"b.service", "c.service", "e.service"} & set(services)
    assert state.measures["_state b.service"] == 1.0
    assert state.measures["_state e.service"] == 0.0


def test_a_password_without_an_account_is_nobodys() -> None:
    """And a key that is none, as a comment is not, is known by the hash of its line."""
    state = said(
        accounts=f"{PARTS['accounts']}/etc/shadow:ghost:set:1:\n\n",
        keys="/root/.ssh/authorized_keys\tno key at all\n\n",
    )
    assert set(state.items["user"]) == {"root"}
    (key,) = state.items["key"]
    assert re.fullmatch("/root/.ssh/authorized_keys: [0-9a-f]{16}", key)


def test_blank_lines_are_no_items() -> None:
    """A program may end its answer with one."""
    plain = said()
    parts = ("packages", "mounts", "kernel", "sockets", "etcd", "database")
    blank = said(**{part: f"\n{PARTS[part]}\n" for part in parts})
    assert blank.failed == {}
    assert blank.items == plain.items


def test_what_packets_fill_is_no_rule() -> None:
    """The elements of a dynamic set come and go; those of any other are the plan's."""
    table = (
        "table inet koseki {\n\tset seen {\n\t\ttype ipv4_addr\n\t\tflags dynamic,timeout\n"
        "\t\telements = { 10.0.0.1 expires 5s,\n\t\t\t     10.0.0.2 expires 9s }\n\t}\n"
        "\tset known {\n\t\ttype ipv4_addr\n\t\telements = { 10.9.9.9 }\n\t}\n}\n"
    )
    rules = said(firewall=table).items["firewall rule"]
    assert not [name for name in rules if "10.0.0." in name]
    assert [name for name in rules if "10.9.9.9" in name] == [
        "table inet koseki set known: elements = { 10.9.9.9 }"
    ]


def test_an_etcd_member_that_has_not_started_is_measured() -> None:
    """It has no name yet: it goes by its peers' address."""
    content = PARTS["etcd"] + "2, unstarted, , https://b:2380, , false\nabsent\n"
    state = said(etcd=content)
    assert set(state.items["etcd member"]) == {"primary1", "https://b:2380"}
    assert state.measures["etcd_members_not_started"] == 1.0
    assert "etcd_members_not_started" not in said().measures


def test_patronis_configuration_is_read_leaf_by_leaf() -> None:
    """And the order of the rules of admission counts, since the first that fits decides."""
    rows = [
        {"patroni": {"ttl": 30, "postgresql": {"parameters": {"work_mem": "8MB"}}}},
        {"hba": [["local all"], ["host all"]]},
        {"leads": False, "lag": None},
    ]
    content = "absent\n" + "".join(f"{json.dumps(row)}\n" for row in rows)
    state = said(database=content)
    assert set(state.items["patroni"]) == {"ttl", "postgresql.parameters.work_mem"}
    assert "replication_lag_bytes" not in state.measures
    assert state.leads is False
    rows[1] = {"hba": [["host all"], ["local all"]]}
    other = said(database="".join(f"{json.dumps(row)}\n" for row in rows))
    assert state.items["hba"] == other.items["hba"]
    assert state.items["hba order"] != other.items["hba order"]


def test_the_vaults_are_as_far_behind_as_the_one_that_is_furthest() -> None:
    """The oldest of their newest backups, the longest lag; a vault without a backup has neither."""
    status = {
        "repositories": {
            "1": {"newest_backup": 200, "lag_minutes": 0.5},
            "2": {"newest_backup": 100, "lag_minutes": 3},
            "3": {"newest_backup": None, "lag_minutes": 1},
        }
    }
    state = said(status=json.dumps(status))
    assert state.measures["newest_backup_at"] == 100.0
    assert state.measures["vault_lag_minutes"] == 3.0
    without = said(status='{"repositories": {}}')
    assert not {"newest_backup_at", "vault_lag_minutes"} & set(without.measures)
    alone = said(status='{"repositories": {"1": {"newest_backup": null, "lag_minutes": 1}}}')
    assert "newest_backup_at" not in alone.measures


def test_a_part_without_its_end_is_no_answer() -> None:
    """Two parts that ran into each other could hide one."""
    text = answer().decode().replace(f"{MARK} end services 0", f"{MARK} end services x")
    with pytest.raises(MalformedError, match="part 'services' has no end"):
        parse(text.encode(), b"", MARK)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site whose `ssh` is a shell on this machine that runs what its host is called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text('#!/bin/sh\ncase $3 in\n'
        'hangs) echo begun; exec sleep 60 ;;\n'
        'floods) exec cat /dev/zero ;;\n'
        'complains) head -c 3000000 /dev/zero >&2; echo fine ;;\n'
        'refuses) echo "Connection refused" >&2; exit 255 ;;\n'
        'deaf) exec 0<&-; echo fine ;;\n'
        'lingers) echo fine; exec >&- sleep 60 ;;\n'
        'strange) echo "Host key verification failed." >&2; exit 255 ;;\n'
        '*) cat >/dev/null; echo fine ;;\nesac\n')  # fmt: skip
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    assert shutil.which("ssh") == str(ssh)
    return Site(tmp_path, "lab", "lab")


def test_no_host_holds_up_the_others(site: Site) -> None:
    """One hangs, one floods, one is not heard: each is named, and the others are read."""
    hosts = ("hangs", "floods", "complains", "refuses", "deaf", "lingers", "strange", "good")
    started = time.monotonic()
    bounds = Bounds(seconds=3, answer=8 << 20)
    replies = ask_all(site, dict.fromkeys(hosts, "x" * 300_000), bounds)
    assert time.monotonic() - started < 10
    assert replies["good"].out == b"fine\n"
    assert not replies["good"].unreachable_reason
    assert replies["deaf"].out == replies["complains"].out == b"fine\n"
    assert replies["hangs"].unreachable_reason == "no whole answer within 3 s"
    assert replies["floods"].unreachable_reason == "it sent more than 8 MiB: cut off"
    assert len(replies["floods"].out) < 10 << 20
    assert len(replies["complains"].err) <= 256 << 10
    assert replies["lingers"].unreachable_reason == "its answer ended, but its program did not"
    assert replies["refuses"].unreachable_reason == "Connection refused"
    assert replies["strange"].unreachable_reason == "it shows another host key than its own"


def test_a_forgotten_probe_ends_after_the_patience_for_it() -> None:
    """The host waits for whoever asks, however long that one is told to wait."""
    for seconds in (30.0, 600.0):
        words = Bounds(seconds=seconds).command(Site.open())
        assert float(words[words.index("timeout") + 1]) > seconds
