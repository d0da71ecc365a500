"""Invented registers: composed from words that are no names, the same every time."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from datetime import date, timedelta

# Text that must survive: each stands in a register of every municipality. Two variants of one
# character are two names; the last of these is 外字, which no common font can print.
SURVIVORS = (
    ("葛\U000e0102見本", "かつらみほん"),
    ("葛\U000e0100見本", "かつらみほん"),
    ("葛見本", "かつらみほん"),
    ("𠮷例", "よしれい"),
    ("﨑仮", "さきかり"),
    ("\ufa2a例", "はんれい"),
    ("\ufa19仮", "かみかり"),
    ("髙例", "たかれい"),
    ("見本〜例", "みほんれい"),
    ("見本～例", "みほんれい"),
    ("見本−例", "みほんれい"),
    ("見本－例", "みほんれい"),
    ("\U0010de92例", "がいじれい"),
)
FIRST = [
    ("青", "あお"), ("赤", "あか"), ("石", "いし"), ("上", "うえ"), ("絵", "え"), ("丘", "おか"),
    ("金", "かね"), ("北", "きた"), ("黒", "くろ"), ("坂", "さか"), ("白", "しろ"), ("砂", "すな"),
    ("空", "そら"), ("滝", "たき"), ("月", "つき"), ("鳥", "とり"), ("波", "なみ"), ("西", "にし"),
    ("野", "の"), ("花", "はな"), ("星", "ほし"), ("松", "まつ"), ("緑", "みどり"), ("雪", "ゆき"),
]  # fmt: skip
SECOND = [("例", "れい"), ("見本", "みほん"), ("仮", "かり"), ("架空", "かくう"), ("試", "ためし")]
GIVEN = [("一", "いち"), ("二", "に"), ("三", "さん"), ("四", "よん"), ("五", "ご"), ("六", "ろく")]
TAIL = [("例", "れい"), ("号", "ごう"), ("番", "ばん"), ("世", "せい"), ("組", "くみ")]
PERSONS = 3
FIRST_DAY, DAYS = date(1930, 1, 1), 34000


def registers(code6: str, count: int) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield honseki, family name and kana, head's name and kana of invented registers."""
    chance = random.Random(code6)  # noqa: S311 - the same every time is the point
    for number in range(count):
        if number < len(SURVIVORS):
            family, family_kana = SURVIVORS[number]
        else:
            (a, a_kana), (b, b_kana) = chance.choice(FIRST), chance.choice(SECOND)
            family, family_kana = a + b, a_kana + b_kana
        name, kana = given(chance)
        yield f"架空郡見本村大字例{number + 1}番地", family, family_kana, name, kana


def given(chance: random.Random) -> tuple[str, str]:
    """Return an invented given name and its kana."""
    (a, a_kana), (b, b_kana) = chance.choice(GIVEN), chance.choice(TAIL)
    return a + b, a_kana + b_kana


def table(rows: Iterator[tuple[object, ...]]) -> io.StringIO:
    """Return rows in COPY's text form; invented text holds nothing that needs an escape."""
    return io.StringIO("".join("\t".join(map(str, row)) + "\n" for row in rows))


def fill(database: str, code6: str, count: int) -> str | None:
    """Load the registers, all or none; return why not, or None."""
    import psycopg2  # noqa: PLC0415 - composing registers needs no database

    connection = psycopg2.connect(database)
    with connection, connection.cursor() as cursor:
        # Nobody else adds registers meanwhile; readers are not kept waiting.
        cursor.execute("LOCK TABLE koseki.registers IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute("SELECT EXISTS (SELECT FROM koseki.registers)")
        if cursor.fetchone() == (True,):
            return "there are registers here already: invented ones are for an empty database"
        rows = list(registers(code6, count))
        cursor.copy_expert(
            "COPY koseki.registers (honseki, family_name, family_kana, head_name, head_kana)"
            " FROM STDIN",
            table(iter(rows)),
        )
        cursor.execute("SELECT id FROM koseki.registers ORDER BY id")
        numbers = [number for (number,) in cursor.fetchall()]
        cursor.copy_expert(
            "COPY koseki.persons (register_id, place, name, kana, born) FROM STDIN",
            table(persons(code6, numbers, rows)),
        )
    connection.close()
    return None


def persons(
    code6: str, numbers: list[int], rows: list[tuple[str, str, str, str, str]]
) -> Iterator[tuple[object, ...]]:
    """Yield the persons of each register, its head first."""
    chance = random.Random(f"{code6} persons")  # noqa: S311 - as above
    for number, (_, _, _, head, head_kana) in zip(numbers, rows, strict=True):
        for place in range(1, PERSONS + 1):
            name, kana = (head, head_kana) if place == 1 else given(chance)
            yield number, place, name, kana, FIRST_DAY + timedelta(days=chance.randrange(DAYS))
