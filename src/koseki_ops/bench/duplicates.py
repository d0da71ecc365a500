"""Duplicates of fourteen municipalities through the adapter, and how they stand later (K-13).

The relay server is the stand-in, in this process; files and ledger are real. A site of its own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from koseki_ops.bench.table import Row, at_most
from koseki_ops.core.errors import KosekiError
from koseki_ops.duplicates import events
from koseki_ops.duplicates.adapter import PROGRAM, Adapter, Folders
from koseki_ops.duplicates.layout import Record, StandIn
from koseki_ops.duplicates.model import Key, Kind
from koseki_ops.duplicates.service import DuplicateService
from koseki_ops.lab.stand_in_relay import Relay
from koseki_ops.plan.site import Site

RECORDS, YEAR_DAYS = 1000, 245
FIRST = date(2026, 4, 1)
TEXT = "葛󠄂城 𠮷 﨑 〜～−－髙"


def measure(site: Site, days: int = YEAR_DAYS) -> list[Row]:
    """Send one day with records through the adapter, then days with nothing; ask how all stand."""
    with tempfile.TemporaryDirectory(prefix="koseki-bench-") as folder:
        (Path(folder) / "inventories").symlink_to(site.root / "inventories")
        own = replace(site, root=Path(folder))
        service = DuplicateService.open(own)
        history, office = service.history, service.policy.office
        zone = ZoneInfo(office.time_zone)
        codes = [row.code6 for row in service.joined()]
        relay = Relay(Folders(history.folder).base)
        adapter = Adapter(history, StandIn())
        day, begun = office.moved(FIRST, "next"), time.monotonic()
        with history.alone():
            _send(adapter, relay, codes, day, RECORDS, zone)
            seconds = time.monotonic() - begun
            for _number in range(days - 1):
                day = office.after(day)
                _send(adapter, relay, codes, day, 0, zone)
        service.now = datetime.combine(day, datetime.min.time(), zone) + timedelta(hours=20)
        begun = time.monotonic()
        service.history.read()
        wrong = [found for row in service.joined() for found in service.findings(row)]
        asked = time.monotonic() - begun
        if late := [one for one in wrong if one.day]:
            raise KosekiError("a day is not final", late[0].what, late[0].remedy)
        count = len(service.history.events)
    return [
        at_most(
            f"{len(codes)} municipalities × {RECORDS:,} records through the adapter, each received "
            "by the stand-in of the relay server",
            60,
            [seconds],
        ),
        at_most(f"how all stand after {days} business days ({count:,} events read)", 1, [asked]),
    ]


def _send(
    adapter: Adapter, relay: Relay, codes: Sequence[str], day: date, count: int, zone: ZoneInfo
) -> None:
    """Close a day of each municipality, and exchange until its row is final."""
    at = datetime.combine(day, datetime.min.time(), zone) + timedelta(hours=18)
    records = [Record(f"{number:08}", f"{TEXT} {number}") for number in range(count)]
    keys = [Key(code6, day, Kind.DIFFERENCE, 1) for code6 in codes]
    for key in keys:
        adapter.history.record(
            events.Closed(
                code6=key.code6,
                at=at,
                by=PROGRAM,
                day=day,
                kind=key.kind,
                attempt=1,
                approved=count,
            )
        )
        adapter.extract(key, records, at)
    adapter.exchange(codes, at)
    relay.turn(at)
    turn = adapter.exchange(codes, at)
    rows = [adapter.history.municipality(key.code6).rows[key] for key in keys]
    if turn.failed or not all(row.is_final for row in rows):
        raise KosekiError(
            "a duplicate did not arrive",
            ", ".join(turn.failed.values()) or str(day),
            "see `docs/duplicates.md`",
        )
