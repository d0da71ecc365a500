"""What the engines write, held against files that a reviewer has read: `golden/<host>/<path>`.

After a change on purpose: `KOSEKI_WRITE_GOLDEN=1 pytest tests/unit/test_golden.py`, then read the
difference. Left out are keys, certificates, hashes of the mirror, and what depends on today's date.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO, IOBase
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyinfra.api import Config, Inventory, State
from pyinfra.api.connect import connect_all
from pyinfra.api.operations import run_ops
from pyinfra.api.state import StateStage
from pyinfra.connectors.fake import FakeConnector
from pyinfra.connectors.util import CommandOutput, OutputLine
from pyinfra.context import ctx_host, ctx_state

from koseki_ops.engines.apply import DEPLOYS
from koseki_ops.engines.prefetch import AT_THIS_MOMENT
from koseki_ops.plan.inventory import Inventory as Plan
from koseki_ops.plan.site import Site, project_root
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.supply.mirror import mirror_folder
from koseki_ops.trust.secrets import init_secrets
from koseki_ops.trust.ssh_ca import files_of

ROOT = project_root()
GOLDEN = Path(__file__).with_name("golden")
STAGE = "/run/koseki-stage"
# Each kind of host: a database's, a city server with an exchange and a vault, the datacenter's.
BASELINE_HOSTS = ["primary1", "registry-link1", "remote-backup1"]
CHANGING = (
    "/etc/ssh/koseki_user_ca.pub",
    "/etc/ssh/principals/",
    "/etc/ssh/ssh_host_ed25519_key-cert.pub",
    "/etc/ssh/vault-keys/",
    "/etc/pgbackrest/known_hosts",
    # Programs, and what is made of the probe and the suites.
    "/usr/local/",
    "/usr/share/keyrings/",
    "/var/lib/koseki/applied-baseline",
    "/var/lib/koseki/mirror.release",
    "/var/lib/koseki-watch/",
)


def hold(host: str, path: str, content: str) -> None:
    """Compare one file with its golden one, or write that when told to."""
    golden = GOLDEN / host / path.lstrip("/")
    if os.environ.get("KOSEKI_WRITE_GOLDEN"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(content, encoding="utf-8")
    assert golden.exists(), f"{path} on {host} has no golden file"
    assert content == golden.read_text(encoding="utf-8"), f"{path} on {host}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A lab's site with secrets and authorities of its own, and this checkout's mirror."""
    root = tmp_path_factory.mktemp("checkout")
    ignore = shutil.ignore_patterns("secrets.yml")
    shutil.copytree(ROOT / "inventories", root / "inventories", symlinks=True, ignore=ignore)
    (root / "host_programs").symlink_to(ROOT / "host_programs")
    made = Site(root, "lab", "lab")
    made.var.mkdir()
    mirror_folder(made).symlink_to(mirror_folder(Site.open()))
    init_secrets(made)
    ensure_site_ssh(made, Plan(made.inventory))
    for host in Plan(made.inventory).hosts:
        noted = made.state / "ssh/hosts" / f"{host}.pub"
        noted.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(files_of(made).host_ca.with_suffix(".pub"), noted)
    return made


class BareHost(FakeConnector):
    """A host as its installer left it, which keeps what is put there."""

    first_contact = True

    def __init__(self, state: Any, host: Any, public_key: str) -> None:  # noqa: ANN401
        """Start with nothing put."""
        super().__init__(state, host)
        self.public_key, self.files = public_key, dict[str, bytes]()

    def run_shell_command(
        self,
        command: Any,  # noqa: ANN401 - pyinfra's
        print_output: bool = False,
        print_input: bool = False,
        **_arguments: Any,  # noqa: ANN401
    ) -> tuple[bool, CommandOutput]:
        """Answer questions as a bare host does; anything else succeeds."""
        del print_output, print_input
        text, lines = str(command), list[str]()
        if text.startswith("for f in "):
            listed = text.removeprefix("for f in ").split("; do ")[0].split()
            lines = [f"{path} absent" for path in listed]
        elif text.startswith("cat ") and text.endswith(".pub"):
            lines = [self.public_key]
        elif "dpkg-query -W" in text:
            lines = ["base-files installed"]
        elif re.search(r"\bdate\b", text):
            # Read with all the other questions' answers, a clock would seem to be late.
            assert text == f"{AT_THIS_MOMENT}date +%s.%N"
            lines = [f"{time.time():.9f}"]
        return True, CommandOutput([OutputLine("stdout", line) for line in lines])

    def put_file(
        self,
        filename_or_io: str | IOBase,
        remote_filename: str,
        remote_temp_filename: str | None = None,
        print_output: bool = False,
        print_input: bool = False,
        **_arguments: Any,  # noqa: ANN401
    ) -> bool:
        """Keep what is put, where it would be staged."""
        del remote_temp_filename, print_output, print_input
        if isinstance(filename_or_io, BytesIO):
            self.files[remote_filename] = filename_or_io.getvalue()
        return True

    def new_connection_works(self) -> bool:
        """Say yes: the lab's drills show the other case."""
        return True


def placed(site: Site, name: str) -> Iterator[tuple[str, str]]:
    """Yield path and content of every file that the baseline and the vaults put on a bare host."""
    plan = Plan(site.inventory)
    data = {**plan.values_of(name), "koseki_site": site, "koseki_inventory": plan}
    groups: dict[str, Any] = {group: ([f"@fake/{name}"], {}) for group in plan.groups_of(name)}
    names: tuple[list[Any], dict[str, Any]] = ([(f"@fake/{name}", {**data, "fake_delay": 0})], {})
    inventory = Inventory(names, **groups)  # type: ignore[no-untyped-call] # pyinfra's own
    state = State(inventory, Config(SUDO=True))  # type: ignore[no-untyped-call] # as above
    (host,) = state.inventory.get_active_hosts() or list(state.inventory)
    host.name = name
    public_key = files_of(site).host_ca.with_suffix(".pub").read_text(encoding="ascii").strip()
    state.set_stage(StateStage.Connect)
    connect_all(state)
    host.connector = BareHost(state, host, public_key)
    state.set_stage(StateStage.Prepare)
    with ctx_state.use(state), ctx_host.use(host):
        for deploy in DEPLOYS:
            runpy.run_path(str(ROOT / deploy))
    state.set_stage(StateStage.Execute)
    run_ops(state)
    for path, content in sorted(host.connector.files.items()):
        if path.startswith(STAGE) and not path.removeprefix(STAGE).startswith(CHANGING):
            yield path.removeprefix(STAGE), content.decode()


@pytest.mark.parametrize("host", BASELINE_HOSTS)
def test_the_baselines_files(site: Site, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Firewall, sshd, sudo, time, names, PAM, vaults: as a reviewer has read them."""
    monkeypatch.syspath_prepend(str(ROOT))
    found = dict(placed(site, host))
    for path, content in found.items():
        hold(host, path, content)
    assert set(found) == golden_files(host) - service_files(host)


def test_the_watchs_files(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Units, firewall and names of a host that keeps watch; the toolkit itself is left out."""
    monkeypatch.syspath_prepend(str(ROOT))
    for name in ("wheels_bundle", "toolkit_bundle"):
        monkeypatch.setattr(f"koseki_ops.supply.toolkit.{name}", lambda *_: b"")
    monkeypatch.setattr("koseki_ops.supply.toolkit.toolkit_digest", lambda *_: "")
    monkeypatch.setattr("koseki_ops.supply.toolkit.wheelhouse", lambda _: Path("packages"))
    found = dict(placed(site, "workstation1"))
    for path, content in found.items():
        hold("workstation1", path, content)
    assert set(found) == golden_files("workstation1")
    units = {path for path in found if path.startswith("/etc/systemd/system/koseki-")}
    assert len(units) == 4, "two runs, each a service and a timer"


TEMPLATES = sorted(ROOT.glob("roles/*/templates/**/*.j2"))
HOST_OF_ROLE = {
    "access_expiry": "primary1",
    "db_proxy": "application1",
    "duplicate_transmission": "registry-link1",
    "etcd": "application1",
    "koseki_application": "application1",
    "pgbackrest": "primary1",
    "postgresql": "primary1",
    "registry_link": "registry-link1",
    "web_gateway": "application1",
}


def golden_files(host: str) -> set[str]:
    """Return the paths on a host that have a golden file."""
    return {f"/{p.relative_to(GOLDEN / host)}" for p in (GOLDEN / host).rglob("*") if p.is_file()}


def service_files(host: str) -> set[str]:
    """Return the paths on a host that are made from a role's template."""
    found = set()
    for template in TEMPLATES:
        role, _, *path = template.relative_to(ROOT / "roles").parts
        if HOST_OF_ROLE[role] == host:
            found.add(f"/{'/'.join(path).removesuffix('.j2')}")
    return found


@pytest.fixture(scope="module")
def rendered(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every role's templates, rendered by Ansible itself from the plan, a folder a role."""
    folder = tmp_path_factory.mktemp("rendered")
    defaults: dict[str, Any] = {}
    for path in ROOT.glob("roles/*/defaults/main.yml"):
        defaults |= yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    (folder / "defaults.yml").write_text(yaml.safe_dump({"all": {"vars": defaults}}))
    plays = []
    for role, host in HOST_OF_ROLE.items():
        tasks: list[dict[str, Any]] = [
            {"name": "Have memory", "set_fact": {"memtotal_mb": 8192, "cacheable": True}}
        ]
        for template in (path for path in TEMPLATES if path.parts[-1 - depth(path)] == role):
            target = folder / role / template.relative_to(ROOT / "roles" / role / "templates")
            target.parent.mkdir(parents=True, exist_ok=True)
            tasks.append(
                {
                    "name": f"Render {template.name}",
                    "template": {"src": str(template), "dest": str(target.with_suffix(""))},
                }
            )
        own = ROOT / "roles" / role / "vars/main.yml"
        plays.append(
            {
                "name": f"Render {role}",
                "hosts": host,
                "connection": "local",
                "gather_facts": False,
                "become": False,
                "vars_files": [str(own)] if own.exists() else [],
                "tasks": tasks,
            }
        )
    (folder / "render.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
    secrets = {"pki_ca_passphrase": "x", "pgbackrest_cipher_city": "CITY-CIPHER"}
    secrets |= {"pgbackrest_cipher_remote": "REMOTE-CIPHER"}
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("-i", str(folder / "defaults.yml"), "-i", str(site.inventory)),
            *("-e", yaml.safe_dump(secrets, default_flow_style=True).replace("\n", " ")),
            *("-e", f"ansible_python_interpreter={sys.executable}"),
            str(folder / "render.yml"),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_VAULT_PASSWORD_FILE": str(site.vault_password_file)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return folder


def depth(path: Path) -> int:
    """Return how many parts of a template's path follow its role's name."""
    return len(path.relative_to(ROOT / "roles").parts) - 1


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name.removesuffix(".j2"))
def test_the_services_files(rendered: Path, template: Path) -> None:
    """Patroni, HAProxy, etcd, pgBackRest and their units."""
    role = template.relative_to(ROOT / "roles").parts[0]
    path = template.relative_to(ROOT / "roles" / role / "templates").with_suffix("")
    content = (rendered / role / path).read_text(encoding="utf-8")
    hold(HOST_OF_ROLE[role], str(path), content)


def test_every_golden_file_is_one_of_todays() -> None:
    """A file that nobody renders any more takes its golden file with it."""
    hosts = {path.name for path in GOLDEN.iterdir()}
    assert hosts == {*BASELINE_HOSTS, "workstation1", *HOST_OF_ROLE.values()}
    for host in hosts - {*BASELINE_HOSTS, "workstation1"}:
        assert golden_files(host) == service_files(host)
