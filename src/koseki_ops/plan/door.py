"""Where raw values of an inventory become the typed plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from koseki_ops.plan.earlier_form import earlier_form
from koseki_ops.plan.findings import of_validation, refused
from koseki_ops.plan.model import Platform


def typed(shared: Mapping[str, Any], file_of: Callable[[str], Path]) -> Platform:
    """Return raw values typed; KosekiError with the first that cannot be read. file_of: by key."""
    if found := earlier_form(shared, file_of):
        raise refused(found)
    try:
        return Platform.model_validate(shared)
    except ValidationError as error:
        raise refused([of_validation(item, file_of) for item in error.errors()]) from error
