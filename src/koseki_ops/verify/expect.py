"""How a test says what it expected, what it saw and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import pytest

from koseki_ops.core.formatting import in_short, printable
from koseki_ops.core.language import _


@dataclass
class CheckFailed(AssertionError):  # noqa: N818 - it reads as the sentence it prints
    """A property that the running host does not have.

    remedy: what the reader does now; unit: the systemd unit whose journal explains it; host: where
    that unit runs, when the test is about more than one host.
    """

    expected: str
    seen: str
    remedy: str
    unit: str = ""
    host: str = ""

    def __str__(self) -> str:
        """Give the three lines that a failed test prints."""
        lines = ((_("expected"), self.expected), (_("seen"), self.seen), (_("remedy"), self.remedy))
        return "".join(f"\n{name + ':':9} {text}" for name, text in lines)


def expect(seen: object, expected: object, remedy: str, unit: str = "", host: str = "") -> None:
    """Hold what was seen against what is expected, for equality.

    Of two mappings or sets only what differs is shown.
    """
    if seen != expected:
        if isinstance(seen, set) and isinstance(expected, set) and expected:
            seen, expected = _difference(seen, expected), _in_all(expected)
        if isinstance(seen, dict) and isinstance(expected, dict):
            differing = [key for key in {**expected, **seen} if seen.get(key) != expected.get(key)]
            expected = {key: expected.get(key, _("absent")) for key in differing}
            seen = {key: seen.get(key, _("absent")) for key in differing}
        raise CheckFailed(_shown(expected), _shown(seen), remedy, unit, host)


def check(
    condition: object, expected: object, seen: object, remedy: str, unit: str = "", host: str = ""
) -> None:
    """Hold a condition; `expected` says it in words."""
    if not condition:
        raise CheckFailed(_shown(expected), _shown(seen), remedy, unit, host)


def not_verified(reason: str) -> NoReturn:
    """End a test that cannot be decided here; the report shows it as not verified."""
    pytest.skip(in_short(reason))


def _in_all(expected: set[Any]) -> str:
    return _("{count} of the plan").format(count=len(expected))


def _difference(seen: set[Any], expected: set[Any]) -> str:
    parts = {
        _("too many {rows}"): seen - expected,
        _("missing {rows}"): expected - seen,
    }
    return "; ".join(text.format(rows=_shown(rows)) for text, rows in parts.items() if rows)


def _shown(value: object) -> str:
    return printable(_text(value))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value or _("nothing")
    if isinstance(value, dict):
        return "; ".join(f"{key}: {row}" for key, row in value.items()) or _("nothing")
    if isinstance(value, set | frozenset):
        return ", ".join(sorted(map(str, value))) or _("nothing")
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value)) or _("nothing")
    return str(value)
