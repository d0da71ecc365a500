"""A registry really sends: applied once and in order, or set aside with a reason (K-17, K-19)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drills.conftest import Platform, wait_for
from koseki_link.layout import IN, Name, StandIn, resident_number
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.registers.link.service import stand_in_of
from koseki_sample.invented import SURVIVORS

HOST = "registry-link1"
SLUG, CODE = "iida", "202053"
ENGINE = f"koseki-link@{SLUG}.service"
LAYOUT = StandIn()
KILLS, KILLED_FILES, KILLED_RECORDS = 100, 200, 3000
# Runs beside the engine and kills its main process, over and over, at a moment of its life that is
# the same at every run. It comes back by itself, too (the unit has no limit of starts), a second
# later; started here so that the next kill meets it at work. Prints how many kills did.
KILLER = """
import os, random, signal, subprocess, sys, time
unit, folder, kills = sys.argv[1], sys.argv[2], int(sys.argv[3])
chance, met = random.Random(17), 0
for kill in range(kills):
    time.sleep(chance.uniform(0, 0.4))
    told = subprocess.run(
        ["systemctl", "show", "-P", "MainPID", unit], capture_output=True, text=True, check=True
    )
    met += any(not name.startswith(".") for name in os.listdir(folder))
    if not (pid := int(told.stdout)):
        sys.exit(f"no engine runs at kill {kill}")
    os.kill(pid, signal.SIGKILL)
    subprocess.run(["systemctl", "restart", unit], check=True)
print(met)
"""
HARD = "".join(name for name, _ in SURVIVORS)
# What one file may hold (file_mb of link.yml), in bytes.
LONGEST = 64 << 20
STRANGER = resident_number("9999999999")
# Files and approves at a town's application, by two persons.
FILE_IT = """
import http.client, socket, urllib.parse
def post(path, form):
    connection = http.client.HTTPConnection("localhost", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/run/koseki/application/{slug}.sock")
    connection.request("POST", path, urllib.parse.urlencode(form))
    print(connection.getresponse().status)
post("/filings", {form})
post("/filings/1/approve", {{"operator": "操作者二"}})
"""
BY = ("--reason", "訓練", "--by", "sousa01")


def person(number: int, **fields: str) -> dict[str, str]:
    """Return an invented record of an address change."""
    return {
        "resident": resident_number(f"{number:010d}"),
        "name": "見本　一例",
        "kana": "みほん　いちれい",
        "address": f"架空郡見本村{number}番地",
        "moved_on": "2026-04-01",
        **fields,
    }


def file(
    flow: str, sequence: int, records: Iterable[dict[str, str]], code: str = CODE
) -> tuple[str, bytes]:
    """Return name and content of a good file."""
    rows, name, made = list(records), Name(code, flow, sequence), io.BytesIO()
    LAYOUT.compose(made, name, len(rows), rows)
    return LAYOUT.file_name(name), made.getvalue()


def resealed(content: bytes, before: str, after: bytes) -> bytes:
    """Return a file in which something was changed before its end was made."""
    body = content[: content.rindex(b'{"sha256"')].replace(before.encode(), after)
    return body + b'{"sha256":"%s"}\n' % hashlib.sha256(body).hexdigest().encode()


@dataclass(frozen=True)
class Registry:
    """A town's resident registry, played from its line with its own key."""

    platform: Platform
    folder: Path
    slug: str = SLUG

    def batch(self, lines: Sequence[str], *, check: bool = True) -> str:
        """Run OpenSSH's own sftp, and return what it said."""
        inventory = self.platform.lab.inventory
        address = inventory.address_of(HOST, WORKSTATION)
        known = self.folder / "known_hosts"
        if not known.exists():
            key = self.platform.sh(HOST, "cut -d' ' -f1,2 /etc/koseki/exchange/host.key.pub")
            known.write_text(f"[{address}]:2022 {key}", encoding="ascii")
        told = [
            *("-b", "-", "-P", "2022", "-i", str(stand_in_of(self.platform.site, self.slug))),
            *("-o", f"UserKnownHostsFile={known}", "-o", "StrictHostKeyChecking=yes"),
            *("-o", f"BindAddress={inventory.platform.lines[self.slug].registry}"),
            *("-o", "IdentitiesOnly=yes", "-F", "none"),
        ]
        argv = ["sftp", *told, f"link-{self.slug}@{address}"]
        done = subprocess.run(
            self.platform.lab.terminal_argv(self.slug, argv),
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def send(self, *files: tuple[str, bytes], direct: bool = False) -> None:
        """Upload under a temporary name and rename; direct: under the final name at once."""
        lines = []
        for name, content in files:
            (self.folder / name).write_bytes(content)
            there = f"in/{name}" if direct else f"in/{name}.part"
            lines.append(f"put {self.folder / name} {there}")
            if not direct:
                lines.append(f"rename {there} in/{name}")
        self.batch(lines)

    def fetch(self, name: str) -> bytes:
        """Download a file that was sent to us."""
        self.batch([f"get out/{name} {self.folder / name}"])
        return (self.folder / name).read_bytes()


@pytest.fixture
def registry(platform: Platform, tmp_path: Path) -> Registry:
    """The first town's registry, before it ever sent anything."""
    wait_for(lambda: sql(platform, "SELECT count(*) FROM link.flows") == "6", "the engine's books")
    return Registry(platform, tmp_path)


def sql(platform: Platform, statement: str) -> str:
    """Ask the leader about the town's database; empty while nobody leads."""
    hosts = platform.lab.inventory.hosts_in("databases")
    for state in platform.lab.status():
        if not state.running or state.host not in hosts:
            continue
        ask = (
            f"runuser -u postgres -- psql -XqtA -d koseki_{SLUG} <<'SQL'\n"
            f"SELECT pg_is_in_recovery();\n{statement}\nSQL"
        )
        recovers, _, said = platform.sh(state.host, ask, check=False).partition("\n")
        if recovers == "f":
            return said.strip()
    return ""


def comes(platform: Platform, flow: str, number: int, seconds: float = 60) -> None:
    """Wait until a number is the next of its flow; seconds: of patience for each step on the way.

    How many a busy machine applies in a minute is no promise; that one follows the other is.
    """
    ask = f"SELECT next_sequence FROM link.flows WHERE flow = '{flow}'"  # noqa: S608 - our own words
    while (last := sql(platform, ask)) != str(number):
        what = f"{flow} {number}, {last} is the next"
        wait_for(lambda: sql(platform, ask) != last, what, seconds)


def status(platform: Platform) -> dict[str, Any]:
    """Return what `koseki link status` says of the town."""
    (municipality,) = platform.report("link", "status", SLUG)["towns"]
    return dict(municipality)


def entries(platform: Platform) -> tuple[int, int]:
    """Return how many entries the 附票 has, and of how many persons."""
    said = sql(platform, "SELECT count(*), count(DISTINCT resident) FROM koseki.fuhyo")
    count, persons = said.split("|")
    return int(count), int(persons)


def tell(platform: Platform, flow: str, *records: dict[str, str]) -> None:
    """Write what the registry is to be told, as the application does."""
    rows = ", ".join(
        f"('{flow}', '{json.dumps(record, ensure_ascii=False)}')" for record in records
    )
    sql(
        platform,
        f"SET ROLE koseki_{SLUG}_app; INSERT INTO link.outbox (flow, record) VALUES {rows};",  # noqa: S608 - our own words
    )


def outgoing(flow: str) -> dict[str, str]:
    """Return a record of a sent flow whose every text is the one that must survive."""
    fields = LAYOUT.flows[flow].fields
    return {key: HARD if kind == "text" else person(1)[key] for key, kind in fields.items()}


@pytest.mark.drill
@pytest.mark.leaves
def test_files_are_applied_in_order_or_set_aside(platform: Platform, registry: Registry) -> None:
    """Good ones both ways byte-identical; each bad one with its code; what follows waits."""
    hard = [person(n, name=name, kana=kana) for n, (name, kana) in enumerate(SURVIVORS, 1)]
    registry.send(
        file("address-change", 1, hard),
        file("transfer-in", 1, [person(50, honseki=HARD)]),
        file("address-change", 3, [person(61)]),
    )
    comes(platform, "address-change", 2)
    comes(platform, "transfer-in", 2)
    for row in hard:
        where = f"WHERE resident = '{row['resident']}'"
        assert sql(platform, f"SELECT name FROM koseki.fuhyo {where}") == row["name"]  # noqa: S608 - our own words
    assert sql(platform, "SELECT honseki FROM koseki.fuhyo WHERE honseki IS NOT NULL") == HARD

    # Number 3 waits for 2, and goes on by itself; 3 once more is a duplicate.
    seen = status(platform)
    assert seen["waiting"] == [f"{CODE}-address-change-00000003.jsonl"]
    assert [row["code"] for row in seen["quarantine"]] == ["gap"]
    registry.send(file("address-change", 2, [person(60)]))
    comes(platform, "address-change", 4)
    assert status(platform)["quarantine"] == []

    each_bad_file_is_set_aside(platform, registry)
    what_is_applied_stays(registry)

    # By hand: nothing moves until somebody says so, with a reason.
    platform.koseki("link", "manual", SLUG, "address-change", *BY)
    name, good = file("address-change", 4, [person(70)])
    before = entries(platform)
    registry.send((name, good), file("address-change", 5, [person(71)]))
    time.sleep(1)
    assert entries(platform) == before
    refused = platform.koseki("link", "manual", SLUG, "address-change", *BY, check=False)
    assert refused.returncode == 2
    platform.koseki("link", "release", SLUG, name, *BY)
    assert entries(platform)[0] == before[0] + 1
    platform.koseki("link", "automatic", SLUG, "address-change", *BY)
    comes(platform, "address-change", 6)
    stands = [row["code"] for row in status(platform)["quarantine"] if row["open"]]
    assert stands == ["application"], "statement 1 was never sent right"
    latest = [row["action"] for row in status(platform)["ledger"]]
    assert latest[:4] == ["applied", "automatic", "applied", "manual"]

    what_is_sent_is_what_was_told(platform, registry)
    what_is_too_much_is_refused(platform, registry)


def what_is_too_much_is_refused(platform: Platform, registry: Registry) -> None:
    """A file that never ends, an upload that stands still, and more than the exchange may hold."""
    (registry.folder / "still").write_bytes(b"x")
    (registry.folder / "endless").touch()
    os.truncate(registry.folder / "endless", LONGEST + 1)
    registry.batch([f"put {registry.folder}/endless in/endless.part"], check=False)
    size = f"stat -c %s /srv/koseki/exchange/{SLUG}/in/endless.part"
    assert int(platform.sh(HOST, size)) <= LONGEST
    # From here on an upload may stand still for some seconds, and in/ may hold one MiB.
    platform.sh(
        HOST,
        f'sed -i \'s/"folder_mb": [0-9]*/"folder_mb": 1/; '
        f's/"part_hours": [0-9]*/"part_hours": 0.001/\' /etc/koseki/link.json'
        f" && systemctl restart {ENGINE}",
    )
    wait_for(lambda: set_aside(platform, "full"), "the endless one is removed")
    registry.batch([f"put {registry.folder}/still in/still.part"])
    wait_for(lambda: set_aside(platform, "abandoned"), "what stands still is removed")
    assert registry.batch(["ls -1 in"]).split()[-1:] != ["in/still.part"]
    refused = registry.batch(["rename in/still.part in/still"], check=False)
    assert "No such file" in refused
    reasons = [row for row in status(platform)["quarantine"] if row.get("kept") is False]
    assert sorted(row["file"] for row in reasons) == ["endless.part", "still.part"]
    assert registry.batch(["ls -1 quarantine"]).count("still.part.reason.json") == 1


def each_bad_file_is_set_aside(platform: Platform, registry: Registry) -> None:
    """Number 4 in each form that is wrong: its own code, and nothing of it is applied."""
    name, good = file("address-change", 4, [person(70)])
    bad = {
        "check-digit": file("address-change", 4, [person(70, resident="12345678900")]),
        "wrong-municipality": (name, file("address-change", 4, [person(70)], "204170")[1]),
        "count": (name, resealed(good, '"count":1', b'"count":2')),
        "hash": (name, good.replace("見本村".encode(), "見木村".encode())),
        "character": file("address-change", 4, [person(70, name="見\ue000本")]),
        "encoding": (name, resealed(good, "架空", "架空".encode("cp932"))),
        "malformed": (name, resealed(good, "2026-04-01", b"2026-04-31")),
        "oversize": file("address-change", 4, [person(70, name="見" * 9000)]),
        "name": (f"{CODE}-unknown-00000001.jsonl", good),
        "duplicate": file("address-change", 3, [person(61)]),
        # The layout knows nothing against it, the database does.
        "application": file("statement", 1, [{"resident": STRANGER, "digest": "0" * 64}] * 2),
    }
    before = entries(platform)
    for code, sent in bad.items():
        registry.send(sent)
        wait_for(lambda: set_aside(platform, code), code)  # noqa: B023 - asked at once
    registry.send((name, good[:-60]), direct=True)
    wait_for(lambda: set_aside(platform, "incomplete"), "incomplete")
    # With what is put behind a name on the way there is no room left for a letter.
    registry.send(("戸" * 83 + ".jsonl", good), direct=True)

    def codes() -> list[str]:
        return [row["code"] for row in status(platform)["quarantine"]]

    wait_for(lambda: codes().count("name") == 2, "a name of 255 bytes")
    rows = status(platform)["quarantine"]
    assert sorted(codes()) == sorted([*bad, "incomplete", "name"])
    settled = sorted(row["code"] for row in rows if not row["open"])
    assert settled == ["duplicate", "name", "name"]
    assert entries(platform) == before


def what_is_applied_stays(registry: Registry) -> None:
    """What a registry was answered for is changed, taken away or looked into by nobody of it."""
    applied = f"done/{CODE}-address-change-00000001.jsonl"
    mine = registry.folder / f"{CODE}-address-change-00000004.jsonl"
    for line in (
        "symlink /etc in/x",
        f"put {mine} done/x",
        f"put {mine} {applied}",
        f"rm {applied}",
        f"put {mine} quarantine/x",
        "ls work",
    ):
        assert "Permission denied" in registry.batch([line], check=False), line


def what_is_sent_is_what_was_told(platform: Platform, registry: Registry) -> None:
    """Read each sent flow as the registry does, again after a resend, and an approval's notice."""
    for flow in [flow.name for flow in LAYOUT.flows.values() if flow.direction != IN]:
        tell(platform, flow, outgoing(flow), outgoing(flow))
        comes(platform, flow, 2)
        wanted, content = file(flow, 1, [outgoing(flow)] * 2)
        wait_for(lambda: registry_has(registry, wanted), wanted)  # noqa: B023 - asked at once
        assert registry.fetch(wanted) == content
        registry.batch([f"rm out/{wanted}"])
        platform.koseki("link", "resend", SLUG, flow, "1", *BY)
        assert registry.fetch(wanted) == content
    told = approve_a_filing(platform)
    wanted, content = file("resident-record", 2, [told])
    wait_for(lambda: registry_has(registry, wanted), wanted)
    assert registry.fetch(wanted) == content


def set_aside(platform: Platform, code: str) -> bool:
    """Say whether the ledger has a refusal of this kind."""
    ask = f"SELECT count(*) FROM link.ledger WHERE code = '{code}'"  # noqa: S608 - our own words
    return sql(platform, ask) == "1"


def registry_has(registry: Registry, name: str) -> bool:
    """Say whether a file lies in out/."""
    return name in registry.batch(["ls -1 out"])


def approve_a_filing(platform: Platform) -> dict[str, str]:
    """File and approve a 転籍 at the application's socket; return what the registry is to read."""
    row = f"'架空郡見本村1番地', '{HARD}', 'みほん', '一例', 'いちれい'"
    number = sql(
        platform,
        "INSERT INTO koseki.registers (honseki, family_name, family_kana, head_name, head_kana)"  # noqa: S608 - our own words
        f" VALUES ({row}) RETURNING id",
    )
    form = {"kind": "転籍", "register": number, "honseki": HARD, "operator": "操作者一"}
    program = FILE_IT.format(slug=SLUG, form=form)
    said = platform.sh("application1", f"python3 - <<'PYTHON'\n{program}\nPYTHON")
    assert said.split() == ["303", "303"], said
    return {
        "event": "転籍",
        "honseki": HARD,
        "name": f"{HARD}　一例",
        "kana": "みほん　いちれい",
    }


@pytest.mark.drill
@pytest.mark.leaves
def test_nothing_is_lost_or_applied_twice(platform: Platform, registry: Registry) -> None:
    """SIGKILL at random moments, the leader's host dies; a difference is found (K-03, K-17)."""
    files = [
        file(
            "address-change",
            number,
            [person(number * KILLED_RECORDS + row) for row in range(KILLED_RECORDS)],
        )
        for number in range(1, KILLED_FILES + 1)
    ]
    work = f"/srv/koseki/exchange/{SLUG}/work"
    with ThreadPoolExecutor(1) as beside:
        killer = f"python3 - {ENGINE} {work} {KILLS} <<'PYTHON'\n{KILLER}\nPYTHON"
        killed = beside.submit(platform.sh, HOST, killer)
        registry.send(*files)
        met = int(killed.result())
    # A kill that met an idle engine would show nothing.
    assert met > KILLS // 2
    comes(platform, "address-change", KILLED_FILES + 1)
    wanted = KILLED_FILES * KILLED_RECORDS
    assert entries(platform) == (wanted, wanted)

    # While a file is applied that takes some seconds, the leader's host dies.
    leader = platform.leader()
    assert leader is not None
    rows = 60_000
    registry.send(
        file("address-change", KILLED_FILES + 1, (person(10**7 + row) for row in range(rows)))
    )
    wait_for(lambda: "1" in applying(platform, leader), "the file is being applied")
    platform.lab.kill(leader)
    comes(platform, "address-change", KILLED_FILES + 2, 120)
    wanted += rows
    assert entries(platform) == (wanted, wanted)
    left = platform.sh(HOST, f"ls /srv/koseki/exchange/{SLUG}/in /srv/koseki/exchange/{SLUG}/work")
    assert "jsonl" not in left, left
    platform.lab.start(leader)

    a_difference_is_found(platform, registry)


def a_difference_is_found(platform: Platform, registry: Registry) -> None:
    """The report names each difference, the suite is red for it, and for nothing else."""
    # The registry's statement of a few: two differ in what they say, the others stand here alone.
    digest = "SELECT resident || ' ' || digest FROM koseki.link_statement() ORDER BY 1 LIMIT 3"
    told = dict(line.split() for line in sql(platform, digest).splitlines())
    first, second, third = told
    sql(
        platform,
        f"SET session_replication_role = replica; DELETE FROM koseki.fuhyo"  # noqa: S608 - our own words
        f" WHERE resident NOT IN ('{first}', '{second}', '{third}');",
    )
    statement = [{"resident": key, "digest": value} for key, value in told.items()]
    registry.send(file("statement", 1, statement))
    comes(platform, "statement", 2)
    unit = f"koseki-link-reconcile@{SLUG}.service"
    platform.sh(HOST, f"systemctl start {unit}")
    statement[0] = {**statement[0], "digest": "0" * 64}
    statement[2] = {**statement[2], "resident": STRANGER}
    registry.send(file("statement", 2, statement))
    comes(platform, "statement", 3)
    platform.sh(HOST, f"! systemctl start {unit}")
    report = registry.fetch(f"{CODE}-reconciliation-00000002.jsonl").decode().splitlines()
    assert [json.loads(line) for line in report] == [
        {"statement": 2, "differences": 3},
        {"resident": first, "how": "differs"},
        {"resident": third, "how": "missing-there"},
        {"resident": STRANGER, "how": "missing-here"},
    ]
    red = platform.report("verify", "link", check=False)
    assert red["failed"] == 1
    assert platform.failures() == [f"test_link.py::test_registry_and_register_agree[{HOST}-{SLUG}]"]


def applying(platform: Platform, leader: str) -> str:
    """Return 1 while the link's role applies records on the leader."""
    ask = (
        "SELECT 1 FROM pg_stat_activity WHERE usename = 'koseki_iida_link'"
        " AND query LIKE '%link_apply%' AND backend_xid IS NOT NULL"
    )
    return platform.sh(leader, f'runuser -u postgres -- psql -XqtAc "{ask}"')
