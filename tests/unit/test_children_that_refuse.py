"""A program that could not say is not one that said nothing: who asked it sees it fail.

Each shell program runs here with what it asks replaced by stand-ins that answer as on a sound host.
Then each of these in turn fails, is missing, hangs, and answers garbage: the program has to fail,
too, and soon, unless that is an answer, with its reason beside it. The programs that run by Python
are tried so beside their own tests.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What says a word and cannot fail otherwise than the shell itself.
PLAIN = (
    *("awk", "cat", "env", "find", "flock", "mkdir", "paste", "printf", "readlink"),
    *("rm", "sed", "sh", "timeout"),
)
ETCD = {
    "ETCD_ADVERTISE_CLIENT_URLS": "https://application1:2379",
    "ETCDCTL_CACERT": "ca",
    "ETCDCTL_CERT": "cert",
    "ETCDCTL_KEY": "key",
}
# A clock that goes on by 40 s whenever somebody looks, so that no patience is waited out.
CLOCK = "read -r now <clock || now=0; echo $((now + 40)) >clock; echo $now"
OF_ONE, OF_THE_OTHER = "https://application1", "https://primary1"
STATUS = f"""case "$*" in
*{OF_THE_OTHER}:2379*endpoint*)
    echo '{OF_THE_OTHER}:2379, 2f, 3.5.16, 20 kB, true, false, 2, 9, 9, ' ;;
*endpoint*) echo '{OF_ONE}:2379, 1f, 3.5.16, 20 kB, false, false, 2, 9, 9, ' ;;
*member*) echo '1f, started, application1, {OF_ONE}:2380, {OF_ONE}:2379, false'
    echo '2f, started, primary1, {OF_THE_OTHER}:2380, {OF_THE_OTHER}:2379, false' ;;
esac"""


@dataclass(frozen=True)
class Program:
    """A shell program, what it is called with, and what it asks.

    asks: each program that it starts, with the shell's text that answers in its place; a row whose
    key has a word more (`psql SHOW`) fails only where that word is among the arguments.
    answers: whose failure is an answer (the program then ends well), and why; unread: of whose
    words it reads none, so that garbage is none; files: absolute paths that are there; sound: what
    this machine has, too, and what never fails here.
    """

    path: str
    asks: Mapping[str, str]
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    sound: Mapping[str, str] = field(default_factory=dict)


PROGRAMS = (
    Program(
        "host_programs/koseki_etcd_lead/sbin/koseki-etcd-lead",
        {"etcdctl": STATUS},
        environment=ETCD,
    ),
    Program(
        "roles/applied_files/files/applied-files.sh",
        {
            "getent": "echo postgres:x:1:1::/:/bin/sh",
            "pg_isready": ":",
            "runuser": 'case "$*" in *recovery*) echo t ;; *) cat >&2; echo "{}" ;; esac',
        },
        ("platform_files", "koseki_oshika"),
        answers={
            "getent": "there is no account yet, so no server",
            "pg_isready": "there is no server, or none that takes questions",
        },
    ),
    Program(
        "roles/municipal_databases/files/host-state.sh",
        {
            "getent": "echo postgres:x:1:1::/:/bin/sh",
            "pg_isready": ":",
            "runuser": "echo t",
        },
        ("/nonexistent",),
        answers={
            "getent": "there is no account yet, so no server",
            "pg_isready": "there is no server, or none that takes questions",
        },
    ),
    Program(
        "roles/db_proxy/files/proxy-state.sh",
        {
            "systemctl": "printf 'active\\nenabled\\n'",
            "systemctl MainPID": "echo 1",
            "stat": "echo 4026531840",
        },
        ("haproxy.service",),
    ),
    Program(
        "roles/koseki_application/files/instances-state.sh",
        {
            "systemctl": "echo @99",
            "systemctl list": "echo koseki-application@oshika.service loaded",
            "stat": "echo 50",
        },
        files=("/etc/systemd/system/koseki-application@.service",),
    ),
    Program(
        "roles/postgresql/files/names-of-before.sh",
        {"systemctl": "echo @99", "stat": "echo 50"},
        files=("/etc/patroni/tls/server.crt",),
    ),
    Program(
        "roles/pgbackrest/files/copies-state.sh",
        {
            "systemctl": "echo active",
            "runuser": "echo t",
            "runuser info": 'echo \'[{"repo": [{"key": 1, "status": {"code": 0}}]}]\'',
            "pgbackrest": ":",
        },
        ("koseki",),
        answers={"pgbackrest": "it is only looked for here; another account runs it"},
        unread=("pgbackrest",),
        sound={"python3": f'exec {sys.executable} "$@"'},
        files=("/etc/pgbackrest/pgbackrest.conf",),
    ),
    Program(
        "host_programs/koseki_backup/sbin/koseki-backup",
        {
            "pg_isready": ":",
            "psql": "echo leads",
            "pgbackrest": ":",
        },
        ("full", "1"),
        unread=("pg_isready", "pgbackrest"),
        sound={"id": "echo postgres", "date": CLOCK, "sleep": ":"},
        files=("/run/lock/koseki-backup",),
    ),
    Program(
        "roles/registry_link/files/units-state.sh",
        {"systemctl": "printf 'active\\nenabled\\n'"},
        ("koseki-link@oshika.service",),
    ),
    Program(
        "roles/duplicate_transmission/files/units-state.sh",
        {"systemctl": "printf 'active\\nenabled\\n'"},
        ("koseki-duplicate@oshika.timer",),
    ),
    Program(
        "host_programs/koseki_requests/sbin/koseki-requests",
        {
            "pg_isready": ":",
            "psql": 'case "$*" in *datname*) echo koseki_oshika ;; esac',
            "psql settle_requests": "",
        },
        answers={"pg_isready": "without a server there is neither a right nor a session"},
        unread=("pg_isready", "psql settle_requests"),
    ),
    Program(
        "roles/etcd/files/restart-member.sh",
        {"etcdctl": "echo healthy", "systemctl": ":"},
        ("https://primary1:2379", "ca", "cert", "key"),
        unread=("etcdctl", "systemctl"),
        sound={"date": CLOCK, "sleep": ":"},
    ),
    Program(
        "roles/etcd/files/hold-lead.sh",
        {"systemctl": "echo active", "patronictl": "echo 'loop_wait: 5'"},
        ("hold",),
    ),
    Program(
        "roles/etcd/files/hold-lead.sh",
        {"systemctl": "echo active", "patronictl": "echo 'loop_wait: 5'"},
        ("go",),
        unread=("patronictl",),
    ),
)
# What it said before it failed is what a sound host would have said.
WAYS: Mapping[str, str | None] = {
    "fails": "echo t; echo its own reason >&2; exit 1",
    "is missing": None,
    "hangs": "exec /bin/sleep 60",
    "garbles": "printf '%%{[\\377 \\033no answer\\n'",
}
# How long each may take where a test has it hang, in seconds.
PATIENCE = "0.5"
# Which shell programs ask nothing that could fail otherwise than they do, or are tried elsewhere.
ELSEWHERE = {
    "roles/pki/files/moving.sh": "it looks at names of files, and asks no program",
    "roles/registry_link/files/folders-state.sh": "find alone, whose status is its own",
    "roles/duplicate_transmission/files/folders-state.sh": "find alone, whose status is its own",
    "roles/db_proxy/files/members-answer.sh": "Python in its place; what fails there ends it",
    "roles/postgresql/files/member-state.sh": "the drill of a member that was stopped",
    "host_programs/koseki_seal/sbin/koseki-seal": "test_seal.py",
    "host_programs/koseki_inspect/sbin/koseki-inspect": "test_inspect.py",
    "host_programs/koseki_duplicate/sbin/koseki-duplicate": "it becomes what it calls",
    "host_programs/koseki_link/sbin/koseki-link": "it becomes what it calls",
    "host_programs/koseki_schema/sbin/koseki-schema": "it becomes what it calls",
    "host_programs/rehearse_restore/rehearse-restore": "the drill of a restore",
}


def cases() -> Iterator[tuple[Program, str, str]]:
    """Yield each program, with each that it asks, with each way in which that does not answer."""
    for program in PROGRAMS:
        for asked in program.asks:
            for way in WAYS:
                # Only a program as a whole can be missing.
                if WAYS[way] or " " not in asked:
                    yield program, asked, way


def run(
    program: Program, folder: Path, changed: Mapping[str, str | None]
) -> subprocess.CompletedProcess[str]:
    """Run a program with its stand-ins, some of them changed (None: missing)."""
    for name in PLAIN:
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    for asked, text in {**program.sound, **program.asks, **changed}.items():
        name, _space, word = asked.partition(" ")
        stand_in = folder / name
        if text is None:
            stand_in.unlink(missing_ok=True)
        elif not word:
            stand_in.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
            stand_in.chmod(0o755)
        elif stand_in.exists():
            rest = stand_in.read_text(encoding="utf-8")
            ending = f'case "$*" in *{word}*) {text or ":"}; exit ;; esac'
            stand_in.write_text(f"#!/bin/sh\n{ending}\n{rest}", encoding="utf-8")
    (folder / "clock").write_text("0\n", encoding="ascii")
    script = (ROOT / program.path).read_text(encoding="utf-8")
    for name in program.files:
        assert name in script
        place = folder / name.replace("/", "_")
        place.touch()
        script = script.replace(name, str(place))
    (folder / "program").write_text(script, encoding="utf-8")
    (folder / "program").chmod(0o755)
    return subprocess.run(
        ["/bin/sh", str(folder / "program"), *program.arguments],
        env={
            "PATH": str(folder),
            **program.environment,
            **({"KOSEKI_SECONDS": PATIENCE} if WAYS["hangs"] in changed.values() else {}),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=30,
        check=False,
        cwd=folder,
    )


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: Path(program.path).name)
def test_on_a_sound_host_it_ends_well(tmp_path: Path, program: Program) -> None:
    """The control: nothing but the change that follows makes it fail."""
    done = run(program, tmp_path, {})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("program", "asked", "way"),
    [pytest.param(*case, id=f"{Path(case[0].path).name}-{case[1]}-{case[2]}") for case in cases()],
)
def test_what_it_asks_may_fail(tmp_path: Path, program: Program, asked: str, way: str) -> None:
    """Then it fails, and says nothing that could be taken for an answer."""
    done = run(program, tmp_path, {asked: WAYS[way]})
    answers = program.answers if way == "fails" else program.unread if way == "garbles" else ()
    if asked in answers:
        assert done.returncode == 0, done.stderr
    elif asked not in program.answers:
        assert done.returncode != 0, done.stdout
        assert done.stderr.strip(), "it says why"


def test_every_shell_program_is_tried() -> None:
    """A new one is red until its children are listed, or where they are tried."""
    paths = [*ROOT.glob("roles/*/files/*.sh"), *ROOT.glob("host_programs/*/sbin/*")]
    paths.append(ROOT / "host_programs/rehearse_restore/rehearse-restore")
    shell = {
        str(path.relative_to(ROOT))
        for path in paths
        if path.read_text(encoding="utf-8").startswith("#!/bin/sh")
    }
    tried = {program.path for program in PROGRAMS}
    assert tried.isdisjoint(ELSEWHERE)
    assert shell == tried | ELSEWHERE.keys()


def test_every_job_of_a_host_has_an_end() -> None:
    """What a timer or a start runs is ended when it hangs: by itself it has no limit."""
    paths = [
        path
        for folder in ("roles", "pyinfra_deploys")
        for path in (ROOT / folder).rglob("*.service*")
        if path.is_file() and "Type=oneshot" in path.read_text(encoding="utf-8")
    ]
    assert len(paths) > 5
    endless = [path for path in paths if "TimeoutStartSec=" not in path.read_text(encoding="utf-8")]
    assert endless == []
