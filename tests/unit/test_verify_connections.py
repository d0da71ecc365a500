"""What is called shut was tried: a busy or a poor machine answers for nobody."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from koseki_ops.verify.connections import HOST_PROBE, SEAT_PROBE, SHUT


@pytest.fixture
def port() -> Iterator[int]:
    """A port on loopback that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        yield listener.getsockname()[1]


def said(argv: list[str], **options: object) -> list[str]:
    """Return what came of each attempt."""
    done = subprocess.run(argv, capture_output=True, text=True, check=True, **options)  # type: ignore[call-overload]
    return [line.split(" ", 3)[3] for line in done.stdout.splitlines()]


def test_an_open_port_is_open_however_late_the_process_is(port: int):
    """Its time was up before it looked: the kernel had connected all the same."""
    argv = [sys.executable, "-c", SEAT_PROBE]
    assert said([*argv, f"127.0.0.1,{port},0", "127.0.0.1,1,0"]) == ["open", "Connection refused"]


def test_an_attempt_without_a_descriptor_is_none(port: int):
    """Whoever ran out of them did not find the rest shut."""
    jobs = [f"127.0.0.1,{port},1"] * 40

    def poor() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))

    found = said([sys.executable, "-c", SEAT_PROBE, *jobs], preexec_fn=poor)
    assert len(found) == len(jobs)
    assert {"open"} < set(found)
    assert not set(found) & set(SHUT)


def test_a_host_that_had_no_time_says_nothing(port: int, tmp_path: Path):
    """Its shell came too late to try."""
    slow = tmp_path / "bash"
    slow.write_text("#!/bin/sh\nsleep 5\n", encoding="ascii")
    slow.chmod(0o755)
    script = f"{HOST_PROBE}\nprobe 127.0.0.1 tcp {port} 0.3"
    assert said(["sh", "-c", script]) == ["open"]
    (found,) = said(["sh", "-c", script], env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert found not in {"open", *SHUT}
