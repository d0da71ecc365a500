"""The transmission's door: python3 -m koseki_duplicate SETTINGS SLUG VERB."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

from koseki_duplicate.commands import answer, arguments
from koseki_duplicate.register import DatabaseRegister
from koseki_duplicate.settings import Settings


def main() -> int:
    """Take a turn, or answer."""
    os.umask(0o077)
    given = arguments(sys.argv[1:])
    settings = Settings.read(given.settings, given.slug)
    return answer(given, settings, DatabaseRegister(settings.database), datetime.now(UTC))


if __name__ == "__main__":
    sys.exit(main())
