"""Connections to the municipality's own database, kept open between requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.extensions

Connection = psycopg2.extensions.connection
Cursor = psycopg2.extensions.cursor

# The role's limit is 20 for everything of a municipality; an instance takes at most this many.
LIMIT = 6
# A connection that rested for longer is asked before it is used.
IDLE_SECONDS = 2.0


def only(cursor: Cursor) -> tuple[Any, ...]:
    """Return the one row of an answer that always has one."""
    row = cursor.fetchone()
    if row is None:
        raise LookupError("the database gave no row where there is always one")
    return row


class Pool:
    """At most LIMIT connections; who comes when all are in use waits for one."""

    def __init__(self, conninfo: str, *, keep: bool = True) -> None:
        """Remember where; the first connection is made when it is needed.

        keep: between requests; otherwise the database is asked anew each time who may come in.
        """
        self._conninfo, self._keep = conninfo, keep
        self._free: list[tuple[Connection, float]] = []
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(LIMIT)

    @contextmanager
    def transaction(self, *, read_only: bool = False, one_moment: bool = False) -> Iterator[Cursor]:
        """Give a cursor in a transaction: committed at the end, rolled back on an exception.

        one_moment: everything is read as it was when the first thing was.

        A connection that was lost meanwhile (a leader changed) is replaced before its first use.
        """
        with self._places:
            connection = self._take()
            try:
                level = "REPEATABLE READ" if one_moment else "DEFAULT"
                connection.set_session(readonly=read_only, isolation_level=level)
                with connection, connection.cursor() as cursor:
                    yield cursor
            except BaseException:
                if connection.closed or connection.info.transaction_status:
                    connection.close()
                raise
            finally:
                if not self._keep:
                    connection.close()
                elif not connection.closed:
                    with self._lock:
                        self._free.append((connection, time.monotonic()))

    def _take(self) -> Connection:
        with self._lock:
            connection, used = self._free.pop() if self._free else (None, 0.0)
        if connection is not None:
            try:
                if time.monotonic() - used > IDLE_SECONDS:
                    with connection, connection.cursor() as cursor:
                        cursor.execute("SELECT 1")
            except psycopg2.Error:
                connection.close()
            else:
                return connection
        return psycopg2.connect(self._conninfo)
