"""A certificate as PDF, by WeasyPrint with IPAmj Mincho: variants print as they are registered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from koseki_sample.registers import Person, Refused, Row
from koseki_sample.text import is_selector

STAND_IN = "見本アプリケーション（stand-in）による出力です。公的な証明ではありません。"
TOKYO = timezone(timedelta(hours=9))
FONT_FAMILY = "IPAmjMincho"
FONT_FILE = Path("/usr/share/fonts/truetype/ipamj/ipamjm.ttf")

STYLE = f"""
@page {{ size: A4; margin: 20mm;
  @bottom-center {{ content: "{STAND_IN}"; font: 8pt {FONT_FAMILY}; }} }}
body {{ font: 11pt {FONT_FAMILY}; }}
h1 {{ font-size: 16pt; text-align: center; letter-spacing: .5em; }}
table {{ width: 100%; border-collapse: collapse; }}
td {{ border: .5pt solid; padding: 2mm; }}
.end {{ margin-top: 15mm; text-align: right; }}
"""


@cache
def _known() -> tuple[frozenset[int], frozenset[tuple[int, int]]]:
    """Return the characters that the font has, and its pairs of character and selector."""
    from fontTools.ttLib import TTFont  # noqa: PLC0415 - only a print needs it

    with TTFont(FONT_FILE, lazy=True) as font:
        tables = font["cmap"].tables
        single = {code for table in tables if table.format != 14 for code in table.cmap}
        pairs = {
            (base, selector)
            for table in tables
            if table.format == 14
            for selector, rows in table.uvsDict.items()
            for base, _ in rows
        }
    return frozenset(single), frozenset(pairs)


def unprintable(text: str) -> list[str]:
    """Return the code points of a text that the font has no form for.

    A missing form would print as a box, and a missing variant as another form than the registered
    one: a certificate that is wrong and does not look it.
    """
    single, pairs = _known()
    found = []
    for place, character in enumerate(text):
        code = ord(character)
        if is_selector(character):
            if not place or (ord(text[place - 1]), code) not in pairs:
                found.append(
                    f"U+{ord(text[place - 1]):04X} U+{code:04X}" if place else f"U+{code:04X}"
                )
        elif code not in single and not character.isspace():
            found.append(f"U+{code:04X}")
    return found


def era(day: date) -> str:
    """Return a day in the Japanese era, as documents print it."""
    for name, first in (
        ("令和", date(2019, 5, 1)),
        ("平成", date(1989, 1, 8)),
        ("昭和", date(1926, 12, 25)),
        ("大正", date(1912, 7, 30)),
    ):
        if day >= first:
            year = day.year - first.year + 1
            return f"{name}{'元' if year == 1 else year}年{day.month}月{day.day}日"
    return f"{day.year}年{day.month}月{day.day}日"


def moment(time: datetime) -> str:
    """Return a moment in Japan, to the second."""
    there = time.astimezone(TOKYO)
    return f"{era(there.date())}{there.hour}時{there.minute}分{there.second}秒"


def certificate(
    row: Row, persons: Sequence[Person], number: int, as_of: datetime, issuer: tuple[str, str]
) -> bytes:
    """Return the certificate of a register. issuer: the municipality and its signatory."""
    municipality, signatory = issuer
    rows = "".join(
        f"<tr><td>{person.place}</td><td>{escape(person.name)}</td><td>{escape(person.kana)}</td>"
        f"<td>{era(person.born)}</td></tr>"
        for person in persons
    )
    body = f"""<h1>全部事項証明書</h1>
<table><tr><td>本籍</td><td>{escape(row.honseki)}</td></tr>
<tr><td>氏名</td><td>{escape(row.family_name)}　{escape(row.head_name)}</td></tr></table>
<table>{rows}</table>
<p>証明書番号　{escape(municipality)}第{number}号</p>
<p>データ時点　{moment(as_of)}</p>
<p class="end">これは、戸籍に記録されている事項の全部を証明した書面である。<br>
{era(as_of.astimezone(TOKYO).date())}<br>{escape(signatory)}</p>"""
    return document(body)


def test_print(text: str) -> bytes:
    """Return a print of a text, line by line: what the font and the printer's path make of it."""
    return document("".join(f"<p>{escape(line)}</p>" for line in text.split("\n")))


def document(body: str) -> bytes:
    """Return a body as PDF; Refused when the font cannot show every character of it."""
    missing = unprintable(body)
    if missing:
        raise Refused(f"印字できない文字があります: {', '.join(sorted(set(missing)))}")
    from weasyprint import HTML  # noqa: PLC0415 - it takes a second to import

    html = f'<!doctype html><html lang="ja"><style>{STYLE}</style><body>{body}</body></html>'
    printed: Any = HTML(string=html, url_fetcher=_no_fetch).write_pdf()
    return bytes(printed)


def _no_fetch(address: str, *_arguments: object, **_options: object) -> dict[str, Any]:
    """Fetch nothing: a document holds everything it shows."""
    raise Refused(f"外部参照はできません: {address[:20]}")
