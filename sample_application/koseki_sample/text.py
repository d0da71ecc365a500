"""Text as it is registered: compared and found by its exact characters."""

from __future__ import annotations

# The ideographic variation selectors: 葛󠄂 is 葛 and one of them, and another name than 葛.
FIRST_SELECTOR, LAST_SELECTOR = 0xE0100, 0xE01EF


def starts_with(prefix: str) -> str:
    """Return the pattern for LIKE that finds what begins with exactly these characters."""
    escaped = prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{escaped}%"


def units(text: str) -> list[str]:
    """Return a text's characters, each with the variation selector that belongs to it."""
    found: list[str] = []
    for character in text:
        follows = FIRST_SELECTOR <= ord(character) <= LAST_SELECTOR
        if follows and found and len(found[-1]) == 1:
            found[-1] += character
        else:
            found.append(character)
    return found
