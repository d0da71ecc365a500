"""What the municipality's own database knows of the link: numbers, modes, ledger, outbox.

The ledger's row and the records stand in one transaction, so that a number is applied or not
applied, whatever dies when.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions

from koseki_link.layout import STATEMENT, Flow, Record, Refused

Connection = psycopg2.extensions.connection
Cursor = psycopg2.extensions.cursor

BATCH = 500
CHANNEL = "link"
APPLIED, COMPOSED, QUARANTINED = "applied", "composed", "quarantined"
# What says that a record is not the application's to take; anything else is not the file's fault.
RECORD_CLASSES = ("22", "23", "P0")
APPLY = "SELECT koseki.link_apply(%s, value) FROM jsonb_array_elements(%s::jsonb)"
KEEP = (
    "INSERT INTO link.statement (resident, digest)"
    " SELECT value->>'resident', value->>'digest' FROM jsonb_array_elements(%s::jsonb)"
)


def only(cursor: Cursor) -> tuple[Any, ...]:
    """Return the one row of an answer; without one the database is not what was prepared."""
    row = cursor.fetchone()
    if row is None:
        raise psycopg2.DataError("a row is missing that was prepared: begin again")
    return row


@dataclass(frozen=True)
class State:
    """One flow as the database has it.

    next: the number that comes; published: the last that was put into the folder (sent flows);
    mode: automatic or manual, with reason and who chose it.
    """

    flow: str
    direction: str
    next: int
    published: int
    mode: str
    reason: str
    by: str

    @property
    def manual(self) -> bool:
        """Whether nothing of this flow is done without an operator."""
        return self.mode == "manual"


@dataclass(frozen=True)
class Entry:
    """A row for the ledger; empty fields stay empty."""

    flow: str
    direction: str
    action: str
    sequence: int | None = None
    file: str = ""
    sha256: str = ""
    records: int | None = None
    code: str = ""
    mode: str = "automatic"
    by: str = "engine"
    reason: str = ""


class Ledger:
    """The municipality's database, as the link's own role sees it."""

    def __init__(self, conninfo: str) -> None:
        """Connect to whichever server leads."""
        self.connection: Connection = psycopg2.connect(conninfo)

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """Give a cursor; all of it is kept at the end, or nothing."""
        with self.connection, self.connection.cursor() as cursor:
            yield cursor

    def prepare(self, flows: Iterable[Flow]) -> None:
        """Know the layout's flows, and be told when there is something to do."""
        with self.transaction() as cursor:
            for flow in flows:
                cursor.execute(
                    "INSERT INTO link.flows (flow, direction) VALUES (%s, %s)"
                    " ON CONFLICT (flow) DO NOTHING",
                    [flow.name, flow.direction],
                )
            cursor.execute(f"LISTEN {CHANNEL}")

    def was_notified(self) -> bool:
        """Take what the server told and say whether it told anything; its words are empty."""
        self.connection.poll()
        came = bool(self.connection.notifies)
        self.connection.notifies.clear()
        return came

    def states(self) -> dict[str, State]:
        """Return every flow's state by name."""
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT flow, direction, next_sequence, published, mode, reason, by"
                " FROM link.flows ORDER BY direction, flow"
            )
            return {row[0]: State(*row) for row in cursor.fetchall()}

    def held(self, cursor: Cursor, flow: str) -> State:
        """Return a flow's state and hold it until the transaction ends."""
        cursor.execute(
            "SELECT flow, direction, next_sequence, published, mode, reason, by"
            " FROM link.flows WHERE flow = %s FOR UPDATE",
            [flow],
        )
        return State(*only(cursor))

    def note(self, cursor: Cursor, entry: Entry) -> None:
        """Write a row into the ledger; the role may neither change nor delete one."""
        cursor.execute(
            "INSERT INTO link.ledger (flow, direction, action, sequence, file, sha256, records,"
            " code, mode, by, reason) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                entry.flow,
                entry.direction,
                entry.action,
                entry.sequence,
                entry.file,
                entry.sha256,
                entry.records,
                entry.code,
                entry.mode,
                entry.by,
                entry.reason,
            ],
        )

    def done(self, flow: str, sequence: int) -> Entry | None:
        """Return the row of a number that was applied or composed."""
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT direction, action, file, sha256, records FROM link.ledger"
                " WHERE flow = %s AND sequence = %s AND action IN ('applied', 'composed')",
                [flow, sequence],
            )
            row = cursor.fetchone()
        if row is None:
            return None
        direction, action, file, sha256, records = row
        return Entry(flow, direction, action, sequence, file, sha256, records)

    def apply(self, cursor: Cursor, flow: str, records: Iterable[Record]) -> None:
        """Give records to the application's function, in order; Refused when it takes one not."""
        if flow == STATEMENT:
            cursor.execute("DELETE FROM link.statement")
        begun = 1
        for batch in batches(records, BATCH):
            text = json.dumps(batch, ensure_ascii=False)
            try:
                if flow == STATEMENT:
                    cursor.execute(KEEP, [text])
                else:
                    cursor.execute(APPLY, [flow, text])
            except psycopg2.Error as error:
                if (error.pgcode or "")[:2] not in RECORD_CLASSES:
                    raise
                # The server's sentence may hold the record: its code alone is passed on.
                raise Refused(
                    "application",
                    f"records {begun} to {begun + len(batch) - 1}: SQLSTATE {error.pgcode}",
                ) from None
            begun += len(batch)

    def advance(self, cursor: Cursor, flow: str) -> None:
        """Make the next number the one that comes."""
        cursor.execute(
            "UPDATE link.flows SET next_sequence = next_sequence + 1 WHERE flow = %s", [flow]
        )

    # What is sent.

    def take_outbox(self, cursor: Cursor, sequence: int, rows: Sequence[int]) -> None:
        """Give rows of the outbox a number."""
        cursor.execute(
            "UPDATE link.outbox SET sequence = %s WHERE id = ANY(%s)", [sequence, list(rows)]
        )

    def refuse_outbox(self, cursor: Cursor, number: int, code: str) -> None:
        """Set a row aside that no file can carry."""
        cursor.execute("UPDATE link.outbox SET refused = %s WHERE id = %s", [code, number])

    def waiting_outbox(self, cursor: Cursor, flow: str, most: int) -> list[tuple[int, object]]:
        """Return id and record of rows that wait."""
        cursor.execute(
            "SELECT id, record FROM link.outbox WHERE flow = %s AND sequence IS NULL"
            " AND refused = '' ORDER BY id LIMIT %s",
            [flow, most],
        )
        return list(cursor.fetchall())

    def sent(self, cursor: Cursor, flow: str, sequence: int) -> list[Record]:
        """Return the records of a number that is sent, in order."""
        cursor.execute(
            "SELECT record FROM link.outbox WHERE flow = %s AND sequence = %s ORDER BY id",
            [flow, sequence],
        )
        return [record for (record,) in cursor.fetchall()]

    def publish(self, flow: str, sequence: int) -> None:
        """Note that a number lies in the folder."""
        with self.transaction() as cursor:
            cursor.execute(
                "UPDATE link.flows SET published = %s WHERE flow = %s AND published < %s",
                [sequence, flow, sequence],
            )

    # What an operator does.

    def choose(self, cursor: Cursor, flow: str, mode: str, reason: str, by: str) -> None:
        """Choose a mode, and wake the engine."""
        cursor.execute(
            "UPDATE link.flows SET mode = %s, reason = %s, by = %s WHERE flow = %s",
            [mode, reason, by, flow],
        )
        cursor.execute(f"NOTIFY {CHANNEL}")

    def latest(self, count: int) -> list[dict[str, object]]:
        """Return the last rows of the ledger, newest first."""
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT json_build_object('at', at, 'flow', flow, 'action', action, 'sequence',"
                " sequence, 'file', file, 'records', records, 'code', code, 'mode', mode, 'by', by,"
                " 'reason', reason) FROM link.ledger ORDER BY id DESC LIMIT %s",
                [count],
            )
            return [row for (row,) in cursor.fetchall()]

    def set_aside(self) -> int:
        """Return how many rows of the outbox no file can carry."""
        with self.transaction() as cursor:
            cursor.execute("SELECT count(*) FROM link.outbox WHERE refused <> ''")
            return int(only(cursor)[0])

    # Reconciliation.

    def statement(self) -> tuple[int, float] | None:
        """Return number and age in hours of the last statement; None when there never was one."""
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT sequence, extract(epoch FROM clock_timestamp() - at) / 3600"
                " FROM link.ledger WHERE flow = %s AND action = 'applied' ORDER BY id DESC LIMIT 1",
                [STATEMENT],
            )
            row = cursor.fetchone()
        return (int(row[0]), float(row[1])) if row else None

    def differences(self) -> list[tuple[str, str]]:
        """Return whose entry differs from the registry's statement, and how; nothing else."""
        with self.transaction() as cursor:
            cursor.execute(
                "SELECT coalesce(s.resident, h.resident), CASE WHEN h.resident IS NULL THEN"
                " 'missing-here' WHEN s.resident IS NULL THEN 'missing-there' ELSE 'differs' END"
                " FROM link.statement s FULL JOIN koseki.link_statement() h"
                " ON h.resident = s.resident"
                " WHERE s.digest IS DISTINCT FROM h.digest ORDER BY 1"
            )
            return list(cursor.fetchall())


def batches(records: Iterable[Record], size: int) -> Iterator[Sequence[Record]]:
    """Yield records by the batch: what is held does not grow with the file."""
    batch: list[Record] = []
    for record in records:
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
