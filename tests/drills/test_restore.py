"""The sealed copies come back whole, text included; one that does not is told (K-04, K-19)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import pytest

from drills.conftest import Platform, wait_for
from drills.test_link import SLUG, Registry, sql
from koseki_ops.plan.host_programs import HOST_PROGRAMS
from koseki_ops.procedures.rehearse_restore import Rehearsal
from koseki_ops.trust.terminals import stand_ins_of
from koseki_ops.verify.forms import FORMS, PRINTABLE, SURVIVORS, WITHOUT_FORM

# Each would be lost by one of the usual mistakes: normalisation, a narrow type, a wrong code page.
HARD_TEXT = " ".join(SURVIVORS)
# Registers of a town, and the 本籍 that each is moved to: what can be printed, and what cannot.
MOVED = {18: "".join(PRINTABLE), 19: WITHOUT_FORM[0], 20: WITHOUT_FORM[1]}
# What the restored copy is asked beside its digests, and after which line of the program.
REGISTERED = (
    "SELECT id || ' ' || encode(convert_to(honseki, 'UTF8'), 'hex') FROM koseki.registers"
    " WHERE id BETWEEN 18 AND 20 ORDER BY id"
)
DIGESTS = 'say_digests "$3" --host="$ROOM" --port="$PORT"\n'
ALSO = f'ask --host="$ROOM" --port="$PORT" --dbname=koseki_{SLUG} --command="{REGISTERED}"\n'
# Reads a PDF and says what it shows of the characters that are named.
READ = "print(json.dumps(shown(sys.stdin.buffer.read(), json.loads(sys.argv[1]))))"
BUNDLES = "find /srv/vault/remote/repo/backup/koseki -path '*/bundle/*' -type f"


def rehearsed(platform: Platform, code: int) -> dict[str, Rehearsal]:
    """Rehearse, hold the exit code, and return what each vault's copy was worth."""
    done = platform.koseki("restore", "rehearse", "--json", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    report = platform.last_json(done)
    return {row["vault"]: Rehearsal(**row) for row in report["vaults"]}


def ask(platform: Platform, path: str, **form: str) -> tuple[int, bytes]:
    """Ask the gateway as the town's terminal does, with a form when there is one."""
    key = stand_ins_of(platform.site) / f"{SLUG}-01"
    address = platform.lab.inventory.shared["host_addresses"]["application1"]["city"]
    argv = [
        "curl",
        "-s",
        "-w",
        "\n%{http_code}",
        "--cacert",
        str(platform.site.state / "pki/ca.crt"),
    ]
    argv += ["--cert", f"{key}.crt", "--key", f"{key}.key", f"https://{address}{path}"]
    argv += ["--data", urlencode(form)] if form else []
    done = subprocess.run(
        platform.lab.terminal_argv(SLUG, argv), capture_output=True, check=True, timeout=60
    )
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def restored(platform: Platform, repository: int) -> str:
    """Restore a vault's copy as a rehearsal does, and return what it says of the registers."""
    leader = platform.leader()
    (member,) = {"primary1", "secondary1"} - {leader}
    text = platform.site.root / HOST_PROGRAMS / "rehearse_restore/rehearse-restore"
    program = text.read_text(encoding="utf-8")
    assert program.count(DIGESTS) == 1
    # The program is at work where it lies: beside it lies what it said.
    folder, moment = "/root/text-restore", f"text-{repository}"
    place = f"{folder}/rehearse-restore"
    for host in (str(leader), member):
        put = platform.lab.exec_argv(host, ["sh", "-c", f"mkdir {folder} && cat >{place}"])
        subprocess.run(put, input=program.replace(DIGESTS, ALSO), text=True, check=True)
    platform.sh(str(leader), f"sh {place} mark {moment}")
    said = platform.sh(member, f"sh {place} restore-one {moment} {repository}")
    for host in (str(leader), member):
        platform.sh(host, f"rm -r {folder}")
    return "\n".join(line for line in said.splitlines() if not line.startswith("seconds "))


@pytest.mark.drill
def test_text_goes_all_the_way(registers: Platform, tmp_path: Path) -> None:
    """Counter, database, registry, print, both sealed copies: the same bytes each time (K-19)."""
    platform = registers
    registry = Registry(platform, tmp_path)
    for receipt, (number, text) in enumerate(MOVED.items(), 1):
        filing = {"kind": "転籍", "register": str(number), "honseki": text, "operator": "操作者一"}
        assert ask(platform, "/filings", **filing)[0] == 303
        assert ask(platform, f"/filings/{receipt}/approve", operator="操作者二")[0] == 303
        assert f"<p>本籍　{text}</p>".encode() in ask(platform, f"/registers/{number}")[1]

    wanted = "\n".join(f"{number} {text.encode().hex()}" for number, text in MOVED.items())
    assert sql(platform, REGISTERED) == wanted

    outbox = "SELECT count(*) FROM link.outbox WHERE sequence IS NULL"
    wait_for(lambda: sql(platform, outbox) == "0", "the registry is told")
    files = registry.batch(["ls -1 out"]).splitlines()
    sent = b"".join(registry.fetch(Path(name).name) for name in files if "resident-record" in name)
    told = [row["honseki"] for row in map(json.loads, sent.splitlines()) if "honseki" in row]
    assert told == list(MOVED.values())
    assert all(text.encode() in sent for text in MOVED.values())

    status, pdf = ask(platform, "/registers/18/certificates", operator="操作者一")
    assert status == 200
    argv = ["python3", "-c", FORMS + READ, json.dumps(PRINTABLE)]
    printed = subprocess.run(
        platform.lab.exec_argv("application1", argv), input=pdf, capture_output=True, check=True
    )
    seen = json.loads(printed.stdout)
    assert MOVED[18] in "".join(seen["text"].split())
    assert seen["wrong"] == [], "these print in another form"
    for number in (19, 20):
        status, page = ask(platform, f"/registers/{number}/certificates", operator="操作者一")
        points = " ".join(f"U+{ord(character):04X}" for character in MOVED[number])
        assert (status, f"印字できない文字があります: {points}" in page.decode()) == (409, True)

    for vault in platform.lab.inventory.shared["vaults"]:
        assert restored(platform, int(vault["repository"])) == wanted, vault["name"]


@pytest.mark.drill
@pytest.mark.leaves
def test_every_copy_is_restored_and_a_broken_one_is_told(registers: Platform) -> None:
    """All municipalities equal from both vaults; a bundle that is gone fails its vault alone."""
    platform = registers
    insert = f"insert into platform.probe (id, note) values (4400, '{HARD_TEXT}')"  # noqa: S608 - a constant of our own
    platform.sh("primary1", f'runuser -u postgres -- psql -XAtqd koseki_oshika -c "{insert}"')
    municipalities = len(platform.lab.inventory.shared["municipalities"])
    for row in rehearsed(platform, 0).values():
        assert row.holds
        assert len(row.equal) >= municipalities
        assert "koseki_oshika" in row.equal
    left = platform.sh("secondary1", "ls /var/lib/postgresql && find /run -name '*rehears*'")
    version = str(platform.lab.inventory.platform.postgresql_version)
    assert left.split() == [version], "the rehearsal left something behind"

    platform.sh("remote-backup1", f"rm $({BUNDLES} | sort | head -n 1)")
    after = rehearsed(platform, 1)
    assert (after["city"].holds, after["remote"].holds) == (True, False)
