"""Whose place at a door is not given back: a client who left, and a proxy that never read it."""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from koseki_ops.plan.model.policies import (
    PROXY_CHECKS_UNTIL_CUT,
    PROXY_CONNECT_MS,
    TimingProfile,
)
from koseki_ops.verify.proxy import abandoned

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "tests/unit/golden/application1/etc/haproxy/haproxy.cfg"


def seen() -> str:
    """Return what `ss` says of this machine, as of one network."""
    done = subprocess.run(["ss", "-Htan"], capture_output=True, text=True, check=True)
    return "".join(f"koseki-iida {line}\n" for line in done.stdout.splitlines())


def test_a_place_is_lost_while_nobody_read_that_its_client_left() -> None:
    """At both looks; not when it was read, nor when the place was given back meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        client = socket.create_connection(listener.getsockname())
        place, (_, there) = listener.accept()
        client.close()
        look = seen()
        assert ("koseki-iida", port) in abandoned(look)[0]
        lost = f"koseki-iida: 127.0.0.1:{port} to 127.0.0.1:{there}"
        assert lost in abandoned(f"{look}@@\n{look}")[1]
        assert abandoned(look)[1] == []
        assert place.recv(1) == b""
        assert lost not in abandoned(f"{look}@@\n{seen()}")[1]
        place.close()
        assert lost not in abandoned(f"{look}@@\n{seen()}")[1]


def test_a_client_who_has_not_read_that_the_proxy_went_holds_no_place() -> None:
    """An application that rests, after its server was lost: the same state, at the other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        place, _ = listener.accept()
        own = client.getsockname()[1]
        place.close()
        look = seen()
        assert re.search(rf"CLOSE-WAIT +1 .*:{own} ", look)
        assert not [line for line in abandoned(f"{look}@@\n{look}")[1] if f":{own} " in line]
        client.close()


def test_the_proxy_cuts_no_connection_that_is_being_made() -> None:
    """It would hold its place for ever; by the numbers that the plan refuses other timings with."""
    text = CONFIGURATION.read_text(encoding="utf-8")
    assert f"timeout connect {PROXY_CONNECT_MS}ms\n    retries 0\n" in text
    backends = dict(
        re.findall(r"^backend (\w+)\n(.*?)(?=^backend|\Z)", text, re.MULTILINE | re.DOTALL)
    )
    cut = {name for name, lines in backends.items() if "shutdown-sessions" in lines}
    assert cut == {"leader", "replica", "leader_for_reads"}
    assert "track leader/" in backends["leader_for_reads"]
    for name in ("leader", "replica"):
        now, falls = backends[f"{name}_now"], r" inter (\d+)ms rise \d+ fall (\d+)"
        (interval, fall), (same, later) = (
            re.findall(falls, lines)[0] for lines in (now, backends[name])
        )
        assert (same, int(later)) == (interval, int(fall) + PROXY_CHECKS_UNTIL_CUT)
        assert f"fastinter {int(interval) // 2}ms" in now
        assert "fastinter" not in backends[name]


@pytest.mark.parametrize(("interval", "fall"), [(999, 2), (500, 4), (1499, 1)])
def test_timings_for_which_one_might_be_made_are_refused(interval: int, fall: int) -> None:
    """One sentence with both times and what to raise."""
    profile = {
        "ttl": 20,
        "loop_wait": 5,
        "retry_timeout": 5,
        "primary_start_timeout": 10,
        "proxy_check_interval_ms": interval,
        "proxy_check_fall": fall,
        "proxy_check_rise": 1,
    }
    with pytest.raises(ValidationError, match="raise proxy_check_interval_ms or proxy_check_fall"):
        TimingProfile.model_validate(profile)
    TimingProfile.model_validate(profile | {"proxy_check_interval_ms": 1500})
