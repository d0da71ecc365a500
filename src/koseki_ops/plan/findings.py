"""What is wrong with an inventory, as one sentence each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.plan.pydantic_faults import fault_of

SEEN_LENGTH = 60


@dataclass(frozen=True)
class Finding:
    """One thing in the inventory that cannot be right, as one sentence.

    file: where it stands; key: its path, as `municipalities[3].code6`; seen: the value met;
    remedy: what is wrong and what to write instead.
    """

    file: Path
    key: str
    seen: str
    remedy: str

    def __str__(self) -> str:
        """Give the sentence that the user reads."""
        return _("{file}: {key} is {seen}: {remedy}").format(**vars(self))


def shown(value: object) -> str:
    """Return a value as a sentence shows it, cut where it is long."""
    text = repr(value) if isinstance(value, str | int) else str(value)
    return text if len(text) <= SEEN_LENGTH else text[: SEEN_LENGTH - 1] + "…"


def of_validation(item: Mapping[str, Any], file_of: Callable[[str], Path]) -> Finding:
    """Return what the model said of a value. item: one of pydantic's errors; file_of: by key."""
    key = _key(item["loc"])
    message = fault_of(item)
    kind = item["type"]
    if kind == "missing":
        return Finding(file_of(key), key, _("missing"), _("add it"))
    if kind == "extra_forbidden":
        message = _("no such key; correct its spelling or remove it")
    elif kind != "value_error":
        message = _("{message}; correct the value").format(message=message[0].lower() + message[1:])
    return Finding(file_of(key), key, shown(item["input"]), message)


def refused(findings: Sequence[Finding]) -> KosekiError:
    """Return the error that names the first finding, and how many more there are."""
    first = findings[0]
    more = (
        _(" (and {count} more: run `koseki check`)").format(count=len(findings) - 1)
        if len(findings) > 1
        else ""
    )
    return KosekiError(
        _("the inventory is not valid: {key} in {file}").format(key=first.key, file=first.file),
        first.seen,
        first.remedy + more,
    )


def _key(location: Sequence[str | int]) -> str:
    key = ""
    for part in location:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    return key
