"""One place starts ssh, and whatever becomes of it is an answer."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from koseki_ops.core.subprocesses import TIMED_OUT
from koseki_ops.plan.site import Site, project_root
from koseki_ops.remote.run import run

SOURCES = project_root() / "src/koseki_ops"
# What else starts an ssh, and why it is no way to a host.
OTHERS = {
    "remote/ssh_config.py": "ends a shared connection",
    "verify/probes.py": "a port is tried from a host, with none of the site's configuration",
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site whose configuration leads nowhere yet."""
    made = Site(tmp_path, "lab", "lab")
    made.ssh_config.parent.mkdir(parents=True)
    return made


# What ssh says depends on whether it wrote before or after the other end was gone.
CUT = "Connection closed|Broken pipe"


@pytest.mark.parametrize(
    ("line", "code", "reason"),
    [
        ("false", 255, CUT),
        ("sleep 5", TIMED_OUT, "no answer within 1 s"),
        ("/nowhere/at-all", 255, CUT),
    ],
)
def test_a_host_that_gives_nothing_is_an_answer_too(
    site: Site, line: str, code: int, reason: str
) -> None:
    """A line that is cut, that hangs, or that has no other end: a code and a reason each time."""
    site.ssh_config.write_text(f"Host *\n  ProxyCommand {line}\n", encoding="ascii")
    done = run(site, "host1", "true", seconds=1 if code == TIMED_OUT else 30)
    assert (done.code, done.stdout) == (code, "")
    assert re.search(reason, done.reason), done.reason


def test_ssh_is_started_in_one_place() -> None:
    """Its limits, its configuration and the words of its failure are the same for everybody."""
    starting = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.List) and node.elts:
                first = node.elts[0]
                if isinstance(first, ast.Constant) and first.value == "ssh":
                    starting.add(str(path.relative_to(SOURCES)))
    assert starting == {"remote/run.py", *OTHERS}
