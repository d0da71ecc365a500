"""A program that could not say is not one that said nothing: who asked it sees it fail.

Each shell program runs here with what it asks replaced by stand-ins that answer as on a sound host.
Then each of these in turn fails, and is missing: the program has to fail, too, unless that failure
is an answer, with its reason beside it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What says a word and cannot fail otherwise than the shell itself.
PLAIN = ("awk", "cat", "mkdir", "paste", "printf", "readlink", "rm", "sed", "sleep", "sh")
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
    answers: whose failure is an answer (the program then ends well), and why.
    """

    path: str
    asks: Mapping[str, str]
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)


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
        "roles/registry_link/files/units-state.sh",
        {"systemctl": "printf 'active\\nenabled\\n'"},
        ("koseki-link@oshika.service",),
    ),
    Program(
        "host_programs/koseki_requests/sbin/koseki-requests",
        {
            "pg_isready": ":",
            "psql": 'case "$*" in *datname*) echo koseki_oshika ;; esac',
            "psql settle_requests": "",
        },
        answers={"pg_isready": "without a server there is neither a right nor a session"},
    ),
    Program(
        "roles/etcd/files/restart-member.sh",
        {"etcdctl": "echo healthy", "systemctl": ":", "date": CLOCK},
        ("https://primary1:2379", "ca", "cert", "key"),
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
    ),
)
# What it said before it failed is what a sound host would have said.
WAYS: Mapping[str, str | None] = {"fails": "echo t; exit 1", "is missing": None}


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
    for asked, text in {**program.asks, **changed}.items():
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
    return subprocess.run(
        ["/bin/sh", str(ROOT / program.path), *program.arguments],
        env={"PATH": str(folder), **program.environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
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
    if asked in program.answers:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode != 0, done.stdout
