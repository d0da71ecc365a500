"""Nothing that whoever typed a command has set for other programs steers it."""

from __future__ import annotations

import json
import os
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koseki_ops.core import environment
from koseki_ops.core.environment import FETCHING, KEPT, KEPT_PREFIXES, chosen

ASKED = """
import json, os, subprocess, sys
from koseki_ops.core.environment import for_fetching, forget_caller
forget_caller()
child = subprocess.run(["sh", "-c", "umask; env -0"], capture_output=True, text=True, check=True)
umask, _, rest = child.stdout.partition("\\n")
names = dict(row.split("=", 1) for row in rest.split("\\0") if row)
print(json.dumps([umask, names, for_fetching(), sys.flags.optimize, sys.argv[1:]]))
"""
# Of each program that is started here, what turns what it does; and a locale that is not there.
STEERING = {
    "ANSIBLE_SKIP_TAGS": "all",
    "ANSIBLE_CONFIG": "/nowhere",
    "PYTEST_ADDOPTS": "-k nothing",
    "PYTEST_PLUGINS": "nothing",
    "PYINFRA_VERBOSITY": "3",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "GIT_DIR": "/nowhere",
    "GIT_CONFIG_COUNT": "x",
    "SSH_AUTH_SOCK": "/nowhere",
    "PGHOST": "/nowhere",
    "PGOPTIONS": "-c nothing",
    "LC_ALL": "xx_YY.nothing",
    "LC_MESSAGES": "ja_JP.eucJP",
    "LANGUAGE": "ja",
    "TZ": "Pacific/Kiritimati",
    "LD_PRELOAD": "",
    "BASH_ENV": "/nowhere",
    "ENV": "/nowhere",
    "OPENSSL_CONF": "/nowhere",
    "GREP_OPTIONS": "-v",
    "TAR_OPTIONS": "--nothing",
    "POSIXLY_CORRECT": "1",
    "SYSTEMD_PAGER": "less",
    "DEBIAN_FRONTEND": "dialog",
    "MALLOC_ARENA_MAX": "1",
}


def asked(more: dict[str, str], *arguments: str) -> list[object]:
    """Return what a child of a command sees: umask, environment, that of fetching, flags."""
    done = subprocess.run(
        [sys.executable, "-c", ASKED, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": "/root", **more},
        umask=0o077,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(environment.__file__).parents[2],
    )
    found: list[object] = json.loads(done.stdout)
    return found


def test_what_steers_other_programs_is_forgotten() -> None:
    """Whatever is set, a child sees what it sees where nothing is set."""
    plain = asked({})
    steered = asked(STEERING | {"http_proxy": "http://127.0.0.1:9"}, "--an", "argument")
    assert steered[:2] == plain[:2]
    assert steered[3:] == [0, ["--an", "argument"]]
    umask, seen = plain[0], plain[1]
    assert umask == "0022"
    assert isinstance(seen, dict)
    assert seen["LC_ALL"] == "C.UTF-8"


@pytest.mark.parametrize("more", [{}, {"PYTHONOPTIMIZE": "1"}])
def test_only_what_fetches_hears_of_the_way_there(more: dict[str, str]) -> None:
    """Proxies, certificates and pip's settings; also when Python had to be started once more."""
    given_names = {name: f"of {name}" for name in (*FETCHING, "PIP_CERT", "PIP_INDEX_URL")}
    _, seen, fetching, *_ = asked({**given_names, **more})
    assert isinstance(seen, dict)
    assert isinstance(fetching, dict)
    assert not set(given_names) & set(seen)
    assert {name: fetching.get(name) for name in given_names} == given_names


ANY_NAME = st.text(f"{string.ascii_letters}{string.digits}_", max_size=20)
NAMES = st.one_of(
    st.sampled_from(sorted(KEPT)),
    ANY_NAME,
    st.builds("".join, st.tuples(st.sampled_from([*KEPT_PREFIXES, *sorted(KEPT)]), ANY_NAME)),
)


@given(st.dictionaries(NAMES, st.text()))
def test_what_is_kept_is_a_list(found: dict[str, str]) -> None:
    """No name beyond it passes, whatever it is, and what is on it does as it came."""
    assert chosen(found, KEPT, KEPT_PREFIXES) == {
        name: found[name]
        for name in found
        if name in KEPT or any(name[: len(prefix)] == prefix for prefix in KEPT_PREFIXES)
    }


def test_it_keeps_its_name_when_it_is_started_once_more(tmp_path: Path) -> None:
    """Whoever looks for a program among the processes finds it, and its arguments."""
    program = tmp_path / "koseki"
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys\nfrom pathlib import Path\n"
        "from koseki_ops.core.environment import forget_caller\n"
        "forget_caller()\n"
        "print(Path('/proc/self/comm').read_text().strip(), sys.flags.optimize, *sys.argv[1:])\n",
        encoding="ascii",
    )
    program.chmod(0o755)
    for more in ({}, {"PYTHONOPTIMIZE": "2"}, {"PYTHONDONTWRITEBYTECODE": "1"}):
        done = subprocess.run(
            [program, "a", "b c"],
            env={"PATH": os.environ["PATH"], **more},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "koseki 0 a b c\n"
