"""Ask git about a checkout."""

from __future__ import annotations

from collections.abc import Callable, Container
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import Answer, ask


def git(
    root: Path,
    *words: str,
    answers: Container[int] = (0,),
    error: Callable[[str], KosekiError] | None = None,
) -> Answer:
    """Return what git answers about the checkout `root`.

    answers: exit codes that are an answer; error: makes what is raised out of the reason. Whoever
    owns the checkout, it is trusted: what asks here was started out of it.
    """
    argv = ["git", "-C", str(root), "-c", f"safe.directory={root.resolve()}", *words]

    def failed(reason: str) -> KosekiError:
        return KosekiError(
            _("git cannot read this checkout"),
            reason,
            _("remove the cause that `git -C {root} status` names, or work in a new clone").format(
                root=root
            ),
        )

    return ask(argv, answers=answers, error=error or failed)
