"""A certificate as PDF, by WeasyPrint with IPAmj Mincho: variants print as they are registered."""

from __future__ import annotations

import base64
import io
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from html import escape, unescape
from pathlib import Path
from typing import Any

from fontTools.ttLib import TTFont

from koseki_sample.registers import Person, Refused, Row
from koseki_sample.text import units

STAND_IN = "見本アプリケーション（stand-in）による出力です。公的な証明ではありません。"
TOKYO = timezone(timedelta(hours=9))
# The document brings its font along; a name of its own, so that no installed font answers to it.
FAMILY = "Registered"
# The format of a table of pairs: character and variation selector.
VARIATIONS = 14
TAG = re.compile("<[^>]*>")
FONT_ADDRESS = "data:font/ttf;base64,"
FONT_FILE = Path("/usr/share/fonts/truetype/ipamj/ipamjm.ttf")

STYLE = f"""
@page {{ size: A4; margin: 20mm;
  @bottom-center {{ content: "{STAND_IN}"; font: 8pt {FAMILY}0; }} }}
body {{ font: 11pt {FAMILY}0; }}
h1 {{ font-size: 16pt; text-align: center; letter-spacing: .5em; }}
table {{ width: 100%; border-collapse: collapse; }}
td {{ border: .5pt solid; padding: 2mm; }}
.end {{ margin-top: 15mm; text-align: right; }}
"""


def subset(text: str) -> bytes:
    """Return a font of just the forms that a text needs, variants included.

    The whole font is 46 MB: WeasyPrint would take seconds to embed a page's part of it.
    """
    made = subprocess.run(
        ["hb-subset", str(FONT_FILE), "--text-file=-", "--output-file=-", "--no-hinting"],
        input=text.encode(),
        capture_output=True,
        check=True,
    )
    return made.stdout


@dataclass(frozen=True)
class Forms:
    """Which form a font gives to a character, alone or with a variation selector."""

    single: Mapping[int, str]
    pairs: Mapping[tuple[int, int], str | None]

    @classmethod
    def of(cls, font: bytes) -> Forms:
        """Read a font's tables of characters."""
        single: dict[int, str] = {}
        pairs: dict[tuple[int, int], str | None] = {}
        with TTFont(io.BytesIO(font), lazy=True) as opened:
            for table in opened["cmap"].tables:
                if table.format != VARIATIONS:
                    single |= table.cmap
                    continue
                for selector, rows in table.uvsDict.items():
                    pairs |= {(base, selector): form for base, form in rows}
        return cls(single, pairs)

    def form(self, unit: str) -> str | None:
        """Return the form of a character with or without its selector; None: there is none."""
        base = self.single.get(ord(unit[0]))
        if len(unit) == 1:
            return base
        pair = (ord(unit[0]), ord(unit[1]))
        # A pair without a form of its own is said to look like the character alone.
        return (self.pairs[pair] or base) if pair in self.pairs else None


def unprintable(text: str, forms: Forms) -> list[str]:
    """Return the characters of a text that a font has no form for, by their code points.

    A missing form would print as a box, and a missing variant as another form than the registered
    one: a certificate that is wrong and does not look it.
    """
    return [
        " ".join(f"U+{ord(character):04X}" for character in unit)
        for unit in units(text)
        if not unit.isspace() and forms.form(unit) is None
    ]


def twins(text: str, forms: Forms) -> dict[str, int]:
    """Return each character that looks like one before it, and how many did before.

    〜 and ～ have one form in the font, and a PDF font gives one text to a form: what is copied or
    searched would be the other character. Twins get a font of their own.
    """
    seen: dict[str, list[str]] = {}
    for unit in units(text):
        form = forms.form(unit)
        alike = seen.setdefault(form or "", [])
        if form and unit not in alike:
            alike.append(unit)
    return {unit: place for alike in seen.values() for place, unit in enumerate(alike) if place}


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


@dataclass(frozen=True)
class Issuer:
    """Whose register it is and who signs; margin_note: why another issues, empty when none does."""

    municipality: str
    signatory: str
    margin_note: str = ""


def certificate(
    row: Row, persons: Sequence[Person], number: int, as_of: datetime, issuer: Issuer
) -> bytes:
    """Return the certificate of a register. number: of the municipality's, or the stand-in's."""
    series = f"{escape(issuer.municipality)}{'代行' if issuer.margin_note else ''}"
    note = f'<p class="note">{escape(issuer.margin_note)}</p>' if issuer.margin_note else ""
    rows = "".join(
        f"<tr><td>{person.place}</td><td>{escape(person.name)}</td><td>{escape(person.kana)}</td>"
        f"<td>{era(person.born)}</td></tr>"
        for person in persons
    )
    body = f"""<h1>全部事項証明書</h1>
<table><tr><td>本籍</td><td>{escape(row.honseki)}</td></tr>
<tr><td>氏名</td><td>{escape(row.family_name)}　{escape(row.head_name)}</td></tr></table>
<table>{rows}</table>
<p>証明書番号　{series}第{number}号</p>
<p>データ時点　{moment(as_of)}</p>{note}
<p class="end">これは、戸籍に記録されている事項の全部を証明した書面である。<br>
{era(as_of.astimezone(TOKYO).date())}<br>{escape(issuer.signatory)}</p>"""
    return document(body)


def test_print(text: str) -> bytes:
    """Return a print of a text, line by line: what the font and the printer's path make of it."""
    return document("".join(f"<p>{escape(line)}</p>" for line in text.split("\n")))


def document(body: str) -> bytes:
    """Return a body as PDF; Refused when the font cannot show every character of it."""
    text = unescape(TAG.sub("", body)) + STAND_IN
    font = subset(text)
    forms = Forms.of(font)
    missing = unprintable(text, forms)
    if missing:
        raise Refused(f"印字できない文字があります: {', '.join(sorted(set(missing)))}")
    from weasyprint import HTML  # noqa: PLC0415 - it takes a second to import

    alike = twins(text, forms)
    parts = TAG.split(body)
    tags = [*TAG.findall(body), ""]
    body = "".join(_apart(part, alike) + tag for part, tag in zip(parts, tags, strict=True))
    source = FONT_ADDRESS + base64.b64encode(font).decode("ascii")
    faces = "".join(
        f"@font-face {{ font-family: {FAMILY}{place}; src: url({source}); }}"
        f".twin{place} {{ font-family: {FAMILY}{place}; }}"
        for place in sorted({0, *alike.values()})
    )
    html = f'<!doctype html><html lang="ja"><style>{faces}{STYLE}</style><body>{body}</body></html>'
    printed: Any = HTML(string=html, url_fetcher=_no_fetch).write_pdf()
    return bytes(printed)


def _apart(text: str, alike: Mapping[str, int]) -> str:
    return "".join(
        f'<span class="twin{alike[unit]}">{unit}</span>' if unit in alike else unit
        for unit in units(text)
    )


def _no_fetch(address: str, *_arguments: object, **_options: object) -> dict[str, Any]:
    """Fetch nothing but the font that the document itself holds."""
    if address.startswith(FONT_ADDRESS):
        return {"string": base64.b64decode(address.removeprefix(FONT_ADDRESS))}
    raise Refused(f"外部参照はできません: {address[:20]}")
