"""What can be asked of the stand-in: `openapi.yml` beside this package describes the same."""

from __future__ import annotations

import re
from dataclasses import dataclass

# A number of a register or a receipt: as many digits as the database's bigint surely holds.
NUMBER = "[0-9]{1,18}"


@dataclass(frozen=True)
class Route:
    """A method and a path, `{name}` in which stands for a number, and the handler's name.

    everywhere: also of an instance that stands in for a municipality, which only reads and issues.
    """

    method: str
    path: str
    handler: str
    everywhere: bool = False

    def pattern(self) -> re.Pattern[str]:
        """Return what a request's path must match, its numbers as groups."""
        parts = re.split(r"\{[a-z]+\}", self.path)
        return re.compile(f"({NUMBER})".join(map(re.escape, parts)))


ROUTES = (
    Route("GET", "/health", "health", everywhere=True),
    Route("GET", "/", "search", everywhere=True),
    Route("GET", "/registers/{register}", "register", everywhere=True),
    Route("POST", "/registers/{register}/certificates", "issue", everywhere=True),
    Route("GET", "/filings", "filings"),
    Route("POST", "/filings", "receive"),
    Route("POST", "/filings/{receipt}/approve", "approve"),
    Route("POST", "/test-print", "test_print"),
)
