"""One job of pyinfra, in a process of its own: `pyinfra_run` starts it and reads its answer."""

from __future__ import annotations

import json
import logging
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, cast

from pyinfra.api import Config, Host, Inventory, QuoteString, State, StringCommand
from pyinfra.api.command import PyinfraCommand
from pyinfra.api.connect import connect_all
from pyinfra.api.exceptions import FactError, PyinfraError
from pyinfra.api.operations import run_ops
from pyinfra.api.state import BaseStateCallback, StateStage
from pyinfra.context import ctx_host, ctx_state

from koseki_ops.core.formatting import in_short
from koseki_ops.core.language import _
from koseki_ops.core.results import HostResult
from koseki_ops.drift.judge.declared import Declared
from koseki_ops.engines.connector import KosekiConnector, NoAnswerError
from koseki_ops.plan.site import Site
from koseki_ops.remote import first_contact

# What becomes of reading an answer that is none.
READING = (ArithmeticError, AttributeError, FactError, LookupError, TypeError, ValueError)
Commands = Callable[[], Iterator[PyinfraCommand]]


def main(job: dict[str, Any]) -> dict[str, HostResult]:
    """Run one job in this process; return what happened on each host."""
    # pyinfra's own words would mix with ours: it reports through its state.
    logging.getLogger("pyinfra").setLevel(logging.CRITICAL + 1)
    site = Site.open(job["inventory"], job["name"])
    sys.path.insert(0, str(site.root))
    results = {name: HostResult() for name in job["limit"]}
    names: tuple[list[str], dict[str, Any]] = ([f"@koseki/{job['inventory']}"], {})
    inventory = Inventory(names, override_data=job["data"])  # type: ignore[no-untyped-call] # theirs
    state = State(inventory, Config(SUDO=True))  # type: ignore[no-untyped-call] # as above
    state.limit_hosts = [inventory.get_host(name) for name in job["limit"]]
    state.add_callback_handler(_reporter(results))  # type: ignore[no-untyped-call] # as above
    executed = False
    broken: Exception | None = None
    try:
        state.set_stage(StateStage.Connect)
        connect_all(state)
        for host in state.activated_hosts:
            results[host.name].bare = _is_bare(site, host, note=not job["check"])
        state.set_stage(StateStage.Prepare)
        # The state is one for all greenlets, the host is each greenlet's own.
        with ctx_state.use(state):
            for path in job["deploys"]:
                _prepare(state, site.root / path)
        for host in state.active_hosts:
            _connector(host).prefetch.note()
        pending = any(state.get_meta_for_host(host).ops_change for host in state.active_hosts)
        if pending and not job["check"]:
            executed = True
            _guard(state)
            state.set_stage(StateStage.Execute)
            run_ops(state)
    except PyinfraError as error:
        # Raised when no host is left; each host's own sentence is told below.
        broken = error
    for host in state.activated_hosts:
        result = results[host.name]
        _count(state, host, result, executed=executed)
        result.declared = Declared.of(host.name).rows
        if host in state.failed_hosts and not result.failed:
            # It fell out over a question, before there was anything to do.
            result.failed += 1
            why = _connector(host).trouble or _("its answer could not be read")
            result.errors.append(
                _("{host} could not be asked ({why}): run it again").format(host=host.name, why=why)
            )
    if broken and not any(result.errors for result in results.values()):
        raise broken
    return results


def _connector(host: Host) -> KosekiConnector:
    """Return a host's connector: every host of a job is one of ours."""
    return cast("KosekiConnector", host.connector)


def _reporter(results: dict[str, HostResult]) -> BaseStateCallback:
    """Return a handler that turns pyinfra's events into results and lines of progress."""

    class Report(BaseStateCallback):
        @staticmethod
        def host_connect_error(_state: State, host: Host, error: Exception) -> None:
            results[host.name].unreachable = True
            results[host.name].errors.append(str(error))

        @staticmethod
        def operation_start(state: State, op_hash: str) -> None:
            name = _name(state, op_hash)
            print(f"> baseline: {name.split(' | ')[-1]}", file=sys.stderr, flush=True)

    return Report()


def _prepare(state: State, path: Path) -> None:
    """Read a deploy for every host at once; each learns what it would change."""

    def read(host: Host) -> None:
        # A host that falls out is told of at the end; the others go on.
        with ctx_host.use(host), suppress(NoAnswerError):
            try:
                runpy.run_path(str(path))
            except READING as error:
                # What a host says of itself may be anything: what it makes of us is its own.
                _connector(host).trouble = in_short(f"its output: {type(error).__name__} {error}")
                state.fail_hosts({host})  # type: ignore[no-untyped-call] # theirs

    hosts = state.inventory.get_active_hosts()
    for greenlet in [state.pool.spawn(read, host) for host in hosts]:
        greenlet.get()


def _is_bare(site: Site, host: Host, *, note: bool) -> bool:
    """Say whether a host is as its installer left it, now or in an apply that was broken off."""
    if _connector(host).first_contact and note:
        first_contact.begin(site, host.name)
    return _connector(host).first_contact or first_contact.has_begun(site, host.name)


def _guard(state: State) -> None:
    """Let an operation that gets no answer while it is executed fail on its own host alone."""

    def guarded(commands: Commands, host: Host) -> Iterator[PyinfraCommand]:
        try:
            yield from commands()
        except NoAnswerError:
            yield StringCommand("echo", QuoteString(_connector(host).trouble), ">&2; exit 1")

    for host in state.active_hosts:
        for op_hash in state.ops[host]:
            data = state.get_op_data_for_host(host, op_hash)
            data.command_generator = partial(guarded, data.command_generator, host)


def _name(state: State, op_hash: str) -> str:
    """Return an operation's name; hosts that run different deploys may share a place in order."""
    return " / ".join(sorted(state.get_op_meta(op_hash).names))


def _count(state: State, host: Host, result: HostResult, *, executed: bool) -> None:
    """Count failures and changes: those made or, when nothing was executed, those due."""
    for op_hash in state.ops[host]:
        meta = state.get_op_data_for_host(host, op_hash).operation_meta
        if meta.is_complete() and meta.did_error():
            output = meta.stderr_lines or meta.stdout_lines or ["no output"]
            result.failed += 1
            result.errors.append(f"{host.name}: {_name(state, op_hash)}: {output[-1]}")
        if meta.is_complete():
            result.output += meta.stdout_lines
        made = meta.is_complete() and meta.did_change()
        if made if executed else meta.will_change:
            result.changed += 1
            result.changes.append(_name(state, op_hash))


if __name__ == "__main__":
    done = main(json.loads(sys.argv[1]))
    print(json.dumps({name: asdict(result) for name, result in done.items()}))
