"""Programs that run on hosts: each goes there whole, by one role or deploy, with its version."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.host_programs import HOST_PROGRAMS, program_files, program_folders

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(path for path in (ROOT / HOST_PROGRAMS).iterdir() if path.is_dir())
# The vaults and what the watch may ask are the baseline's.
BY_PYINFRA = {"koseki_inspect", "koseki_seal"}
# What an administrator or a unit calls, or what is brought for one run.
CALLED = sorted(
    [
        *ROOT.glob(f"{HOST_PROGRAMS}/*/sbin/*"),
        ROOT / HOST_PROGRAMS / "rehearse_restore/rehearse-restore",
    ]
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one program: what is called, and a package that it imports."""
    for name in ("sbin/one", "lib/one/one/__init__.py", "lib/one/one/__pycache__/a.pyc", "README"):
        path = tmp_path / HOST_PROGRAMS / "one" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def listed(root: Path) -> list[tuple[str, str]]:
    """Return path and mode on a host of the program's every file."""
    return [(file.path, file.mode) for file in program_files(root, "one")]


def test_a_new_module_goes_along(checkout: Path) -> None:
    """Nobody has to name it; what is called comes last, and what Python left never."""
    before = [("/usr/local/lib/one/one/__init__.py", "0644"), ("/usr/local/sbin/one", "0755")]
    assert listed(checkout) == before
    (checkout / HOST_PROGRAMS / "one/lib/one/one/new").mkdir()
    (checkout / HOST_PROGRAMS / "one/lib/one/one/new/module.py").touch()
    assert listed(checkout) == [
        before[0],
        ("/usr/local/lib/one/one/new/module.py", "0644"),
        before[1],
    ]
    assert program_folders(program_files(checkout, "one")) == [
        "/usr/local/lib/one",
        "/usr/local/lib/one/one",
        "/usr/local/lib/one/one/new",
    ]


def test_modules_of_the_toolkit_go_along(checkout: Path) -> None:
    """Those that are listed, into the program's own folder: one source, at work in two places."""
    folder = checkout / HOST_PROGRAMS / "one"
    (folder / "toolkit.txt").write_text("koseki_ops/core/errors.py\n", encoding="ascii")
    (first, *others) = program_files(checkout, "one")
    assert first.path == "/usr/local/lib/one/koseki_ops/core/errors.py"
    assert first.source == ROOT / "src/koseki_ops/core/errors.py"
    assert [file.path for file in others] == [
        "/usr/local/lib/one/one/__init__.py",
        "/usr/local/sbin/one",
    ]


def test_a_program_that_is_not_there_is_refused(checkout: Path) -> None:
    """A role that asks for it would otherwise bring nothing, and be content."""
    with pytest.raises(
        KosekiError,
        match=r"no such program in `host_programs/` \(two\): name a folder of",
    ):
        program_files(checkout, "two")


def test_every_program_is_brought_by_one_role_or_deploy() -> None:
    """One owner for a file on a host; and none lists a program's files by hand."""
    texts = {
        path: path.read_text(encoding="utf-8")
        for folder in ("roles/*/tasks", "pyinfra_deploys")
        for start in ROOT.glob(folder)
        for path in start.rglob("*")
        if path.suffix in {".yml", ".py"}
    }
    found = {
        folder.name: [
            path
            for path, text in texts.items()
            if re.search(rf"\b{folder.name}['\"/]", text)
            and (
                "koseki_host_program" in text or "HOST_PROGRAMS" in text or "program_files" in text
            )
        ]
        for folder in FOLDERS
    }
    assert {name for name, paths in found.items() if len(paths) != 1} == set()
    by_hand = [path for path, text in texts.items() if re.search(r"(dest|src): \S*usr/local", text)]
    assert by_hand == []
    assert list(ROOT.glob("roles/*/files/usr/**/*")) == []


@pytest.mark.parametrize("program", CALLED, ids=[path.name for path in CALLED])
def test_a_program_says_its_version(program: Path) -> None:
    """Whoever looks at a host can tell which of two is there, without any of its settings."""
    first = program.read_text(encoding="utf-8").splitlines()[0]
    interpreter = [sys.executable, "-B"] if "python3" in first else ["sh"]
    done = subprocess.run(
        [*interpreter, str(program), "--version"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"{program.name} \d+\.\d+\.\d+\n", done.stdout)


def test_what_the_roles_bring_is_all_that_there_is(tmp_path: Path) -> None:
    """As Ansible itself reads the loops of the roles: every file of every program of theirs."""
    tasks = [
        task
        for path in ROOT.glob("roles/*/tasks/*.yml")
        for task in yaml.safe_load(path.read_text(encoding="utf-8"))
        if "koseki_host_program" in str(task.get("loop")) and "copy" in str(list(task))
    ]
    assert len(tasks) == 8
    found = " + ".join(f"({task['loop'].strip(' {}')})" for task in tasks)
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "become": False,
        "tasks": [
            {
                "ansible.builtin.copy": {
                    "content": f"{{{{ {found} }}}}",
                    "dest": str(tmp_path / "found.json"),
                    "mode": "0600",
                }
            }
        ],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    (tmp_path / "password").write_text("x", encoding="ascii")
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("-i", "localhost,", "-e", f"ansible_python_interpreter={sys.executable}"),
            str(tmp_path / "play.yml"),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_VAULT_PASSWORD_FILE": str(tmp_path / "password")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-1000:]
    brought = {row["path"] for row in json.loads((tmp_path / "found.json").read_text("utf-8"))}
    wanted = {
        file.path
        for folder in FOLDERS
        if (folder / "sbin").is_dir() and folder.name not in BY_PYINFRA
        for file in program_files(ROOT, folder.name)
    }
    assert brought == wanted


def test_every_folder_has_something_to_call() -> None:
    """A folder without it would be a program that nobody can start, or one that was forgotten."""
    assert {path.relative_to(ROOT / HOST_PROGRAMS).parts[0] for path in CALLED} == {
        folder.name for folder in FOLDERS
    }
