"""Registers, filings and certificates: what is asked of the database."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from koseki_sample.database import Cursor, only
from koseki_sample.text import starts_with

FOUND_AT_MOST = 50
# Longer than any name or place.
LONGEST = 300


class Refused(Exception):  # noqa: N818 - it is an answer to the counter, not a fault
    """What cannot be done, as the sentence that the counter reads."""


class NotThere(Exception):  # noqa: N818 - as above
    """There is no such register or filing in this municipality."""


@dataclass(frozen=True)
class Row:
    """A register as a search lists it."""

    id: int
    honseki: str
    family_name: str
    family_kana: str
    head_name: str
    head_kana: str


@dataclass(frozen=True)
class Person:
    """One person of a register."""

    place: int
    name: str
    kana: str
    born: date


@dataclass(frozen=True)
class Filing:
    """A filing that was received, perhaps approved."""

    receipt_number: int
    kind: str
    register_id: int
    content: Mapping[str, str]
    received_by: str
    approved_by: str | None


@dataclass(frozen=True)
class Certificate:
    """A certificate that was issued: its number, its data's time, what was printed."""

    number: int
    as_of: datetime
    pdf: bytes


COLUMNS = "id, honseki, family_name, family_kana, head_name, head_kana"


def search(cursor: Cursor, *, kana: str = "", name: str = "") -> list[Row]:
    """Find registers by the beginning of their kana or of their name; in the order of kana.

    By exact characters: 葛 does not find 葛󠄂, since what follows it only selects another form.
    """
    if kana:
        where = "family_kana || head_kana LIKE %s"
        values: list[str | int] = [starts_with(kana)]
    else:
        # The character after what was typed must not be a variation selector.
        where = (
            "family_name || head_name LIKE %s AND "
            "substr(family_name || head_name, %s, 1) !~ '[\U000e0100-\U000e01ef]'"
        )
        values = [starts_with(name), len(name) + 1]
    cursor.execute(
        f"SELECT {COLUMNS} FROM koseki.registers WHERE {where}"  # noqa: S608 - our own words
        " ORDER BY family_kana || head_kana, id LIMIT %s",
        [*values, FOUND_AT_MOST],
    )
    return [Row(*row) for row in cursor.fetchall()]


def register(cursor: Cursor, number: int) -> tuple[Row, list[Person]]:
    """Return a register and its persons; NotThere when this municipality has none such."""
    cursor.execute(f"SELECT {COLUMNS} FROM koseki.registers WHERE id = %s", [number])  # noqa: S608
    row = cursor.fetchone()
    if row is None:
        raise NotThere
    cursor.execute(
        "SELECT place, name, kana, born FROM koseki.persons WHERE register_id = %s ORDER BY place",
        [number],
    )
    return Row(*row), [Person(*person) for person in cursor.fetchall()]


def _next(cursor: Cursor, name: str) -> int:
    """Take the next number; it goes back when the transaction does."""
    cursor.execute(
        "UPDATE koseki.numbers SET last = last + 1 WHERE name = %s RETURNING last", [name]
    )
    (number,) = only(cursor)
    return int(number)


# What each kind of filing must say.
CONTENT: Mapping[str, tuple[str, ...]] = {
    "転籍": ("honseki",),
    "出生": ("name", "kana", "born"),
    "名の変更": ("place", "name", "kana"),
}


def receive(
    cursor: Cursor, kind: str, number: int, content: Mapping[str, str], operator: str
) -> int:
    """Take a filing in and return its receipt number; nothing is changed by it yet."""
    if kind not in CONTENT:
        raise Refused("届書の種類が正しくありません。")
    _named("受付者", operator)
    missing = [key for key in CONTENT[kind] if not content.get(key)]
    if missing:
        raise Refused(f"記載がありません: {', '.join(missing)}")
    if "born" in CONTENT[kind]:
        _date(content["born"])
    if any(len(content[key]) > LONGEST for key in CONTENT[kind]):
        raise Refused("長すぎる記載があります。")
    if "place" in CONTENT[kind] and not re.fullmatch("[1-9][0-9]{0,3}", content["place"]):
        raise Refused("番号が正しくありません。")
    register(cursor, number)
    receipt = _next(cursor, "receipt")
    cursor.execute(
        "INSERT INTO koseki.filings (receipt_number, kind, register_id, content, received_by)"
        " VALUES (%s, %s, %s, %s, %s)",
        [
            receipt,
            kind,
            number,
            json.dumps({key: content[key] for key in CONTENT[kind]}, ensure_ascii=False),
            operator,
        ],
    )
    return receipt


def _named(what: str, person: str) -> None:
    """Refuse who is not named, or by more than a name; what: who it should be."""
    if not person:
        raise Refused(f"{what}がありません。")
    if len(person) > LONGEST:
        raise Refused("長すぎる記載があります。")


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise Refused("生年月日が正しくありません。") from error


def filings(cursor: Cursor) -> list[Filing]:
    """Return the filings that wait for approval first, then the latest."""
    cursor.execute(
        "SELECT receipt_number, kind, register_id, content, received_by, approved_by"
        " FROM koseki.filings ORDER BY approved_at IS NOT NULL, receipt_number DESC LIMIT %s",
        [FOUND_AT_MOST],
    )
    return [Filing(*row) for row in cursor.fetchall()]


def approve(cursor: Cursor, receipt: int, operator: str) -> int:
    """Approve a filing and apply it to its register, both or neither; return the register."""
    _named("決裁者", operator)
    cursor.execute(
        "SELECT receipt_number, kind, register_id, content, received_by, approved_by"
        " FROM koseki.filings WHERE receipt_number = %s FOR UPDATE",
        [receipt],
    )
    row = cursor.fetchone()
    if row is None:
        raise NotThere
    filing = Filing(*row)
    if filing.approved_by:
        raise Refused("決裁済みです。")
    if filing.received_by == operator:
        raise Refused("受付者は決裁できません。")
    APPLY[filing.kind](cursor, filing)
    cursor.execute(
        "UPDATE koseki.registers SET changed_at = now() WHERE id = %s", [filing.register_id]
    )
    cursor.execute(
        "UPDATE koseki.filings SET approved_at = now(), approved_by = %s WHERE receipt_number = %s",
        [operator, receipt],
    )
    _tell_registry(cursor, filing)
    return filing.register_id


def _tell_registry(cursor: Cursor, filing: Filing) -> None:
    """Tell the resident registry of it (住民票記載事項通知), in the approval's own transaction."""
    row, _ = register(cursor, filing.register_id)
    content = filing.content
    record = {
        "event": filing.kind,
        "honseki": row.honseki,
        "name": f"{row.family_name}　{content.get('name', row.head_name)}",
        "kana": f"{row.family_kana}　{content.get('kana', row.head_kana)}",
    }
    cursor.execute(
        "INSERT INTO link.outbox (flow, record) VALUES ('resident-record', %s)",
        [json.dumps(record, ensure_ascii=False)],
    )


def _move(cursor: Cursor, filing: Filing) -> None:
    cursor.execute(
        "UPDATE koseki.registers SET honseki = %s WHERE id = %s",
        [filing.content["honseki"], filing.register_id],
    )


def _add(cursor: Cursor, filing: Filing) -> None:
    # The register's row is held, so that two births do not take one place.
    cursor.execute("SELECT 1 FROM koseki.registers WHERE id = %s FOR UPDATE", [filing.register_id])
    cursor.execute(
        "INSERT INTO koseki.persons (register_id, place, name, kana, born)"
        " SELECT %s, coalesce(max(place), 0) + 1, %s, %s, %s FROM koseki.persons"
        " WHERE register_id = %s",
        [
            filing.register_id,
            filing.content["name"],
            filing.content["kana"],
            filing.content["born"],
            filing.register_id,
        ],
    )


def _rename(cursor: Cursor, filing: Filing) -> None:
    content = filing.content
    cursor.execute(
        "UPDATE koseki.persons SET name = %s, kana = %s WHERE register_id = %s AND place = %s",
        [content["name"], content["kana"], filing.register_id, content["place"]],
    )
    if cursor.rowcount != 1:
        raise Refused("その番号の人はいません。")
    if content["place"] == "1":
        cursor.execute(
            "UPDATE koseki.registers SET head_name = %s, head_kana = %s WHERE id = %s",
            [content["name"], content["kana"], filing.register_id],
        )


APPLY: Mapping[str, Callable[[Cursor, Filing], None]] = {
    "転籍": _move,
    "出生": _add,
    "名の変更": _rename,
}


def issue(
    cursor: Cursor,
    number: int,
    operator: str,
    signatory: str,
    render: Callable[[Row, list[Person], int, datetime], bytes],
) -> Certificate:
    """Issue a certificate: its number, the print and its record stand together or not at all.

    render: makes the document of a register, its persons, the number and the data's time.
    """
    _named("発行者", operator)
    taken = _next(cursor, "certificate")
    # While its row is held nobody changes this register: it is printed as it is at that time.
    cursor.execute("SELECT 1 FROM koseki.registers WHERE id = %s FOR SHARE", [number])
    cursor.execute("SELECT clock_timestamp()")
    (as_of,) = only(cursor)
    row, persons = register(cursor, number)
    pdf = render(row, persons, taken, as_of)
    cursor.execute(
        "INSERT INTO koseki.certificates VALUES (%s, %s, %s, %s, %s, %s)",
        [taken, number, as_of, operator, signatory, hashlib.sha256(pdf).hexdigest()],
    )
    return Certificate(taken, as_of, pdf)


def now(cursor: Cursor) -> datetime:
    """Return the moment that this transaction reads at; the first thing that is asked in it."""
    cursor.execute("SELECT transaction_timestamp()")
    moment: datetime = only(cursor)[0]
    return moment


def issue_for_another(
    cursor: Cursor,
    told: Mapping[str, str],
    as_of: datetime,
    render: Callable[[int], bytes],
) -> Certificate:
    """Issue for a municipality that is cut off, in the series that the platform keeps for that.

    told: register, issued_by, terminal, signatory, margin_note; as_of: when the content was read;
    render: makes the document of a number.
    """
    _named("発行者", told["issued_by"])
    cursor.execute("SELECT platform.takeover_number()")
    (number,) = only(cursor)
    pdf = render(number)
    written = {**told, "as_of": as_of.isoformat(), "sha256": hashlib.sha256(pdf).hexdigest()}
    cursor.execute("SELECT platform.takeover_document(%s)", [json.dumps(written)])
    return Certificate(number, as_of, pdf)


# Platform.probe belongs to the platform's own checks; what is tried here is rolled back.
PROBE = -3


def there_and_back(cursor: Cursor, text: str) -> str:
    """Write a text and read it again; the caller rolls back."""
    cursor.execute("INSERT INTO platform.probe (id, note) VALUES (%s, %s)", [PROBE, text])
    cursor.execute("SELECT note FROM platform.probe WHERE id = %s", [PROBE])
    (note,) = only(cursor)
    return str(note)


def schema_version(cursor: Cursor) -> int:
    """Return the number of the last schema file that was applied here."""
    cursor.execute("SELECT max(number) FROM platform.schema_files")
    (number,) = only(cursor)
    return int(number or 0)
