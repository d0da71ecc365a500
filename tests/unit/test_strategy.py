"""What Ansible starts may run on every processor, whichever strategy makes it quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from koseki_ops.engines.ansible_run import mitogen

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


def play(tmp_path: Path, text: str, more: dict[str, str], **variables: str) -> None:
    """Run a play on this machine as the toolkit does; more: variables of the environment."""
    file, password = tmp_path / "play.yml", tmp_path / "password"
    file.write_text(text, encoding="utf-8")
    password.write_text("x", encoding="ascii")
    variables["ansible_python_interpreter"] = sys.executable
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("-i", "localhost,", "-e", json.dumps(variables), str(file)),
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


@pytest.mark.parametrize("more", [{}, mitogen()], ids=["plain", "mitogen"])
def test_a_task_may_use_every_processor(tmp_path: Path, more: dict[str, str]) -> None:
    """Bound to one, a lab that a task starts shares it with everything that works on the lab."""
    play(tmp_path, PLAY, more, kept=str(tmp_path / "seen"))
    own = Path("/proc/self/status").read_text(encoding="ascii")
    assert (tmp_path / "seen").read_text(encoding="ascii").strip() in own.splitlines()


FILTER = """
import os

with open({noted!r}, "a") as file:
    file.write(f"{{os.getpid()}}\\n")


class FilterModule:
    def filters(self):
        return {{"same": lambda value: value}}
"""
USING = """
- hosts: localhost
  connection: local
  gather_facts: false
  become: false
  tasks:
    - ansible.builtin.assert: {that: "1 | same == 1"}
    - ansible.builtin.assert: {that: "2 | same == 2"}
    - ansible.builtin.assert: {that: "3 | same == 3"}
"""


def test_filters_are_loaded_once_for_all_tasks(tmp_path: Path) -> None:
    """Each task has a process of its own: what the first one has not loaded, every one loads."""
    noted = tmp_path / "noted"
    filters = tmp_path / "filters"
    filters.mkdir()
    (filters / "same.py").write_text(FILTER.format(noted=str(noted)), encoding="utf-8")
    play(tmp_path, USING, mitogen() | {"ANSIBLE_FILTER_PLUGINS": str(filters)})
    assert len(noted.read_text(encoding="ascii").splitlines()) == 1
