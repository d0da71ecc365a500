"""What an operator asks of one municipality's link: see, take over by hand, send again."""

from __future__ import annotations

from collections.abc import Mapping

from koseki_link.engine import Engine
from koseki_link.folders import shown
from koseki_link.layout import IN, OUT, Refused
from koseki_link.ledger import Entry, State

LATEST = 10
MODES = ("manual", "automatic")


def status(engine: Engine) -> dict[str, object]:
    """Return flows, what waits, what lies in quarantine, the ledger's last rows."""
    states = engine.ledger.states()
    flows = [
        {
            "flow": state.flow,
            "term": engine.layout.flows[state.flow].term,
            "direction": state.direction,
            "next": state.next,
            "mode": state.mode,
            "reason": state.reason,
            "by": state.by,
        }
        for state in states.values()
        if state.flow in engine.layout.flows
    ]
    return {
        "town": engine.settings.slug,
        "flows": flows,
        # What no name of the layout is waits for the engine alone, under any bytes.
        "waiting": [shown(name) for name in engine.folders.waiting()],
        "quarantine": [
            {**row, "open": _open(engine, states, str(row["file"]))}
            for row in engine.folders.reasons()
        ],
        "outbox_set_aside": engine.ledger.set_aside(),
        "ledger": engine.ledger.latest(LATEST),
    }


def _open(engine: Engine, states: Mapping[str, State], file: str) -> bool:
    """Say whether a file in quarantine still stands in the way: its number was never applied."""
    try:
        name = engine.name_of(file)
    except Refused:
        return False
    return name.sequence >= states[name.flow].next


def choose(engine: Engine, flow: str, mode: str, reason: str, by: str) -> dict[str, object]:
    """Set a flow to manual or automatic; Refused when it is so already."""
    direction = _known(engine, flow)
    with engine.ledger.transaction() as cursor:
        state = engine.ledger.held(cursor, flow)
        if state.mode == mode:
            raise Refused("mode", f"{flow} is {mode} already, by {state.by}: nothing is changed")
        engine.ledger.choose(cursor, flow, mode, reason, by)
        entry = Entry(flow, direction, mode, state.next, mode=mode, by=by, reason=reason)
        engine.ledger.note(cursor, entry)
    return {"town": engine.settings.slug, "flow": flow, "mode": mode}


def resend(engine: Engine, flow: str, sequence: int, reason: str, by: str) -> dict[str, object]:
    """Put a number into `out/` once more, byte for byte, and record why."""
    if _known(engine, flow) != OUT:
        raise Refused("direction", f"{flow} is received: ask the registry to send it again")
    with engine.folders.alone():
        file = engine.place(flow, sequence)
    with engine.ledger.transaction() as cursor:
        entry = Entry(flow, OUT, "resent", sequence, file, mode="manual", by=by, reason=reason)
        engine.ledger.note(cursor, entry)
    return {"town": engine.settings.slug, "flow": flow, "sequence": sequence, "file": file}


def release(engine: Engine, file: str, reason: str, by: str) -> dict[str, object]:
    """Apply the file whose turn it is, of a flow in manual mode."""
    name = engine.name_of(file)
    state = engine.ledger.states()[name.flow]
    if not state.manual:
        raise Refused("mode", f"{name.flow} is automatic: it needs no release")
    if state.next != name.sequence:
        raise Refused("order", f"{state.next} is the next number of {name.flow}: release that")
    if file not in engine.folders.waiting():
        raise Refused("name", f"{file} does not wait in in/: have it sent")
    with engine.folders.alone():
        applied = engine.apply(file, name, by=by, reason=reason)
    return {"town": engine.settings.slug, "file": file, "applied": applied}


def _known(engine: Engine, flow: str) -> str:
    if flow not in engine.layout.flows:
        known = ", ".join(engine.layout.flows)
        raise Refused("flow", f"there is no flow {flow}: choose of {known}")
    direction = engine.layout.flows[flow].direction
    return IN if direction == IN else OUT
