"""The one kind of error a user sees."""

from __future__ import annotations

from dataclasses import dataclass

from koseki_ops.core.formatting import in_short, unbroken
from koseki_ops.core.language import _


@dataclass
class KosekiError(Exception):
    """A question that could not be asked: one sentence, exit code 2.

    what: what is wrong; seen: the value that was met; remedy: what the user does now.
    """

    what: str
    seen: str
    remedy: str

    def __str__(self) -> str:
        """Join the three parts into the sentence that is printed: one line, fit for any reader."""
        whole = _("{what} ({seen}): {remedy}") if self.seen else _("{what}: {remedy}")
        seen = in_short(str(self.seen))
        return unbroken(whole.format(what=self.what, seen=seen, remedy=self.remedy))
