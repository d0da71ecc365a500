"""What several suites need to ask of the registers' databases."""

from __future__ import annotations

from koseki_ops.verify.batch import ANSWER_SECONDS
from koseki_ops.verify.plugin import Facts

# Not by Debian's wrapper, which starts a Perl each time: there are a hundred sessions to begin.
PROGRAM = "/usr/lib/postgresql/17/bin/psql"
# As the municipality's own Unix user, with its own certificate: {town} is the Municipality.
PSQL = (
    "cd / && env PGUSER={town.database}_app PGSSLMODE=verify-ca "
    f"PGCONNECT_TIMEOUT={ANSWER_SECONDS} "
    "PGSSLROOTCERT=/etc/koseki/pki/ca.crt "
    "PGSSLCERT=/etc/koseki/municipalities/{town.slug}/client.crt "
    "PGSSLKEY=/etc/koseki/municipalities/{town.slug}/client.key "
    "setpriv --reuid=koseki-{town.slug} --regid=koseki-{town.slug} --clear-groups "
    f"{PROGRAM} -XAtq"
)


def is_leader(facts: Facts) -> bool:
    """Say whether a database host leads, from its own server's mouth."""
    return facts.base("role").text == "leader"
