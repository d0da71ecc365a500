"""Keys: each process reads its own and no other's (K-01, K-08).

For every process of a service its own view of the files is entered, and each key of the host is
held against its account and its powers there. `process_keys.yml` says what it may read, and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypedDict

import yaml

from koseki_ops.core.language import _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.verify.expect import check, expect
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Facts, Questions, on_hosts


class Row(TypedDict):
    """Which units may read which keys, as patterns, and why."""

    units: list[str]
    keys: list[str]
    why: str


Table = Sequence[Row]
TABLE = Path(__file__).with_name("process_keys.yml")
PLACES = "/etc /root /home /var/lib /opt /srv/koseki"
NOT_OURS = " ".join(
    f"--exclude-dir={name}" for name in ("certs", "ca-certificates", "pg_wal", "base", "member")
)
# A process's view is entered by a child of its own; whether it reads a file is reckoned from owner,
# group and mode of the file and the folders above it, or from root's powers over them.
READERS = f"""
grep -rIlsE {NOT_OURS} 'BEGIN ([A-Z]+ )*PRIVATE KEY' {PLACES} | python3 -c '
import json, os, re, sys

FILES = [line.rstrip("\\n") for line in sys.stdin]
HOST = {{path: os.stat(path) for path in FILES}}
DAC = 0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH

def may(state, uid, groups, bit):
    shift = 6 if state.st_uid == uid else 3 if state.st_gid in groups else 0
    return bool(state.st_mode >> shift & bit)

def reads(path, uid, groups, powers):
    try:
        state = os.stat(path)
        if (state.st_dev, state.st_ino) != (HOST[path].st_dev, HOST[path].st_ino):
            return False
        if powers & DAC:
            return True
        folder = os.path.dirname(path)
        while True:
            if not may(os.stat(folder), uid, groups, 1):
                return False
            if folder == "/":
                break
            folder = os.path.dirname(folder)
        return may(state, uid, groups, 4)
    except OSError:
        return False

seen = {{}}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if not os.readlink(f"/proc/{{pid}}/exe"):
            continue
        unit = open(f"/proc/{{pid}}/cgroup").read().strip().rsplit("/", 1)[-1]
        told = open(f"/proc/{{pid}}/status").read()
        space = os.stat(f"/proc/{{pid}}/ns/mnt").st_ino
    except OSError:
        continue
    field = lambda name: re.search(f"^{{name}}:[ \\t]*(.*)$", told, re.M).group(1).split()
    uid, gid, powers = int(field("Uid")[1]), int(field("Gid")[1]), int(field("CapEff")[0], 16)
    groups = frozenset([gid, *map(int, field("Groups"))])
    seen.setdefault((unit, uid, groups, powers, space), pid)
found = {{}}
for (unit, uid, groups, powers, _), pid in seen.items():
    out, into = os.pipe()
    if os.fork() == 0:
        os.setns(os.open(f"/proc/{{pid}}/ns/mnt", os.O_RDONLY), os.CLONE_NEWNS)
        read = [path for path in FILES if reads(path, uid, groups, powers)]
        os.write(into, json.dumps(read).encode())
        os._exit(0)
    os.close(into)
    with open(out) as said:
        found.setdefault(unit, set()).update(json.loads(said.read() or "[]"))
    os.wait()
print(json.dumps({{"keys": FILES, "readers": {{u: sorted(k) for u, k in found.items() if k}}}}))
'
"""


def questions(plan: Plan, host: str) -> Questions:
    """Ask which process of a host could read which key."""
    del plan
    return {} if host == WORKSTATION else {"readers": READERS}


@on_hosts("city")
def test_each_process_reads_its_own_keys(facts: Facts) -> None:
    """Every reader of a key is in the table, with its reason; nothing else reads one (K-01)."""
    said = facts["readers"]
    check(said.rc == 0 and said.json["keys"], _("keys and their readers"), said, facts.remedy)
    table: Table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    strange = {
        unit: sorted(more)
        for unit, keys in said.json["readers"].items()
        if (more := {key for key in keys if not allowed(table, unit, key)})
    }
    expect(strange, {}, _("find out why it can; {remedy}").format(remedy=facts.remedy))


def allowed(table: Table, unit: str, key: str) -> bool:
    """Say whether the table lets a unit read a key; %i is what stands behind a unit's @."""
    instance = unit.rpartition(".")[0].partition("@")[2]
    return any(
        any(fnmatchcase(unit, pattern) for pattern in row["units"])
        and any(fnmatchcase(key, pattern.replace("%i", instance)) for pattern in row["keys"])
        for row in table
    )
