"""A clerk at Oshika's counter, in a real browser through the gateway: searches, files, prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from drills.conftest import Platform
from koseki_ops.trust.terminals import stand_ins_of

SLUG, NAME, KANA = "oshika", "葛󠄂𠮷", "かつよし"
# Run as a module from here, so that it finds what the browser's own tests start theirs with.
PROGRAM, TESTS = "drills.counter", Path(__file__).parents[1]
# What the printed certificate says, read on a host that has the tool.
READ = "pdftotext -layout - - | tr -d '[:space:]'"


@pytest.mark.drill
def test_a_clerk_files_approves_and_prints(registers: Platform, tmp_path: Path) -> None:
    """One clerk receives and prints, another approves; nobody approves alone (K-01, K-19)."""
    site = registers.site
    address = registers.lab.inventory.shared["host_addresses"]["application1"]["city"]
    told = {
        "folder": str(tmp_path),
        "url": f"https://{address}",
        "authority": str(site.state / "pki/ca.crt"),
        "key": str(stand_ins_of(site) / f"{SLUG}-01"),
        "kana": "よしれい",
        "name": NAME,
        "name_kana": KANA,
    }
    argv = ["unshare", "--mount", "env", f"HOME={tmp_path}", sys.executable, "-m", PROGRAM]
    done = subprocess.run(
        registers.lab.terminal_argv(SLUG, [*argv, json.dumps(told)]),
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert "大鹿村" in seen["search"]
    assert "件" in seen["found"]
    assert NAME in seen["filed"]
    assert "できません" in seen["alone"]
    assert NAME in seen["approved"]
    printed = subprocess.run(
        registers.lab.exec_argv("application1", ["sh", "-c", READ]),
        input=(tmp_path / seen["certificate"]).read_bytes(),
        capture_output=True,
        check=True,
    )
    text = printed.stdout.decode()
    assert "大鹿村長" in text
    assert NAME in text
