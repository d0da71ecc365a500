"""The way out to a terminal: what others sent cannot steer it.

Whatever a command prints goes through here once, however it came to be printed. What is no
character for a reader is shown as U+FFFD; colours are our own alone, known by a number that nobody
outside of this process has seen.
"""

from __future__ import annotations

import io
import re
import secrets
import sys
from typing import BinaryIO, TextIO

import click

from koseki_ops.core.formatting import printable

# Written as a parameter of the sequence, so that whoever takes colours away knows ours, too.
_OURS = str(secrets.randbits(64))
_COLOUR = re.compile(rf"(\x1b\[{_OURS};[0-9;]*m)")


def painted(text: str, colour: str, *, bold: bool = False) -> str:
    """Return text in a colour, for a line that is printed."""
    plain = click.style(printable(text), fg=colour, bold=bold or None)
    return plain.replace("\x1b[", f"\x1b[{_OURS};")


class Guarded(io.TextIOBase):
    """A stream towards a reader, as whoever prints takes it."""

    def __init__(self, stream: TextIO) -> None:
        """Stand before a stream."""
        super().__init__()
        self.stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override] # typeshed has it writable
        """The stream's own."""
        return self.stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override] # typeshed has it writable
        """The stream's own: without it click would write to the buffer, past this."""
        return self.stream.errors

    @property
    def buffer(self) -> BinaryIO:
        """The stream's own, at which Ansible's display lets one thread write at a time."""
        return self.stream.buffer

    def reconfigure(self, *, errors: str) -> None:
        """Say how the stream writes what its encoding lacks, as Ansible's display does."""
        if isinstance(self.stream, io.TextIOWrapper):
            self.stream.reconfigure(errors=errors)

    def write(self, text: str) -> int:
        """Write what a reader may see; return how long the text was."""
        parts = _COLOUR.split(text)
        parts[::2] = map(printable, parts[::2])
        parts[1::2] = (part.replace(f"{_OURS};", "") for part in parts[1::2])
        self.stream.write("".join(parts))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()

    def fileno(self) -> int:
        """Return the stream's descriptor: a program that is started writes there by itself."""
        return self.stream.fileno()

    def isatty(self) -> bool:
        """Say whether a person reads it."""
        return self.stream.isatty()

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True


def guard() -> None:
    """Let everything that this process prints from now on go through here."""
    sys.stdout, sys.stderr = Guarded(sys.stdout), Guarded(sys.stderr)
