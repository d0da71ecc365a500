"""Hold what a host said against its manifest: rows that are equal cost next to nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from koseki_ops.drift.judge.manifest import Manifest
from koseki_ops.drift.model import Verdict
from koseki_ops.drift.observe.items import ANY, COLUMNS, FILES, PART_OF, State, unpack

# A unit that is none of these things is as if it were not there.
ABSENT_SERVICE = "\tinactive"
ABSENT = "absent"
# A clock that is further off than this is a wrong clock (seconds).
CLOCK_TOLERANCE = 5.0


@dataclass(frozen=True)
class Difference:
    """One item that is not as expected: the field (empty: the item as a whole), both values."""

    kind: str
    name: str
    answer: Verdict
    place: str = ""
    expected: str = ""
    seen: str = ""
    why: str = ""
    unmanaged: bool = False


def compare(manifest: Manifest, state: State) -> tuple[int, list[Difference]]:
    """Return how many items hold, and what does not."""
    holds = 0
    found: list[Difference] = []
    not_verified: dict[str, int] = {}
    for kind in COLUMNS:
        expected, seen = manifest.items.get(kind, {}), state.items.get(kind, {})
        part = PART_OF[kind]
        if part in state.failed or part in manifest.unasked:
            not_verified[part] = not_verified.get(part, 0) + len(expected)
        elif expected == seen:
            holds += len(expected)
        else:
            differences = list(_of_kind(kind, expected, seen, state))
            found += differences
            wrong = {d.name for d in differences if not d.unmanaged}
            holds += len(expected) - len(wrong)
    found += [_not_verified(part, count, manifest, state) for part, count in not_verified.items()]
    return holds, _without_echoes(found)


def _not_verified(part: str, count: int, manifest: Manifest, state: State) -> Difference:
    """Return what is said of a part that was not answered, now or when the manifest was made."""
    why = state.failed.get(part)
    if why is None:
        why = f"the last apply could not ask it: {manifest.unasked[part]}"
    return Difference(part, "*", Verdict.NOT_VERIFIED, why=f"{why} ({count} items not verified)")


def _of_kind(
    kind: str, expected: dict[str, str], seen: dict[str, str], state: State
) -> Iterator[Difference]:
    for name, row in expected.items():
        there = seen.get(name)
        if there == row:
            continue
        if there is None and kind == "service":
            there = ABSENT_SERVICE
        if there is None:
            yield from _missing(kind, name, row, state)
        else:
            yield from _fields(kind, name, row, there, state)
    for name in seen.keys() - expected.keys():
        if kind == "service" and seen[name].startswith("\t") and seen[name] != "\tactive":
            # A unit that is not enabled and not running does nothing; its file is compared.
            continue
        text = shown(kind, seen[name])
        yield Difference(kind, name, Verdict.DRIFTED, seen=text or "there", unmanaged=True)


def _missing(kind: str, name: str, row: str, state: State) -> Iterator[Difference]:
    if kind == "socket" and (why := _starting(row, state)):
        yield Difference(kind, name, Verdict.NOT_VERIFIED, why=why)
    elif kind != "socket" or not name.startswith("udp any port"):
        yield Difference(
            kind, name, Verdict.DRIFTED, expected=shown(kind, row) or "there", seen=ABSENT
        )


def _starting(row: str, state: State) -> str:
    """Return why a door may be closed for a moment, empty when nothing says so."""
    program = row.rpartition("/")[2]
    if state.measures.get(f"_state {program}.service"):
        return f"{program} is starting: ask again"
    for server, part in (("postgres", "database"), ("etcd", "etcd")):
        if program == server and part in state.failed:
            return f"{program} does not answer: {state.failed[part]}"
    return ""


def _fields(kind: str, name: str, row: str, there: str, state: State) -> Iterator[Difference]:
    wanted, seen = unpack(kind, row), unpack(kind, there)
    if kind in FILES and wanted["type"] != seen["type"] and wanted["type"] != ANY:
        yield Difference(kind, name, Verdict.DRIFTED, "type", shown(kind, row), shown(kind, there))
        return
    for column, value in wanted.items():
        if value in {ANY, seen[column]}:
            continue
        if column == "active" and state.measures.get(f"_state {name}"):
            yield Difference(
                kind, name, Verdict.NOT_VERIFIED, column, why="it is starting: ask again"
            )
            continue
        yield Difference(kind, name, Verdict.DRIFTED, column, value, seen[column])


TYPES = {"f": "file", "d": "folder", "l": "link", "p": "pipe", "s": "socket"}


def shown(kind: str, row: str) -> str:
    """Return a row as a person reads it."""
    fields = unpack(kind, row)
    if kind in FILES:
        letter = fields["type"]
        if letter == "l":
            return f"link to {fields['content']}"
        content = f" {fields['content'][:22]}" if fields["content"] else ""
        rights = f"{fields['mode']} {fields['owner']}:{fields['group']}"
        return f"{TYPES.get(letter, letter)} {rights}{content}"
    return " ".join(f"{column}={value}" for column, value in fields.items() if value)


def _without_echoes(found: list[Difference]) -> list[Difference]:
    """Leave out what only repeats another difference."""
    kinds = {d.kind for d in found}
    unmanaged = {(d.kind, d.name) for d in found if d.unmanaged}
    setuid = {d.name for d in found if d.kind == "setuid"}
    resized = {d.name for d in found if d.kind == "program" and d.place == "size"}
    key_files = {d.name.split(": ")[0] for d in found if d.kind == "key"}
    certificates = {d.name for d in found if d.kind == "certificate" and not d.unmanaged}

    def of_a_file(d: Difference) -> bool:
        named = d.name in key_files or d.name in certificates
        return named and d.place in {"", "content"}

    def of_a_database(d: Difference) -> bool:
        return ("database", d.name.split(" ", 1)[0]) in unmanaged

    follows: dict[str, Callable[[Difference], bool]] = {
        # An order that differs because a rule does.
        "firewall": lambda _: "firewall rule" in kinds,
        "hba order": lambda _: "hba" in kinds,
        # What is in a file is named, or the file itself is.
        "certificate": lambda d: d.unmanaged,
        "file": of_a_file,
        "program": lambda d: d.name in setuid or (d.place == "time" and d.name in resized),
        # What a new account or database brings along.
        "group": lambda d: ("user", d.name) in unmanaged,
        **dict.fromkeys(("extension", "schema", "grant", "definer", "trigger"), of_a_database),
    }
    return [d for d in found if d.kind not in follows or not follows[d.kind](d)]


def clock_difference(clock: float, asked_at: float, answered_at: float) -> float:
    """Return how far a host's clock is off, in seconds; 0 when it fits between both moments."""
    if clock < asked_at - CLOCK_TOLERANCE:
        return clock - asked_at
    if clock > answered_at + CLOCK_TOLERANCE:
        return clock - answered_at
    return 0.0


def days_left(not_after: str, now: float) -> float:
    """Return the days until a certificate's end (`2027-01-31T00:00:00Z`)."""
    end = datetime.strptime(not_after, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return (end.timestamp() - now) / 86400
