"""The host that keeps watch: what it is given, what it may do, and what its answers mean."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.results import EngineResult, HostResult
from koseki_ops.core.subprocesses import run
from koseki_ops.drift.judge.sweep import showable
from koseki_ops.drift.model import Cause, Finding, Verdict
from koseki_ops.engines.apply import prepare
from koseki_ops.plan.inventory import WORKSTATION, Inventory
from koseki_ops.plan.revision import INPUTS, inputs_of
from koseki_ops.plan.site import WATCH_HOST_FILE, Site, project_root
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.supply.toolkit import FOLDERS, LOCK, noted, toolkit_bundle, toolkit_digest
from koseki_ops.trust.secrets import init_secrets, load_secrets, secret_values
from koseki_ops.trust.ssh_ca import (
    WATCH_PRINCIPALS,
    certificate,
    sign_operator,
    watch_certificate,
)
from koseki_ops.trust.x509 import Request, open_authority, sign
from koseki_ops.watch.schedule import RUNS, STATUS, opinion, run_states

ROOT = project_root()
HOST = "workstation1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A checkout with secrets and authorities of its own, and its toolkit; both are made once.

    Another site's secrets lie beside its own.
    """
    root = tmp_path_factory.mktemp("made")
    ignore = shutil.ignore_patterns("secrets.yml", "__pycache__", "*.egg-info")
    for folder in ("host_programs", "inventories", "platform_schema", "playbooks", "roles", "src"):
        shutil.copytree(ROOT / folder, root / folder, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE", "ansible.cfg", LOCK):
        shutil.copy(ROOT / name, root / name)
    (root / "inventories/iida/group_vars/all/secrets.yml").write_text("foreign", encoding="ascii")
    site = Site(root, "lab", "mine")
    init_secrets(site)
    ensure_site_ssh(site, Inventory(site.inventory))
    open_authority(site.state / "pki", "passphrase", 10)
    return root, toolkit_bundle(site, HOST)


@pytest.fixture
def control_node(made: tuple[Path, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """That checkout on the control node, where a test may change it."""
    root = tmp_path / "checkout"
    shutil.copytree(made[0], root, symlinks=True)
    monkeypatch.setenv("KOSEKI_ROOT", str(root))
    site = Site.open(name="mine")
    ensure_site_ssh(site, Inventory(site.inventory))
    return site


@pytest.fixture
def watch_host(
    control_node: Site, made: tuple[Path, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Site:
    """The toolkit on the host that keeps watch, as an apply leaves it there."""
    root = tmp_path / "toolkit"
    with tarfile.open(fileobj=io.BytesIO(made[1])) as tar:
        tar.extractall(root, filter="data")
    for name, path in noted(control_node).items():
        (root / "var" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / "var" / name)
    monkeypatch.setenv("KOSEKI_ROOT", str(root))
    return Site.open()


def test_the_toolkit_knows_where_it_is(watch_host: Site) -> None:
    """On the host the one site is the default, hosts are asked straight, and another is refused."""
    assert (watch_host.name, watch_host.origin, watch_host.is_lab) == ("mine", HOST, False)
    with pytest.raises(KosekiError, match="watches another site"):
        Site.open("iida")


def test_at_the_seat_nothing_changes(control_node: Site) -> None:
    """Without the file it is the control node; a lab is entered by its namespace."""
    assert (control_node.origin, control_node.is_lab, control_node.watch_host) == (
        WORKSTATION,
        True,
        None,
    )
    assert "ProxyCommand nsenter" in control_node.ssh_config.read_text(encoding="utf-8")


def test_a_file_that_cannot_be_read_is_named(watch_host: Site) -> None:
    """Half a file is an error, not a toolkit that believes it is the control node."""
    (watch_host.root / WATCH_HOST_FILE).write_text("{", encoding="ascii")
    with pytest.raises(KosekiError, match="does not know which host it is on"):
        Site.open()


def test_it_asks_only_with_a_certificate_that_holds(watch_host: Site, control_node: Site) -> None:
    """No certificate, or one that has run out: one sentence that says who renews it."""
    inventory = Inventory(watch_host.inventory)
    with pytest.raises(KosekiError, match="no SSH certificate"):
        ensure_site_ssh(watch_host, inventory)
    ssh = watch_host.state / "ssh"
    public = (control_node.state / "ssh" / "automation.pub").read_text(encoding="ascii")
    for principal in WATCH_PRINCIPALS:
        shutil.copy(control_node.state / "ssh" / "automation", ssh / principal)
        (ssh / f"{principal}-cert.pub").write_text(
            watch_certificate(control_node, inventory, HOST, principal, public)
        )
    ensure_site_ssh(watch_host, inventory)
    config = watch_host.ssh_config.read_text(encoding="utf-8")
    assert "ProxyCommand" not in config
    assert "HostName 10.158.90.101" in config
    assert not (ssh / "user_ca").exists()
    blocks = {block.split("\n")[0]: block for block in config.split("Host ")[1:]}
    assert f"IdentityFile {ssh / 'watch'}\n" in blocks["primary1"]
    assert f"IdentityFile {ssh / 'watch-datacenter'}\n" in blocks["remote-backup1"]
    assert "User koseki-inspect\n" in blocks["*"]
    assert "IdentityFile" not in blocks["*"]


def test_its_certificates_are_its_own(control_node: Site) -> None:
    """A principal for each kind of host, one command, its own addresses; kept half its life."""
    inventory = Inventory(control_node.inventory)
    public = (control_node.state / "ssh" / "automation.pub").read_text(encoding="ascii")
    for principal in WATCH_PRINCIPALS:
        first = watch_certificate(control_node, inventory, HOST, principal, public)
        path = control_node.state / "ssh" / "watch" / f"{HOST}-{principal}-cert.pub"
        signed = certificate(path)
        assert signed is not None
        assert signed.valid_principals == [principal.encode()]
        assert signed.critical_options == {
            b"force-command": b"/usr/bin/sudo -n /usr/local/sbin/koseki-inspect",
            b"source-address": b"10.158.10.6,10.158.90.6",
        }
        assert signed.extensions == {}
        assert watch_certificate(control_node, inventory, HOST, principal, public) == first


def test_a_certificate_without_the_command_is_signed_anew(control_node: Site) -> None:
    """One of before, which started anything, does not live on until half its life is gone."""
    inventory = Inventory(control_node.inventory)
    public = (control_node.state / "ssh" / "automation.pub").read_text(encoding="ascii")
    watch_certificate(control_node, inventory, HOST, "watch", public)
    folder = control_node.state / "ssh" / "watch"
    run(
        [
            *("ssh-keygen", "-q", "-s", str(control_node.state / "ssh" / "user_ca"), "-I", HOST),
            *("-n", "watch", "-V", "+10d", "-O", "source-address=10.158.10.6,10.158.90.6"),
            str(folder / f"{HOST}-watch.pub"),
        ]
    )
    watch_certificate(control_node, inventory, HOST, "watch", public)
    signed = certificate(folder / f"{HOST}-watch-cert.pub")
    assert signed is not None
    assert b"force-command" in signed.critical_options


def test_it_signs_nothing(watch_host: Site, control_node: Site, tmp_path: Path) -> None:
    """Neither a person nor a host is certified there, whoever asks."""
    del control_node
    key = tmp_path / "key.pub"
    key.write_text("ssh-ed25519 AAAA", encoding="ascii")
    with pytest.raises(KosekiError, match="has no authority and signs nothing"):
        sign_operator(watch_host, Inventory(watch_host.inventory), "sousa01", key)


def test_no_private_key_and_no_secret_travels(control_node: Site, made: tuple[Path, bytes]) -> None:
    """What is handed over and what the toolkit carries: no key, no vault, no value of it."""
    contents = control_node.drift / "contents" / "00"
    contents.mkdir(parents=True)
    value = str(load_secrets(control_node)["pki_ca_passphrase"])
    (contents / ("0" * 64)).write_text(f"before {value} after", encoding="utf-8")
    (contents / ("1" * 64)).write_text("open", encoding="utf-8")
    texts = {name: path.read_bytes() for name, path in noted(control_node).items()}
    assert {"mine/ssh/known_hosts", "mine/ssh/user_ca.pub", "mine/pki/ca.crt"} <= set(texts)
    assert f"mine/drift/contents/00/{'1' * 64}" in texts
    with tarfile.open(fileobj=io.BytesIO(made[1])) as tar:
        names = tar.getnames()
        texts |= {row.name: tar.extractfile(row).read() for row in tar if row.isfile()}  # type: ignore[union-attr] # a file has content
    for secret in (b"PRIVATE KEY-----\n", *map(str.encode, secret_values(control_node))):
        assert [name for name, text in texts.items() if secret in text] == []
    assert [name for name, text in texts.items() if text.startswith(b"$ANSIBLE_VAULT")] == []
    assert [n for n in names if n.endswith("secrets.yml")] == []
    assert any(name.startswith("koseki_ops-") and name.endswith(".whl") for name in names)


def test_what_an_apply_is_made_from_is_the_same_there(
    control_node: Site, watch_host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of the vault of secrets, which is not there: it is compared by its hash."""
    package = (control_node.root / "src/koseki_ops", "src/koseki_ops")
    monkeypatch.setattr("koseki_ops.plan.revision.PACKAGE", package[0])
    here, there = inputs_of(control_node), inputs_of(watch_host)
    assert here.files["inventories/lab/group_vars/all/secrets.yml"]
    assert (here.tree, here.files) == (there.tree, there.files)


def test_what_nobody_declared_is_not_read_there(watch_host: Site, control_node: Site) -> None:
    """It may hold anything: the control node alone fetches its content to show it."""
    found = Finding(
        "primary1",
        "file",
        "/etc/stray",
        Verdict.DRIFTED,
        Cause.UNMANAGED,
        seen="file 644 root:root",
    )
    assert showable(control_node, found)
    assert not showable(watch_host, found)


def test_it_changes_nothing(watch_host: Site) -> None:
    """An apply there is refused, whatever it could read."""
    with pytest.raises(KosekiError, match="only asks, and changes nothing"):
        prepare(watch_host, Inventory(watch_host.inventory))


def test_every_change_of_the_toolkit_is_seen(control_node: Site) -> None:
    """A byte in a role, another link, another site: each is another toolkit."""
    before = toolkit_digest(control_node, HOST)
    assert toolkit_digest(control_node, HOST) == before
    task = control_node.root / "roles/etcd/tasks/main.yml"
    task.write_text(task.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    changed = toolkit_digest(control_node, HOST)
    link = control_node.root / "inventories/lab/group_vars/city"
    link.unlink()
    link.symlink_to("../../iida/group_vars/databases")
    assert len({before, changed, toolkit_digest(control_node, HOST)}) == 3


def test_what_decides_a_host_is_compared_and_goes_along() -> None:
    """A room that only one of the two lists named would be stale unseen, or not there to apply."""
    assert set(FOLDERS) == {*INPUTS, "inventories", "tests/testinfra"}
    assert [name for name in FOLDERS if not (ROOT / name).is_dir()] == []


def test_the_authority_without_its_key_recognises_only(tmp_path: Path) -> None:
    """A good certificate is known without the key; nothing is signed."""
    whole = open_authority(tmp_path, "passphrase", 10)
    (tmp_path / "ca.key").unlink()
    alone = open_authority(tmp_path, "passphrase", 10)
    assert alone.certificate == whole.certificate
    with pytest.raises(KosekiError, match="the CA's key is not on this host"):
        sign(alone, Request("x", (), 1, 1), "")


def test_what_the_engines_need_is_on_the_host() -> None:
    """Roles use no collection that the watch's lock leaves out."""
    pattern = re.compile(r"\b(?:community|ansible|amazon|cisco)\.[a-z_]+\.[a-z_]+")
    used = {
        found.rsplit(".", 1)[0]
        for folder in ("roles", "playbooks", "inventories", "plugins")
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in {".yml", ".j2", ".py"} and path.name != "secrets.yml" and path.is_file()
        for found in pattern.findall(path.read_text(encoding="utf-8"))
    }
    assert used <= {"ansible.builtin", "ansible.module_utils", "ansible.plugins"}


def test_the_second_opinion_is_a_sentence_a_host() -> None:
    """Unreachable hosts are not verified, changes have their remedy; quiet when all holds."""
    quiet = EngineResult("all", {"primary1": HostResult()})
    assert opinion(quiet) == []
    loud = EngineResult(
        "all",
        {
            "primary1": HostResult(changed=1, changes=["Keep sudo"]),
            "secondary1": HostResult(unreachable=True, errors=["secondary1 does not answer"]),
            "application1": HostResult(failed=1, errors=["application1: broken"]),
        },
    )
    assert opinion(loud) == [
        (
            "primary1 differs from the inventory, 1 would change: Keep sudo; "
            "run `koseki apply --limit primary1`"
        ),
        "secondary1 is not verified: secondary1 does not answer",
        "application1 could not be asked: application1: broken",
    ]


SHOWN = """Id=koseki-drift.service
ActiveState={state}
Result={result}
ExecMainStatus={code}
ExecMainStartTimestamp={last}
ExecMainExitTimestamp=
UnitFileState=enabled
NextElapseUSecRealtime={coming}
--
"""


@pytest.mark.parametrize(
    ("shown", "well", "sentence"),
    [
        (("inactive", "success", 0, "", "Tue 09:00"), True, "not due yet; next Tue 09:00"),
        (
            ("inactive", "success", 0, "Tue 08:45", "Tue 09:00"),
            True,
            "Tue 08:45: ended well; next Tue 09:00",
        ),
        (
            ("failed", "exit-code", 1, "Tue 08:45", "Tue 09:00"),
            False,
            "Tue 08:45: ended exit-code 1; next Tue 09:00",
        ),
        (("activating", "success", 0, "Tue 08:45", ""), True, "is at work; no next one"),
        (
            ("inactive", "success", 0, "Tue 08:45", ""),
            False,
            "Tue 08:45: ended well; no next one",
        ),
    ],
)
def test_a_run_says_how_it_stands(
    shown: tuple[str, str, int, str, str], well: bool, sentence: str
) -> None:
    """Systemd's own words become one line; without a next run nothing is well."""
    state, result, code, last, coming = shown
    text = SHOWN.format(state=state, result=result, code=code, last=last, coming=coming)
    row, *_ = run_states("".join(text.replace(RUNS[0].unit, run.unit) for run in RUNS))
    assert (row.unit, row.well, row.sentence) == ("koseki-drift", well, sentence)


def test_every_run_has_a_schedule_in_the_plan() -> None:
    """Each run's calendar and limit stand in the inventory, and its unit in the question."""
    schedule = Inventory(ROOT / "inventories/iida").shared["watch_schedule"]
    wanted = {f"{run.name}_{what}" for run in RUNS for what in ("calendar", "seconds")}
    assert set(schedule) == wanted
    assert all(f"{run.unit}.timer" in STATUS for run in RUNS)
