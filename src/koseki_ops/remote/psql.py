"""Say SQL to the databases' leader, over the one SSH configuration."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.shares import OWN_SESSION
from koseki_ops.plan.site import Site
from koseki_ops.remote.cluster import leader
from koseki_ops.remote.run import run

# In a municipality's database only what is PostgreSQL's own is found without a schema's name.
PSQL = (
    f"cd / && sudo -n -u postgres env PGOPTIONS='-c search_path=pg_catalog {OWN_SESSION}' "
    "psql -XqtA --set=ON_ERROR_STOP=1 --dbname=postgres --file=-"
)
LEADER = "the databases' leader"
# How psql says what the server refused: file, line, then the server's own sentence.
REFUSED = re.compile(r"^psql:.*?: ERROR:  (.*)$", re.MULTILINE)


def run_on_leader(site: Site, inventory: Inventory, script: str) -> str:
    r"""Run a psql script as the superuser on whichever host leads; return what it printed.

    It begins in the database postgres: `\connect` first. KosekiError: nobody leads, the leader
    does not answer, or the server refused, with its own sentence.
    """
    host = leader(site, inventory)
    done = run(site, host, PSQL, script)
    if done.code:
        refused = REFUSED.search(done.stderr)
        seen = refused.group(1) if refused else done.reason
        raise KosekiError(
            _("the database refused"),
            seen,
            _(
                "nothing was changed; remove the cause, or read `journalctl -u patroni` "
                "on the leader"
            ),
        )
    return done.stdout


def literal(value: Mapping[str, object] | str) -> str:
    """Return a text, or a mapping as JSON, as a literal of SQL."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "'" + text.replace("'", "''") + "'"
