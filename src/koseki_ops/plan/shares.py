"""What a role of a municipality may take of what all municipalities share on a database server.

docs/shared-resources.md has the whole list, with what bounds each and which test shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from koseki_ops.plan.model import Municipality
from koseki_ops.plan.municipalities import cut_off


@dataclass(frozen=True)
class Share:
    """What one role may take.

    connections: at once, on one server and at its door in the proxy; settings: what its sessions
    begin with, as PostgreSQL spells it. It cannot change those that a superuser alone may set
    (temp_file_limit, log_min_messages); it can change the times, which are for programs that err.
    """

    connections: int
    settings: Mapping[str, str] = field(default_factory=dict)


# Of every session of our own, whoever asks for it: how long a statement waits for what another
# session holds, how long it works, and how long it may leave a transaction open. What roles and
# programs on hosts say by themselves: tests/unit/test_session_limits.py, test_search_path.py.
OWN_SESSION = (
    "-c lock_timeout=10s -c statement_timeout=10min -c idle_in_transaction_session_timeout=1min"
)


def _share(connections: int, temp_file: str, statement: str, idle: str, transaction: str) -> Share:
    return Share(
        connections,
        {
            # An error's own words quote what was wrong with a value, and that may be a name: such a
            # session's errors go to whoever erred and to no log. What the server says of itself,
            # who comes and goes, and pgaudit's lines are of a level above.
            "log_min_messages": "log",
            "temp_file_limit": temp_file,
            "statement_timeout": statement,
            "idle_in_transaction_session_timeout": idle,
            "transaction_timeout": transaction,
        },
    )


# An instance holds 6 to the leader and 6 to a replica, which is the leader when there is none.
APPLICATION = _share(13, "256MB", "5min", "2min", "15min")
# An engine has one, waits on another; a command and the reconciliation have one each.
LINK = _share(5, "512MB", "10min", "5min", "30min")
# A release's files come one after the other, in one database after the other.
OWNER = _share(1, "1GB", "10min", "1min", "15min")
TAKEOVER = _share(7, "256MB", "1min", "1min", "5min")
OPERATOR = _share(3, "1GB", "30min", "10min", "2h")
SHARES = {"application": APPLICATION, "link": LINK, "takeover": TAKEOVER}


def promised_connections(joined: Iterable[Municipality], operators: int) -> int:
    """Return how many connections all roles together may hold on one server.

    The owners are counted once: one program comes as each of them in turn.
    joined: the municipalities that have joined; operators: how many persons have a role.
    """
    municipalities = list(joined)
    stand_ins = len(list(cut_off(municipalities)))
    each = APPLICATION.connections + LINK.connections
    return (
        each * len(municipalities)
        + TAKEOVER.connections * stand_ins
        + OPERATOR.connections * operators
        + OWNER.connections
    )
