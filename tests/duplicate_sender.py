"""The host program of duplicates at work on a register that is a file, at a moment that is told.

    python -m duplicate_sender MOMENT SETTINGS SLUG VERB …

Everything but the database is the host's own: the door, the turn, the journal, the folders.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from koseki_duplicate.commands import answer, arguments
from koseki_duplicate.settings import Settings
from koseki_duplicate.transmission import NotServedError
from koseki_ops.duplicates.layout import Record

REGISTER = "register.json"


@dataclass(frozen=True)
class FileRegister:
    """A register in a file: how many were approved by day, how many there are, what they hold.

    `extracted`, by day: another number than was approved; `down`: it does not answer.
    """

    path: Path

    @property
    def _held(self) -> dict[str, Any]:
        held: dict[str, Any] = json.loads(self.path.read_bytes())
        if held.get("down"):
            raise NotServedError.of("57P03")
        return held

    def approved(self, begins: datetime, ends: datetime) -> int:
        """Return how many records were approved in a span: of the day on which it ends."""
        assert begins < ends
        return int(self._held["days"].get(str(ends.date()), 0))

    def records(self, _begins: datetime, ends: datetime) -> Sequence[Record]:
        """Return these records."""
        held, day = self._held, str(ends.date())
        count = held.get("extracted", {}).get(day, held["days"].get(day, 0))
        return _records(count, held.get("text", "葛󠄂城 𠮷"))

    def register_count(self) -> int:
        """Return how many registers there are."""
        return int(self._held["registers"])

    def registers(self) -> Sequence[Record]:
        """Return all registers."""
        return _records(self.register_count(), "全件")

    def totals(self, _as_of: datetime) -> Mapping[str, int]:
        """Return what is compared once a month."""
        totals: dict[str, int] = self._held["totals"]
        return totals


def _records(count: int, text: str) -> list[Record]:
    return [Record(f"{number:08}", f"{text} {number}") for number in range(count)]


def write_settings(path: Path, base: Path, codes: Mapping[str, str]) -> None:
    """Write settings as the role does, of municipalities by slug: each with its own folder."""
    plain = {
        "calendar": {
            "first": str(date(2024, 1, 1)),
            "last": str(date(2027, 12, 31)),
            "closed": ["2026-11-03", "2026-11-23"],
            "time_zone": "Asia/Tokyo",
        },
        "closes": "17:15",
        "due": "09:00",
        "totals_due": 5,
        "box": "primary",
        "municipalities": {
            slug: {"code6": code6, "folder": str(base / slug), "database": ""}
            for slug, code6 in codes.items()
        },
    }
    path.write_text(json.dumps(plain), encoding="utf-8")


def main() -> int:
    """Answer, as it would be at that moment."""
    given = arguments(sys.argv[2:])
    settings = Settings.read(given.settings, given.slug)
    register = FileRegister(settings.folder / REGISTER)
    return answer(given, settings, register, datetime.fromisoformat(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
