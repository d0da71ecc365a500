"""Releases: the same source gives the same bytes, and only what was signed gets anywhere."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.site import Site
from koseki_ops.supply import release

pytestmark = pytest.mark.usefixtures("counted_programs")
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / release.PROGRAM
PLAIN = """---
name: plain
version: {version}
packages: [{package}]
start: [run]
health: /health
schema: schema
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a signing key of its own."""
    made = Site(tmp_path, "lab", "lab")
    release.make_key(made)
    return made


def source(folder: Path, version: str = "1.0.0", package: str = "base-files") -> Path:
    """Write a small release's source."""
    (folder / "schema").mkdir(parents=True, exist_ok=True)
    (folder / "release.yml").write_text(PLAIN.format(version=version, package=package))
    (folder / "run").write_text("#!/bin/sh\nexec sleep 60\n")
    (folder / "run").chmod(0o755)
    (folder / "schema/0001-first.sql").write_text("CREATE SCHEMA own;\n")
    return folder


def signed(site: Site, folder: Path) -> Path:
    """Build and sign a release from a source."""
    archive = release.build(folder, release.folder_of(site))
    release.sign(archive, release.folder_of(site) / "signing_key")
    return archive


def refusal(site: Site, archive: Path) -> str:
    """Return the sentence with which a release is refused."""
    with pytest.raises(KosekiError) as caught:
        release.verify(archive, release.signers_of(site))
    return str(caught.value)


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    """Who builds again can prove that an archive came from this source."""
    one = release.build(source(tmp_path / "a"), tmp_path / "one").read_bytes()
    other = release.build(source(tmp_path / "b"), tmp_path / "other").read_bytes()
    assert one == other


def test_a_signed_release_is_verified(site: Site, tmp_path: Path) -> None:
    """Signer, version and SQL are known once the signature holds."""
    found = release.verify(signed(site, source(tmp_path / "a")), release.signers_of(site))
    assert (found["signer"], found["version"], found["schema_version"]) == ("releases", "1.0.0", 1)
    assert found["sql"] == {"schema/0001-first.sql": "CREATE SCHEMA own;\n"}


def test_the_stand_in_is_a_release(site: Site) -> None:
    """What the lab runs is built from the repository and passes its own verification."""
    found = release.verify(signed(site, ROOT / release.STAND_IN), release.signers_of(site))
    assert found["name"] == release.STAND_IN_NAME


def test_an_unsigned_release_is_refused(site: Site, tmp_path: Path) -> None:
    """Without a signature nothing is read."""
    archive = release.build(source(tmp_path / "a"), release.folder_of(site))
    assert "is not signed" in refusal(site, archive)


def test_a_strangers_signature_is_refused(site: Site, tmp_path: Path) -> None:
    """A signature by a key that is not on the list counts as none."""
    archive = release.build(source(tmp_path / "a"), release.folder_of(site))
    release.sign(archive, release.make_key(Site(tmp_path / "stranger", "lab", "lab")))
    assert "signed by nobody who may" in refusal(site, archive)


def test_one_changed_byte_is_refused(site: Site, tmp_path: Path) -> None:
    """What was signed is every byte."""
    archive = signed(site, source(tmp_path / "a"))
    content = bytearray(archive.read_bytes())
    content[-1] ^= 1
    archive.write_bytes(content)
    assert "is not what releases signed" in refusal(site, archive)


def test_a_signature_for_another_purpose_is_refused(site: Site, tmp_path: Path) -> None:
    """The key's signature under a letter is no signature of a release."""
    archive = release.build(source(tmp_path / "a"), release.folder_of(site))
    key = release.folder_of(site) / "signing_key"
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", str(key), str(archive)]
    subprocess.run(argv, check=True, capture_output=True)
    assert "signed for another purpose" in refusal(site, archive)


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../b", "link"])
def test_nothing_leaves_its_folder(site: Site, tmp_path: Path, name: str) -> None:
    """Even a signed archive holds plain files below its own folder, and nothing else."""
    archive = signed(site, source(tmp_path / "a"))
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as packed:
        member = tarfile.TarInfo(name)
        member.type = tarfile.SYMTYPE if name == "link" else tarfile.REGTYPE
        packed.addfile(member, io.BytesIO())
    archive.write_bytes(gzip.compress(content.getvalue()))
    release.sign(archive, release.folder_of(site) / "signing_key")
    assert "is no plain file in its place" in refusal(site, archive)


@pytest.mark.parametrize("line", ["\\! id", "COMMIT;", "RESET ROLE;", "set role postgres;"])
def test_sql_stays_in_its_role(site: Site, tmp_path: Path, line: str) -> None:
    """A schema file works as the owner of one database, in one transaction."""
    folder = source(tmp_path / "a")
    (folder / "schema/0001-first.sql").write_text(f"CREATE SCHEMA own;\n{line}\n")
    assert "has no place in a schema file" in refusal(site, signed(site, folder))


def test_schema_files_are_numbered(tmp_path: Path) -> None:
    """A gap would leave one municipality behind another."""
    folder = source(tmp_path / "a")
    (folder / "schema/0003-third.sql").write_text("SELECT 1;\n")
    with pytest.raises(KosekiError, match="does not have the next number"):
        release.build(folder, tmp_path / "out")


# The host's half, on folders of its own; packages are asked of this machine's dpkg.


@pytest.fixture
def program(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The hosts' program, at home in a temporary folder."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("koseki_release_program", str(PROGRAM))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, loader.name, module)
    loader.exec_module(module)
    for name in ("BASE", "STATE", "ENVIRONMENT"):
        monkeypatch.setattr(module, name, tmp_path / name.lower())
        (tmp_path / name.lower()).mkdir()
    monkeypatch.setattr(module, "SIGNERS", release.signers_of(site))
    monkeypatch.setattr(module, "INCOMING", module.STATE / "incoming.tar.gz")
    return module


def ask(program: ModuleType, archive: Path, version: str, **more: object) -> list[str]:
    """Bring an archive to the host, ask what it would do; return that."""
    for tail in ("", ".sig"):
        target = Path(f"{program.INCOMING}{tail}")
        target.write_bytes(Path(f"{archive}{tail}").read_bytes())
    digest = program.digest(archive.read_bytes())
    wanted = program.DesiredState(version, digest, {"iida": {"A": "1"}}, "test", **more)
    host = program.Host(wanted, check=True)
    host.converge()
    done: list[str] = host.done
    return done


def test_a_host_says_what_it_would_do(program: ModuleType, site: Site, tmp_path: Path) -> None:
    """Under check a signed release would be unpacked and switched to; nothing is."""
    said = ask(program, signed(site, source(tmp_path / "a")), "1.0.0")
    assert said == ["unpack 1.0.0", "tell iida its environment", "switch from nothing to 1.0.0"]
    assert list(program.BASE.iterdir()) == []


def test_going_back_by_mistake_is_refused(program: ModuleType, site: Site, tmp_path: Path) -> None:
    """An older version is refused unless it is meant."""
    archive = signed(site, source(tmp_path / "a", "1.9.0"))
    (program.BASE / "current").symlink_to("releases/1.10.0")
    with pytest.raises(program.Refused, match=r"1\.10\.0 is running and 1\.9\.0 is older"):
        ask(program, archive, "1.9.0")
    assert ask(program, archive, "1.9.0", allow_downgrade=True)[-1].startswith("switch from 1.10.0")


def test_a_missing_package_is_named(program: ModuleType, site: Site, tmp_path: Path) -> None:
    """A release that could not start is refused before it is unpacked."""
    archive = signed(site, source(tmp_path / "a", package="no-such-package"))
    with pytest.raises(program.Refused, match=r"not installed \(no-such-package\)"):
        ask(program, archive, "1.0.0")


def test_the_record_shows_an_edit(program: ModuleType) -> None:
    """Each row holds the digest of the row before."""
    log = program.STATE / "record.jsonl"
    for number in range(3):
        program.record(log, {"action": "switch", "version": f"1.0.{number}"})
    assert program.broken_link(log) is None
    rows = log.read_text().splitlines()
    rows[1] = json.dumps({**json.loads(rows[1]), "version": "9.9.9"})
    log.write_text("\n".join(rows) + "\n")
    assert program.broken_link(log) == 3


def test_an_environment_is_literal(program: ModuleType) -> None:
    """A value stands in single quotes as it is; one that would end them is refused."""
    assert "A='x $HOME %n'" in program.environment_text({"A": "x $HOME %n"})
    with pytest.raises(program.Refused, match="cannot hold this"):
        program.environment_text({"A": "it's"})


# Switching, on a host whose systemd is a program of the test's own: it starts what it is told to,
# and knows of a unit what systemd would.
SYSTEMCTL = """#!/bin/sh
state={state}
[ "$1" = --quiet ] && shift
order=$1
echo "$*" >>"$state/orders"
shift
case $order in
show)
    shift 2
    for unit; do
        pid=0 active=inactive enabled=disabled
        if [ -e "$state/$unit.pid" ] && kill -0 "$(cat "$state/$unit.pid")" 2>/dev/null; then
            pid=$(cat "$state/$unit.pid") active=active
        fi
        [ -e "$state/$unit.open" ] && active=active
        [ -e "$state/$unit.enabled" ] && enabled=enabled
        printf 'Id=%s\\nActiveState=%s\\nMainPID=%s\\nUnitFileState=%s\\n\\n' \
            "$unit" "$active" "$pid" "$enabled"
    done ;;
enable) for unit; do touch "$state/$unit.enabled"; done ;;
start) for unit; do touch "$state/$unit.open"; done ;;
disable)
    shift
    for unit; do
        [ -e "$state/$unit.pid" ] && kill "$(cat "$state/$unit.pid")" 2>/dev/null
        rm -f "$state/$unit".*
    done ;;
stop | restart)
    [ -e "$state/broken" ] && {{ echo "Job failed." >&2; exit 1; }}
    [ -e "$state/$1.pid" ] && kill "$(cat "$state/$1.pid")" 2>/dev/null
    rm -f "$state/$1.pid"
    if [ "$order" = restart ]; then
        setsid sh {base}/current/koseki-start </dev/null >/dev/null 2>&1 &
        echo $! >"$state/$1.pid"
    fi ;;
esac
"""
# What a release starts: it answers on its socket as told, or ends at once when told nothing.
INSTANCE = """#!{python} -IS
import http.server, os, socketserver, sys
STATUS = {status}
if not STATUS:
    sys.exit(1)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(STATUS if self.path == "/health" else 404)
        self.end_headers()
    def log_message(self, *_):
        pass
path = {socket!r}
if os.path.exists(path):
    os.unlink(path)
socketserver.UnixStreamServer(path, Handler).serve_forever()
"""
SERVICE = "koseki-application@iida.service"


@dataclass
class Machine:
    """A host with the program, and a systemd that is a program too."""

    program: ModuleType
    site: Site
    folder: Path

    def offered(self, version: str, status: int, **more: object) -> Any:  # noqa: ANN401 - the program's Host
        """Bring a release whose instances answer so; return the host that is asked for it."""
        made = source(self.folder / version, version)
        text = INSTANCE.format(
            python=sys.executable, status=status, socket=str(self.program.SOCKETS / "iida.sock")
        )
        (made / "run").write_text(text, encoding="utf-8")
        archive = signed(self.site, made)
        for tail in ("", ".sig"):
            Path(f"{self.program.INCOMING}{tail}").write_bytes(
                Path(f"{archive}{tail}").read_bytes()
            )
        return self.host(version, archive, **more)

    def host(self, version: str, archive: Path, **more: Any) -> Any:  # noqa: ANN401 - the program's Host
        """Return the host that is asked for an archive's version."""
        told = {"instances": {"iida": {"A": "1"}}, **more}
        digest = self.program.digest(archive.read_bytes())
        wanted = self.program.DesiredState(version=version, sha256=digest, who="sousa01", **told)
        return self.program.Host(wanted, check=False)

    def log(self) -> list[tuple[str, str]]:
        """Return what stands in the record: action and result."""
        lines = (self.program.STATE / "record.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return [(row["action"], row.get("result", "")) for row in rows]

    def orders(self) -> list[str]:
        """Return what systemd was told to do since it was last asked, without questions."""
        path = self.folder / "systemd/orders"
        said = path.read_text(encoding="ascii").splitlines()
        path.write_text("", encoding="ascii")
        return [line for line in said if not line.startswith(("show", "reset-failed"))]


@pytest.fixture
def machine(
    program: ModuleType, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Machine]:
    """A host without a release."""
    monkeypatch.setattr(program, "SOCKETS", tmp_path / "sockets")
    monkeypatch.setattr(program, "HEALTH_SECONDS", 10)
    programs, state = tmp_path / "programs", tmp_path / "systemd"
    for folder in (program.SOCKETS, programs, state):
        folder.mkdir()
    (programs / "systemctl").write_text(SYSTEMCTL.format(state=state, base=program.BASE))
    # The journal of the machine that runs the tests is not this host's.
    (programs / "logger").write_text("#!/bin/sh\n")
    for path in programs.iterdir():
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    yield Machine(program, site, tmp_path)
    for path in state.glob("*.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(path.read_text(encoding="ascii")), signal.SIGKILL)


def test_a_first_release_is_unpacked_and_started(machine: Machine) -> None:
    """Its socket is opened, its instance is healthy; asked once more, nothing is to be done."""
    host = machine.offered("1.0.0", 200)
    host.converge()
    assert host.done == [
        "unpack 1.0.0",
        "tell iida its environment",
        "open the sockets of iida",
        "run 1.0.0: iida",
    ]
    assert machine.log() == [("unpack", "ok"), ("switch", "ok")]
    status = machine.program.status()
    assert (status["current"], status["kept"]) == ("1.0.0", ["1.0.0"])
    assert status["instances"]["iida"] == {
        "active": True, "version": "1.0.0", "listening": True, "enabled": True, "ails": ""
    }  # fmt: skip
    machine.orders()
    again = machine.host("1.0.0", machine.program.kept("1.0.0"))
    again.converge()
    assert (again.done, machine.orders()) == ([], [])


def test_a_release_that_is_not_healthy_is_taken_back(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every instance runs the version before again, and both stand in the record."""
    machine.offered("1.0.0", 200).converge()
    sick = machine.offered("1.1.0", 500)
    monkeypatch.setattr(machine.program, "HEALTH_SECONDS", 5)
    with pytest.raises(machine.program.RolledBack, match=r"its health answers 500.*runs 1\.0\.0"):
        sick.converge()
    assert machine.log()[2:] == [("unpack", "ok"), ("switch", "failed"), ("roll-back", "ok")]
    status = machine.program.status()
    assert (status["current"], status["unpacked"]) == ("1.0.0", ["1.0.0", "1.1.0"])
    assert status["instances"]["iida"]["version"] == "1.0.0"
    assert machine.program.broken_link(machine.program.STATE / "record.jsonl") is None


@pytest.mark.parametrize("ends", [True, False], ids=["ends by itself", "does not start"])
def test_a_first_release_that_does_not_run_leaves_nothing_running(
    machine: Machine, *, ends: bool
) -> None:
    """There is none to go back to: nothing is current, and it is said."""
    if not ends:
        (machine.folder / "systemd/broken").touch()
    why = "it ended by itself|no answer" if ends else "Job failed|it does not start"
    with pytest.raises(machine.program.Refused, match=why):
        machine.offered("1.0.0", 0).converge()
    assert machine.program.current() is None
    assert machine.log()[-1] == ("switch", "failed")


def test_a_newer_release_replaces_the_one_before(machine: Machine) -> None:
    """The instance works in the new version's folder; the old one stays for going back."""
    machine.offered("1.0.0", 200).converge()
    machine.offered("1.10.0", 200).converge()
    status = machine.program.status()
    assert (status["current"], status["unpacked"]) == ("1.10.0", ["1.0.0", "1.10.0"])
    assert status["instances"]["iida"]["version"] == "1.10.0"


def test_what_was_altered_on_the_host_is_named_and_mended(machine: Machine) -> None:
    """Byte for byte and mode for mode what was signed; the instance is started from it anew."""
    machine.offered("1.0.0", 200).converge()
    assert machine.program.audit()["altered"] == []
    folder = machine.program.BASE / "releases/1.0.0"
    (folder / "run").chmod(0o777)
    (folder / "strange").touch()
    (folder / "schema/0001-first.sql").write_text("DROP SCHEMA own;\n")
    report = machine.program.audit()
    assert report["altered"] == ["run", "schema/0001-first.sql", "strange"]
    assert (report["signed"], report["record"]) == ("1.0.0", None)
    machine.orders()
    mending = machine.host("1.0.0", machine.program.kept("1.0.0"))
    mending.converge()
    assert machine.program.audit()["altered"] == []
    assert machine.orders() == [f"restart {SERVICE}"]


def test_an_instance_is_told_anew_and_closed(machine: Machine) -> None:
    """A new environment restarts it; a municipality that is wanted no more has its socket shut."""
    machine.offered("1.0.0", 200).converge()
    archive = machine.program.kept("1.0.0")
    machine.orders()
    changed = machine.host("1.0.0", archive, instances={"iida": {"A": "2"}})
    changed.converge()
    assert changed.done[0] == "tell iida its environment"
    assert machine.orders() == [f"restart {SERVICE}"]
    closing = machine.host("1.0.0", archive, instances={})
    closing.converge()
    assert closing.done == ["close the instance of iida"]
    assert machine.orders() == [f"disable --now koseki-application@iida.socket {SERVICE}"]
    assert machine.program.known_instances() == []
    assert machine.log()[-1] == ("close", "")


def test_an_archive_that_is_not_here_is_asked_for(machine: Machine) -> None:
    """Nothing changes until it comes; one under a version's name that holds another is refused."""
    offered = machine.offered("1.0.0", 200)
    machine.program.INCOMING.unlink()
    offered.converge()
    assert (offered.needs_archive, offered.done) == (True, [])
    other = machine.offered("1.0.0", 200)
    other.wanted.version = "2.0.0"
    with pytest.raises(machine.program.Refused, match=r"holds 1\.0\.0, not 2\.0\.0"):
        other.converge()


def test_a_version_is_one_archive_for_ever(machine: Machine) -> None:
    """What was released under a version is not replaced by something else of that name."""
    machine.offered("1.0.0", 200).converge()
    with pytest.raises(machine.program.Refused, match=r"another archive of 1\.0\.0"):
        machine.offered("1.0.0", 503).converge()


def test_systemds_refusal_is_told(machine: Machine) -> None:
    """Its last line, and where to look."""
    (machine.folder / "systemd/broken").touch()
    with pytest.raises(machine.program.Refused, match=r"`systemctl stop x` failed \(Job failed.\)"):
        machine.program.systemctl("stop", "x")


@pytest.mark.parametrize(("words", "code"), [(["status"], 0), (["audit"], 0), (["verify", "x"], 2)])
def test_the_command_answers_in_json_or_refuses(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
) -> None:
    """A refusal is one sentence on standard error and exit code 2."""
    if code:
        words = [words[0], str(machine.folder / words[1])]
        Path(words[1]).write_bytes(b"no archive")
        Path(f"{words[1]}.sig").write_bytes(b"no signature")
    monkeypatch.setattr(sys, "argv", ["koseki-release", *words])
    before = os.umask(0o077)
    try:
        if code:
            with pytest.raises(SystemExit) as ended:
                machine.program.main()
            assert ended.value.code == code
        else:
            machine.program.main()
    finally:
        os.umask(before)
    out, err = capsys.readouterr()
    assert err.startswith("koseki-release: ") if code else json.loads(out)["current"] is None
