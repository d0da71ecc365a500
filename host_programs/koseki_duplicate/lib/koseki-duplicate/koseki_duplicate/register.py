"""What the municipality's register says, by the application's functions and nothing else.

One read-only snapshot for a whole turn: what is counted and what is extracted are of one moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

import psycopg2
import psycopg2.extensions

from koseki_duplicate.transmission import NotServedError
from koseki_ops.duplicates.layout import Record

# How long it waits for a lock, and reads in all.
OPTIONS = (
    "-c lock_timeout=10s -c statement_timeout=10min -c idle_in_transaction_session_timeout=1min"
)


class DatabaseRegister:
    """The municipality's database, as the transmission's own role sees it."""

    def __init__(self, conninfo: str) -> None:
        """Nothing is asked yet: most turns ask nothing."""
        self.conninfo = conninfo

    @cached_property
    def connection(self) -> psycopg2.extensions.connection:
        """Connect to whichever server leads, when it is asked first."""
        connection = psycopg2.connect(self.conninfo, options=OPTIONS)
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        return connection

    def approved(self, begins: datetime, ends: datetime) -> int:
        """Return how many records were approved from a moment until before another one."""
        return int(self._ask("SELECT koseki.duplicate_approved(%s, %s)", begins, ends)[0][0])

    def records(self, begins: datetime, ends: datetime) -> Sequence[Record]:
        """Return these records."""
        asked = "SELECT number, text FROM koseki.duplicate_records(%s, %s)"
        return [Record(*row) for row in self._ask(asked, begins, ends)]

    def register_count(self) -> int:
        """Return how many registers there are."""
        return int(self._ask("SELECT koseki.duplicate_register_count()")[0][0])

    def registers(self) -> Sequence[Record]:
        """Return all registers."""
        asked = "SELECT number, text FROM koseki.duplicate_registers()"
        return [Record(*row) for row in self._ask(asked)]

    def totals(self, as_of: datetime) -> Mapping[str, int]:
        """Return how many 戸籍, 除籍 and 改製原 there were at a moment."""
        asked = "SELECT kind, number FROM koseki.duplicate_totals(%s)"
        return {kind: int(number) for kind, number in self._ask(asked, as_of)}

    def _ask(self, asked: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(asked, values)
                return list(cursor.fetchall())
        except psycopg2.Error as error:
            # The server's sentence may hold what is registered: its code alone is passed on.
            raise NotServedError.of(error.pgcode or type(error).__name__) from None
