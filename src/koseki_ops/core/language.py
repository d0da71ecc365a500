"""The language of what a person reads: English, as it stands in the code, or Japanese.

The language is one variable of this process's environment, so that programs which it starts speak
it too. The catalogue is read when the first Japanese sentence is wanted; English reads none. It is
read as it was written (`locale/ja/LC_MESSAGES/koseki.po`): nothing has to be built before, and
nothing built can be older than what it was built from.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

VARIABLE = "KOSEKI_LANG"
ENGLISH, JAPANESE = "en", "ja"
LANGUAGES = (JAPANESE, ENGLISH)
# Where an environment says it, the first one that is set: POSIX's order, after our own.
CHOSEN_BY = (VARIABLE, "LC_ALL", "LC_MESSAGES", "LANG")
# By its own place: whoever asks for help waits for no machinery that could look into archives.
PACKAGE = Path(__file__).parents[1]
CATALOGUE = "locale/ja/LC_MESSAGES/koseki.po"
ESCAPED = re.compile(r"\\(.)")
CONTROLS = {"n": "\n", "t": "\t"}


def language_of(environment: Mapping[str, str]) -> str:
    """Return the language that an environment asks for; a locale that is not known is English.

    What `KOSEKI_LANG` says is returned as it is: who set it meant it, and is told when it is wrong.
    """
    name = next((name for name in CHOSEN_BY if environment.get(name)), "")
    value = environment.get(name, "")
    if name == VARIABLE:
        return value
    return JAPANESE if re.split(r"[_.@]", value)[0] == JAPANESE else ENGLISH


def choose(language: str) -> None:
    """Speak this language from now on, here and in every program that is started from here."""
    os.environ[VARIABLE] = language


def language() -> str:
    """Return the language that is spoken: `ja` or `en`."""
    return JAPANESE if os.environ.get(VARIABLE) == JAPANESE else ENGLISH


def translate(message: str) -> str:
    """Return a message in the language that is spoken; in English where it has no translation.

    Called as `_`, with a literal: values are put in afterwards, by `.format(name=value)`.
    """
    if language() == ENGLISH:
        return message
    return _catalogue().get(message) or message


def ngettext(one: str, many: str, count: int) -> str:
    """Return the form of a message for so many things; Japanese has one form."""
    if language() == ENGLISH:
        return one if count == 1 else many
    return _catalogue().get(one) or many


def N_(message: str) -> str:  # noqa: N802 - gettext's own name for it
    """Mark a message that is kept now, and translated where it is shown."""
    return message


_ = translate


@cache
def _catalogue() -> Mapping[str, str]:
    return read_catalogue((PACKAGE / CATALOGUE).read_text(encoding="utf-8"))


def read_catalogue(text: str) -> dict[str, str]:
    """Return the translations in the text of a `.po` file by their English.

    Of a message with a plural form it is the first one, by its singular: a language that is read
    here has one form. Comments, and with them what is obsolete, are passed over.
    """
    found: dict[str, str] = {}
    entry: dict[str, str] = {}
    part = ""
    for line in [*text.split("\n"), 'msgid ""']:
        if line.startswith("msgid "):
            if entry.get("msgid"):
                found[entry["msgid"]] = entry.get("msgstr", "") or entry.get("msgstr[0]", "")
            entry = {}
        if line.startswith("msg"):
            part, _separator, quoted = line.partition(" ")
        elif line.startswith('"'):
            quoted = line
        else:
            continue
        entry[part] = entry.get(part, "") + _unescaped(quoted.strip()[1:-1])
    return found


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    return ESCAPED.sub(lambda match: CONTROLS.get(match[1], match[1]), text)
