"""What an apply makes the manifest of a host say, rule by rule, and what its signature holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from koseki_ops.drift.judge import manifest as manifests
from koseki_ops.drift.judge.declared import Declared, of_task
from koseki_ops.drift.judge.manifest import Applied, Manifest, TamperedError, compile_manifest
from koseki_ops.drift.judge.sweep import CONTENTS, drop_contents
from koseki_ops.drift.observe.items import ANY, State, pack, unpack
from koseki_ops.plan import revision
from koseki_ops.plan.revision import Inputs, inputs_of
from koseki_ops.plan.site import Site
from koseki_ops.remote import first_contact

HOST = "primary1"
INPUTS = Inputs("0123456789abcdef", "abc", {})
BOTH = frozenset({"baseline", "services"})


def state(**users: str) -> State:
    """Return a host with these packages (name and version)."""
    made = State()
    for name, version in users.items():
        made.add("package", name, (version, "ii"))
    return made


def old(**packages: str) -> Manifest:
    """Return a manifest from before, with these packages."""
    return Manifest(HOST, INPUTS, 0.0, state(**packages).items)


def applied(before: State | None, after: State, *, bare: bool = False, **declared: str) -> Applied:
    """Return an apply that declared these packages with these versions."""
    rows = {"package": {name: {"version": version} for name, version in declared.items()}}
    return Applied({"baseline": rows if declared else {}}, BOTH, bare, before, after)


def packages(made: Manifest) -> dict[str, str]:
    """Return the version that each package must have."""
    return {name: unpack("package", row)["version"] for name, row in made.items["package"].items()}


def test_what_an_engine_declares_wins_and_is_completed_from_what_was_found() -> None:
    """Rule 1: the declared version stands, the status is the found one; the engine is named."""
    made = compile_manifest(
        HOST, applied(state(sudo="1"), state(sudo="2"), sudo="3"), old(sudo="1"), INPUTS
    )
    assert made.items["package"] == {"sudo": pack(("3", "ii"))}
    assert made.by["package"] == {"sudo": "baseline"}


def test_what_is_declared_and_not_there_is_expected_all_the_same() -> None:
    """A declared item that is missing after the apply is in the manifest, and missed."""
    made = compile_manifest(HOST, applied(state(), state(), sudo="3"), old(), INPUTS)
    assert made.items["package"] == {"sudo": pack(("3", ANY))}


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ("", {"net.ipv4.ip_forward": "0", "kernel.sysrq": "0"}),
        ("nspawn", {"net.ipv4.ip_forward": "0"}),
    ],
)
def test_a_container_has_no_kernel_parameters_but_its_networks(
    container: str, expected: dict[str, str]
) -> None:
    """What the baseline declares of the machine's kernel is missed there, not in a container."""
    after = State(container=container)
    after.add("kernel parameter", "net.ipv4.ip_forward", ("0",))
    declared = {"baseline": {"kernel parameter": {n: {"value": "0"} for n in expected}}}
    declared["baseline"]["kernel parameter"]["kernel.sysrq"] = {"value": "0"}
    made = compile_manifest(
        HOST, Applied(declared, BOTH, bare=False, before=None, after=after), None, INPUTS
    )
    rows = made.items["kernel parameter"]
    assert {n: unpack("kernel parameter", row)["value"] for n, row in rows.items()} == expected


def test_what_appeared_or_changed_while_the_engines_worked_is_theirs() -> None:
    """Rule 2: a package that came along, and one that was upgraded."""
    made = compile_manifest(
        HOST, applied(state(libc="1"), state(libc="2", came="1")), old(libc="1"), INPUTS
    )
    assert packages(made) == {"libc": "2", "came": "1"}


def test_an_older_drift_is_carried_over_not_blessed() -> None:
    """Rule 3: a package that somebody changed or removed before the apply is expected as before."""
    before = state(changed="hand")
    made = compile_manifest(HOST, applied(before, before), old(changed="1", removed="1"), INPUTS)
    assert packages(made) == {"changed": "1", "removed": "1"}


def test_what_was_there_before_and_nobody_knows_stays_unmanaged() -> None:
    """Rule 4: an apply does not take in what somebody installed by hand."""
    there = state(sudo="1", nmap="7")
    made = compile_manifest(HOST, applied(there, there), old(sudo="1"), INPUTS)
    assert packages(made) == {"sudo": "1"}


def test_what_the_engines_took_away_is_expected_no_more() -> None:
    """It was there before the engines and is not afterwards."""
    made = compile_manifest(HOST, applied(state(ntp="1"), state()), old(ntp="1"), INPUTS)
    assert packages(made) == {}


def test_what_the_baseline_no_longer_declares_is_dropped() -> None:
    """The baseline declares all it owns each time; what it leaves out was taken out of the plan."""
    there = state(old="1")
    previous = old(old="1")
    previous.by = {"package": {"old": "baseline"}}
    assert packages(compile_manifest(HOST, applied(there, there), previous, INPUTS)) == {}
    services_only = Applied(
        {"services": {}}, frozenset({"services"}), bare=False, before=there, after=there
    )
    assert packages(compile_manifest(HOST, services_only, previous, INPUTS)) == {"old": "1"}


def test_a_bare_host_is_the_engines_work_throughout() -> None:
    """All that is there after the first apply came with it; nothing is adopted."""
    made = compile_manifest(HOST, applied(None, state(sudo="1"), bare=True), None, INPUTS)
    assert packages(made) == {"sudo": "1"}
    assert not made.adopted


def test_a_host_that_nobody_knows_is_adopted_once_and_says_so() -> None:
    """Without a manifest the host is taken as found; later applies remember that it was."""
    there = state(sudo="1", nmap="7")
    adopted = compile_manifest(HOST, applied(there, there), None, INPUTS)
    assert packages(adopted) == {"sudo": "1", "nmap": "7"}
    assert adopted.adopted
    assert compile_manifest(HOST, applied(there, there), adopted, INPUTS).adopted


def test_a_part_that_was_not_answered_keeps_what_was_true() -> None:
    """A database that did not answer during the apply is neither forgotten nor blessed."""
    after = state(sudo="1")
    after.failed["database"] = "no server"
    previous = old(sudo="1")
    previous.items["role"] = {"postgres": pack(("superuser", "-1", "", "none"))}
    made = compile_manifest(HOST, applied(state(sudo="1"), after), previous, INPUTS)
    assert made.items["role"] == previous.items["role"]
    assert made.unasked == {"database": "no server"}


def test_only_lasting_states_of_units_and_settings_are_expected() -> None:
    """A oneshot that rests, a service nobody enabled, a setting that waits for a restart."""
    after = State()
    after.add("service", "ssh.service", ("multi-user.target.wants", "active"))
    after.add("service", "e2scrub_reap.service", ("multi-user.target.wants", "inactive"))
    after.add("service", "rpcbind.service", ("", "active"))
    after.add("setting", "max_connections", ("300", "true"))
    made = compile_manifest(HOST, applied(None, after, bare=True), None, INPUTS)
    assert made.items["service"] == {
        "ssh.service": pack(("multi-user.target.wants", "active")),
        "e2scrub_reap.service": pack(("multi-user.target.wants", ANY)),
        "rpcbind.service": pack(("", ANY)),
    }
    assert made.items["setting"] == {"max_connections": pack((ANY, "false"))}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site whose state lies in a folder of the test's own."""
    return Site(tmp_path, "lab", "lab")


def test_a_manifest_is_what_was_signed(site: Site) -> None:
    """Written and read again it is the same; a changed byte or another host's is not."""
    manifests.write(site, old(sudo="1"))
    read = manifests.read(site, HOST)
    assert read is not None
    assert packages(read) == {"sudo": "1"}
    path = manifests.path_of(site, HOST)
    path.write_bytes(path.read_bytes().replace(b"sudo", b"sodu"))
    with pytest.raises(TamperedError, match=r"primary1\.json"):
        manifests.read(site, HOST)
    manifests.write(site, old(sudo="1"))
    path.rename(manifests.path_of(site, "secondary1"))
    with pytest.raises(TamperedError, match="was signed for primary1"):
        manifests.read(site, "secondary1")
    assert manifests.read(site, HOST) is None


def test_a_manifest_of_before_names_its_engine_as_today(site: Site) -> None:
    """What an older toolkit signed as the ground's is the baseline's: its drops and its causes."""
    signed = old(sudo="1")
    signed.by = {"package": {"sudo": "ground", "etcd-server": "services"}}
    manifests.write(site, signed)
    read = manifests.read(site, HOST)
    assert read is not None
    assert read.by == {"package": {"sudo": "baseline", "etcd-server": "services"}}


def test_what_was_met_bare_stays_so_until_its_manifest(site: Site) -> None:
    """An apply that is broken off leaves a note; the manifest that ends it takes the note away."""
    assert not first_contact.has_begun(site, HOST)
    first_contact.begin(site, HOST)
    assert first_contact.has_begun(site, HOST)
    assert manifests.read(site, HOST) is None
    manifests.write(site, old(sudo="1"))
    assert not first_contact.has_begun(site, HOST)


def test_only_contents_that_a_manifest_speaks_of_are_kept(site: Site) -> None:
    """What a newer apply replaced goes; nothing goes while a manifest cannot be believed."""
    kept = site.drift / CONTENTS
    spoken_of, replaced = "a" * 64, "b" * 64
    for digest in (spoken_of, replaced):
        (kept / digest[:2]).mkdir(parents=True)
        (kept / digest[:2] / digest).touch()
    manifest = old()
    manifest.items["file"] = {"/etc/hosts": pack(("f", "644", "root", "root", spoken_of))}
    manifests.write(site, manifest)
    signed = manifests.path_of(site, HOST).read_bytes()
    manifests.path_of(site, HOST).write_bytes(signed.replace(b"/etc/hosts", b"/etc/posts"))
    drop_contents(site, [HOST])
    assert len([*kept.glob("*/*")]) == 2
    manifests.path_of(site, HOST).write_bytes(signed)
    drop_contents(site, [HOST, "secondary1"])
    assert [path.name for path in kept.glob("*/*")] == [spoken_of]


def test_inputs_change_with_what_hosts_are_made_from(site: Site) -> None:
    """A changed role is another tree; a compiled file or a dead link is none."""
    role = site.root / "roles/etcd/tasks/main.yml"
    role.parent.mkdir(parents=True)
    role.write_text("one")
    before = inputs_of(site)
    (role.parent / "gone.yml").symlink_to("nowhere.yml")
    (role.parent / "cache.pyc").write_text("x")
    assert inputs_of(site) == before
    role.write_text("two")
    after = inputs_of(site)
    assert after.tree != before.tree
    assert {k for k in after.files if after.files[k] != before.files[k]} == {
        "roles/etcd/tasks/main.yml"
    }


def test_inputs_are_the_whole_package_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python decides of a host (rules, rights, names) is as stale as a role's template."""
    package = Path(revision.__file__).parents[1]
    files = inputs_of(site).files
    sources = {p.relative_to(package) for p in package.rglob("*") if p.is_file()}
    expected = {f"src/koseki_ops/{p}" for p in sources if "__pycache__" not in p.parts}
    assert expected == {name for name in files if name.startswith("src/")}
    copy = site.root / "installed"
    shutil.copytree(package, copy)
    monkeypatch.setattr(revision, "PACKAGE", copy)
    # Where it is installed it has other folders above it, and is the same.
    assert inputs_of(site).files == files
    (copy / "plan/flows.py").write_text("# other\n", encoding="utf-8")
    changed = inputs_of(site).files
    assert {name for name in files if files[name] != changed[name]} == {
        "src/koseki_ops/plan/flows.py"
    }


def test_what_tasks_own_is_read_from_their_results() -> None:
    """Copies, folders, packages, units and users, changed or not; what is skipped is not."""
    copied = of_task(
        "ansible.builtin.copy",
        {},
        {
            "results": [
                {"dest": "/etc/a.timer", "mode": "0644", "owner": "root", "group": "root"},
                {"skipped": True, "dest": "/etc/never"},
            ]
        },
    )
    assert dict(copied["file"]) == {
        "/etc/a.timer": {"type": "f", "mode": "644", "owner": "root", "group": "root"}
    }
    hidden = of_task(
        "ansible.builtin.template",
        {"dest": "/etc/pgbackrest/pgbackrest.conf", "mode": "0640", "src": "{{ x }}"},
        {"censored": "…", "changed": False},
    )
    assert hidden["file"]["/etc/pgbackrest/pgbackrest.conf"] == {"type": "f", "mode": "640"}
    gone = of_task("ansible.builtin.file", {}, {"path": "/etc/x", "state": "absent"})
    assert not gone
    left = of_task("ansible.builtin.user", {}, {"name": "koseki-urugi", "state": "absent"})
    assert not left
    packages = of_task(
        "ansible.builtin.apt", {}, {"invocation": {"module_args": {"package": ["etcd-server"]}}}
    )
    assert packages["package"] == {"etcd-server": {"status": "ii"}}
    unit = of_task(
        "ansible.builtin.systemd_service",
        {},
        {"name": "etcd.service", "enabled": True, "state": "started"},
    )
    assert unit["service"] == {"etcd.service": {"active": "active"}}


def test_a_link_that_masks_is_the_state_of_its_unit() -> None:
    """Ctrl-Alt-Del is masked by a link: it is declared as the unit's state, not as a file."""
    declared = Declared()
    declared.link("/etc/systemd/system/ctrl-alt-del.target", "/dev/null")
    declared.link("/etc/localtime", "/usr/share/zoneinfo/Asia/Tokyo")
    assert declared.rows["service"] == {"ctrl-alt-del.target": {"enabled": "masked"}}
    assert declared.rows["file"]["/etc/localtime"]["content"] == "/usr/share/zoneinfo/Asia/Tokyo"


def test_what_is_not_looked_at_is_owned_by_nobody() -> None:
    """A release on its way is copied by a task and taken away by the host: no drift either way."""
    result = {"dest": "/var/lib/koseki/releases/incoming.tar.gz", "mode": "0600", "state": "file"}
    assert of_task("ansible.builtin.copy", {}, result) == {}
    kept = {**result, "dest": "/etc/haproxy/haproxy.cfg"}
    assert list(of_task("ansible.builtin.copy", {}, kept)["file"]) == ["/etc/haproxy/haproxy.cfg"]
