"""Procedures at work, on hosts that answer as recorded: what is done, in which order, when not.

Engines and suites need hosts; what they find is written down here, and that they were asked.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import Command
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from hosts import Answer, Hosts
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.results import EngineResult, HostResult
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site, project_root
from koseki_ops.procedures.cli import PROCEDURES, enroll_command, list_command, withdraw_command
from koseki_ops.procedures.municipality import SUITES, export_path, row_of
from koseki_ops.procedures.rehearse_restore import restore_group
from koseki_ops.procedures.restart_members import restart_command
from koseki_ops.procedures.switchover import switchover_command
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.verify.results import FAILED, PASSED, HostState, Results, TestResult

LEADER, OTHER, LINK = "primary1", "secondary1", "registry-link1"
SLUG = "urugi"  # has left in this plan
DIGEST = hashlib.sha256(b"its registers").hexdigest()
COPIED = json.dumps({"sha256": DIGEST, "rows": {"koseki.person": 3, "koseki.filing": 4}})
DELETE = ["--delete", "--confirmation", "確認-1", "--by", "sousa01", "--approver", "sousa02"]


def cluster(*rows: Mapping[str, object]) -> Answer:
    """Return what Patroni lists."""
    return Answer("patronictl", json.dumps(rows))


def member(name: str, role: str, state: str, **more: object) -> dict[str, object]:
    """Return a row of Patroni's list."""
    return {"Member": name, "Role": role, "State": state, "TL": 3, **more}


LEADS = member(LEADER, "Leader", "running")
FOLLOWS = member(OTHER, "Sync Standby", "streaming")
WELL = cluster(LEADS, FOLLOWS)


def ended(outcome: str) -> TestResult:
    """Return a test that ended so."""
    return TestResult("databases", "test_x", "test_x", LEADER, "", outcome, 0.1, "why", "", [])


@dataclass
class Engines:
    """What an apply, a deploy and the suites find; what they were asked for, in order."""

    hosts: Hosts
    applied: EngineResult = field(
        default_factory=lambda: EngineResult("all", {LEADER: HostResult(changed=2)})
    )
    found: Results = field(default_factory=lambda: Results(tests=[ended(PASSED)]))
    asked: list[str] = field(default_factory=list)
    data: dict[str, str] = field(default_factory=dict)

    def apply(self, *_given: object) -> EngineResult:
        """Note at which question to the hosts it was asked."""
        self.asked.append(f"apply after {len(self.hosts.asked())}")
        return self.applied

    def verify(self, _site: Site, suites: Sequence[str], limit: Sequence[str]) -> Results:
        """Note the suites."""
        assert (tuple(suites), tuple(limit)) == (SUITES, ())
        self.asked.append("verify")
        return self.found

    def deploy(self, _site: Site, work: object, **given: Any) -> EngineResult:  # noqa: ANN401 - the engine's own
        """Note what was deployed, and where."""
        self.asked.append(f"{work} on {', '.join(given['limit'])}")
        self.data = given.get("data", {})
        return self.applied


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose plan says that a municipality has left, with keys; they are made once."""
    root = tmp_path_factory.mktemp("prepared")
    ignore = shutil.ignore_patterns("secrets.yml")
    source = project_root() / "inventories"
    shutil.copytree(source, root / "inventories", symlinks=True, ignore=ignore)
    path = root / "inventories/iida/group_vars/all/municipalities.yml"
    plan = yaml.safe_load(path.read_text(encoding="utf-8"))
    next(row for row in plan["municipalities"] if row["slug"] == SLUG)["left_on"] = "2020-04-01"
    path.write_text(yaml.safe_dump(plan, allow_unicode=True), encoding="utf-8")
    site = Site(root, "lab", "mine")
    ensure_site_ssh(site, Inventory(site.inventory))
    return root


@pytest.fixture
def site(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A lab's site of its own, where nothing was recorded."""
    root = tmp_path / "checkout"
    shutil.copytree(prepared, root, symlinks=True)
    monkeypatch.setenv("KOSEKI_ROOT", str(root))
    return Site.open(name="mine")


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """The site's hosts; the first one leads."""
    made = Hosts(tmp_path, monkeypatch)
    made.answer(WELL)
    return made


@pytest.fixture
def engines(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> Engines:
    """Engines and suites that find what a test has written down."""
    made = Engines(hosts)
    monkeypatch.setattr("koseki_ops.engines.apply.apply", made.apply)
    monkeypatch.setattr("koseki_ops.procedures.municipality.verify", made.verify)
    monkeypatch.setattr("koseki_ops.engines.pyinfra_run.run_deploys", made.deploy)
    monkeypatch.setattr("koseki_ops.engines.ansible_run.run_playbook", made.deploy)
    return made


@pytest.fixture
def recipient(tmp_path: Path) -> Path:
    """A certificate that the municipality holds the key of."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SLUG)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, SHA256())
    )
    path = tmp_path / "recipient.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM))
    return path


@pytest.fixture
def handover(tmp_path: Path) -> Path:
    """The folder for a municipality's data."""
    folder = tmp_path / "handover"
    folder.mkdir()
    return folder


def call(command: Command, *words: str) -> Result:
    """Run a command on the site."""
    return CliRunner().invoke(command, [*words, "--name", "mine"])


def refusal(done: Result) -> str:
    """Return the one sentence with which it was refused."""
    assert isinstance(done.exception, KosekiError), done.output
    return str(done.exception)


def last(done: Result) -> dict[str, Any]:
    """Return the JSON object at the end."""
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows(site: Site, name: str) -> list[dict[str, Any]]:
    """Return what was recorded."""
    return [dict(row.record) for row in Ledger(site, name).rows()]


def outcome(site: Site) -> tuple[str, str]:
    """Return how the last procedure ended, and why."""
    row = rows(site, "procedures")[-1]
    return row["outcome"], row.get("why", "")


# A dry run.


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        (enroll_command, ["oshika"], "apply the plan, in which 大鹿村 has joined"),
        (withdraw_command, [SLUG, *DELETE], "delete the database koseki_urugi and its files"),
        (restart_command, [], "no setting waits for a restart: there is nothing to do"),
        (switchover_command, [], "primary1 hands the lead over to secondary1"),
        (switchover_command, [LEADER], "primary1 leads already: there is nothing to do"),
        (restore_group, ["rehearse"], "secondary1 restores the newest copy of remote"),
    ],
)
def test_a_dry_run_says_what_would_be_done(
    site: Site, engines: Engines, command: Command, words: list[str], said: str
) -> None:
    """What has to be true before is asked; no engine is, and nothing is recorded."""
    if "--delete" in words:
        export_path(site, SLUG).parent.mkdir()
        export_path(site, SLUG).write_text("{}", encoding="ascii")
    done = call(command, *words, "--dry-run")
    assert done.exit_code == 0, done.output
    assert said in done.output
    assert done.output.splitlines()[-1] == "nothing was changed"
    assert engines.asked == []
    assert rows(site, "procedures") == rows(site, "joinings") == []


def test_a_dry_run_of_a_leaving_names_for_whom(
    site: Site, engines: Engines, recipient: Path, handover: Path
) -> None:
    """Where its data would go, and whose certificate would open it."""
    done = call(
        *(withdraw_command, SLUG, "--to", str(handover), "--recipient", str(recipient)), "--dry-run"
    )
    assert f"write its data to {handover}, encrypted for the holder of {recipient}" in done.output
    assert (engines.asked, list(handover.iterdir()), rows(site, "joinings")) == ([], [], [])


# Joining.

SILENT = Results(hosts={LINK: HostState("10.0.0.1", unreachable_reason="No route to host")})


def host(**what: Any) -> EngineResult:  # noqa: ANN401 - any of its fields
    """Return what an engine did on one host."""
    return EngineResult("all", {LEADER: HostResult(**what)})


def test_who_joins_is_recorded_with_his_documents(site: Site, engines: Engines) -> None:
    """Applied first, then the suites; the ids of its documents stand in the record (K-02)."""
    done = call(enroll_command, "oshika", "--json")
    assert done.exit_code == 0, done.output
    assert engines.asked == ["apply after 0", "verify"]
    assert last(done) | {"seconds": 0} == {
        "municipality": "oshika",
        "changed": 2,
        "passed": 1,
        "failed": 0,
        "seconds": 0,
    }
    (joined,) = rows(site, "joinings")
    assert (joined["action"], joined["municipality"], joined["held"]) == ("enroll", "oshika", True)
    assert all(joined[name] for name in ("approval", "resolution", "agreement"))
    begun, ended = rows(site, "procedures")
    assert begun["arguments"] == {"municipality": "oshika"}
    assert (ended["outcome"], ended["changed"]) == ("completed", 2)


@pytest.mark.parametrize(
    ("applied", "found", "code", "asked"),
    [
        (host(failed=1, errors=["primary1: broken"]), None, 1, ["apply after 0"]),
        (host(unreachable=True), None, 2, ["apply after 0"]),
        (host(failed=1, refused=1), None, 2, ["apply after 0"]),
        (host(), Results(tests=[ended(FAILED)]), 1, ["apply after 0", "verify"]),
        (host(), SILENT, 2, ["apply after 0", "verify"]),
    ],
)
def test_who_is_not_in_by_every_proof_is_not_in(
    site: Site,
    engines: Engines,
    applied: EngineResult,
    found: Results | None,
    code: int,
    asked: list[str],
) -> None:
    """A host that failed or did not answer, a test that failed: another exit code each (K-02).

    After an apply that failed no suite is asked: it would say what is known.
    """
    engines.applied, engines.found = applied, found or Results()
    done = call(enroll_command, "oshika")
    assert done.exit_code == code, done.output
    assert engines.asked == asked
    assert rows(site, "joinings")[0]["held"] is False
    assert outcome(site)[0] == "failed"


# Leaving.


def leave(recipient: Path, handover: Path, *words: str) -> Result:
    """Withdraw the municipality that has left."""
    given = ("--to", str(handover), "--recipient", str(recipient))
    return call(withdraw_command, SLUG, *given, *words)


def test_data_is_handed_over_when_every_way_is_closed(
    site: Site, engines: Engines, hosts: Hosts, recipient: Path, handover: Path
) -> None:
    """The file is what the leader wrote, for the holder alone; what is in it is kept (K-02)."""
    hosts.answer(WELL, Answer("export.sh koseki_urugi", "its cipher", COPIED, host=LEADER))
    done = leave(recipient, handover, "--json")
    assert done.exit_code == 0, done.output
    assert engines.asked == ["apply after 0", "verify"]
    file = next(handover.glob("koseki-urugi-*.sql.cms"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes() == b"its cipher"
    noted = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    fingerprint = x509.load_pem_x509_certificate(recipient.read_bytes()).fingerprint(SHA256())
    assert noted | {"at": ""} == {
        "slug": SLUG,
        "file": str(file),
        "sha256": hashlib.sha256(b"its cipher").hexdigest(),
        "content_sha256": DIGEST,
        "rows": {"koseki.person": 3, "koseki.filing": 4},
        "recipient": fingerprint.hex(),
        "at": "",
    }
    assert json.loads(export_path(site, SLUG).read_text(encoding="utf-8")) == noted
    assert last(done)["export"] == noted
    assert f"{file}: 7 rows" in done.output
    assert recipient.read_text(encoding="ascii") in hosts.asked()[-1]
    assert rows(site, "joinings") == [
        {"action": "withdraw", "municipality": SLUG, "sha256": noted["sha256"]}
    ]
    assert rows(site, "procedures")[-1]["rows"] == 7


@pytest.mark.parametrize("applied", [host(failed=1), host(unreachable=True)])
def test_nothing_is_handed_over_while_a_way_is_open(
    site: Site,
    engines: Engines,
    hosts: Hosts,
    recipient: Path,
    handover: Path,
    applied: EngineResult,
) -> None:
    """What is written after it was copied would be lost to it; the leader is not even asked."""
    engines.applied = applied
    assert refusal(leave(recipient, handover)) == (
        "the ways of 売木村 could not all be closed (1 failed): "
        "run `koseki apply`, then `koseki withdraw urugi` again"
    )
    assert (hosts.asked(), list(handover.iterdir()), rows(site, "joinings")) == ([], [], [])
    assert outcome(site)[0] == "failed"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            Answer("export.sh", "half of its", "ERROR:  disk full", code=1),
            "bash failed on primary1 (ERROR:  disk full): read `journalctl -n 50` on primary1",
        ),
        (Answer("export.sh", "half", "", code=255), "bash failed on primary1 (exit 255)"),
        *(
            (Answer("export.sh", "its cipher", text), "primary1 did not report what it copied")
            for text in (
                "",
                "[]",
                "{}",
                '{"sha256": "0f", "rows": {}}',
                f'{{"sha256": "{DIGEST}", "rows": {{"koseki.person": "many"}}}}',
                f'{{"sha256": "{DIGEST}", "rows": []}}',
                f"{COPIED}\nand then something broke",
            )
        ),
    ],
)
def test_half_of_a_municipalitys_registers_is_not_kept(
    site: Site,
    engines: Engines,
    hosts: Hosts,
    recipient: Path,
    handover: Path,
    answer: Answer,
    sentence: str,
) -> None:
    """A copy that broke off, or of which the host does not say what it is: no file, no record.

    Its ways stay closed, and a deletion still finds that nothing was handed over.
    """
    hosts.answer(WELL, answer)
    assert sentence in refusal(leave(recipient, handover))
    assert engines.asked[0] == "apply after 0"
    assert (list(handover.iterdir()), rows(site, "joinings")) == ([], [])
    assert not export_path(site, SLUG).exists()
    assert outcome(site) == ("failed", rows(site, "procedures")[-1]["why"])
    assert sentence in outcome(site)[1]
    assert "never handed over" in refusal(call(withdraw_command, SLUG, *DELETE))


# Deleting.


def test_what_was_left_behind_is_deleted_in_order(
    site: Site, engines: Engines, hosts: Hosts
) -> None:
    """The database, its files on both servers, its exchange; recorded; then the others (K-02)."""
    export_path(site, SLUG).parent.mkdir()
    export_path(site, SLUG).write_text("{}", encoding="ascii")
    hosts.answer(
        WELL, Answer("delete.sh koseki_urugi", host=LEADER), Answer("rmdir"), Answer("rm ")
    )
    done = call(withdraw_command, SLUG, *DELETE, "--json")
    assert done.exit_code == 0, done.output
    listed, deleted, *emptied, removed = hosts.asked()
    assert "patronictl" in listed
    assert "DROP DATABASE IF EXISTS" in deleted
    assert len(emptied) == 2
    folder = row_of(Inventory(site.inventory), SLUG).names.tablespace_folder
    assert all(f"rmdir {folder}" in asked for asked in emptied)
    assert removed.strip().endswith("rm -rf --one-file-system /srv/koseki/exchange/urugi")
    assert engines.asked == ["apply after 5", "verify"]
    assert rows(site, "joinings") == [
        {
            "action": "delete",
            "municipality": SLUG,
            "confirmation": "確認-1",
            "by": "sousa01",
            "approver": "sousa02",
        }
    ]
    begun, ended = rows(site, "procedures")
    assert (begun["procedure"], begun["arguments"]["approver"]) == ("withdraw --delete", "sousa02")
    assert (ended["outcome"], last(done)["failed"]) == ("completed", 0)


@pytest.mark.parametrize(
    ("answers", "sentence", "asked"),
    [
        ([], "bash failed on primary1 (ssh: connect to host primary1: No route to host)", 2),
        ([Answer("delete.sh")], "timeout failed on primary1", 3),
        ([Answer("delete.sh"), Answer("rmdir", host=LEADER)], "timeout failed on secondary1", 4),
        ([Answer("delete.sh"), Answer("rmdir")], "rm failed on registry-link1", 5),
    ],
)
def test_a_deletion_that_breaks_off_goes_no_further(
    site: Site,
    engines: Engines,
    hosts: Hosts,
    answers: list[Answer],
    sentence: str,
    asked: int,
) -> None:
    """Nothing is recorded as deleted that is not; run again, it begins anew and ends."""
    export_path(site, SLUG).parent.mkdir()
    export_path(site, SLUG).write_text("{}", encoding="ascii")
    hosts.answer(WELL, *answers)
    said = refusal(call(withdraw_command, SLUG, *DELETE))
    assert sentence in said
    assert "then run the same command again" in said
    assert len(hosts.asked()) == asked
    assert (engines.asked, rows(site, "joinings")) == ([], [])
    hosts.answer(WELL, Answer("delete.sh"), Answer("rmdir"), Answer("rm "))
    assert call(withdraw_command, SLUG, *DELETE).exit_code == 0
    assert [row["outcome"] for row in rows(site, "procedures") if "outcome" in row] == [
        "failed",
        "completed",
    ]


# The cluster.

SAME = [f"digest {moment} koseki_iida 3 71" for moment in ("before", "after")]
WHOLE = ["seconds 1 9", "digest 1 koseki_iida 3 71", "seconds 2 12", "digest 2 koseki_iida 3 71"]


def restored(leader: list[str], copies: list[str], **other: Any) -> EngineResult:  # noqa: ANN401 - any of a host's fields
    """Return what the two hosts of a rehearsal printed."""
    hosts = {LEADER: HostResult(output=leader), OTHER: HostResult(output=copies, **other)}
    return EngineResult("pyinfra", hosts)


def test_a_rehearsal_is_recorded_whatever_it_finds(site: Site, engines: Engines) -> None:
    """Beside the member that does not lead, of every vault; each copy is a sentence (K-04)."""
    engines.applied = restored(SAME, WHOLE)
    done = call(restore_group, "rehearse", "--json")
    assert done.exit_code == 0, done.output
    vaults = {row.name: row.repository for row in Inventory(site.inventory).platform.vaults}
    wanted = {
        "marks": LEADER,
        "restores": OTHER,
        "repositories": ",".join(map(str, vaults.values())),
    }
    assert {key: engines.data[key] for key in wanted} == wanted
    assert "remote: restored in 12 s, 1 databases equal" in done.output
    (recorded,) = rows(site, "rehearsals")
    assert last(done) == recorded
    assert [row["equal"] for row in recorded["vaults"]] == [["koseki_iida"]] * 2
    assert outcome(site)[0] == "completed"


@pytest.mark.parametrize(
    ("result", "code", "said"),
    [
        (restored(SAME, WHOLE[:2]), 1, "remote: the copy could not be restored"),
        (
            restored(SAME, [*WHOLE[:3], "digest 2 koseki_iida 3 72"]),
            1,
            "0 databases equal, 1 DIFFERENT (koseki_iida)",
        ),
        (
            restored(
                [*SAME, "digest before koseki_neba 0 0", "digest after koseki_neba 1 5"], WHOLE
            ),
            0,
            "1 databases equal, 1 written to meanwhile (koseki_neba)",
        ),
        (
            restored(SAME, [], unreachable=True, errors=["secondary1 is away"]),
            2,
            "secondary1 is away",
        ),
    ],
)
def test_what_a_copy_is_worth_is_an_exit_code(
    site: Site, engines: Engines, result: EngineResult, code: int, said: str
) -> None:
    """One that is not whole, one that could not be restored, a member that went away."""
    engines.applied = result
    done = call(restore_group, "rehearse")
    assert done.exit_code == code, done.output
    assert said in done.output
    assert outcome(site)[0] == ("completed" if code == 0 else "failed")


def test_only_a_vault_of_the_plan_is_rehearsed(site: Site, engines: Engines) -> None:
    """The known ones are named; one of them alone is what was asked for."""
    assert refusal(call(restore_group, "rehearse", "--vault", "attic")).startswith(
        "unknown vault (attic): give --vault one of "
    )
    engines.applied = restored(SAME, WHOLE)
    call(restore_group, "rehearse", "--vault", "remote")
    assert engines.data["repositories"] == "2"
    assert rows(site, "procedures")[0]["arguments"] == {"vaults": "remote", "on": OTHER}


@pytest.mark.parametrize(
    "listed",
    [
        [LEADS],
        [FOLLOWS],
        [LEADS, member(OTHER, "Replica", "starting")],
        [LEADS, member(OTHER, "Leader", "running"), FOLLOWS],
        [],
    ],
)
def test_a_rehearsal_takes_a_leader_and_one_beside(
    site: Site, engines: Engines, hosts: Hosts, listed: list[dict[str, object]]
) -> None:
    """Whoever leads would carry the load twice; what was seen is in the sentence."""
    hosts.answer(cluster(*listed))
    said = refusal(call(restore_group, "rehearse"))
    assert "a rehearsal needs a leader and a synchronous or streaming replica" in said
    assert all(f"{row['Member']} {row['Role']} {row['State']}" in said for row in listed)
    assert (engines.asked, rows(site, "procedures")) == ([], [])


@pytest.mark.parametrize(
    ("listed", "wanted", "sentence"),
    [
        ([FOLLOWS], [], "the cluster has no leader"),
        ([LEADS, member("c", "Leader", "running")], [], "the cluster has no leader"),
        ([LEADS], [], "no member is not a synchronous standby"),
        ([LEADS, member(OTHER, "Replica", "streaming")], [OTHER], f"{OTHER} is not a synchronous"),
        ([LEADS, member(OTHER, "Sync Standby", "starting")], [], "no member is not a synchronous"),
        ([LEADS, FOLLOWS], ["application1"], "application1 is not a synchronous standby"),
    ],
)
def test_the_lead_goes_only_to_a_synchronous_standby(
    site: Site,
    engines: Engines,
    hosts: Hosts,
    listed: list[dict[str, object]],
    wanted: list[str],
    sentence: str,
) -> None:
    """To nobody else could it go without losing a write (K-08)."""
    hosts.answer(cluster(*listed))
    assert sentence in refusal(call(switchover_command, *wanted))
    assert (engines.asked, rows(site, "procedures")) == ([], [])


@pytest.mark.parametrize(
    ("words", "applied", "code", "said", "asked"),
    [
        ([OTHER], host(), 0, "secondary1 leads, ", 1),
        ([], host(), 0, "secondary1 leads, ", 1),
        ([LEADER], host(), 0, "primary1 leads already", 0),
        ([], host(failed=1, errors=["primary1: it did not step down"]), 1, "did not step down", 1),
    ],
)
def test_the_lead_is_handed_over(
    site: Site,
    engines: Engines,
    words: list[str],
    applied: EngineResult,
    code: int,
    said: str,
    asked: int,
) -> None:
    """Whoever leads already keeps it; a hand-over that failed is recorded as that."""
    engines.applied = applied
    done = call(switchover_command, *words)
    assert (done.exit_code, len(engines.asked)) == (code, asked), done.output
    assert said in done.output
    if asked:
        assert engines.data == {"switchover_to": OTHER}
    to = LEADER if words == [LEADER] else OTHER
    assert rows(site, "procedures")[0]["arguments"] == {"from": LEADER, "to": to}
    assert outcome(site)[0] == ("failed" if code else "completed")


def test_a_hand_over_names_both_in_json(site: Site, engines: Engines) -> None:
    """For whoever's program asked."""
    del site, engines
    assert last(call(switchover_command, "--json")) | {"seconds": 0} == {
        "from": LEADER,
        "to": OTHER,
        "seconds": 0,
    }


WAITS = {"Pending restart": "*"}


@pytest.mark.parametrize(
    "listed",
    [
        [member(LEADER, "Leader", "running", **WAITS)],
        [LEADS, member(OTHER, "Replica", "streaming", **WAITS)],
        [member(LEADER, "Leader", "running", **WAITS), FOLLOWS, member("c", "Replica", "stopped")],
    ],
)
def test_nobody_is_restarted_in_a_cluster_that_is_not_well(
    site: Site, engines: Engines, hosts: Hosts, listed: list[dict[str, object]]
) -> None:
    """Without a synchronous standby, or with one that is not well, a restart is an outage."""
    hosts.answer(cluster(*listed))
    said = refusal(call(restart_command))
    assert said.startswith("the cluster is not healthy, so no member is restarted (primary1 Leader")
    assert (engines.asked, rows(site, "procedures")) == ([], [])


def test_members_wait_for_a_restart_until_none_does(
    site: Site, engines: Engines, hosts: Hosts
) -> None:
    """The replica first; a setting that waits still is no success, whatever the playbook said."""
    hosts.answer(cluster({**LEADS, **WAITS}, {**FOLLOWS, **WAITS}))
    done = call(restart_command, "--dry-run")
    assert [line.split(",")[0] for line in done.output.splitlines()[:2]] == [
        f"restart {OTHER}",
        f"restart {LEADER}",
    ]
    assert call(restart_command).exit_code == 0
    assert engines.asked == [f"playbooks/restart-members.yml on {LEADER}, {OTHER}"]
    assert outcome(site)[0] == "failed"


def test_who_waits_is_restarted(
    site: Site, engines: Engines, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Afterwards nobody waits any more, and who was restarted is said."""

    def restart(*given: object, **more: Any) -> EngineResult:  # noqa: ANN401 - the engine's own
        hosts.answer(WELL)
        return engines.deploy(*given, **more)  # type: ignore[arg-type] # what it is given

    monkeypatch.setattr("koseki_ops.engines.ansible_run.run_playbook", restart)
    hosts.answer(cluster(LEADS, {**FOLLOWS, **WAITS}))
    done = call(restart_command, "--json")
    assert done.exit_code == 0, done.output
    assert last(done) | {"seconds": 0} == {"restarted": [OTHER], "failed": 0, "seconds": 0}
    assert outcome(site)[0] == "completed"


def test_a_restart_that_failed_is_told(site: Site, engines: Engines, hosts: Hosts) -> None:
    """The others are left alone; exit 1."""
    hosts.answer(cluster(LEADS, {**FOLLOWS, **WAITS}))
    engines.applied = host(failed=1, errors=["secondary1: does not come back"])
    done = call(restart_command)
    assert (done.exit_code, outcome(site)[0]) == (1, "failed")
    assert "koseki: secondary1: does not come back" in done.output


def test_where_nobody_waits_nothing_is_restarted(site: Site, engines: Engines) -> None:
    """It may be called at any time."""
    done = call(restart_command)
    assert (done.exit_code, done.output.strip()) == (0, "no setting waits for a restart")
    assert (engines.asked, outcome(site)[0]) == ([], "completed")


def test_the_list_is_plain_data_too(site: Site, engines: Engines) -> None:
    """Each procedure with its last run, or none."""
    del engines
    call(restart_command, "--reason", "訓練")
    found = last(call(list_command, "--json"))["procedures"]
    assert [row["name"] for row in found] == [kind.name for kind in PROCEDURES]
    ran = {row["name"]: row["last"] for row in found if row["last"]}
    assert set(ran) == {"restart"}
    assert (ran["restart"]["reason"], ran["restart"]["outcome"]) == ("訓練", "completed")
    assert site.is_lab
