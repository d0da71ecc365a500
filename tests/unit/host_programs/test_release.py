"""koseki-release: it unpacks, switches and goes back on a host whose systemd is the test's own."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from koseki_ops.plan.site import Site
from koseki_ops.supply import release
from koseki_release import (
    cli,
    convergence,
    errors,
    instances,
    places,
    processes,
    record,
    unpacked,
)
from koseki_release.archive import TAILS, digest, open_release
from release_samples import signed, source


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a signing key of its own."""
    made = Site(tmp_path, "lab", "lab")
    for part in release.TAILS:
        release.make_key(made, part)
    return made


@pytest.fixture(autouse=True)
def home(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program is at home in a temporary folder; packages are asked of this machine's dpkg."""
    for name in ("BASE", "STATE", "ENVIRONMENT"):
        monkeypatch.setattr(places, name, tmp_path / name.lower())
        (tmp_path / name.lower()).mkdir()
    monkeypatch.setattr(places, "SIGNERS", release.signers_of(site))
    monkeypatch.setattr(places, "INCOMING", places.STATE / "incoming.tar.gz")
    return tmp_path


def ask(archive: Path, version: str, *, allow_downgrade: bool = False) -> list[str]:
    """Bring an archive to the host, ask what it would do; return that."""
    for tail in TAILS:
        target = Path(f"{places.INCOMING}{tail}")
        target.write_bytes(Path(f"{archive}{tail}").read_bytes())
    wanted = convergence.DesiredState(
        version, digest(archive.read_bytes()), {"iida": {"A": "1"}}, "test", allow_downgrade
    )
    host = convergence.Host(wanted, check=True)
    host.converge()
    return host.done


def test_a_host_says_what_it_would_do(site: Site, tmp_path: Path) -> None:
    """Under check a signed release would be unpacked and switched to; nothing is."""
    said = ask(signed(site, source(tmp_path / "a")), "1.0.0")
    assert said == ["unpack 1.0.0", "tell iida its environment", "switch from nothing to 1.0.0"]
    assert list(places.BASE.iterdir()) == []


def test_going_back_by_mistake_is_refused(site: Site, tmp_path: Path) -> None:
    """An older version is refused unless it is meant."""
    archive = signed(site, source(tmp_path / "a", "1.9.0"))
    (places.BASE / "current").symlink_to("releases/1.10.0")
    with pytest.raises(errors.Refused, match=r"1\.10\.0 is running and 1\.9\.0 is older"):
        ask(archive, "1.9.0")
    assert ask(archive, "1.9.0", allow_downgrade=True)[-1].startswith("switch from 1.10.0")


def test_what_a_moved_link_hides_the_record_remembers(site: Site, tmp_path: Path) -> None:
    """Whoever makes an older release the running one by hand does not make it the right one."""
    archive = signed(site, source(tmp_path / "a", "1.9.0"))
    log = places.STATE / "record.jsonl"
    for version, result in (("1.10.0", "ok"), ("1.11.0", "failed")):
        record.record(log, {"action": "switch", "version": version, "result": result})
    (places.BASE / "current").symlink_to("releases/1.8.0")
    with pytest.raises(errors.Refused, match=r"1\.10\.0 was the last .* and 1\.9\.0 is older"):
        ask(archive, "1.9.0")
    (places.BASE / "current").unlink()
    with pytest.raises(errors.Refused, match=r"1\.10\.0 was the last"):
        ask(archive, "1.9.0")
    assert ask(archive, "1.9.0", allow_downgrade=True)
    record.record(log, {"action": "switch", "version": "1.9.0", "result": "ok"})
    assert ask(archive, "1.9.0"), "once chosen on purpose it is the last"


def test_a_kept_archive_gets_the_signature_that_it_lacks(site: Site, tmp_path: Path) -> None:
    """What was released before two had to sign is asked for again, and kept with both."""
    archive = signed(site, source(tmp_path / "a"))
    wanted = convergence.DesiredState(
        "1.0.0", digest(archive.read_bytes()), {"iida": {"A": "1"}}, "test"
    )
    for tail in ("", ".sig"):
        Path(f"{places.STATE / '1.0.0.tar.gz'}{tail}").write_bytes(
            Path(f"{archive}{tail}").read_bytes()
        )
    host = convergence.Host(wanted, check=False)
    host.converge()
    assert host.needs_archive
    for tail in TAILS:
        Path(f"{places.INCOMING}{tail}").write_bytes(Path(f"{archive}{tail}").read_bytes())
    host.keep_archive(open_release(places.INCOMING, places.SIGNERS), places.STATE / "1.0.0.tar.gz")
    assert open_release(places.STATE / "1.0.0.tar.gz", places.SIGNERS).version == "1.0.0"
    assert not places.INCOMING.exists()


def test_a_missing_package_is_named(site: Site, tmp_path: Path) -> None:
    """A release that could not start is refused before it is unpacked."""
    archive = signed(site, source(tmp_path / "a", package="no-such-package"))
    with pytest.raises(errors.Refused, match=r"not installed \(no-such-package\)"):
        ask(archive, "1.0.0")


def test_the_record_shows_an_edit() -> None:
    """Each row holds the digest of the row before."""
    log = places.STATE / "record.jsonl"
    for number in range(3):
        record.record(log, {"action": "switch", "version": f"1.0.{number}"})
    assert record.broken_link(log) is None
    rows = log.read_text().splitlines()
    rows[1] = json.dumps({**json.loads(rows[1]), "version": "9.9.9"})
    log.write_text("\n".join(rows) + "\n")
    assert record.broken_link(log) == 3


def test_an_environment_is_literal() -> None:
    """A value stands in single quotes as it is; one that would end them is refused."""
    assert "A='x $HOME %n'" in instances.environment_text({"A": "x $HOME %n"})
    with pytest.raises(errors.Refused, match="cannot hold this"):
        instances.environment_text({"A": "it's"})


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

    site: Site
    folder: Path

    def offered(self, version: str, status: int, **more: object) -> convergence.Host:
        """Bring a release whose instances answer so; return the host that is asked for it."""
        made = source(self.folder / version, version)
        text = INSTANCE.format(
            python=sys.executable, status=status, socket=str(places.SOCKETS / "iida.sock")
        )
        (made / "run").write_text(text, encoding="utf-8")
        archive = signed(self.site, made)
        for tail in TAILS:
            Path(f"{places.INCOMING}{tail}").write_bytes(Path(f"{archive}{tail}").read_bytes())
        return self.host(version, archive, **more)

    def host(self, version: str, archive: Path, **more: Any) -> convergence.Host:  # noqa: ANN401 - any of DesiredState's fields
        """Return the host that is asked for an archive's version."""
        told = {"instances": {"iida": {"A": "1"}}, **more}
        sha256 = digest(archive.read_bytes())
        wanted = convergence.DesiredState(version=version, sha256=sha256, who="sousa01", **told)
        return convergence.Host(wanted, check=False)

    def log(self) -> list[tuple[str, str]]:
        """Return what stands in the record: action and result."""
        lines = (places.STATE / "record.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return [(row["action"], row.get("result", "")) for row in rows]

    def orders(self) -> list[str]:
        """Return what systemd was told to do since it was last asked, without questions."""
        path = self.folder / "systemd/orders"
        said = path.read_text(encoding="ascii").splitlines()
        path.write_text("", encoding="ascii")
        return [line for line in said if not line.startswith(("show", "reset-failed"))]


@pytest.fixture
def machine(home: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A host without a release."""
    monkeypatch.setattr(places, "SOCKETS", home / "sockets")
    monkeypatch.setattr(instances, "HEALTH_SECONDS", 10)
    programs, state = home / "programs", home / "systemd"
    for folder in (places.SOCKETS, programs, state):
        folder.mkdir()
    (programs / "systemctl").write_text(SYSTEMCTL.format(state=state, base=places.BASE))
    # The journal of the machine that runs the tests is not this host's.
    (programs / "logger").write_text("#!/bin/sh\n")
    for path in programs.iterdir():
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    yield Machine(site, home)
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
    status = cli.status()
    assert (status["current"], status["kept"]) == ("1.0.0", ["1.0.0"])
    assert status["instances"]["iida"] == {
        "active": True, "version": "1.0.0", "listening": True, "enabled": True, "ails": ""
    }  # fmt: skip
    machine.orders()
    again = machine.host("1.0.0", unpacked.kept("1.0.0"))
    again.converge()
    assert (again.done, machine.orders()) == ([], [])


def test_a_release_that_is_not_healthy_is_taken_back(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every instance runs the version before again, and both stand in the record."""
    machine.offered("1.0.0", 200).converge()
    sick = machine.offered("1.1.0", 500)
    monkeypatch.setattr(instances, "HEALTH_SECONDS", 5)
    with pytest.raises(errors.RolledBack, match=r"its health answers 500.*runs 1\.0\.0"):
        sick.converge()
    assert machine.log()[2:] == [("unpack", "ok"), ("switch", "failed"), ("roll-back", "ok")]
    status = cli.status()
    assert (status["current"], status["unpacked"]) == ("1.0.0", ["1.0.0", "1.1.0"])
    assert status["instances"]["iida"]["version"] == "1.0.0"
    assert record.broken_link(places.STATE / "record.jsonl") is None


@pytest.mark.parametrize("ends", [True, False], ids=["ends by itself", "does not start"])
def test_a_first_release_that_does_not_run_leaves_nothing_running(
    machine: Machine, *, ends: bool
) -> None:
    """There is none to go back to: nothing is current, and it is said."""
    if not ends:
        (machine.folder / "systemd/broken").touch()
    why = "it ended by itself|no answer" if ends else "Job failed|it does not start"
    with pytest.raises(errors.Refused, match=why):
        machine.offered("1.0.0", 0).converge()
    assert unpacked.current() is None
    assert machine.log()[-1] == ("switch", "failed")


def test_a_newer_release_replaces_the_one_before(machine: Machine) -> None:
    """The instance works in the new version's folder; the old one stays for going back."""
    machine.offered("1.0.0", 200).converge()
    machine.offered("1.10.0", 200).converge()
    status = cli.status()
    assert (status["current"], status["unpacked"]) == ("1.10.0", ["1.0.0", "1.10.0"])
    assert status["instances"]["iida"]["version"] == "1.10.0"


def test_what_was_altered_on_the_host_is_named_and_mended(machine: Machine) -> None:
    """Byte for byte and mode for mode what was signed; the instance is started from it anew."""
    machine.offered("1.0.0", 200).converge()
    assert cli.audit()["altered"] == []
    folder = places.BASE / "releases/1.0.0"
    (folder / "run").chmod(0o777)
    (folder / "strange").touch()
    (folder / "schema/0001-first.sql").write_text("DROP SCHEMA own;\n")
    report = cli.audit()
    assert report["altered"] == ["run", "schema/0001-first.sql", "strange"]
    assert (report["signed"], report["record"]) == ("1.0.0", None)
    machine.orders()
    mending = machine.host("1.0.0", unpacked.kept("1.0.0"))
    mending.converge()
    assert cli.audit()["altered"] == []
    assert machine.orders() == [f"restart {SERVICE}"]


def test_an_instance_is_told_anew_and_closed(machine: Machine) -> None:
    """A new environment restarts it; a municipality that is wanted no more has its socket shut."""
    machine.offered("1.0.0", 200).converge()
    archive = unpacked.kept("1.0.0")
    machine.orders()
    changed = machine.host("1.0.0", archive, instances={"iida": {"A": "2"}})
    changed.converge()
    assert changed.done[0] == "tell iida its environment"
    assert machine.orders() == [f"restart {SERVICE}"]
    closing = machine.host("1.0.0", archive, instances={})
    closing.converge()
    assert closing.done == ["close the instance of iida"]
    assert machine.orders() == [f"disable --now koseki-application@iida.socket {SERVICE}"]
    assert instances.known_instances() == []
    assert machine.log()[-1] == ("close", "")


def test_an_archive_that_is_not_here_is_asked_for(machine: Machine) -> None:
    """Nothing changes until it comes; one under a version's name that holds another is refused."""
    offered = machine.offered("1.0.0", 200)
    places.INCOMING.unlink()
    offered.converge()
    assert (offered.needs_archive, offered.done) == (True, [])
    other = machine.offered("1.0.0", 200)
    other.wanted.version = "2.0.0"
    with pytest.raises(errors.Refused, match=r"holds 1\.0\.0, not 2\.0\.0"):
        other.converge()


def test_a_version_is_one_archive_for_ever(machine: Machine) -> None:
    """What was released under a version is not replaced by something else of that name."""
    machine.offered("1.0.0", 200).converge()
    with pytest.raises(errors.Refused, match=r"another archive of 1\.0\.0"):
        machine.offered("1.0.0", 503).converge()


def test_systemds_refusal_is_told(machine: Machine) -> None:
    """Its last line, and where to look."""
    (machine.folder / "systemd/broken").touch()
    with pytest.raises(errors.Refused, match=r"`systemctl stop x` failed \(Job failed.\)"):
        processes.systemctl("stop", "x")


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
        for tail in release.TAILS.values():
            Path(f"{words[1]}{tail}").write_bytes(b"no signature")
    monkeypatch.setattr(sys, "argv", ["koseki-release", *words])
    before = os.umask(0o077)
    try:
        if code:
            with pytest.raises(SystemExit) as ended:
                cli.main()
            assert ended.value.code == code
        else:
            cli.main()
    finally:
        os.umask(before)
    out, err = capsys.readouterr()
    assert err.startswith("koseki-release: ") if code else json.loads(out)["current"] is None
