"""Hand the lead over to another member, and wait until both record again.

Started by `koseki switchover`, which asks first whether it is safe. By hand:
pyinfra @koseki/lab pyinfra_deploys/procedures/switchover.py --data switchover_to=primary1
"""

from __future__ import annotations

import json

from pyinfra import host
from pyinfra.api import StringCommand, operation
from pyinfra_deploys.baseline.operations import Commands, ShellAnswer, ask

PATRONICTL = "patronictl -c /etc/patroni/config.yml"
WAIT_SECONDS = 90
# Double recording again: one leader, all others synchronous or streaming, on one timeline.
SETTLED = """
import json, sys
rows = json.load(sys.stdin)
leads = [r["Member"] for r in rows if r["Role"] == "Leader" and r["State"] == "running"]
along = [r for r in rows if r["Role"] == "Sync Standby" and r["State"] == "streaming"]
lines = {r["TL"] for r in rows}
sys.exit(not (leads == [sys.argv[1]] and len(along) >= 1 and len(lines) == 1))
"""


@operation()
def hand_over(to: str) -> Commands:
    """On the member that leads: hand over to `to`; on any other: nothing."""
    question = f"{PATRONICTL} list --format=json"
    printed = ask(ShellAnswer, question=question)
    rows = json.loads("".join(printed))
    leaders = [row["Member"] for row in rows if row["Role"] == "Leader"]
    if leaders != [host.name] or to == host.name:
        return
    yield StringCommand(f"{PATRONICTL} switchover --leader {host.name} --candidate {to} --force")
    yield StringCommand(
        f"for second in $(seq {WAIT_SECONDS}); do "
        f"if {question} | python3 -c '{SETTLED}' {to}; then exit 0; fi; sleep 1; done; "
        f"echo 'both do not record again within {WAIT_SECONDS} s: see patronictl list' >&2; exit 1"
    )


if "databases" in host.groups:
    hand_over(name="Hand the lead over", to=host.data.switchover_to)
