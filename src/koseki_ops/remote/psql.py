"""Say SQL to the databases' leader, over the one SSH configuration."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.switchover import members

PSQL = "cd / && sudo -n -u postgres psql -XqtA --set=ON_ERROR_STOP=1 --dbname=postgres --file=-"
LEADING = ("Leader", "running")
# How psql says what the server refused: file, line, then the server's own sentence.
REFUSED = re.compile(r"^psql:.*?: ERROR:  (.*)$", re.MULTILINE)


def leader(site: Site, inventory: Inventory) -> str:
    """Return the host that leads; raise KosekiError when none does, or more than one says so."""
    ensure_site_ssh(site, inventory)
    leaders = [r.name for r in members(site, inventory) if (r.role, r.state) == LEADING]
    if len(leaders) != 1:
        seen = ", ".join(leaders) or "nobody leads"
        raise KosekiError("the cluster has no leader", seen, "heal it first")
    return leaders[0]


def say(site: Site, inventory: Inventory, script: str) -> str:
    r"""Run a psql script as the superuser on whichever host leads; return what it printed.

    It begins in the database postgres: `\connect` first. KosekiError: nobody leads, the leader
    does not answer, or the server refused, with its own sentence.
    """
    host = leader(site, inventory)
    done = subprocess.run(
        ["ssh", "-F", str(site.ssh_config), host, PSQL],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = REFUSED.search(done.stderr)
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        seen = said.group(1) if said else last
        raise KosekiError("the database refuses", seen, "nothing was changed")
    return done.stdout


def literal(value: Mapping[str, object] | str) -> str:
    """Return a text, or a mapping as JSON, as a literal of SQL."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "'" + text.replace("'", "''") + "'"
