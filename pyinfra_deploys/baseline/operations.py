"""The operations that the baseline is made of.

`put_files` keeps a set of files: one question a host, one upload for what differs, the daemon's own
check before anything is moved into place, and what must happen afterwards. Because the check and
the consequence are inside the operation, a dry run counts exactly what an apply would change.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any, cast

from pyinfra import host, state
from pyinfra.api import FactBase, FileUploadCommand, StringCommand, operation
from pyinfra.api.command import PyinfraCommand

from koseki_ops.drift.judge.declared import Declared
from koseki_ops.engines.connector import KosekiConnector, NoAnswerError

STAGE = "/run/koseki-stage"
ROLLBACK = "/run/koseki-rollback"
ROLLBACK_UNIT = "koseki-rollback"
ROLLBACK_SECONDS = 45
FORGET = f"systemctl stop {ROLLBACK_UNIT}.timer && rm -r {ROLLBACK}"
UNDO = f"sh {ROLLBACK}/undo && {FORGET}"


# What an operation yields.
Commands = Generator[PyinfraCommand, None, None]


def connector() -> KosekiConnector:
    """Return this host's connector, which is ours."""
    return cast("KosekiConnector", host.connector)


def ask[T](fact: type[FactBase[T]], **about: Any) -> T:  # noqa: ANN401 - as the fact's own
    """Return what this host answers; raise NoAnswerError when it fell out of the run over it.

    pyinfra itself goes on with an empty answer, and a change would be made from nothing.
    """
    answer = host.get_fact(fact, **about)
    if host in state.failed_hosts:
        raise NoAnswerError(connector().trouble)
    return answer


@dataclass(frozen=True)
class File:
    """A file that is there: content, owner, group and mode; with link_to, a symbolic link."""

    path: str
    content: str | bytes = ""
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"
    link_to: str | None = None

    @property
    def data(self) -> bytes:
        """The content as bytes."""
        return self.content if isinstance(self.content, bytes) else self.content.encode()

    @property
    def state(self) -> str:
        """What `FileStates` reports when it is as wanted."""
        if self.link_to is not None:
            return f"link {self.link_to}"
        digest = hashlib.sha256(self.data).hexdigest()
        return f"{self.mode.lstrip('0') or '0'} {self.owner} {self.group} {digest}"


@dataclass(frozen=True)
class Absent:
    """A path that is not there."""

    path: str

    state: str = "absent"


class FileStates(FactBase[dict[str, str]]):
    """Mode, owner, group and hash of each path, or its link target, or that it is absent."""

    def command(self, paths: tuple[str, ...]) -> str:
        """Return one shell command for all paths."""
        listed = " ".join(shlex.quote(path) for path in paths)
        return (
            f"for f in {listed}; do "
            'if [ -L "$f" ]; then printf "%s link %s\\n" "$f" "$(readlink "$f")"; '
            'elif [ -e "$f" ]; then printf "%s %s %s\\n" "$f" "$(stat -c "%a %U %G" "$f")" '
            '"$(sha256sum <"$f" | cut -d" " -f1)"; '
            'else printf "%s absent\\n" "$f"; fi; done'
        )

    def process(self, output: list[str]) -> dict[str, str]:
        """Return the state by path."""
        return dict(line.split(" ", 1) for line in output)


class ShellAnswer(FactBase[list[str]]):
    """What a shell question prints, as lines."""

    def command(self, question: str) -> str:
        """Return the question itself."""
        return question

    def process(self, output: list[str]) -> list[str]:
        """Return the lines as they are."""
        return list(output)


@operation()
def put_files(
    files: Sequence[File | Absent],
    validate: str | None = None,
    then: str | None = None,
    *,
    rollback_unless_reachable: bool = False,
) -> Commands:
    """Keep files; when one differs, stage all that differ, validate, move, then do `then`.

    validate: a shell command that sees the staged files below `$STAGE`; when it fails nothing is
    moved. then: a shell command for afterwards, as a reload. rollback_unless_reachable: the change
    could lock us out, so a timer on the host undoes it unless a new connection works.
    """
    if not files:
        return
    _declare(files)
    states = ask(FileStates, paths=tuple(file.path for file in files))
    wrong = [file for file in files if states.get(file.path) != file.state]
    if not wrong:
        return
    yield StringCommand(f"rm -rf {STAGE} && mkdir -m 0700 {STAGE}")
    for file in wrong:
        if isinstance(file, File) and file.link_to is None:
            staged = f"{STAGE}{file.path}"
            yield StringCommand(f"mkdir -p {shlex.quote(str(PurePosixPath(staged).parent))}")
            yield FileUploadCommand(BytesIO(file.data), staged)
    if validate:
        yield StringCommand(f"STAGE={STAGE}; {validate}")
    if rollback_unless_reachable:
        yield from _arm_rollback(wrong, then or "true")
    yield StringCommand(" && ".join([*map(_move, wrong), f"rm -rf {STAGE}"]))
    if then:
        yield StringCommand(then)
    if rollback_unless_reachable:
        yield from _rollback_unless_reachable()


def _declare(files: Sequence[File | Absent]) -> None:
    """Say that these files are ours; what must be absent is unmanaged when it is there."""
    declared = Declared.of(host.name)
    for file in files:
        if isinstance(file, Absent):
            continue
        if file.link_to is not None:
            declared.link(file.path, file.link_to)
        else:
            declared.file(file.path, file.data, file.mode, file.owner, file.group)


@operation()
def recover_rollback() -> Commands:
    """Prove the change of a run that was broken off before its proof, while its timer still runs.

    Otherwise the timer would undo, behind this run's back, what this run found in place. A change
    that was not made whole is undone now, and made anew further on.
    """
    question = f'printf "%s\\n" "$(systemctl is-active {ROLLBACK_UNIT}.timer)"'
    if ask(ShellAnswer, question=question) == ["active"]:
        yield StringCommand(FORGET if connector().new_connection_works() else UNDO)


def _rollback_unless_reachable() -> Commands:
    """Stop the timer when a new connection works; undo at once when none does."""
    if connector().new_connection_works():
        yield StringCommand(FORGET)
    else:
        sentence = (
            f"a new connection did not work ({connector().trouble}), so the change was undone: "
            "compare flows and accounts with what was changed"
        )
        yield StringCommand(f"{UNDO}; echo {shlex.quote(sentence)} >&2; exit 1")


def _move(file: File | Absent) -> str:
    """Return the command that puts one staged file in its place, whole and with its rights."""
    path = shlex.quote(file.path)
    if isinstance(file, Absent):
        return f"rm -f {path}"
    parent = shlex.quote(str(PurePosixPath(file.path).parent))
    if file.link_to is not None:
        return f"mkdir -p {parent} && ln -sfn {shlex.quote(file.link_to)} {path}"
    staged, aside = shlex.quote(f"{STAGE}{file.path}"), f"{path}.koseki-new"
    # A disk that is full leaves half a file aside: it is taken away, the old one stays.
    return (
        f"mkdir -p {parent} && chown {file.owner}:{file.group} {staged} && "
        f"chmod {file.mode} {staged} && "
        f"{{ cp -p {staged} {aside} || {{ rm -f {aside}; false; }}; }} && mv {aside} {path}"
    )


def _arm_rollback(files: Sequence[File | Absent], then: str) -> Commands:
    """Keep what stands now, and let the host itself bring it back after a while."""
    undo = ""
    for number, file in enumerate(files):
        path, kept = shlex.quote(file.path), f"{ROLLBACK}/{number}"
        undo += f"if [ -e {kept} ]; then cp -p {kept} {path}; else rm -f {path}; fi\n"
    keep = "; ".join(
        f"if [ -e {shlex.quote(file.path)} ]; then cp -p {shlex.quote(file.path)} "
        f"{ROLLBACK}/{number}; fi"
        for number, file in enumerate(files)
    )
    yield StringCommand(f"rm -rf {ROLLBACK}; mkdir -m 0700 {ROLLBACK}; {keep}")
    yield FileUploadCommand(BytesIO(f"{undo}{then}\n".encode()), f"{ROLLBACK}/undo")
    yield StringCommand(
        f"systemd-run --quiet --collect --unit={ROLLBACK_UNIT} "
        f"--on-active={ROLLBACK_SECONDS} sh {ROLLBACK}/undo"
    )


@operation()
def ensure(
    question: str,
    wanted: Sequence[str],
    change: str,
    owns: Sequence[tuple[str, str, dict[str, str]]] = (),
) -> Commands:
    """Ask a shell question; when the answer's lines are not `wanted`, run `change`.

    Nothing wanted: nothing is asked. owns: kind, name and fields of what this keeps, for the
    host's manifest.
    """
    for kind, name, fields in owns:
        Declared.of(host.name).add(kind, name, **fields)
    if wanted and ask(ShellAnswer, question=question) != list(wanted):
        yield StringCommand(change)
