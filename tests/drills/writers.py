"""Writers that keep inserting numbered rows through the proxy and log every acknowledgement.

They run on the application server, where the municipalities' counters will be served, as the
municipality's own database role with its own certificate.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

WRITER_HOST = "application1"
LOG = "/run/koseki-writer.log"
UNIT = "koseki-drill-writer"
TOWN = "iida"

# One connection a row: what a counter's transaction is. A row counts as acknowledged only when
# psql has said so; the log line carries the row's number and the server that took it.
SCRIPT = f"""
set -u
umask 022
n=0
: >{LOG}
while :; do
  n=$((n + 1))
  row=$(PGCONNECT_TIMEOUT=2 timeout 4 psql -XqtA -h 127.0.0.1 -p 5000 \\
    -c "INSERT INTO platform.probe (id, note) VALUES ($n, 'drill') RETURNING id, inet_server_addr()" \\
    2>/dev/null) && printf '%s %s\\n' "$(date +%s.%N)" "$row" >>{LOG}
  sleep 0.1
done
"""


@dataclass(frozen=True)
class Acknowledged:
    """One acknowledged row: when (seconds since the epoch), its number, the server's address."""

    at: float
    number: int
    server: str


@dataclass(frozen=True)
class Outage:
    """The longest time without an acknowledgement: seconds, and when it began."""

    seconds: float
    began: float

    def __str__(self) -> str:
        """Give the sentence that the drill prints."""
        when = datetime.fromtimestamp(self.began, UTC).strftime("%H:%M:%S")
        return f"outage {self.seconds:.1f} s, from {when} UTC"
