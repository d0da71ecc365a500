"""Programs of the image's own Debian, run on this computer: the same bytes whatever runs here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import ask

LOADER = "usr/lib64/ld-linux-x86-64.so.2"
LIBRARIES = "usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True)
class Tools:
    """The programs of a tree. moment: what every program is told for now, in seconds."""

    tree: Path
    moment: int

    def run(self, program: str, *arguments: str) -> str:
        """Run a program of the tree by the tree's own loader and libraries; return its output."""
        loader = self.tree / LOADER
        argv = [str(loader), "--library-path", str(self.tree / LIBRARIES)]
        argv += [f"{self.tree}{program}", *arguments]
        known = {
            "SOURCE_DATE_EPOCH": str(self.moment),
            "MKE2FS_CONFIG": str(self.tree / "etc/mke2fs.conf"),
        }

        def failed(reason: str) -> KosekiError:
            return KosekiError(
                _("{program} failed").format(program=program),
                reason,
                _("check the room on the disk with `df`, then run `koseki image build` again"),
            )

        return ask(argv, env=os.environ | known, error=failed).text
