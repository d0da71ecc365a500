"""Whatever a registry leaves in its exchange: it goes with a reason, and the link goes on."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import socket
import stat
import sys
import tempfile
import types
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from koseki_link.folders import REASON, Folders
from koseki_link.layout import Name, Refused, StandIn
from koseki_link.settings import Settings

if TYPE_CHECKING:
    from koseki_link.engine import Engine
    from koseki_link.ledger import Entry, State

CODE6 = "202053"
RIGHT = Name(CODE6, "address-change", 1)
# Under a right name of another flow of the same town.
NEIGHBOUR = f"{CODE6}-transfer-in-00000001.jsonl".encode()
# 252 and 255 bytes, as a registry names what is still on its way.
LONG = ("戸" * 82 + "a").encode() + b".part"
LONGEST = b"x" * 250 + b".part"
# The engine's account and the registry's, when whoever runs the tests may become another.
ENGINE, REGISTRY = 64001, 64002
IS_ROOT = os.geteuid() == 0


@dataclass(frozen=True)
class Left:
    """What a registry left: a name of any bytes, what it is, and its mode."""

    name: bytes
    kind: str = "file"
    content: bytes = b""
    mode: int = 0o640

    def put(self, folder: Path) -> None:
        """Leave it; an attempt that the kernel refuses leaves nothing."""
        path = os.fsencode(folder) + b"/" + self.name
        match self.kind:
            case "file":
                with open(path, "wb") as file:  # noqa: PTH123 - a name of any bytes
                    file.write(self.content)
                os.chmod(path, self.mode)  # noqa: PTH101
            case "link out" | "link to a folder" | "link to nothing":
                ends = {"link out": "/etc/passwd", "link to a folder": "/etc"}
                os.symlink(ends.get(self.kind, "/nowhere").encode(), path)  # noqa: PTH211
            case "pipe":
                os.mkfifo(path, self.mode)
            case "socket":
                # Bound beside it: a socket's name has a limit of its own.
                with socket.socket(socket.AF_UNIX) as made:
                    made.bind("s")
                os.rename(b"s", path)  # noqa: PTH104
            case "device":
                os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            case "folder":
                os.mkdir(path, 0o700)  # noqa: PTH102
            case _:
                os.mkdir(path, 0o700)  # noqa: PTH102
                os.mkdir(path + b"/within")  # noqa: PTH102
        if IS_ROOT:
            os.chown(path, REGISTRY, REGISTRY, follow_symlinks=False)


KINDS = (
    "file",
    "link out",
    "link to a folder",
    "link to nothing",
    "pipe",
    "socket",
    "folder",
    "folder that is not empty",
    *(("device",) if IS_ROOT else ()),
)


def any_name() -> st.SearchStrategy[bytes]:
    """Names of every length and byte, and those that mean something to somebody."""
    ends = [b".part", b".taken", b".new", REASON.encode(), b".jsonl", b"\n", b"\xff", b""]
    stems = st.one_of(
        st.binary(min_size=1, max_size=255),
        st.text(min_size=1, max_size=85).map(lambda text: text.encode(errors="replace")),
        st.sampled_from([NEIGHBOUR, b".", b".lock", b"x" * 255, "戸".encode() * 85, b"-rf"]),
    )
    named = st.builds(lambda stem, end: stem[: 255 - len(end)] + end, stems, st.sampled_from(ends))
    harmless = named.map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_"))
    own = StandIn().file_name(RIGHT).encode()
    return harmless.filter(lambda name: name not in {b".", b"..", own})


ANYTHING = st.builds(
    Left,
    any_name(),
    st.sampled_from(KINDS),
    st.binary(max_size=200),
    st.sampled_from([0o640, 0o000, 0o777]),
)


class Books:
    """A town's books in memory; somebody takes a file away whenever a row is written."""

    def __init__(self, folder: Path, taken_away: int) -> None:
        """Begin at number 1; so many files go while they are looked at."""
        self.folder, self.taken_away = folder, taken_away
        self.rows: list[Entry] = []
        self.next = dict.fromkeys(StandIn.flows, 1)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Give what is no cursor."""
        yield

    def prepare(self, flows: Iterable[object]) -> None:
        """Know the flows from the beginning."""

    def _state(self, flow: str) -> State:
        made: type[State] = import_module("koseki_link.ledger").State
        return made(flow, StandIn.flows[flow].direction, self.next[flow], 0, "automatic", "", "")

    def states(self) -> dict[str, State]:
        """Return every flow's state."""
        return {flow: self._state(flow) for flow in StandIn.flows}

    def held(self, _cursor: None, flow: str) -> State:
        """Return one flow's state."""
        return self._state(flow)

    def note(self, _cursor: None, entry: Entry) -> None:
        """Keep a row, and let the sender take something away."""
        self.rows.append(entry)
        lying = [row for row in sorted(self.folder.iterdir()) if not row.is_dir()]
        own = StandIn().file_name(RIGHT)
        for path in [path for path in lying if path.name != own][: self.taken_away]:
            self.taken_away -= 1
            path.unlink()

    def apply(self, _cursor: None, _flow: str, records: Iterable[object]) -> None:
        """Read all records."""
        list(records)

    def advance(self, _cursor: None, flow: str) -> None:
        """Make the next number the one that comes."""
        self.next[flow] += 1

    def done(self, _flow: str, _sequence: int) -> None:
        """Remember nothing."""

    def waiting_outbox(self, *_: object) -> list[object]:
        """Send nothing."""
        return []

    def set_aside(self) -> int:
        """Set nothing aside in the outbox."""
        return 0

    def latest(self, count: int) -> list[Entry]:
        """Return the last rows."""
        return self.rows[-count:]


@pytest.fixture(scope="module", autouse=True)
def driver() -> Generator[None]:
    """The names of Debian's psycopg2 that the engine asks for: only hosts have it, none is called.

    Who reads what the engine reads here reads no database.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("psycopg2", "psycopg2.errors", "psycopg2.extensions"):
            made: Any = types.ModuleType(name)
            made.Error = made.DataError = type("Error", (Exception,), {})
            made.connection = made.cursor = object
            patch.setitem(sys.modules, name, made)
        patch.setattr("psycopg2.extensions", sys.modules["psycopg2.extensions"], raising=False)
        # What is cut off is settled at once.
        patch.setattr(import_module("koseki_link.engine"), "SETTLE_SECONDS", 0.0)
        yield
    for name in ("engine", "ledger", "control"):
        sys.modules.pop(f"koseki_link.{name}", None)


@contextmanager
def engine_in(base: Path, taken_away: int = 0) -> Iterator[Engine]:
    """Give an engine, at work as an account that owns nothing of what was left."""
    told = Settings("oshika", CODE6, base, "", 1, 1, 9, 9, 1, 0)
    groups = os.getgroups()
    if IS_ROOT:
        os.setgroups([])
        os.setegid(ENGINE)
        os.seteuid(ENGINE)
    try:
        yield import_module("koseki_link.engine").Engine(
            told, StandIn(), Books(base / "in", taken_away)
        )
    finally:
        if IS_ROOT:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)


@contextmanager
def exchange() -> Iterator[Folders]:
    """Give an empty exchange, as its role makes it: the sender's folder is open to the engine.

    Where it lies is where the process is: nobody has to pass through the folders above.
    """
    before, made = Path.cwd(), tempfile.mkdtemp()
    os.chdir(made)
    try:
        found = Folders(Path())
        for folder in (found.incoming, found.outgoing, found.done, found.quarantine, found.work):
            folder.mkdir()
            folder.chmod(0o777 if folder == found.incoming else 0o700)
            if IS_ROOT:
                os.chown(folder, ENGINE, ENGINE)
        if IS_ROOT:
            os.chown(made, ENGINE, ENGINE)
        yield found
    finally:
        os.chdir(before)
        shutil.rmtree(made)


def right_file() -> bytes:
    """Return a file whose turn it is, without a record."""
    file = io.BytesIO()
    StandIn().compose(file, RIGHT, 0, [])
    return file.getvalue()


@pytest.mark.uncounted
@settings(max_examples=80)
@given(st.lists(ANYTHING, max_size=6, unique_by=lambda left: left.name), st.integers(0, 3))
@example([Left(LONG)], 0)
@example([Left(LONGEST), Left(LONGEST[:-1], "pipe")], 0)
@example([Left(b"a" + REASON.encode(), "pipe"), Left(b"b" + REASON.encode(), content=b"{")], 0)
@example([Left(NEIGHBOUR, mode=0), Left(b"x\n\xff", "folder that is not empty")], 1)
def test_the_link_goes_on(left: list[Left], taken_away: int) -> None:
    """The right file beside it is applied, the rest is gone, each with a reason that can be read.

    As a `.part`, too, that nobody goes on sending; and what its sender takes away meanwhile.
    """
    control = import_module("koseki_link.control")
    with exchange() as folders:
        for thing in left:
            thing.put(folders.incoming)
        Left(StandIn().file_name(RIGHT).encode(), content=right_file(), mode=0o644).put(
            folders.incoming
        )
        with engine_in(folders.base, taken_away) as engine:
            engine.begin()
            for _ in range(2):
                json.dumps(control.status(engine)["waiting"], ensure_ascii=False).encode()
                engine.look()
            reasons = folders.reasons()
            engine.begin()
        assert os.listdir(folders.done) == [StandIn().file_name(RIGHT)]  # noqa: PTH208
        assert set(os.listdir(folders.work)) <= {".lock"}  # noqa: PTH208
        stays = {os.fsdecode(x.name) for x in left if x.kind == "folder that is not empty"}
        assert set(os.listdir(folders.incoming)) == stays  # noqa: PTH208
        # Folders of names that look alike share the reason that they stay.
        assert len(reasons) >= len(left) - taken_away - max(0, len(stays) - 1)


@pytest.mark.uncounted
@settings(max_examples=100)
@given(
    st.sampled_from(["layout", "municipality", "flow", "sequence", "count"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
)
@example(field="sequence", value=True)
@example(field="sequence", value=1.0)
@example(field="count", value=False)
def test_a_header_of_another_type_is_refused(field: str, value: object) -> None:
    """Of whatever type: what equals a number, as true equals 1, is none."""
    header: dict[str, object] = {
        "layout": StandIn.version,
        "municipality": CODE6,
        "flow": RIGHT.flow,
        "sequence": 1,
        "count": 0,
    }
    same = type(header[field]) is type(value) and header[field] == value
    line = json.dumps({**header, field: value}).encode() + b"\n"
    end = json.dumps({"sha256": hashlib.sha256(line).hexdigest()}).encode() + b"\n"
    with tempfile.NamedTemporaryFile() as file:
        file.write(line + end)
        file.flush()
        try:
            StandIn().verify(Path(file.name), RIGHT, CODE6, 1 << 20)
        except Refused:
            assert not same
        else:
            assert same


def test_a_time_to_come_holds_nothing_up() -> None:
    """A file that was cut off, and dated into the next century, has stood still as long as any."""
    with exchange() as folders:
        name = StandIn().file_name(RIGHT)
        Left(name.encode(), content=b"{").put(folders.incoming)
        os.utime(folders.incoming / name, (2**32 - 1, 2**32 - 1))
        age, _ = folders.tail(name)
        assert 0 <= age < 60


@pytest.mark.parametrize("kind", ["pipe", "link out", "socket"])
def test_what_takes_a_files_place_is_not_read(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sender may put something else there between two looks at it."""
    with exchange() as folders:
        name = StandIn().file_name(replace(RIGHT, sequence=2))
        Left(name.encode(), content=b"x").put(folders.incoming)
        state = (folders.incoming / name).lstat()
        (folders.incoming / name).unlink()
        Left(name.encode(), kind).put(folders.incoming)
        with monkeypatch.context() as late:
            late.setattr(Path, "lstat", lambda _path: state)
            assert folders.tail(name)[1] == b""


def test_an_error_of_the_host_is_nobodys_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a free descriptor a file is not called strange: the engine begins again."""

    def no_descriptor(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with exchange() as folders:
        name = StandIn().file_name(RIGHT)
        Left(name.encode(), content=right_file()).put(folders.incoming)
        with monkeypatch.context() as poor:
            poor.setattr(os, "open", no_descriptor)
            for ask in (lambda: folders.tail(name), lambda: folders.take(name, 1 << 20)):
                with pytest.raises(OSError, match="Too many open files"):
                    ask()
