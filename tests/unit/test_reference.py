"""The generated pages say what the code says."""

from __future__ import annotations

import pytest

from koseki_ops.plan.site import project_root
from koseki_ops.reference.pages import PAGES

ROOT = project_root()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_current(name: str):
    """It is what `python -m koseki_ops.reference` writes."""
    assert (ROOT / name).read_text(encoding="utf-8") == PAGES[name](ROOT)
