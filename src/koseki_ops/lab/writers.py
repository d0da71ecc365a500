"""Writers for drills: they insert numbered rows without pause and log every acknowledgement.

One writes as a municipality's role through the proxy, as its counters will; one on each database
host writes past the proxy, straight into that server: it shows whether two servers ever accept
writes at the same time.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import reason_of
from koseki_ops.lab.lab import Lab
from koseki_ops.plan.naming import database_of, key_of

UNIT = "koseki-drill-writer"
FOLDER = "/run/koseki-drill"
# Each writer numbers its own rows; a day of writing does not reach the next range.
RANGE = 1_000_000_000

# One connection a row: what a counter's transaction is. A row counts as acknowledged when psql has
# said so: only then its number and the time are written down.
SCRIPT = """
n={first}
while :; do
  n=$((n + 1))
  if row=$(timeout 4 psql -XqtA "{connection}" -c \
    "INSERT INTO platform.probe (id, note) VALUES ($n, 'drill') RETURNING id"); then
    echo "$(date +%s.%N) $row" >>{folder}/acknowledged
  fi 2>>{folder}/refused
  sleep {pause}
done
"""


@dataclass(frozen=True)
class Writer:
    """A writer: the host it runs on, the Unix user it is, how it connects, its first number."""

    host: str
    user: str
    connection: str
    first: int


@dataclass(frozen=True)
class Acknowledged:
    """One acknowledged row: when (seconds since the epoch) and its number."""

    at: float
    number: int


def municipality_writer(lab: Lab, slug: str) -> Writer:
    """Return the writer that goes through the proxy as a municipality's role."""
    platform = lab.inventory.platform
    (names,) = (row.names for row in platform.municipalities if row.slug == slug)
    own = key_of(slug)
    connection = (
        f"host=127.0.0.1 port={platform.service_ports.proxy_leader} "
        f"dbname={names.database} user={names.application_role} "
        "connect_timeout=2 sslmode=verify-ca sslrootcert=/etc/koseki/pki/ca.crt "
        f"sslcert={own.certificate} sslkey={own.key}"
    )
    return Writer(lab.inventory.hosts_in("application")[0], names.unix_user, connection, 0)


def server_writer(lab: Lab, host: str, slug: str) -> Writer:
    """Return the writer that goes straight into one server."""
    number = lab.inventory.hosts_in("databases").index(host) + 1
    return Writer(host, "postgres", f"dbname={database_of(slug)}", number * RANGE)


def start(lab: Lab, writer: Writer, pause: float = 0.1) -> None:
    """Start a writer; it goes on until `stop`, or until its host ends."""
    script = SCRIPT.format(
        first=writer.first, connection=writer.connection, folder=FOLDER, pause=pause
    )
    prepare = f"rm -rf {FOLDER}; mkdir {FOLDER}; chown {writer.user} {FOLDER}"
    _run(lab, writer.host, ["sh", "-c", prepare])
    unit = ["systemd-run", "--quiet", "--collect", f"--unit={UNIT}", f"--uid={writer.user}"]
    _run(lab, writer.host, [*unit, "--working-directory=/", "sh", "-c", script])


def stop(lab: Lab, writer: Writer) -> None:
    """Stop a writer."""
    _run(lab, writer.host, ["systemctl", "stop", f"{UNIT}.service"])


def acknowledged(lab: Lab, writer: Writer) -> list[Acknowledged]:
    """Return what a writer was acknowledged, in order."""
    done = lab.exec(writer.host, ["cat", f"{FOLDER}/acknowledged"])
    rows = [line.split() for line in done.stdout.splitlines()]
    return [Acknowledged(float(row[0]), int(row[1])) for row in rows]


def acknowledged_since(lab: Lab, writer: Writer, moment: float) -> bool:
    """Say whether a row was acknowledged after a moment; what was on its way then has a second."""
    return any(row.at > moment + 1 for row in acknowledged(lab, writer))


def present(lab: Lab, leader: str, slug: str, writer: Writer) -> set[int]:
    """Return the numbers of a writer's rows that the leader holds."""
    return {int(line) for line in _on_rows(lab, leader, slug, writer, "SELECT id").split()}


def clear(lab: Lab, leader: str, slug: str, writer: Writer) -> None:
    """Take a writer's rows away again, so that the next one may begin with its first number."""
    _on_rows(lab, leader, slug, writer, "DELETE")


def _on_rows(lab: Lab, leader: str, slug: str, writer: Writer, what: str) -> str:
    """Do something to a writer's rows alone; return what psql printed."""
    last = writer.first + RANGE
    sql = f"{what} FROM platform.probe WHERE id > {writer.first} AND id < {last}"
    argv = ["runuser", "-u", "postgres", "--", "psql", "-XqtA", "-d", database_of(slug), "-c", sql]
    return _run(lab, leader, argv)


def outage(rows: list[Acknowledged]) -> float:
    """Return the longest time between two acknowledgements, in seconds."""
    return max((b.at - a.at for a, b in itertools.pairwise(rows)), default=0.0)


def _run(lab: Lab, host: str, argv: list[str]) -> str:
    done = lab.exec(host, argv)
    if done.returncode:
        reason = reason_of(done.stderr, done.returncode)
        raise KosekiError(
            _("`{argv}` failed on {host}").format(argv=" ".join(argv[:4]), host=host),
            reason,
            _("read `koseki lab exec {host} -- journalctl -n 50`").format(host=host),
        )
    return done.stdout
