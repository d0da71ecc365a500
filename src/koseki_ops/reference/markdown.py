"""Words and rows as Markdown takes them."""

from __future__ import annotations

import re

# A place with a name to fill in: a reader of Markdown would take it for HTML and show nothing.
PLACE = re.compile(r"(?<![`\w/])[\w./-]*<[\w-]+>[\w./<>-]*(?<![.,])")


def prose(text: str) -> str:
    """Return a text on one line, with what Markdown would swallow as code."""
    return PLACE.sub(lambda found: f"`{found[0]}`", " ".join(text.split()))


def cell(text: str) -> str:
    """Return a text that a table can hold."""
    return text.replace("|", "\\|")


def row(*cells: str) -> str:
    """Return a row of a table; its cells escape their own bars."""
    return f"| {' | '.join(cells)} |"


def code(text: str) -> str:
    """Return a block of code."""
    return f"```\n{text}\n```"
