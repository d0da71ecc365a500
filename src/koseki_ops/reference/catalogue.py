"""The catalogue of translations, from the code's messages and what is translated already."""

from __future__ import annotations

import io
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from koseki_ops.core.language import CATALOGUE, JAPANESE
from koseki_ops.reference.messages import messages

PLACE = f"src/koseki_ops/{CATALOGUE}"
# Of what gettext's header may say, what a reader needs: a date would be another file each day.
HEADER = r"""# What a person reads, in Japanese, which is written by hand (docs/language.md).
# `python -m koseki_ops.reference` brings in what is new and takes out what is gone.
msgid ""
msgstr ""
"Language: ja\n"
"Content-Type: text/plain; charset=utf-8\n"
"Content-Transfer-Encoding: 8bit\n"
"Plural-Forms: nplurals=1; plural=0;\n"

"""
WIDTH = 100


def page(root: Path) -> str:
    """Return the whole catalogue: each message once, with its Japanese where there is some."""
    path = root / PLACE
    before = Catalog(JAPANESE)
    if path.exists():
        with path.open("rb") as file:
            before = read_po(file, locale=JAPANESE)
    catalogue = Catalog(JAPANESE)
    for message in messages(root):
        key = (message.text, message.many) if message.many else message.text
        known = before.get(message.text)
        catalogue.add(key, string=known.string if known else "")
    written = io.BytesIO()
    write_po(written, catalogue, width=WIDTH, no_location=True, omit_header=True, sort_output=True)
    return HEADER + written.getvalue().decode("utf-8").strip("\n") + "\n"
