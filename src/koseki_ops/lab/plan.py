"""A lab's plan with a file of its own for a while: what a drill or a figure has to change in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from koseki_ops.core.files import write_atomic
from koseki_ops.core.subprocesses import run
from koseki_ops.plan.site import Site


@contextmanager
def own_file(site: Site, name: str) -> Iterator[Path]:
    """Put a copy in the place of a link into Iida's plan (`municipalities.yml`), for a while."""
    path = site.inventory / "group_vars/all" / name
    link, content = path.readlink(), path.read_text(encoding="utf-8")
    write_atomic(path, content)
    try:
        yield path
    finally:
        path.unlink()
        path.symlink_to(link)


def certificate(slug: str, folder: Path) -> tuple[Path, Path]:
    """Make a key, and the certificate (PEM) that a town would hand over; return where they lie."""
    key, pem = folder / f"{slug}.key", folder / f"{slug}.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9"]
    run([*make, "-subj", f"/CN={slug}", "-keyout", str(key), "-out", str(pem)])
    return key, pem


def municipality(path: Path, slug: str, **values: Any) -> None:  # noqa: ANN401 - any column
    """Write columns of a municipality's row (`left_on=None`) into the plan."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    row = next(row for row in content["municipalities"] if row["slug"] == slug)
    row.update(values)
    write_atomic(path, yaml.safe_dump(content, allow_unicode=True))
