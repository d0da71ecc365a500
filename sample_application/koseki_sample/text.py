"""Text as it is registered: compared and found by its exact characters."""

from __future__ import annotations

# The ideographic variation selectors: 葛󠄂 is 葛 and one of them, and another name than 葛.
FIRST_SELECTOR, LAST_SELECTOR = 0xE0100, 0xE01EF


def starts_with(prefix: str) -> str:
    """Return the pattern for LIKE that finds what begins with exactly these characters."""
    escaped = prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{escaped}%"


def is_selector(character: str) -> bool:
    """Say whether a character only selects the form of the one before it."""
    return FIRST_SELECTOR <= ord(character) <= LAST_SELECTOR
