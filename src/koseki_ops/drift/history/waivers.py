"""Waivers: differences that may stand for a while, and what each of them covers now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_atomic
from koseki_ops.core.git import git
from koseki_ops.core.language import _
from koseki_ops.drift.model import Finding, Sweep, Verdict
from koseki_ops.evidence import site_key
from koseki_ops.plan.inventory import LOADER
from koseki_ops.plan.site import Site

if TYPE_CHECKING:
    from koseki_ops.plan.model import Waiver

WAIVERS_FILE = "waivers.yml"
# Beside the manifests, for hosts that keep watch.
HANDED_OUT = "waivers.signed"
SECONDS_PER_DAY = 86_400
Terms = dict[str, str]


@dataclass(frozen=True)
class WaiverStatus:
    """How a waiver stands at a sweep.

    covers: ids of the findings that it covers; fault: why it covers nothing, as a sentence, empty
    when it covers something; days_left: whole days, the last one counted, 0 when it has ended.
    """

    waiver: Waiver
    covers: tuple[str, ...]
    fault: str
    days_left: int


def terms_of(waiver: Waiver) -> Terms:
    """Return everything a waiver says, as text, so that a later change of it is seen."""
    return {key: str(value) for key, value in waiver.model_dump(mode="json").items()}


def committed_waivers(site: Site) -> tuple[Terms, ...]:
    """Return the terms of the waivers in the inventory's commit; empty when there is no commit.

    A row that was never committed was never approved: an editor alone does not grant a waiver. A
    host that keeps watch has no repository: what the control node signed at its last apply counts.
    """
    if site.watch_host:
        return _handed_over(site)
    path = (site.inventory / "group_vars" / "all" / WAIVERS_FILE).resolve()
    try:
        inside = path.relative_to(site.root.resolve())
    except ValueError as error:
        raise KosekiError(
            _("the waivers lie outside the checkout"),
            str(path),
            _("move `waivers.yml` back below `inventories/` of the checkout"),
        ) from error
    if not (site.root / ".git").exists():
        return ()
    # 1: there is no commit yet. Empty: it has no such file. What git cannot say is neither.
    if git(site.root, "rev-parse", "--quiet", "--verify", "HEAD", answers=(0, 1)).code:
        return ()
    named = f"./{inside.as_posix()}"
    if not git(site.root, "ls-tree", "--name-only", "HEAD", named).out:
        return ()
    return _rows(git(site.root, "show", f"HEAD:{named}").out, path)


def hand_out(site: Site) -> None:
    """Sign the committed waivers for the hosts that keep watch."""
    rows = {"site": site.name, "waivers": committed_waivers(site)}
    body = json.dumps(rows, ensure_ascii=False, sort_keys=True).encode()
    site_key.make_key(site.drift)
    site_key.publish(site.drift)
    write_atomic(site.drift / HANDED_OUT, site_key.seal(site.drift, body))


def _handed_over(site: Site) -> tuple[Terms, ...]:
    path = site.drift / HANDED_OUT
    if not path.exists():
        return ()
    body = site_key.opened(site.drift, path.read_bytes(), published=True)
    found = json.loads(body) if body else {}
    if found.get("site") != site.name:
        raise KosekiError(
            _("the waivers are not what was signed"),
            str(path),
            _("run `koseki apply` on the control node"),
        )
    return tuple(found["waivers"])


def _rows(content: bytes, path: Path) -> tuple[Terms, ...]:
    from koseki_ops.plan.model import Waiver  # noqa: PLC0415 - a sweep without waivers does without

    try:
        plain = yaml.load(content, LOADER)  # noqa: S506 - a safe one
        return tuple(terms_of(Waiver.model_validate(row)) for row in plain["waivers"])
    except (yaml.YAMLError, RecursionError, ValueError, KeyError, TypeError) as error:
        raise KosekiError(
            _("the committed waivers cannot be read"),
            str(path),
            _("correct the file and commit it: `git commit`"),
        ) from error


def covers(waiver: Waiver, finding: Finding) -> bool:
    """Say whether a waiver is about a finding; never about one that could not be verified."""
    return (
        finding.answer is Verdict.DRIFTED
        and (waiver.host, waiver.kind, waiver.name) == (finding.host, finding.kind, finding.name)
        and waiver.place in {None, finding.place}
    )


def apply_waivers(
    sweep: Sweep,
    waivers: Sequence[Waiver],
    committed: Sequence[Terms],
    known: Mapping[str, Terms],
) -> tuple[Sweep, list[WaiverStatus]]:
    """Return the sweep with each covered finding's waiver named, and how each waiver stands.

    committed: terms in the inventory's commit; known: the terms with which each waiver first
    stood in the history. A waiver that is not committed, or whose terms have changed since, covers
    nothing.
    """
    waiver_statuses = []
    covered: dict[str, str] = {}
    for waiver in waivers:
        fault = _fault(waiver, sweep.at, committed, known)
        hits = tuple(finding.id for finding in sweep.findings if covers(waiver, finding))
        if not fault and not hits:
            fault = _nothing_to_cover(waiver, sweep)
        if fault:
            hits = ()
        for identifier in hits:
            covered.setdefault(identifier, waiver.id)
        left = (waiver.expires - datetime.fromtimestamp(sweep.at, UTC)).total_seconds()
        days = max(0, ceil(left / SECONDS_PER_DAY))
        waiver_statuses.append(WaiverStatus(waiver, hits, fault, days))
    findings = tuple(
        replace(finding, waiver=covered.get(finding.id, "")) for finding in sweep.findings
    )
    return replace(sweep, findings=findings), waiver_statuses


def _fault(
    waiver: Waiver, at: float, committed: Sequence[Terms], known: Mapping[str, Terms]
) -> str:
    terms = terms_of(waiver)
    before = known.get(waiver.id, terms)
    changed = [
        f"{key} from {before.get(key)} to {terms[key]}"
        for key in terms
        if terms[key] != before.get(key)
    ]
    if changed:
        return (
            f"{waiver.id} was tampered with or rewritten ({'; '.join(changed)}): it covers "
            "nothing; restore its terms, and grant any other under a new id"
        )
    if terms not in committed:
        return f"{waiver.id} is not committed as it stands here: it covers nothing; commit it"
    if not waiver.holds_at(at):
        if at < waiver.granted.timestamp():
            return f"{waiver.id} begins at {waiver.granted:%Y-%m-%dT%H:%M:%SZ}: nothing to do yet"
        return (
            f"{waiver.id} expired at {waiver.expires:%Y-%m-%dT%H:%M:%SZ}: what it covered is open "
            f"again; {waiver.owner} repairs it, or a new one is granted"
        )
    return ""


def _nothing_to_cover(waiver: Waiver, sweep: Sweep) -> str:
    asked = {host.host for host in sweep.hosts if host.answered}
    if waiver.host not in asked:
        return f"{waiver.id} is about {waiver.host}, which did not answer: nothing is known"
    unverified = any(
        finding.answer is Verdict.NOT_VERIFIED
        and (finding.host, finding.kind, finding.name) == (waiver.host, waiver.kind, waiver.name)
        for finding in sweep.findings
    )
    if unverified:
        return (
            f"{waiver.id} is about {waiver.kind} {waiver.name} of {waiver.host}, which was not "
            "verified: a waiver never covers that"
        )
    return (
        f"{waiver.id} matches nothing: {waiver.kind} {waiver.name} of {waiver.host} does not "
        "differ; remove it, or correct its name"
    )
