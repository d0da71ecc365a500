"""An inventory as an earlier version had it: which row goes where."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from koseki_ops.core.language import _
from koseki_ops.plan.findings import Finding

ROW = "the municipality's row in municipalities.yml"
# By the key as it was, where its rows are now.
MOVED = {
    "joinings": f"joinings.SLUG to joining in {ROW}",
    "terminals": f"the ids in terminals to terminals in {ROW}",
    "takeovers": f"each row of takeovers to takeover in {ROW}, without municipality",
    "certificate_signatories": f"certificate_signatories.SLUG to signatory in {ROW}",
    "line_subnets": "line_subnets.SLUG to lines.SLUG.counters in network.yml",
    "link_peers": "link_peers.SLUG to lines.SLUG.registry in network.yml",
}
# What is new since then, and where it is to be copied from.
ADDED = {"service_ports": "add services.yml, as inventories/iida has it"}
# The same as MOVED within a municipality's row.
MOVED_IN_ROW = {
    "issued_by_host_in_failure": "takeover replaces it: take issued_by_host_in_failure out"
}


def earlier_form(shared: Mapping[str, Any], file_of: Callable[[str], Path]) -> list[Finding]:
    """Return the one finding of an inventory in the earlier form, nothing for one of today.

    shared: its raw values; file_of: the file that sets a key.
    """
    found = [key for key in MOVED if key in shared]
    in_rows = [key for key in MOVED_IN_ROW if any(key in row for row in _rows(shared))]
    if not found and not in_rows:
        return []
    moves = [f"move {MOVED[key]}" for key in found] + [MOVED_IN_ROW[key] for key in in_rows]
    moves += [what for key, what in ADDED.items() if key not in shared]
    keys = ", ".join([*found, *(f"municipalities[].{key}" for key in in_rows)])
    place = file_of(found[0] if found else "municipalities")
    return [Finding(place, keys, _("of an earlier form"), "; ".join(moves))]


def _rows(shared: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    rows = shared.get("municipalities")
    yield from (row for row in rows if isinstance(row, Mapping)) if isinstance(rows, list) else ()
