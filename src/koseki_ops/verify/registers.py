"""What several suites need to ask of the registers' databases."""

from __future__ import annotations

from koseki_ops.plan.model import Municipality
from koseki_ops.plan.shares import OWN_SESSION
from koseki_ops.verify.batch import ANSWER_SECONDS
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Facts

# The superuser's psql, which enters municipalities' databases: nothing that their roles made there
# is called by an unqualified name.
SUPERUSER = (
    f"runuser -u postgres -- env PGOPTIONS='-c search_path=pg_catalog {OWN_SESSION}' "
    "psql -XAtq -v ON_ERROR_STOP=1"
)


def program(plan: Plan) -> str:
    """Return where psql lies on a host."""
    # Not Debian's wrapper, which starts a Perl each time: there are a hundred sessions to begin.
    return f"/usr/lib/postgresql/{plan.platform.postgresql_version}/bin/psql"


def psql(plan: Plan, municipality: Municipality, kind: str = "app") -> str:
    """Return a municipality's psql: as its own Unix user, with its own certificate.

    kind: whose role and key: its application's (app), or its engine's (link).
    """
    name = {"app": "client", "link": "link"}[kind]
    keys = f"/etc/koseki/municipalities/{municipality.slug}"
    user = f"koseki-{municipality.slug}"
    return (
        f"cd / && env PGUSER={municipality.database}_{kind} PGSSLMODE=verify-ca "
        f"PGCONNECT_TIMEOUT={ANSWER_SECONDS} PGSSLROOTCERT=/etc/koseki/pki/ca.crt "
        f"PGSSLCERT={keys}/{name}.crt PGSSLKEY={keys}/{name}.key "
        # In its own network: there alone are its doors to the databases.
        f"nsenter --net=/run/netns/{user} "
        f"setpriv --reuid={user} --regid={user} --clear-groups {program(plan)} -XAtq"
    )


def is_leader(facts: Facts) -> bool:
    """Say whether a database host leads, from its own server's mouth."""
    return facts.base("role").text == "leader"
