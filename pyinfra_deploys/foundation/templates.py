"""Render the ground's templates: their paths mirror the target's."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2


@cache
def _environment() -> jinja2.Environment:
    # trim_blocks as Ansible has it, so that a template reads the same in both engines.
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - configuration files, not HTML
    )


def render(path: str, **values: object) -> str:
    """Return a rendered template; path: as on the host, without `.j2`."""
    return _environment().get_template(f"{path.lstrip('/')}.j2").render(**values)
