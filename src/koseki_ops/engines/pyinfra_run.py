"""Start pyinfra on a site and say exactly what it changed.

pyinfra lives in a process of its own (it runs on gevent): `pyinfra_job`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.core.progress import OnProgress
from koseki_ops.core.results import EngineResult, HostResult
from koseki_ops.core.subprocesses import engine
from koseki_ops.plan.site import Site

ENGINE = "pyinfra"


def run_deploys(
    site: Site,
    deploys: list[str],
    *,
    limit: list[str],
    check: bool,
    progress: OnProgress,
    data: dict[str, str] | None = None,
) -> EngineResult:
    """Run deploys (paths below the checkout) on hosts; with check, only count what would change.

    A host that does not answer is marked unreachable, the others go on. data: what a procedure
    is told beside the inventory.
    """
    job = {
        "inventory": site.inventory_name,
        "name": site.name if site.is_lab else None,
        "deploys": deploys,
        "limit": limit,
        "check": check,
        "data": data or {},
    }
    started = time.monotonic()
    argv = [sys.executable, "-m", "koseki_ops.engines.pyinfra_job", json.dumps(job)]
    # The answer goes to a file: a full pipe would stop a process that still has something to say.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:
        with engine(
            argv,
            cwd=site.root,
            env={**os.environ, "KOSEKI_NAME": site.name if site.is_lab else ""},
            stdout=answer,
            stderr=subprocess.PIPE,
        ) as process:
            tail: list[str] = []
            for line in process.stderr or ():
                if line.startswith("> "):
                    progress(line[2:].rstrip())
                else:
                    tail.append(line.rstrip())
        answer.seek(0)
        output = answer.read()
    if process.returncode:
        raise KosekiError(
            _("pyinfra broke off"),
            tail[-1] if tail else _("no output"),
            _("remove the cause that it names, then run `koseki apply` again"),
        )
    hosts = {name: HostResult(**host) for name, host in json.loads(output).items()}
    return EngineResult(ENGINE, hosts, time.monotonic() - started)
