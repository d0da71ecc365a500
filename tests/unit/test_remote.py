"""The one SSH configuration, the first contact with a host, and what the cluster says of itself."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hosts import Answer, Hosts
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.subprocesses import CUT_OFF
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site, WatchHost, project_root
from koseki_ops.remote import first_contact, run
from koseki_ops.remote.cli import ssh_group
from koseki_ops.remote.cluster import Member, leader, members
from koseki_ops.remote.psql import literal, run_on_leader
from koseki_ops.remote.ssh_config import close_connections, ensure_site_ssh
from koseki_ops.trust.ssh_ca import WATCH_PRINCIPALS, files_of

HOST, OTHER, WATCH = "primary1", "secondary1", "workstation1"
LEADS = '[{"Member": "primary1", "Role": "Leader", "State": "running", "TL": 3}]'


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a lab's authorities; they are made once."""
    made = tmp_path_factory.mktemp("checkout")
    (made / "inventories").symlink_to(project_root() / "inventories")
    site = Site(made, "lab", "mine")
    ensure_site_ssh(site, Inventory(site.inventory))
    return made


@pytest.fixture
def site(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A lab's site of its own, with no host behind its configuration."""
    copy = tmp_path / "checkout"
    shutil.copytree(root, copy, symlinks=True)
    monkeypatch.setenv("KOSEKI_ROOT", str(copy))
    made = Site.open(name="mine")
    yield made
    shutil.rmtree(made.run_dir, ignore_errors=True)


@pytest.fixture
def inventory(site: Site) -> Inventory:
    """The lab's inventory."""
    return Inventory(site.inventory)


@pytest.fixture
def hosts(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    """Hosts that answer as a test has written down."""
    del site
    return Hosts(tmp_path, monkeypatch)


def call(*words: str) -> Result:
    """Run `koseki ssh` on the site."""
    return CliRunner().invoke(ssh_group, [*words, "--name", "mine"])


def refusal(done: Result) -> str:
    """Return the one sentence with which it was refused."""
    assert isinstance(done.exception, KosekiError), done.output
    return str(done.exception)


# The configuration.


def test_ssh_itself_reads_the_configuration(site: Site, inventory: Inventory) -> None:
    """By a host's address, with our certificate, and never without the host's key (K-11)."""
    done = call("config")
    assert (done.exit_code, done.output.strip()) == (0, str(site.ssh_config))
    shown = subprocess.run(
        ["ssh", "-G", "-F", str(site.ssh_config), HOST], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    wanted = {
        f"hostname {inventory.address_of(HOST, site.origin)}",
        f"hostkeyalias {HOST}",
        f"certificatefile {files_of(site).automation_key}-cert.pub",
        "stricthostkeychecking true",
        "passwordauthentication no",
        "batchmode yes",
    }
    assert wanted <= set(shown)


def test_a_connection_that_lingers_is_closed(site: Site) -> None:
    """Its socket goes, whether or not a master still stands behind it; nothing else does."""
    site.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    control, beside = site.run_dir / "dead", site.run_dir / "note"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(control))
    beside.touch()
    close_connections(site)
    assert (control.exists(), beside.exists()) == (False, True)
    shutil.rmtree(site.run_dir)
    close_connections(site)
    assert not site.run_dir.exists()


def test_a_watch_host_needs_a_certificate_that_has_not_run_out(
    site: Site, inventory: Inventory
) -> None:
    """It signs nothing itself: the sentence says where a new one comes from."""
    watch = replace(site, watch_host=WatchHost(WATCH, "lab", "mine", ""))
    keys = [files_of(site).watch_key(principal) for principal in WATCH_PRINCIPALS]
    signed = ["ssh-keygen", "-q", "-s", str(files_of(site).user_ca), "-I", "watch", "-n", "watch"]
    for key in keys:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        subprocess.run([*signed, "-V", "-1d:+1d", str(key.with_suffix(".pub"))], check=True)
    ensure_site_ssh(watch, inventory)
    for key in keys:
        certified = key.with_name(f"{key.name}-cert.pub")
        whole = certified.read_bytes()
        subprocess.run([*signed, "-V", "-3d:-1d", str(key.with_suffix(".pub"))], check=True)
        with pytest.raises(KosekiError, match="has expired") as refused:
            ensure_site_ssh(watch, inventory)
        assert f"run `koseki apply --limit {WATCH}` on the control node" in str(refused.value)
        certified.unlink()
        with pytest.raises(KosekiError, match=f"{WATCH} has no SSH certificate"):
            ensure_site_ssh(watch, inventory)
        certified.write_bytes(whole)


# The first contact.


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The fingerprint of the key that the line shows; `nsenter` enters nothing here."""
    key = tmp_path / "host_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    programs = tmp_path / "line"
    programs.mkdir()
    public = " ".join(key.with_suffix(".pub").read_text(encoding="ascii").split()[:2])
    (programs / "key").write_text(f"10.0.0.1 {public}\n", encoding="ascii")
    scan = f'#!/bin/sh\necho "$*" >{programs}/asked\ncat {programs}/key\n'
    (programs / "ssh-keyscan").write_text(scan, encoding="ascii")
    (programs / "nsenter").write_text('#!/bin/sh\nshift\nexec "$@"\n', encoding="ascii")
    for name in ("ssh-keyscan", "nsenter"):
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    said = subprocess.run(
        ["ssh-keygen", "-l", "-f", key], capture_output=True, text=True, check=True
    )
    return said.stdout.split()[1]


def known(site: Site, host: str) -> str:
    """Return the key by which ssh knows a host, empty when it does not."""
    found = subprocess.run(
        ["ssh-keygen", "-F", host, "-f", files_of(site).folder / "known_hosts"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "".join(line for line in found.stdout.splitlines() if line.startswith(f"{host} "))


def test_a_host_is_known_by_the_key_that_its_console_shows(
    site: Site, inventory: Inventory, shown: str, tmp_path: Path
) -> None:
    """It was met bare from then on; another key later takes the place of the first."""
    pinned = files_of(site).pinned
    pinned.write_text(f"{OTHER} ssh-ed25519 BBBB\n{HOST} ssh-ed25519 CCCC\n", encoding="ascii")
    done = call("pin", HOST, shown)
    assert done.exit_code == 0, done.output
    assert done.output.endswith(f"is known by {shown}: run `koseki apply --limit {HOST}`\n")
    key = (tmp_path / "line/key").read_text(encoding="ascii").split(" ", 1)[1].strip()
    assert known(site, HOST) == f"{HOST} {key}"
    assert pinned.read_text(encoding="ascii") == f"{OTHER} ssh-ed25519 BBBB\n{HOST} {key}\n"
    address = str(inventory.address_of(HOST, site.origin))
    assert (tmp_path / "line/asked").read_text(encoding="ascii").split()[-1] == address
    assert first_contact.has_begun(site, HOST)
    first_contact.end(site, HOST)
    assert not first_contact.has_begun(site, HOST)
    first_contact.end(site, HOST)


def test_a_key_that_the_console_does_not_show_is_refused(site: Site, shown: str) -> None:
    """Both are named; nothing is pinned, and the host was never met."""
    other = f"SHA256:{'A' * 43}"
    said = refusal(call("pin", HOST, other))
    assert f"{HOST} shows another key than its console ({shown}, not {other})" in said
    assert known(site, HOST) == ""
    assert not first_contact.has_begun(site, HOST)


def test_a_host_that_shows_no_key_is_refused(
    site: Site, inventory: Inventory, shown: str, tmp_path: Path
) -> None:
    """With the command that asks once more."""
    (tmp_path / "line/key").write_text("", encoding="ascii")
    address = inventory.address_of(HOST, site.origin)
    said = refusal(call("pin", HOST, shown))
    assert f"{HOST} shows no ed25519 key" in said
    assert f"run `ssh-keyscan -t ed25519 {address}`" in said


def test_outside_of_a_lab_the_line_is_this_machines(site: Site, shown: str, tmp_path: Path) -> None:
    """No namespace is entered: there is none."""
    (tmp_path / "line/nsenter").write_text("#!/bin/sh\nexit 9\n", encoding="ascii")
    city = Site(site.root, "iida", "iida")
    key = first_contact.shown_key(city, Inventory(city.inventory), HOST, shown)
    assert key == (tmp_path / "line/key").read_text(encoding="ascii").split(" ", 1)[1].strip()
    with pytest.raises(KosekiError, match="nsenter"):
        first_contact.shown_key(site, Inventory(site.inventory), HOST, shown)


def test_only_a_host_of_the_plan_is_pinned(site: Site) -> None:
    """The known ones are named."""
    assert "no such host in the inventory (primary9): name one of `hosts.yml`: " in refusal(
        call("pin", "primary9", f"SHA256:{'A' * 43}")
    )
    assert not files_of(site).pinned.exists()


def test_an_operator_is_certified_for_a_days_work(site: Site, tmp_path: Path) -> None:
    """His own key, by the users' CA, as the account that is his."""
    key = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    done = call("sign", "sousa01", str(key.with_suffix(".pub")))
    assert done.exit_code == 0, done.output
    certified = Path(done.output.strip())
    shown = subprocess.run(
        ["ssh-keygen", "-L", "-f", certified], capture_output=True, text=True, check=True
    ).stdout
    authority = files_of(site).user_ca.with_suffix(".pub")
    signer = subprocess.run(
        ["ssh-keygen", "-l", "-f", authority], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert signer in shown
    assert "sousa01" in shown.partition("Principals:")[2].partition("Critical")[0]


# The cluster.


def listed(text: str, host: str = "") -> Answer:
    """Return what a host says when it is asked for the cluster's members."""
    return Answer("patronictl", text, host=host)


def test_the_first_host_that_knows_the_members_counts(
    site: Site, inventory: Inventory, hosts: Hosts
) -> None:
    """One that is away, or says something else, is passed over."""
    wanted = [Member(HOST, "Leader", "running", 3)]
    hosts.answer(listed(LEADS, OTHER))
    assert members(site, inventory) == wanted
    hosts.answer(listed("half of", HOST), listed(LEADS, OTHER))
    assert members(site, inventory) == wanted
    hosts.answer(listed('[{"Member": "primary1"}]', HOST), listed(LEADS, OTHER))
    assert members(site, inventory) == wanted


@pytest.mark.parametrize(
    ("answers", "seen"),
    [
        ([], f"ssh: connect to host {OTHER}: No route to host"),
        ([listed("[7]")], f"{OTHER} did not list its members"),
        ([Answer("patronictl", code=1, stderr="no etcd")], "no etcd"),
    ],
)
def test_a_cluster_of_which_nobody_knows_is_refused(
    site: Site, inventory: Inventory, hosts: Hosts, answers: list[Answer], seen: str
) -> None:
    """With why the last one that was asked does not know."""
    hosts.answer(*answers)
    with pytest.raises(KosekiError, match="no database host reports the state") as refused:
        members(site, inventory)
    assert seen in str(refused.value)


@pytest.mark.parametrize(
    ("rows", "seen"),
    [
        ("[]", "nobody leads"),
        (LEADS.replace("running", "starting"), "nobody leads"),
        (f"{LEADS[:-1]}, {LEADS[1:].replace(HOST, OTHER)}", f"{HOST}, {OTHER}"),
    ],
)
def test_one_leads_or_nobody_is_asked(
    site: Site, inventory: Inventory, hosts: Hosts, rows: str, seen: str
) -> None:
    """Two that say so are as bad as none: neither is told anything."""
    hosts.answer(listed(rows), Answer("psql", "done"))
    with pytest.raises(KosekiError, match="the cluster has no leader") as refused:
        run_on_leader(site, inventory, "DELETE FROM x;")
    assert f"({seen})" in str(refused.value)
    assert not any("DELETE" in asked for asked in hosts.asked())


def test_what_the_server_refuses_is_its_own_sentence(
    site: Site, inventory: Inventory, hosts: Hosts
) -> None:
    """Without psql's file and line; a host that does not answer is no refusal of the server's."""
    hosts.answer(listed(LEADS), Answer("psql", "3\n", host=HOST))
    assert leader(site, inventory) == HOST
    assert run_on_leader(site, inventory, "SELECT 3;") == "3\n"
    assert hosts.asked()[-1].endswith("--file=-\nSELECT 3;")
    complaint = "psql:<stdin>:2: ERROR:  no request of oshika is open\nCONTEXT:  x\n"
    hosts.answer(listed(LEADS), Answer("psql", stderr=complaint, code=3))
    with pytest.raises(KosekiError) as refused:
        run_on_leader(site, inventory, "SELECT 3;")
    assert refused.value.seen == "no request of oshika is open"
    hosts.answer(listed(LEADS))
    with pytest.raises(KosekiError) as refused:
        run_on_leader(site, inventory, "SELECT 3;")
    assert refused.value.seen.endswith("No route to host")


def test_a_text_of_sql_is_quoted() -> None:
    """Nothing that a person writes ends its literal."""
    assert literal("O'Neill'; DROP") == "'O''Neill''; DROP'"
    assert literal({"理由": "it's"}) == "'{\"理由\": \"it''s\"}'"


# An answer that is kept in a file.


def test_an_answer_that_is_kept_leaves_room_on_the_disk(
    site: Site, hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a host sends: where it would fill the disk it is no answer, and it is said."""
    hosts.answer(Answer("copy", "its registers"))
    with (tmp_path / "copy").open("xb") as out:
        done = run.run(site, HOST, "copy", out=out)
    assert (done.code, done.stdout) == (0, "")
    assert (tmp_path / "copy").read_bytes() == b"its registers"
    monkeypatch.setattr(run, "ROOM_BYTES", 1 << 62)
    with (tmp_path / "cut").open("xb") as out:
        done = run.run(site, HOST, "copy", out=out)
    assert (done.code, done.stdout) == (CUT_OFF, "")
    assert "on the disk: cut off" in done.reason
    assert (tmp_path / "cut").read_bytes() == b""
