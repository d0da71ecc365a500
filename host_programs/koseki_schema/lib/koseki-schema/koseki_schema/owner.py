"""One file of a release in one database: by the protocol, in one transaction, as its owner."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg2
import psycopg2.extensions

SOCKET = "/var/run/postgresql"
# How long a file waits for a lock behind which counters would queue, and works in all.
LOCK_SECONDS, FILE_SECONDS = 10, 600
OPTIONS = (
    f"-c lock_timeout={LOCK_SECONDS}s -c statement_timeout={FILE_SECONDS}s "
    "-c idle_in_transaction_session_timeout=60s"
)


class Refused(Exception):  # noqa: N818 - a refusal, as in the other programs
    """A file that was not applied: why, in one sentence."""


def apply(database: str, owner: str, release: str, file: Mapping[str, Any]) -> None:
    """Apply one file and note it, both or neither.

    file: number, file, sha256 and sql. The session is the owner's own from its first byte: there is
    no superuser beneath it to which a statement could go back, and no client that reads the text.
    Each file gets a session of its own, so that none finds what another one left in it.
    Refused: the database refused it; what it did is taken back. psycopg2.Error: no session.
    """
    session = psycopg2.connect(
        host=SOCKET, dbname=database, user=owner, options=OPTIONS, connect_timeout=10
    )
    try:
        session.set_client_encoding("UTF8")
        cursor = session.cursor()
        cursor.execute(as_one(str(file["sql"]), session))
        noted = (file["number"], file["file"], file["sha256"], release)
        cursor.execute("SELECT platform.note_schema_file(%s, %s, %s, %s)", noted)
        session.commit()
    except psycopg2.Error as error:
        raise Refused(
            f"the database refused {file['file']} in {database} "
            f"({where(error, str(file['sql']))}): nothing of it stays; "
            "have the release corrected, or run `koseki apply` again"
        ) from None
    finally:
        session.close()


def where(error: psycopg2.Error, sql: str) -> str:
    """Return an error's SQLSTATE, and its line where the server names a place.

    Never its words: they quote what was wrong with a value, and that may be a register's.
    """
    if not error.pgcode:
        return type(error).__name__
    place = error.diag.internal_position
    line = f", line {sql.count(chr(10), 0, int(place) - 1) + 1}" if place else ""
    return f"SQLSTATE {error.pgcode}{line}"


def as_one(sql: str, session: psycopg2.extensions.connection) -> str:
    """Return a file's text as one statement of the server's own language.

    As the text of one EXECUTE the server itself refuses every word that would begin or end a
    transaction, and every way to speak with a client's files; nobody has to look for them.
    """
    body = f"BEGIN EXECUTE {quoted(sql, session)}; END"
    return f"DO {quoted(body, session)}"


def quoted(text: str, session: psycopg2.extensions.connection) -> str:
    """Return a text as a literal, in the form that this session reads."""
    if "\0" in text:
        raise Refused("the file holds a byte that no text has (0): have the release corrected")
    literal = psycopg2.extensions.QuotedString(text)
    literal.prepare(session)
    return literal.getquoted().decode()
