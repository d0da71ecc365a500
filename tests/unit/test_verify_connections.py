"""What is called shut was tried: a busy or a poor machine answers for nobody."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator

import pytest

from koseki_ops.verify.connections import (
    OPEN,
    SHUT,
    door,
    from_host,
    from_origin,
    outcomes_on_lines,
)

From = Callable[[Iterable[str]], str]
ENDS = pytest.mark.parametrize("end", [from_host, from_origin])


@pytest.fixture
def port() -> Iterator[int]:
    """A port on loopback that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield listener.getsockname()[1]


def said(command: str) -> dict[str, list[str]]:
    """Return what came of each attempt, by protocol and port."""
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        address, protocol, port, outcome = line.split(" ", 3)
        assert address == "127.0.0.1"
        found.setdefault(f"{protocol} {port}", []).append(outcome)
    return found


@ENDS
def test_an_open_port_is_open_however_late_the_process_is(end: From, port: int) -> None:
    """Its time was up before it looked: the kernel had connected all the same."""
    found = said(end([f"127.0.0.1,tcp,{port},0", "127.0.0.1,tcp,1,0"]))
    assert found == {f"tcp {port}": ["open"], "tcp 1": ["Connection refused"]}


@ENDS
def test_whoever_does_not_answer_is_waited_for(end: From) -> None:
    """A listener whose queue is full answers nobody."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        name = listener.getsockname()
        with socket.create_connection(name):
            jobs = [f"127.0.0.1,tcp,{name[1]},0.5"]
            assert said(end(jobs)) == {f"tcp {name[1]}": ["no answer"]}


@ENDS
def test_an_attempt_without_a_descriptor_is_none(end: From, port: int) -> None:
    """Whoever ran out of them did not find the rest shut."""
    jobs = [f"127.0.0.1,tcp,{port},1"] * 40
    (found,) = said(f"ulimit -Hn 20; ulimit -n 20; {end(jobs)}").values()
    assert len(found) == len(jobs)
    assert {"open"} < set(found)
    assert not set(found) & set(SHUT)


def test_a_door_is_open_while_all_connect(port: int) -> None:
    """Whoever listens for it is the same process, and has a queue for everybody.

    From an address of its own, in a namespace: the one that the tests run in has no name.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        number = free.getsockname()[1]
    jobs = [door("", "127.0.0.2", number)]
    jobs += [f"127.0.0.2,tcp,{number},20,,127.0.0.{source}" for source in range(3, 203)]
    jobs += [f"127.0.0.2,tcp,{port},20,,127.0.0.1"]
    done = subprocess.run(
        ["sh", "-c", from_origin(jobs)], capture_output=True, text=True, check=True
    )
    assert len(done.stdout.splitlines()) == 201
    met = outcomes_on_lines(done.stdout)
    assert met == {("", "127.0.0.2", number): OPEN, ("", "127.0.0.2", port): "Connection refused"}


def test_a_namespace_that_is_not_there_is_no_answer() -> None:
    """An attempt that could not be made from where it should is none."""
    job = "127.0.0.1,tcp,1,1,no-such-namespace"
    done = subprocess.run(
        ["sh", "-c", from_origin([job])], capture_output=True, text=True, check=True
    )
    (said,) = outcomes_on_lines(done.stdout).values()
    assert said == "No such file or directory"
    assert said not in {OPEN, *SHUT}


def test_a_datagram_is_open_when_nothing_refuses_the_next() -> None:
    """One that somebody takes, and one that nobody does."""
    with socket.socket(type=socket.SOCK_DGRAM) as taker:
        taker.bind(("127.0.0.1", 0))
        port = taker.getsockname()[1]
        found = said(from_host([f"127.0.0.1,udp,{port},1", "127.0.0.1,udp,9,1"]))
    assert found == {f"udp {port}": ["open"], "udp 9": ["Connection refused"]}
