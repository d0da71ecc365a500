"""The commands that read the plan, the vault and the engines' answers: words and exit codes."""

from __future__ import annotations

import json
import shutil
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
from koseki_ops.core.progress import OnProgress
from koseki_ops.core.results import EngineResult, HostResult, merge
from koseki_ops.engines import apply as engine
from koseki_ops.engines.cli import apply_command
from koseki_ops.plan.cli import check_command, municipalities_command
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.rules import load_platform
from koseki_ops.plan.site import Site, project_root
from koseki_ops.trust import terminals
from koseki_ops.trust.cli import secrets_group, terminal_group
from koseki_ops.trust.secrets import init_secrets, load_secrets
from koseki_ops.watch.cli import watch_group
from koseki_ops.watch.schedule import RUNS


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with the plan alone."""
    made = tmp_path / "checkout"
    shutil.copytree(
        project_root() / "inventories",
        made / "inventories",
        symlinks=True,
        ignore=shutil.ignore_patterns("secrets.yml"),
    )
    monkeypatch.setenv("KOSEKI_ROOT", str(made))
    return made


def run(command: Command, *words: str) -> Result:
    """Run a command; what it raises is in its result."""
    return CliRunner().invoke(command, list(words))


def last(result: Result) -> dict[str, Any]:
    """Return the JSON object at the end."""
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


# The plan.


def edited(root: Path, name: str, **values: object) -> None:
    """Set values in a file of the plan."""
    path = root / "inventories/iida/group_vars/all" / name
    content = yaml.safe_load(path.read_text(encoding="utf-8")) | values
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def test_a_plan_that_holds_says_so(root: Path) -> None:
    """One line and exit code 0; a fault is exit code 2, on standard error and in JSON."""
    good = run(check_command, "-i", "iida", "--json")
    assert (good.exit_code, last(good)) == (0, {"findings": []})
    assert "the inventory is valid" in good.stdout
    platform = sorted((root / "inventories/iida/group_vars/all").glob("*.yml"))
    (holding,) = [path for path in platform if "\ntimezone:" in f"\n{path.read_text('utf-8')}"]
    edited(root, holding.name, timezone="Asia/Nowhere")
    bad = run(check_command, "-i", "iida", "--json")
    assert bad.exit_code == 2
    assert "timezone" in {row["key"] for row in last(bad)["findings"]}
    assert "Asia/Nowhere" in bad.stderr


@pytest.mark.usefixtures("root")
def test_municipalities_are_those_of_a_day() -> None:
    """Before the first had joined there is none; a day that is none is refused."""
    later = run(municipalities_command, "-i", "iida", "--as-of", "2030-01-01", "--json")
    assert last(later)["active"] == len(last(later)["municipalities"]) > 10
    first = run(municipalities_command, "-i", "iida", "--as-of", "1999-01-01")
    assert first.stdout == "0 municipalities on 1999-01-01\n"
    wrong = run(municipalities_command, "-i", "iida", "--as-of", "soon")
    assert "not a date (soon)" in str(wrong.exception)


# Engines.


def told(**hosts: HostResult) -> EngineResult:
    """Return what an engine did."""
    return EngineResult("all", dict(hosts), 1.0)


def engines(monkeypatch: pytest.MonkeyPatch, result: EngineResult) -> list[engine.Plan]:
    """Let the engines do this, on hosts that are not there; return what they were asked."""
    plans: list[engine.Plan] = []

    def applied(_site: Site, plan: engine.Plan, _say: OnProgress) -> EngineResult:
        plans.append(plan)
        return result

    monkeypatch.setattr(engine, "apply", applied)
    return plans


CHANGED = HostResult(changed=2, changes=["a file", "a unit"])
FAILED = HostResult(failed=1, errors=["primary1: it does not start"])
UNREACHABLE = HostResult(unreachable=True, errors=["primary1 does not answer"])
REFUSED = HostResult(failed=1, refused=1, errors=["the cluster is not healthy"])


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("result", "code", "line"),
    [
        (told(primary1=CHANGED), 0, "primary1             2 changed"),
        (told(primary1=FAILED), 1, "primary1             0 changed, 1 failed"),
        (told(primary1=UNREACHABLE), 2, "primary1             not touched"),
        (told(primary1=REFUSED), 2, "primary1             0 changed, 1 failed"),
    ],
    ids=["changed", "failed", "unreachable", "refused"],
)
def test_an_apply_ends_as_it_went(
    monkeypatch: pytest.MonkeyPatch, result: EngineResult, code: int, line: str
) -> None:
    """A line a host, every failure as a sentence, and the exit code that is documented."""
    plans = engines(monkeypatch, result)
    done = run(apply_command, "--only", "baseline", "--limit", "primary", "--json")
    assert (done.exit_code, done.stdout.splitlines()[0]) == (code, line)
    assert plans == [engine.Plan(check=False, limit=("primary",), engines=("baseline",))]
    for error in result.errors:
        assert error in done.stderr
    run(apply_command, "--check")
    assert plans[1] == engine.Plan(check=True)
    run(apply_command, "--only", "ground")
    assert plans[2] == engine.Plan(engines=("baseline",))


def test_two_engines_on_one_host_are_one_result() -> None:
    """Counts are added, and who was unreachable for one was unreachable."""
    baseline = told(primary1=CHANGED, secondary1=HostResult())
    services = told(primary1=UNREACHABLE, application1=FAILED)
    both = merge([baseline, services])
    assert list(both.hosts) == ["primary1", "secondary1", "application1"]
    assert (both.changed, both.failed, both.seconds) == (2, 2, 2.0)
    assert both.unreachable == ["primary1"]
    assert both.errors == [*UNREACHABLE.errors, *FAILED.errors]
    assert merge([services, baseline]).unreachable == ["primary1"]


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("result", "code", "said"),
    [
        (told(primary1=HostResult()), 0, "1 hosts, nothing would change, 1 s"),
        (told(primary1=CHANGED), 1, "2 would change: a file; a unit"),
        (told(primary1=FAILED), 1, "could not be asked: primary1: it does not start"),
        (told(primary1=UNREACHABLE), 2, "primary1 is not verified: primary1 does not answer"),
        (told(primary1=HostResult(unreachable=True)), 2, "primary1 is not verified: no answer"),
        (told(primary1=REFUSED), 2, "could not be asked: the cluster is not healthy"),
    ],
    ids=["nothing", "changed", "failed", "unreachable", "unreachable for no reason", "refused"],
)
def test_a_second_opinion_is_the_engines(
    monkeypatch: pytest.MonkeyPatch, result: EngineResult, code: int, said: str
) -> None:
    """Asked under check; whatever would change is named, and an unreachable host is worse."""
    plans = engines(monkeypatch, result)
    done = run(watch_group, "opinion", "--json")
    assert done.exit_code == code
    assert said in done.output
    assert [plan.check for plan in plans] == [True]


def state(unit: str, result: str) -> str:
    """Return what systemd tells of one run."""
    return (
        f"Id={unit}.service\nActiveState=inactive\nResult={result}\nExecMainStatus=1\n"
        "ExecMainStartTimestamp=Mon 2026-11-30 08:00:00 JST\n"
        f"Id={unit}.timer\nNextElapseUSecRealtime=Tue 2026-12-01 08:00:00 JST\n--\n"
    )


@pytest.mark.usefixtures("root")
def test_the_runs_of_each_host_that_keeps_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All well: 0; one that failed: 1; a host that does not answer is a sentence."""
    hosts = Hosts(tmp_path, monkeypatch)
    well = "".join(state(run.unit, "success") for run in RUNS)
    hosts.answer(Answer("systemctl show", well))
    good = run(watch_group, "status", "--json")
    assert good.exit_code == 0, good.output
    rows = [row for of_host in last(good).values() for row in of_host]
    assert {row["unit"] for row in rows} == {run.unit for run in RUNS}
    ill = well.replace("Result=success", "Result=exit-code", 1)
    hosts.answer(Answer("systemctl show", ill))
    bad = run(watch_group, "status")
    assert bad.exit_code == 1
    assert "ended exit-code 1; next Tue 2026-12-01" in bad.stdout
    # A watch that tells of no run at all is not well.
    for said in ("", well.replace("Id=", "Name="), well * 2, ill.replace("Status=1", "Status=x")):
        hosts.answer(Answer("systemctl show", said))
        strange = run(watch_group, "status")
        assert isinstance(strange.exception, KosekiError)
        assert "does not say how its runs stand" in str(strange.exception)
    hosts.answer()
    unreachable = run(watch_group, "status")
    assert isinstance(unreachable.exception, KosekiError)
    assert "does not answer" in str(unreachable.exception)


# The vault and the terminals.


def test_the_vault_is_made_once_and_checked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made, then complete, then all there; a secret that is missing is named with its remedy."""
    assert "secrets made" in run(secrets_group, "init").stdout
    assert "complete, nothing made" in run(secrets_group, "init").stdout
    assert run(secrets_group, "check").stdout.endswith("secrets, all there\n")
    kept = load_secrets(Site(root, "lab", "lab"))
    gone = next(iter(kept))
    monkeypatch.setattr("koseki_ops.trust.cli.load_secrets", lambda _site: {**kept, gone: ""})
    done = run(secrets_group, "check")
    assert (done.exit_code, done.stdout) == (1, f"missing: {gone}; run `koseki secrets init`\n")


def test_a_terminals_certificate_is_signed_listed_and_revoked(root: Path) -> None:
    """By the site's own authority; what was revoked before is said to be so."""
    site = Site(root, "lab", "lab")
    init_secrets(site)
    terminals.ensure_authority(site, load_platform(Inventory(site.inventory)))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "oshika-01")])
    key = ec.generate_private_key(ec.SECP256R1())
    asked = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256())
    request = root / "oshika-01.csr"
    request.write_bytes(asked.public_bytes(Encoding.PEM))
    signed = run(terminal_group, "sign", "oshika-01", str(request))
    assert Path(signed.stdout.strip()).is_file(), signed.output
    (row,) = last(run(terminal_group, "list", "--json"))["certificates"]
    assert (row["terminal"], row["municipality"], row["revoked"]) == ("oshika-01", "oshika", None)
    revoked = run(terminal_group, "revoke", "oshika-01")
    assert revoked.stdout.splitlines() == [
        f"revoked: {row['serial']}",
        "run `koseki apply` to bring it to the gateway",
    ]
    assert run(terminal_group, "revoke", "oshika-01").stdout == "oshika-01 was revoked before\n"
    assert "revoked 2" in run(terminal_group, "list").stdout
