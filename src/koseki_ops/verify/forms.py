"""Text that must survive (K-19), and the program that reads what a PDF shows of it."""

from __future__ import annotations

# Base and variation selector, outside the BMP, compatibility ideographs that normalising would
# destroy, waves and minus signs that other encodings merge.
PRINTABLE = (
    "葛\U000e0102", "葛", "𠮷", "﨑", "\ufa2a", "\ufa19", "〜", "～", "−", "－", "髙",
)  # fmt: skip
# Registered all the same, but the font has no form for them: 外字, and a variant of another
# collection, which a careless print shows as the ordinary form.
WITHOUT_FORM = ("葛\U000e0100", "\U0010de92")
SURVIVORS = (*PRINTABLE, *WITHOUT_FORM)

# For Python on the application's host: what is in a PDF is read by others than who made it: its
# text by pdftotext, its forms by fontTools, held against the whole font's.
FORMS = """
import io, json, re, subprocess, sys, zlib
from fontTools.ttLib import TTFont

def outline(font, name):
    form = font["glyf"][name]
    return list(form.getCoordinates(font["glyf"])[0])

def shown(pdf, units):
    # Return the PDF's text, and which of these characters it shows in another form.
    printed = subprocess.run(["pdftotext", "-", "-"], input=pdf, capture_output=True, check=True)
    text = printed.stdout.decode()
    fonts, named = [], {}
    for stream in re.findall(rb"stream\\r?\\n(.*?)\\r?\\nendstream", pdf, re.DOTALL):
        try:
            content = zlib.decompress(stream)
        except zlib.error:
            content = stream
        if content[:4] == b"\\0\\1\\0\\0":
            fonts.append(TTFont(io.BytesIO(content)))
        for form, character in re.findall(rb"<([0-9a-f]+)> <([0-9a-f]+)>", content):
            named.setdefault(bytes.fromhex(character.decode()).decode("utf-16-be"), int(form, 16))
    whole = TTFont("/usr/share/fonts/truetype/ipamj/ipamjm.ttf", lazy=True)
    # Numbers will do for names: the font's own sixty thousand names take a second to read.
    whole.setGlyphOrder([f"form{n}" for n in range(whole["maxp"].numGlyphs)])
    single, pairs = whole.getBestCmap(), {}
    for table in whole["cmap"].tables:
        if table.format == 14:
            for selector, rows in table.uvsDict.items():
                pairs.update({(base, selector): form for base, form in rows})
    wrong = []
    for unit in units:
        name = pairs[tuple(map(ord, unit))] if len(unit) == 2 else single[ord(unit)]
        wanted = outline(whole, name or single[ord(unit[0])])
        seen = [outline(font, font.getGlyphName(named[unit])) for font in fonts if unit in named
                and named[unit] < len(font.getGlyphOrder())]
        if wanted not in seen:
            wrong.append(unit)
    return {"text": text, "wrong": wrong}
"""
