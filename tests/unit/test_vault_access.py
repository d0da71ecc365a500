"""What a database's host is given to enter the vaults, by the tasks that every apply plays."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from koseki_ops.core.subprocesses import run
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site, project_root
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.trust.ssh_ca import files_of, host_certificate

ROOT = project_root()
HOST = "primary1"
UPLOADER = {"name": "Keep the way to the vaults", "ansible.builtin.include_tasks": "uploader.yml"}
MADE = [
    "Keep the folder",
    "Make this host's key",
    "Keep the public half, its certificate and the vaults' host keys",
]
# What a run that was broken off leaves, and a certificate that somebody put there.
BREAK = {
    "name": "Break it",
    "ansible.builtin.shell": "rm {{ pgbackrest_key }}.pub; echo x >{{ pgbackrest_key }}-cert.pub",
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A lab's site that has met one of the vaults, in a checkout of its own without secrets."""
    ignore = shutil.ignore_patterns("secrets.yml")
    shutil.copytree(ROOT / "inventories", tmp_path / "inventories", symlinks=True, ignore=ignore)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "password").write_text("x", encoding="ascii")
    made = Site(tmp_path, "lab", "uploads")
    inventory = Inventory(made.inventory)
    ensure_site_ssh(made, inventory)
    # Who uploads is an account of the package's, which this machine need not have.
    user = pwd.getpwuid(os.getuid()).pw_name
    for name in ("uploader.yml", "certificate.yml"):
        tasks = (ROOT / "roles/pgbackrest/tasks" / name).read_text(encoding="utf-8")
        for account in ("postgres", "root"):
            tasks = tasks.replace(f"owner: {account}", f"owner: {user}")
            tasks = tasks.replace(f"group: {account}", f"group: {user}")
        (tmp_path / name).write_text(tasks, encoding="utf-8")
    public = files_of(made).host_ca.with_suffix(".pub").read_text(encoding="ascii")
    host_certificate(made, inventory, "remote-backup1", public)
    return made


def play(site: Site, tasks: list[dict[str, str]], *arguments: str) -> list[str]:
    """Play tasks on this machine as if it were the host; return which changed something."""
    head = {"hosts": HOST, "connection": "local", "gather_facts": False, "become": False}
    file = site.root / "play.yml"
    file.write_text(yaml.safe_dump([{**head, "tasks": tasks}]), encoding="utf-8")
    variables = {
        "ansible_python_interpreter": sys.executable,
        "__pgbackrest_packages": {"changed": False},
        "pgbackrest_key": str(site.root / "etc/id_ed25519"),
        "pgbackrest_known_hosts": str(site.root / "etc/known_hosts"),
        "pgbackrest_site_folder": str(site.state),
    }
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("-i", str(site.inventory), "-e", json.dumps(variables), str(file), *arguments),
        ],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.json",
            "ANSIBLE_VAULT_PASSWORD_FILE": str(site.root / "password"),
            "KOSEKI_ROOT": str(site.root),
        },
        cwd=site.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    rows = json.loads(done.stdout)["plays"][0]["tasks"]
    return [row["task"]["name"] for row in rows if row["hosts"][HOST].get("changed")]


def test_under_check_nothing_is_made(site: Site) -> None:
    """What an apply would do is told; no key is there, and nothing was signed."""
    assert play(site, [UPLOADER], "--check") == MADE[:2]
    assert not (site.root / "etc").exists()
    assert not (files_of(site).folder / "uploads").exists()


def test_a_host_gets_its_way_to_the_vaults_once(site: Site) -> None:
    """A second time nothing changes; what was lost or changed is mended, with the same key."""
    folder = site.root / "etc"
    assert play(site, [UPLOADER, UPLOADER, BREAK, UPLOADER]) == [*MADE, "Break it", MADE[-1]]
    said = run(["ssh-keygen", "-L", "-f", str(folder / "id_ed25519-cert.pub")])
    assert f"upload-{HOST}" in said
    public = run(["ssh-keygen", "-y", "-f", str(folder / "id_ed25519")])
    assert (folder / "id_ed25519.pub").read_text(encoding="ascii") == public
    assert (folder / "known_hosts").read_text(encoding="ascii").startswith("remote-backup1,")
    signed = [row.record["identity"] for row in Ledger(site, "certificates").rows()]
    assert signed.count(f"upload-{HOST}") == 1
