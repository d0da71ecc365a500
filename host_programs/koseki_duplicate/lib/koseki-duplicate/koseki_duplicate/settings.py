"""What the transmission of one municipality is told: /etc/koseki/duplicate.json, the role's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path

from koseki_ops.calendar.open_days import OpenDays
from koseki_ops.core.errors import KosekiError
from koseki_ops.duplicates.model import Policy

SATURDAY = 5


@dataclass(frozen=True)
class Listed(OpenDays):
    """A calendar that was written out: days of the week on which the office is closed.

    closed: from the first day to the last one that are known.
    """

    first: date
    last: date
    closed: frozenset[date]
    time_zone: str

    def is_open(self, day: date) -> bool:
        """Say whether the office is open on a day. KosekiError for a day that is not known."""
        if not self.first <= day <= self.last:
            raise KosekiError(
                "it is not known whether the office is open",
                str(day),
                "let the role `duplicate_transmission` be applied with a newer calendar",
            )
        return day.weekday() < SATURDAY and day not in self.closed


@dataclass(frozen=True)
class Settings:
    """One municipality's transmission.

    code6: 全国地方公共団体コード; folder: its own; database: libpq's words for its own database;
    box: of the relay server, that files are handed to; policy: the hours and the open days.
    """

    slug: str
    code6: str
    folder: Path
    database: str
    box: str
    policy: Policy

    @classmethod
    def read(cls, path: Path, slug: str) -> Settings:
        """Read a municipality's settings as the role wrote them."""
        plain = json.loads(path.read_text(encoding="utf-8"))
        row, known = plain["municipalities"][slug], plain["calendar"]
        calendar = Listed(
            date.fromisoformat(known["first"]),
            date.fromisoformat(known["last"]),
            frozenset(map(date.fromisoformat, known["closed"])),
            known["time_zone"],
        )
        closes, due = (time.fromisoformat(plain[name]) for name in ("closes", "due"))
        policy = Policy(calendar, closes, due, plain["totals_due"])
        return cls(slug, row["code6"], Path(row["folder"]), row["database"], plain["box"], policy)
