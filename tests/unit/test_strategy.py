"""What Ansible starts may run on every processor, whichever strategy makes it quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from koseki_ops.ansible_run import mitogen

ROOT = Path(__file__).resolve().parents[2]
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  become: false
  tasks:
    - name: Ask where a command may run
      ansible.builtin.command: grep Cpus_allowed_list /proc/self/status
      register: seen
    - name: Keep it
      ansible.builtin.copy: {content: "{{ seen.stdout }}", dest: "{{ kept }}", mode: "0600"}
"""


@pytest.mark.parametrize("more", [{}, mitogen()], ids=["plain", "mitogen"])
def test_a_task_may_use_every_processor(tmp_path: Path, more: dict[str, str]):
    """Bound to one, a lab that a task starts shares it with everything that works on the lab."""
    play = tmp_path / "play.yml"
    play.write_text(PLAY, encoding="utf-8")
    password = tmp_path / "password"
    password.write_text("x", encoding="ascii")
    kept = {"kept": str(tmp_path / "seen"), "ansible_python_interpreter": sys.executable}
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("-i", "localhost,", "-e", json.dumps(kept), str(play)),
        ],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(password),
            **more,
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    own = Path("/proc/self/status").read_text(encoding="ascii")
    assert (tmp_path / "seen").read_text(encoding="ascii").strip() in own.splitlines()
