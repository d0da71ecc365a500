"""The generated pages say what the code says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import project_root
from koseki_ops.reference import values
from koseki_ops.reference.pages import PAGES

ROOT = project_root()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_current(name: str) -> None:
    """It is what `python -m koseki_ops.reference` writes."""
    assert (ROOT / name).read_text(encoding="utf-8") == PAGES[name](ROOT)


def keys(shared: dict[str, object]) -> Iterator[str]:
    """Yield every value's name, and every key of a list's rows."""
    for name, value in shared.items():
        yield name
        for line in value if isinstance(value, list) else ():
            yield from line if isinstance(line, dict) else ()


@pytest.mark.parametrize("name", ["iida", "lab"])
def test_every_value_of_an_inventory_has_a_row(name: str) -> None:
    """With its type, its default and what it means."""
    page = values.page(ROOT)
    found = list(keys(Inventory(ROOT / "inventories" / name).shared))
    assert len(found) > 40
    assert [key for key in found if f"\n| `{key}` | " not in page] == []


def test_every_value_stands_in_the_file_that_the_page_says() -> None:
    """Under that file's name, and under no other one."""
    page = values.page(ROOT)
    for name, value in Inventory(ROOT / "inventories/iida").group_values("all").items():
        before, *rest = page.split(f"\n| `{name}` | ")
        headings = [line for line in before.split("\n") if line.startswith("## ")]
        assert rest
        assert headings[-1] == f"## {value.file.name}", name


class Spoken(BaseModel):
    """A table of which one field says what it means."""

    one: int
    """The first."""
    other: int


def test_a_field_without_a_word_is_refused() -> None:
    """So that none gets a row that says nothing."""
    with pytest.raises(KosekiError, match=r"Spoken\.other"):
        values.meanings(Spoken)
