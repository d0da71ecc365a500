"""Which pages are generated, and by what; the catalogue of translations is one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from koseki_ops.core.files import write_atomic
from koseki_ops.reference import catalogue, commands, requirements, roles, values

# Below the checkout, by path; each function takes the checkout and returns the whole page.
PAGES: Mapping[str, Callable[[Path], str]] = {
    catalogue.PLACE: catalogue.page,
    "docs/reference/cli.md": commands.page,
    "docs/reference/inventory.md": values.page,
    "docs/requirements.md": requirements.page,
    "docs/variables.md": roles.page,
}


def write(root: Path) -> None:
    """Write every page of a checkout."""
    for name, page in PAGES.items():
        write_atomic(root / name, page(root))
