"""Render templates whose paths mirror the target's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import jinja2


@cache
def environment(folder: Path) -> Callable[..., str]:
    """Return a function that renders a template below `folder`: `render(path, **values)`.

    path: as on the host, without `.j2`. Blocks are trimmed as Ansible trims them, so that a
    template reads the same in both engines.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files, not HTML
    )

    def render(path: str, **values: object) -> str:
        return environment.get_template(f"{path.lstrip('/')}.j2").render(**values)

    return render


render = environment(Path(__file__).parent / "templates")
