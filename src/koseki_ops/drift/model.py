"""What a sweep finds, in one form for all that compare, keep, show or report it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from koseki_ops.core.language import N_


class Verdict(StrEnum):
    """The three answers of an item; there is no fourth, and a skipped check is never good."""

    HOLDS = N_("holds")
    DRIFTED = N_("drifted")
    NOT_VERIFIED = N_("not verified")


class Cause(StrEnum):
    """Where a difference comes from."""

    CHANGED_ON_HOST = N_("changed on the host")
    NOT_APPLIED = N_("changed in the inventory, not applied")
    FOREIGN_COMMIT = N_("applied by hand from another commit")
    UNMANAGED = N_("unmanaged")
    UNKNOWN = N_("not known")


@dataclass(frozen=True)
class Finding:
    """One item of a host that does not hold, or that could not be asked.

    kind: what it is (`file`, `package`, `unit`, `user`, `setting`, …); name: which one;
    place: the field that differs, empty for the item as a whole; expected, seen: as text, secrets
    masked, empty when there is none; why: the reason, for what is not verified; repair: the command
    that mends it; first_seen: seconds since the epoch; logged_in: who the record of use knows to
    have been on the host then; waiver: id of the waiver that covers it;
    diff: a file's two contents beside each other, secrets masked.
    """

    host: str
    kind: str
    name: str
    answer: Verdict
    cause: Cause
    place: str = ""
    expected: str = ""
    seen: str = ""
    why: str = ""
    repair: str = ""
    first_seen: float = 0.0
    logged_in: tuple[str, ...] = ()
    waiver: str = ""
    diff: str = ""

    @property
    def id(self) -> str:
        """Twelve hex digits that stay the same as long as the same thing is wrong."""
        parts = (self.host, self.kind, self.name, self.place)
        # A text that no host can send has a name all the same.
        whole = "\0".join(parts).encode("utf-8", "backslashreplace")
        return hashlib.sha256(whole).hexdigest()[:12]


@dataclass(frozen=True)
class SealLink:
    """One generation of a vault's sealed chain, as its host tells it.

    stamp: when it was sealed, as its name says; hash: of its manifest, empty when it was made while
    the host was asked; previous: the hash of the one before that it names, empty when not told;
    kept: whether its manifest is there, and not only what the chain needs of it.
    """

    stamp: str
    hash: str
    previous: str
    kept: bool


@dataclass(frozen=True)
class HostSweep:
    """What one host's part in a sweep was.

    answered: whether its answer arrived whole; why: the reason when it did not; holds: number of
    items that hold; commit: the inventory's commit that its manifest was made from; stale: whether
    that is not the present one; seconds, cpu_seconds, memory_kib: of the probe; measures: figures
    that are shown but not compared (`replication_lag_bytes`, `backup_age_seconds`, …); adopted:
    whether its first manifest took it as it was found; not_applicable: how many kernel parameters
    were not verified because the host is a container, whose kernel is the machine's below it;
    seals: the sealed chains of its vaults by name, None when they were not told: not kept with it,
    the history remembers them; born: when it was first met, in seconds since the epoch.
    """

    host: str
    answered: bool
    why: str = ""
    holds: int = 0
    commit: str = ""
    stale: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory_kib: int = 0
    measures: dict[str, float] = field(default_factory=dict)
    adopted: bool = False
    not_applicable: int = 0
    seals: dict[str, tuple[SealLink, ...]] | None = None
    born: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return plain data; histories and readers know `not_applicable` as `beyond`."""
        plain = asdict(replace(self, seals=None))
        del plain["seals"], plain["born"]
        plain["beyond"] = plain.pop("not_applicable")
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> HostSweep:
        """Return what `as_json` gave; a row may be older than `beyond`."""
        known = {key: plain[key] for key in plain if key != "beyond"}
        return cls(**known, not_applicable=plain.get("beyond", 0))


@dataclass(frozen=True)
class Sweep:
    """All hosts asked at one moment. at: seconds since the epoch; commit: the inventory's."""

    site: str
    at: float
    seconds: float
    commit: str
    hosts: tuple[HostSweep, ...]
    findings: tuple[Finding, ...]

    def count(self, answer: Verdict) -> int:
        """Return how many items have this answer; a waived difference still counts."""
        if answer is Verdict.HOLDS:
            return sum(host.holds for host in self.hosts)
        return sum(finding.answer is answer for finding in self.findings)

    @property
    def not_applicable(self) -> int:
        """How many items no sweep can verify there: they belong to the machine below a container.

        Nobody is called for these, and they never count as good.
        """
        return sum(host.not_applicable for host in self.hosts)

    @property
    def open(self) -> tuple[Finding, ...]:
        """The findings that no waiver covers."""
        return tuple(finding for finding in self.findings if not finding.waiver)

    def as_json(self) -> dict[str, Any]:
        """Return plain data, with each finding's id."""
        plain = asdict(self)
        plain["hosts"] = [host.as_json() for host in self.hosts]
        plain["findings"] = [{"id": f.id, **asdict(f)} for f in self.findings]
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Sweep:
        """Return a sweep from what `as_json` gave."""
        findings = tuple(
            Finding(
                **{k: v for k, v in row.items() if k not in {"id", "answer", "cause", "logged_in"}},
                answer=Verdict(row["answer"]),
                cause=Cause(row["cause"]),
                logged_in=tuple(row["logged_in"]),
            )
            for row in plain["findings"]
        )
        hosts = tuple(HostSweep.from_json(row) for row in plain["hosts"])
        rest = {k: v for k, v in plain.items() if k not in {"hosts", "findings"}}
        return cls(hosts=hosts, findings=findings, **rest)
