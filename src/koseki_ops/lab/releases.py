"""The stand-in under other versions, and the switch to one: what drills and figures need of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from koseki_ops.engines import ansible_run
from koseki_ops.plan.inventory import load_yaml
from koseki_ops.plan.site import Site, project_root
from koseki_ops.supply import release

PLAYBOOK = "playbooks/deploy-application.yml"
# The version of the stand-in as it is in this checkout.
VERSION = str(load_yaml(project_root() / release.STAND_IN / release.SOURCE_FILE)["version"])


def later(steps: int) -> str:
    """Return the version so many steps after the stand-in's own, as `1.3.2`."""
    *first, last = VERSION.split(".")
    return ".".join([*first, str(int(last) + steps)])


def prepare(
    site: Site, version: str, *, serve: str | None = None, schema: tuple[str, str] | None = None
) -> None:
    """Build and sign the stand-in under another version.

    serve: what its program is instead; schema: name and SQL of one more file.
    """
    source = release.folder_of(site) / f"source-{version}"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(site.root / release.STAND_IN, source)
    description = source / release.SOURCE_FILE
    text = description.read_text(encoding="utf-8")
    description.write_text(
        text.replace(f"version: {VERSION}", f"version: {version}"), encoding="utf-8"
    )
    if serve is not None:
        (source / "bin/serve").write_text(serve, encoding="utf-8")
    if schema is not None:
        name, sql = schema
        (source / "schema" / name).write_text(sql, encoding="utf-8")
    archive = release.build(source, release.folder_of(site))
    release.sign(archive, release.make_key(site))


def switch(site: Site, host: str, version: str) -> subprocess.CompletedProcess[str]:
    """Ask the application's host for a version as the plan would; return what was said."""
    wanted = {"name": release.STAND_IN_NAME, "version": version, "allow_downgrade": False}
    argv = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        *("--inventory", str(site.inventory), "--limit", host),
        *("--extra-vars", json.dumps({"application_release": wanted}), PLAYBOOK),
    ]
    return subprocess.run(  # noqa: TID251 - whoever asks looks at the exit code
        argv,
        cwd=site.root,
        env=ansible_run.environment(site),
        capture_output=True,
        text=True,
        check=False,
    )
