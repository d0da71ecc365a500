"""Hosts that answer as a test has written down: a program called ssh, where no host is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Answer:
    """What a host says when what it is asked holds these words. host: empty for any."""

    words: str
    stdout: str = ""
    stderr: str = ""
    code: int = 0
    host: str = ""


class Hosts:
    """All hosts of a site: they answer the first that fits, and note what they were asked.

    What fits nothing is a host that does not answer.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        """Put the program first on PATH."""
        self.folder = folder
        programs = folder / "programs"
        programs.mkdir(parents=True)
        (programs / "ssh").write_text(self._program(), encoding="utf-8")
        (programs / "ssh").chmod(0o755)
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def answer(self, *answers: Answer) -> None:
        """Take these answers from now on, in the place of all before."""
        for path in self.folder.glob("answer-*"):
            path.unlink()
        for number, answer in enumerate(answers):
            for part in ("words", "host", "stdout", "stderr", "code"):
                text = str(getattr(answer, part))
                (self.folder / f"answer-{number:02}.{part}").write_text(text, encoding="utf-8")

    def asked(self) -> Sequence[str]:
        """Return what was asked: host, command and what came on standard input, in order."""
        paths = sorted(self.folder.glob("asked-*"), key=lambda path: path.stat().st_mtime_ns)
        return [path.read_text(encoding="utf-8") for path in paths]

    def _program(self) -> str:
        """Return the program: `ssh -F FILE HOST COMMAND`."""
        return f"""#!/bin/sh
shift 2
host=$1
asked=$(mktemp {self.folder}/asked-XXXXXX)
{{ echo "$*"; cat; }} >"$asked"
for words in {self.folder}/answer-*.words; do
    [ -e "$words" ] || continue
    stem=${{words%.words}}
    wanted=$(cat "$stem.host")
    [ -z "$wanted" ] || [ "$wanted" = "$host" ] || continue
    grep -qF -e "$(cat "$words")" "$asked" || continue
    cat "$stem.stdout"
    cat "$stem.stderr" >&2
    exit "$(cat "$stem.code")"
done
echo "ssh: connect to host $host: No route to host" >&2
exit 255
"""
