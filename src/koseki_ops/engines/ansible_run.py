"""Start Ansible on a site and say exactly what it changed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.formatting import printable
from koseki_ops.core.language import _
from koseki_ops.core.progress import OnProgress
from koseki_ops.core.results import EngineResult, HostResult
from koseki_ops.core.subprocesses import engine
from koseki_ops.drift.judge.declared import merge
from koseki_ops.plan.site import Site

ENGINE = "ansible"
# Whose `<role>_at_rest` keeps services as they are.
ROLES_WITH_SERVICES = (
    "db_proxy",
    "duplicate_transmission",
    "etcd",
    "postgresql",
    "registry_link",
    "web_gateway",
)


def environment(site: Site, *, accelerated: bool = True) -> dict[str, str]:
    """Return the environment in which `ansible-playbook` works on a site.

    accelerated: under Mitogen's strategy, which does the same work in a fraction of the time.
    """
    values = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(site.root / "ansible.cfg"),
        "ANSIBLE_SSH_ARGS": f"-F {site.ssh_config}",
        "ANSIBLE_VAULT_PASSWORD_FILE": str(site.vault_password_file),
        "KOSEKI_STATE_DIR": str(site.state),
    }
    if accelerated:
        values |= mitogen()
    return values


def mitogen() -> dict[str, str]:
    """Return the variables that select Mitogen's strategy (plugins/strategy)."""
    if importlib.util.find_spec("ansible_mitogen") is None:
        raise KosekiError(_("Mitogen is missing"), sys.prefix, _("run `make set-up`"))
    return {"ANSIBLE_STRATEGY": "mitogen_unbound"}


def _logged(
    argv: Sequence[str], folder: Path, variables: Mapping[str, str], log: Path, progress: OnProgress
) -> tuple[int, str]:
    """Run the engine with its output in a log; return its exit code and its last line of errors.

    Its lines that begin with `> ` are progress.
    """
    last = ""
    with (
        log.open("w", encoding="utf-8") as kept,
        engine(argv, cwd=folder, env=variables, stdout=kept, stderr=subprocess.PIPE) as process,
    ):
        for line in process.stderr or ():
            if line.startswith("> "):
                progress(line[2:].rstrip())
            elif line.strip():
                kept.write(printable(line))
                last = line.strip()
    return process.returncode, last


def _broken_off(last: str, log: Path) -> KosekiError:
    return KosekiError(
        _("ansible-playbook broke off"),
        last,
        _("read {log}, then run `koseki apply` again").format(log=log),
    )


def run_playbook(
    site: Site,
    playbook: str,
    *,
    limit: list[str],
    check: bool,
    progress: OnProgress,
    accelerated: bool = True,
    tags: Sequence[str] = (),
    at_rest: bool = False,
) -> EngineResult:
    """Run a playbook (path below the checkout) on hosts; with check, only say what would change.

    tags: the parts of the roles that are wanted, all without a word; at_rest: no service is started
    or told of a change, as where an image is made. The full output is kept in the site's
    `ansible.log`.
    """
    started = time.monotonic()
    argv = ["ansible-playbook", "--inventory", str(site.inventory), "--limit", ",".join(limit)]
    argv += [*(["--check"] if check else []), *(["--tags", ",".join(tags)] if tags else [])]
    rest = {f"{role}_at_rest": True for role in ROLES_WITH_SERVICES}
    argv += ["--extra-vars", json.dumps(rest)] if at_rest else []
    argv.append(str(site.root / playbook))
    log = site.state / "ansible.log"
    with tempfile.TemporaryDirectory() as folder:
        summary = Path(folder) / "summary.json"
        variables = environment(site, accelerated=accelerated) | {
            "ANSIBLE_STDOUT_CALLBACK": "koseki_summary",
            "KOSEKI_SUMMARY_FILE": str(summary),
            "KOSEKI_DECLARED_DIR": folder,
        }
        code, last = _logged(argv, site.root, variables, log, progress)
        if not summary.exists():
            raise _broken_off(last, log)
        rows = json.loads(summary.read_text(encoding="utf-8"))
        kept_back = [
            json.loads(path.read_text(encoding="utf-8")) for path in Path(folder).glob("tmp*.json")
        ]
    hosts = {name: HostResult(**row) for name, row in rows.items()}
    for row in kept_back:
        merge(hosts[row["host"]].declared, row["declared"])
    if code and not any(host.failed or host.unreachable for host in hosts.values()):
        raise _broken_off(last, log)
    return EngineResult(ENGINE, hosts, time.monotonic() - started)
