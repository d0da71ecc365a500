"""Run another program; its failure becomes one sentence, and its words an end."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.formatting import in_short
from koseki_ops.core.language import _

# What `timeout` exits with: the exit code of whatever was ended because it took too long.
TIMED_OUT = 124
# What a shell calls a program that wrote on when nobody read any more (128 + SIGPIPE): the exit
# code of whatever was ended because it said too much.
CUT_OFF = 141
# As much of an answer is kept, and of what was complained of the last part.
ANSWER_BYTES = 32 << 20
ERROR_BYTES = 256 << 10
CHUNK = 1 << 18
# How often it is looked whether a program has ended that says nothing more, in seconds.
LOOK_AGAIN = 0.05
PIPE_CHUNKS = 4


@dataclass(frozen=True)
class Heard:
    """What a program said. cut: why that is not all, empty when it is; then there is no answer."""

    code: int
    out: bytes
    err: bytes
    cut: str = ""


@dataclass(frozen=True)
class Bounds:
    """How long a program may take (seconds; None: as long as it likes) and say (bytes)."""

    seconds: float | None = None
    answer: int = ANSWER_BYTES


def hear(
    argv: Sequence[str],
    stdin: bytes,
    bounds: Bounds,
    keep: Callable[[bytes], str] | None = None,
) -> Heard:
    """Run a program and return what it said, and never more than the bounds allow.

    keep: takes its output piece by piece, and says why no more is wanted, empty when it is; without
    one the output is returned. A program that is not done within the bounds is ended.
    """
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        talk = _Talk(process, stdin, bounds, keep)
        try:
            cut = talk.run()
        finally:
            process.kill()
            talk.close()
        code = process.wait()
    if cut:
        return Heard(TIMED_OUT if talk.late else CUT_OFF, b"", talk.err, cut)
    return Heard(code, b"".join(talk.out), talk.err)


class _Talk:
    """One program, heard until its end or until it has said or taken too much."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        stdin: bytes,
        bounds: Bounds,
        keep: Callable[[bytes], str] | None,
    ) -> None:
        self.process, self.bounds, self.keep = process, bounds, keep
        self.pending, self.late, self.output = memoryview(stdin), False, 0
        self.out: list[bytes] = []
        self.err = b""
        self.selector = selectors.DefaultSelector()
        for stream, event in (
            (process.stdin, selectors.EVENT_WRITE),
            (process.stdout, selectors.EVENT_READ),
            (process.stderr, selectors.EVENT_READ),
        ):
            assert stream is not None  # noqa: S101 - all three were asked for as pipes
            os.set_blocking(stream.fileno(), False)
            self.selector.register(stream, event)

    def run(self) -> str:
        """Hear it; return why it was not heard to its end, empty when it was."""
        seconds = self.bounds.seconds
        end = None if seconds is None else time.monotonic() + seconds
        while not self._ended():
            left = LOOK_AGAIN if end is None else min(LOOK_AGAIN, end - time.monotonic())
            if left <= 0:
                self.late = True
                return f"no answer within {seconds:.0f} s"
            if self.process.stdout not in self._open():
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(left)
                left = 0
            for key, _ignored in self.selector.select(left):
                if cut := self._act(key.fileobj):
                    return cut
        return ""

    def close(self) -> None:
        """Let go of the pipes; what was still to be sent is not wanted any more."""
        self.selector.close()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def _ended(self) -> bool:
        """Say whether it has ended and all that it said was heard.

        What it left running may hold its error stream for ever, as a shared connection does.
        """
        if self.process.stdout in self._open() or self.process.poll() is None:
            return False
        # So much fits into the pipe; whoever still writes there is not waited for.
        for _ignored in range(PIPE_CHUNKS):
            if self.process.stderr not in self._open():
                break
            if not (part := self._read(self.process.stderr)):
                break
            self._complained(part)
        return True

    def _open(self) -> set[Any]:
        return {key.fileobj for key in self.selector.get_map().values()}

    def _act(self, stream: Any) -> str:  # noqa: ANN401 - a pipe's end
        if stream is self.process.stdin:
            self._write(stream)
            return ""
        part = self._read(stream)
        if part is None:
            return ""
        if not part:
            self.selector.unregister(stream)
        elif stream is self.process.stderr:
            self._complained(part)
        else:
            return self._heard(part)
        return ""

    def _heard(self, part: bytes) -> str:
        if self.keep:
            return self.keep(part)
        self.output += len(part)
        self.out.append(part)
        if self.output > self.bounds.answer:
            return f"it sent more than {self.bounds.answer >> 20} MiB: cut off"
        return ""

    def _complained(self, part: bytes) -> None:
        self.err = (self.err + part)[-ERROR_BYTES:]

    def _read(self, stream: Any) -> bytes | None:  # noqa: ANN401 - a pipe's end
        """Return what is there, empty at its end, None when nothing is there yet."""
        try:
            return os.read(stream.fileno(), CHUNK)
        except BlockingIOError:
            return None

    def _write(self, stream: Any) -> None:  # noqa: ANN401 - a pipe's end
        try:
            sent = os.write(stream.fileno(), self.pending[:CHUNK]) if self.pending else 0
        except BrokenPipeError:
            # Nobody reads any more: what becomes of it is said by its end.
            sent = len(self.pending)
        self.pending = self.pending[sent:]
        if not self.pending:
            self.selector.unregister(stream)
            stream.close()


# What a program says after its reason, because of it: it is never the reason.
CONSEQUENCE = re.compile(
    r"(Shared )?[Cc]onnection to \S+ closed( by remote host)?\.?"
    r"|.*terminating, \d+ bad configuration options?"
    r"|lost connection|client_loop: .*"
    r"|tar: (Error is not recoverable: exiting now|Child returned status .*"
    r"|Exiting with failure status due to previous errors)"
    r"|E: Sub-process \S+ returned an error code .*"
    r"|Try .* for more information\.?"
    r"|make(\[\d+\])?: \*\*\* .*"
    r"|non-zero return code|MODULE FAILURE.*|See stdout/stderr for the exact error.*"
    r"|(ExecStart|Main) process exited.*"
)


def cause_in(text: str) -> str:
    """Return the last line that is a reason, not what followed from one; empty without any."""
    lines = [line.strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if line and not CONSEQUENCE.fullmatch(line)), "")


def reason_of(stderr: str | bytes, code: int) -> str:
    """Return why a program failed: its last line that is a reason, or how it ended."""
    text = stderr if isinstance(stderr, str) else stderr.decode(errors="replace")
    return in_short(cause_in(text) or (text.strip().splitlines() or [f"exit {code}"])[-1])


@dataclass(frozen=True)
class Answer:
    """What a program that could answer answered. code: its exit code, one of those that answer."""

    code: int
    out: bytes

    @property
    def text(self) -> str:
        """What it printed; bytes that are no UTF-8 stand there as escapes."""
        return self.out.decode("utf-8", errors="backslashreplace")


def ask(
    argv: Sequence[str | Path],
    *,
    answers: Container[int] = (0,),
    stdin: bytes | IO[bytes] = b"",
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    seconds: float | None = None,
    error: Callable[[str], KosekiError] | None = None,
) -> Answer:
    """Run a program and return its answer: what it could not say never looks like nothing said.

    answers: exit codes that are an answer; env: another environment than this process's; error:
    makes what is raised out of the reason. Raises KosekiError when the program is missing, cannot
    be started, is not done within so many seconds, or exits otherwise.
    """
    program = str(argv[0])
    source: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    try:
        done = subprocess.run(  # noqa: TID251 - this is the one place
            argv, env=env, cwd=cwd, timeout=seconds, capture_output=True, check=False, **source
        )
    except FileNotFoundError as missing:
        if missing.filename != program:
            raise
        raise KosekiError(_("a program is missing"), program, _("run `make set-up`")) from missing
    except (OSError, subprocess.TimeoutExpired) as fault:
        late = isinstance(fault, subprocess.TimeoutExpired)
        reason = f"no answer within {seconds:.0f} s" if late else str(fault)
        raise (error or _failed_as(argv))(reason) from fault
    if done.returncode not in answers:
        raise (error or _failed_as(argv))(reason_of(done.stderr or done.stdout, done.returncode))
    return Answer(done.returncode, done.stdout)


def _failed_as(argv: Sequence[str | Path]) -> Callable[[str], KosekiError]:
    def failed(reason: str) -> KosekiError:
        return KosekiError(
            _("`{argv}` failed").format(argv=" ".join(map(str, argv[:6]))),
            reason,
            _("remove the cause that it names, or run `{argv}` by itself to see more").format(
                argv=argv[0]
            ),
        )

    return failed


def run(argv: Sequence[str], stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a program, return what it printed; raise KosekiError with its last line on failure.

    env: another environment than this process's.
    """
    return ask(argv, stdin=(stdin or "").encode(), env=env).text


@contextmanager
def engine(argv: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:  # noqa: ANN401 - Popen's own
    """Run a program beside us, in text; when we are interrupted, it ends before we do."""
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        encoding="utf-8",
        errors="backslashreplace",
        **options,
    ) as process:
        try:
            yield process
        except BaseException:
            process.terminate()
            raise
