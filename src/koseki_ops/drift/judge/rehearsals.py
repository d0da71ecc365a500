"""When each vault's copy was last restored: a copy that nobody restores is a hope (K-04).

The record of rehearsals says when; a vault that has none yet is owed one as long after its host was
first met as any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.formatting import in_short
from koseki_ops.drift.model import Cause, Finding, Verdict
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site

KIND = "rehearsal"
DAY = 86_400.0


def restored_at(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return when each vault's copy was last restored and was whole, by its name.

    rows: what the record of rehearsals holds (`procedures.rehearse_restore`).
    """
    found: dict[str, float] = {}
    for row in rows:
        for vault in row["vaults"]:
            if vault["seconds"] is not None and vault["equal"] and not vault["different"]:
                found[str(vault["vault"])] = float(row["at"])
    return found


def overdue(
    site: Site, inventory: Inventory, since: Mapping[str, float], now: float
) -> list[Finding]:
    """Return a finding for each vault whose copy was not restored within the plan's days.

    since: from when each host is owed one (seconds since the epoch); a vault on a host that is not
    named is left out.
    """
    plan, why = inventory.platform, ""
    ledger = Ledger(site, "rehearsals")
    try:
        why = ledger.verify().wrong
        last = restored_at(row.record for row in ledger.rows())
    except (KosekiError, LookupError, TypeError, ValueError) as error:
        why, last = in_short(str(error)), {}
    found = []
    for vault in plan.vaults:
        (host, *_) = inventory.hosts_in(vault.group)
        if host not in since:
            continue
        days = int((now - max(last.get(vault.name, 0.0), since[host])) / DAY)
        reason = f"its copy was last restored {days} days ago: that it can be is not verified"
        if why:
            reason = f"the record of rehearsals cannot be believed: {why}"
        if why or days > plan.backup_policy.rehearse_within_days:
            repair = f"koseki restore rehearse --vault {vault.name}"
            found.append(
                Finding(
                    host,
                    KIND,
                    vault.name,
                    Verdict.NOT_VERIFIED,
                    Cause.UNKNOWN,
                    why=reason,
                    repair="koseki evidence verify" if why else repair,
                )
            )
    return found
