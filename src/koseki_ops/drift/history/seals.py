"""What the history remembers of the vaults' sealed chains and demands at each sweep (K-04).

A vault's own host can only say that its chain is whole as it stands: whoever is root there can take
generations away, write them anew or go back to an older copy of all, and chain what is left. So
each sweep takes the stamp and hash of every generation into the signed history, and the next one
demands them again, less what the policy lets go. What was demanded in vain stays demanded until the
policy would have let it go: a loss is not over because it was told once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from koseki_ops.drift.model import Cause, Finding, SealLink, Sweep, Verdict

KIND = "seal"
# Nothing brings a generation back; this says what of the others can still be restored.
REPAIR = "koseki verify vault"
SHOWN = 3
DAY = 8


@dataclass(frozen=True)
class Sealing:
    """What the plan says: the host of each vault by name, and how many generations are kept."""

    vaults: Mapping[str, str]
    generations: int
    days: int


@dataclass(frozen=True)
class Expected:
    """What is remembered of one vault.

    born: when its host was first met (seconds since the epoch), as the signed manifest says: a host
    that was set up anew owes nothing of before; hashes: by stamp, of every generation that is owed.
    """

    born: float = 0.0
    hashes: dict[str, str] = field(default_factory=dict)


def retained(stamps: Collection[str], sealing: Sealing) -> set[str]:
    """Return which generations the policy keeps of these: as `kept` of koseki-seal."""
    ordered = sorted(stamps)
    first_of_day = {stamp[:DAY]: stamp for stamp in reversed(ordered)}
    days = sorted(first_of_day)[-sealing.days :]
    return {*ordered[-sealing.generations :], *(first_of_day[day] for day in days)}


def compare_seals(
    sweep: Sweep, known: Mapping[str, Expected], sealing: Sealing
) -> tuple[list[Finding], dict[str, Expected]]:
    """Return what does not agree with what is known of vaults, and what is known from now on."""
    hosts = {host.host: host for host in sweep.hosts}
    findings: list[Finding] = []
    after: dict[str, Expected] = {}
    for vault, name in sealing.vaults.items():
        before, host = known.get(vault, Expected()), hosts.get(name)
        if host is None or not host.answered:
            after[vault] = before
            continue
        if host.seals is None:
            after[vault] = before
            if before.hashes:
                findings.append(_finding(name, vault, why="its answer has no sealed generations"))
            continue
        if host.born > before.born:
            before = Expected(host.born)
        links = host.seals.get(vault, ())
        findings += [
            _finding(name, vault, place=place, expected=expected, seen=seen)
            for place, expected, seen in faults(before.hashes, links, sealing)
        ]
        after[vault] = Expected(before.born, _owed(before.hashes, links, sealing))
    return findings, after


def _finding(
    host: str, vault: str, *, place: str = "", expected: str = "", seen: str = "", why: str = ""
) -> Finding:
    answer = Verdict.NOT_VERIFIED if why else Verdict.DRIFTED
    cause = Cause.UNKNOWN if why else Cause.CHANGED_ON_HOST
    return Finding(host, KIND, vault, answer, cause, place, expected, seen, why, REPAIR)


def faults(
    known: Mapping[str, str], links: Sequence[SealLink], sealing: Sealing
) -> Iterator[tuple[str, str, str]]:
    """Yield place, what was expected and what is seen, of each way in which a chain is another."""
    here = {link.stamp: link for link in links}
    must = retained({*known, *here}, sealing)
    newest = max(known, default="")
    gone = [s for s in known if s in must and not (s in here and here[s].kept)]
    other = [s for s in known if s in here and here[s].hash not in {"", known[s]}]
    slipped = [s for s in here if s not in known and s < newest and here[s].kept]
    broken = [
        link.stamp
        for before, link in pairwise(links)
        if link.previous and before.hash and link.previous != before.hash
    ]
    if gone:
        yield (
            "generations",
            f"{len(known)} as they were sealed, until {newest}",
            _listed(gone, "gone"),
        )
    if other:
        yield "content", f"{known[other[0]][:16]} of {other[0]}", _listed(other, "written anew")
    if slipped:
        yield "order", f"nothing new before {newest}", _listed(slipped, "put in between")
    if broken:
        yield "chain", "each generation names the one before", _listed(broken, "naming another")


def _listed(stamps: list[str], what: str) -> str:
    shown = ", ".join(sorted(stamps)[:SHOWN])
    more = f" and {len(stamps) - SHOWN} more" if len(stamps) > SHOWN else ""
    return f"{len(stamps)} {what}: {shown}{more}"


def _owed(known: Mapping[str, str], links: Sequence[SealLink], sealing: Sealing) -> dict[str, str]:
    """Return the hashes that the next sweep demands: what is there, and what ought to be."""
    there = {link.stamp: link.hash for link in links if link.kept and link.hash}
    must = retained({*known, *(link.stamp for link in links)}, sealing)
    return {
        stamp: known.get(stamp) or there[stamp]
        for stamp in sorted({*known, *there})
        if stamp in must or stamp in there
    }


def changes(before: Mapping[str, Expected], after: Mapping[str, Expected]) -> dict[str, Any]:
    """Return what of the witnesses changed, as plain data; `applied` takes it."""
    found: dict[str, Any] = {}
    for vault, now in after.items():
        old = before.get(vault, Expected())
        start = old.hashes if old.born == now.born else {}
        new = {stamp: value for stamp, value in now.hashes.items() if start.get(stamp) != value}
        gone = [stamp for stamp in start if stamp not in now.hashes]
        if new or gone or old.born != now.born:
            found[vault] = {"born": now.born, "new": new, "gone": gone}
    return found


def applied(
    before: Mapping[str, Expected], plain: Mapping[str, dict[str, Any]]
) -> dict[str, Expected]:
    """Return the witnesses after changes as `changes` tells them."""
    after = dict(before)
    for vault, row in plain.items():
        old = before.get(vault, Expected())
        start = dict(old.hashes) if old.born == row["born"] else {}
        for stamp in row["gone"]:
            start.pop(stamp, None)
        after[vault] = Expected(float(row["born"]), start | row["new"])
    return after
