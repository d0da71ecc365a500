"""One sweep: ask, compare, name; and what an apply leaves behind for the next."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_private
from koseki_ops.core.formatting import in_short
from koseki_ops.drift.judge import manifest as manifests
from koseki_ops.drift.judge.causes import diff, finding, on_host
from koseki_ops.drift.judge.compare import clock_difference, compare, days_left
from koseki_ops.drift.judge.declared import Rows
from koseki_ops.drift.judge.manifest import Applied, Manifest, TamperedError
from koseki_ops.drift.judge.rehearsals import overdue
from koseki_ops.drift.model import Cause, Finding, HostSweep, Sweep, Verdict
from koseki_ops.drift.observe import probe
from koseki_ops.drift.observe.items import FILES, State
from koseki_ops.drift.observe.probe import scope
from koseki_ops.drift.observe.transport import BOUNDS, Bounds, Reply, ask_all, fetch
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.revision import Inputs, inputs_of
from koseki_ops.plan.site import Site

# Contents are kept to show differences by; larger files differ without being shown.
KEPT_BYTES = 64 << 10
CONTENTS = "contents"
SHOWN_FILES = 40
# More of them than a person reads: that host is another one.
MOST_FINDINGS = 5000
SECOND_LOOK_SECONDS = 2.0
# Right after an apply a host is busy with what that began, and without its answer nothing vouches
# for it: it may take longer than in a sweep.
AFTER_APPLY = Bounds(seconds=120)
PRIVATE_KEY = re.compile(rb"^-----BEGIN [A-Z ]*PRIVATE KEY-----", re.MULTILINE)


@dataclass
class Observed:
    """What one host answered: its state, or why there is none."""

    reply: Reply
    state: State | None = None
    why: str = ""


def observe(
    site: Site,
    extra: Mapping[str, Iterable[str]],
    bounds: Bounds = BOUNDS,
    meanwhile: Callable[[], None] = lambda: None,
) -> dict[str, Observed]:
    """Ask hosts for their state, all at once.

    extra: files beside the usual places, by host; meanwhile: done while they begin to answer.
    """
    key = manifests.hash_key(site)
    programs = {
        host: probe.question(key, paths, bounds.patience, bounds.host_seconds)
        if site.watch_host
        else probe.assemble(key, paths, bounds.patience)
        for host, paths in extra.items()
    }
    seen: dict[str, Observed] = {}

    def read(reply: Reply) -> None:
        observed = seen[reply.host] = Observed(reply, why=reply.unreachable_reason)
        if not reply.unreachable_reason:
            try:
                observed.state = probe.parse(reply.out, reply.err, programs[reply.host].mark)
            except probe.MalformedError as error:
                observed.why = f"malformed answer: {error}"
            except Exception as error:  # noqa: BLE001 - whatever one host's answer makes of it, the others are asked
                observed.why = in_short(f"its answer cannot be read: {error!r}")
        # What was read is in the state; all answers at once would not fit into the watch's memory.
        reply.out = reply.err = b""

    ask_all(
        site,
        {host: p.text for host, p in programs.items()},
        bounds,
        ready=read,
        meanwhile=meanwhile,
    )
    return seen


@dataclass
class Part:
    """One host's part of a sweep while it is put together."""

    host: str
    manifest: Manifest | None
    tampered: str
    observed: Observed | None = None
    holds: int = 0
    findings: list[Finding] = field(default_factory=list)

    def unreachable(self, why: str) -> None:
        """Take the host for one that did not answer: what was wrong with it before is not over."""
        if self.observed:
            self.observed.state, self.observed.why = None, why
        self.unverified("host", self.host, why)

    def unverified(self, kind: str, name: str, why: str, repair: str = "") -> None:
        """Add what could not be asked, with the reason."""
        self.findings.append(
            Finding(
                self.host, kind, name, Verdict.NOT_VERIFIED, Cause.UNKNOWN, why=why, repair=repair
            )
        )


def sweep(
    site: Site,
    inventory: Inventory,
    hosts: list[str],
    bounds: Bounds = BOUNDS,
    secrets: Callable[[], list[str]] = list,
) -> Sweep:
    """Ask hosts and hold what they say against their manifests.

    secrets: returns what must not be shown; called only when there is something to show.
    """
    started, at = time.monotonic(), time.time()
    parts = [_open(site, host) for host in hosts]
    asked = {part.host: part.manifest.extra if part.manifest else [] for part in parts}
    inputs: list[Inputs] = []

    def meanwhile() -> None:
        inputs.append(inputs_of(site))
        probe.prepare()

    seen = observe(site, asked, bounds, meanwhile)
    (present,) = inputs
    renew = inventory.platform.certificate_policy.renew_when_days_left
    for part in parts:
        part.observed = seen[part.host]
        _judge_alone(site, part, present, renew, secrets)
    _look_again(site, parts, bounds, lambda part: _judge_alone(site, part, present, renew, secrets))
    _add_rehearsals(site, inventory, parts, at)
    _add_sessions(site, parts, inventory.platform.automation_account, secrets)
    return Sweep(
        site=site.name,
        at=at,
        seconds=round(time.monotonic() - started, 3),
        commit=present.commit or present.tree,
        hosts=tuple(_host_sweep(part, present) for part in parts),
        findings=tuple(f for part in parts for f in part.findings),
    )


def _add_rehearsals(site: Site, inventory: Inventory, parts: list[Part], now: float) -> None:
    """Tell of each vault whose copy has not been restored for too long."""
    since = {p.host: p.manifest.born or p.manifest.made_at for p in parts if p.manifest}
    by_host = {part.host: part for part in parts}
    for found in overdue(site, inventory, since, now):
        by_host[found.host].findings.append(found)


def _look_again(
    site: Site, parts: list[Part], bounds: Bounds, judge: Callable[[Part], None]
) -> None:
    """Ask hosts a second time on which something that moves seems to be down.

    A service that restarts, a server that comes back after a failover: what is well at the second
    look was no drift.
    """
    moved = {part.host: part for part in parts if any(map(_moves, part.findings))}
    if not moved:
        return
    time.sleep(SECOND_LOOK_SECONDS)
    asked = {host: part.manifest.extra if part.manifest else [] for host, part in moved.items()}
    for host, observed in observe(site, asked, bounds).items():
        first = moved[host]
        second = Part(host, first.manifest, first.tampered, observed)
        judge(second)
        before = {f.id for f in first.findings}
        kept = [f for f in second.findings if not _moves(f) or f.id in before]
        second.holds += len(second.findings) - len(kept)
        second.findings = kept
        parts[parts.index(first)] = second


def _moves(found: Finding) -> bool:
    return (
        found.answer is Verdict.DRIFTED
        and (found.kind, found.place) in {("service", "active"), ("socket", "")}
        and found.cause is not Cause.UNMANAGED
    )


def _open(site: Site, host: str) -> Part:
    try:
        return Part(host, manifests.read(site, host), "")
    except TamperedError as error:
        return Part(host, None, str(error))


def _judge_alone(
    site: Site, part: Part, present: Inputs, renew_days: float, secrets: Callable[[], list[str]]
) -> None:
    """Judge one host, whatever it said: the others are judged all the same."""
    try:
        _judge(site, part, present, renew_days, secrets)
    except KosekiError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        part.holds, part.findings = 0, []
        part.unreachable(in_short(f"its answer cannot be judged: {error!r}"))
    more = len(part.findings) - MOST_FINDINGS
    if more > 0:
        del part.findings[MOST_FINDINGS:]
        part.unreachable(f"{more} more differences: look at the host itself")


def _judge(
    site: Site, part: Part, present: Inputs, renew_days: float, secrets: Callable[[], list[str]]
) -> None:
    """Fill in what holds and what does not on one host."""
    apply = f"koseki apply --limit {part.host}"
    if part.tampered:
        part.unverified("manifest", "manifest", f"the manifest was changed: {part.tampered}", apply)
        return
    if part.manifest is None:
        part.unverified("manifest", "manifest", "there is no manifest: nothing was applied", apply)
        return
    observed, manifest = part.observed, part.manifest
    if manifest.scope != scope():
        why = "the manifest was made by another version of koseki, for other questions"
        part.unverified("manifest", "manifest", why, apply)
        return
    if observed is None or observed.state is None:
        count = sum(map(len, manifest.items.values()))
        reason = observed.why if observed else "it was not asked"
        part.unverified("host", part.host, f"{reason} ({count} items not verified)")
        return
    state = observed.state
    part.holds, differences = compare(manifest, state)
    part.findings += [
        finding(site, part.host, difference, manifest, state.marks, present, secrets())
        for difference in differences
    ]
    _judge_inputs(part, manifest, state, present, apply)
    off = clock_difference(state.clock, observed.reply.asked_at, observed.reply.answered_at)
    if off:
        ahead = "ahead" if off > 0 else "behind"
        part.unverified(
            "clock",
            "clock",
            f"the clock is {abs(off):.0f} s {ahead}: ends of certificates and ages of backups are "
            "not verified",
            on_host(site, part.host, f"date --set=@{time.time():.0f}"),
        )
    else:
        _judge_ends(part, manifest, state, renew_days, apply)
    for place, free in state.full.items():
        part.unverified(
            "disk", place, f"{free} KiB are left: what has to write there is not verified"
        )


def _judge_inputs(
    part: Part, manifest: Manifest, state: State, present: Inputs, apply: str
) -> None:
    """Tell an inventory that moved on from a host that was applied from elsewhere."""
    if manifest.inputs.tree != present.tree:
        changed = sorted(
            name
            for name in {*manifest.inputs.files, *present.files}
            if manifest.inputs.files.get(name) != present.files.get(name)
        )
        listed = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if changed[5:] else "")
        part.findings.append(
            Finding(
                part.host,
                "inventory",
                "inventory",
                Verdict.DRIFTED,
                Cause.NOT_APPLIED,
                expected=f"{present.commit or present.tree}: {listed}",
                seen=f"{manifest.inputs.commit or manifest.inputs.tree} is applied",
                repair=apply,
            )
        )
    for engine, tree in state.marks.items():
        if tree not in {manifest.inputs.tree, present.tree}:
            part.findings.append(
                Finding(
                    part.host,
                    "inventory",
                    engine,
                    Verdict.DRIFTED,
                    Cause.FOREIGN_COMMIT,
                    expected=f"tree {manifest.inputs.tree}",
                    seen=f"tree {tree} was applied by hand",
                    repair=apply,
                )
            )


def _judge_ends(
    part: Part, manifest: Manifest, state: State, renew_days: float, apply: str
) -> None:
    """Name certificates that an apply would have renewed."""
    for name, row in state.items.get("certificate", {}).items():
        end = row.split("\t")[2]
        if name not in manifest.items.get("certificate", {}) or not end:
            continue
        left = days_left(end, state.clock)
        if left < renew_days:
            part.findings.append(
                Finding(
                    part.host,
                    "certificate",
                    name,
                    Verdict.DRIFTED,
                    Cause.NOT_APPLIED,
                    place="days left",
                    expected=f"at least {renew_days:.0f} days",
                    seen=f"{left:.0f} days, until {end}",
                    repair=apply,
                )
            )


def _host_sweep(part: Part, present: Inputs) -> HostSweep:
    observed, manifest = part.observed, part.manifest
    state = observed.state if observed else None
    measures = {k: v for k, v in state.measures.items() if k[0] != "_"} if state else {}
    if state and (newest := measures.pop("newest_backup_at", None)) is not None:
        measures["backup_age_seconds"] = max(0.0, round(state.clock - newest, 1))
    return HostSweep(
        part.host,
        state is not None,
        why="" if state else (observed.why if observed else "it was not asked"),
        holds=part.holds,
        commit=(manifest.inputs.commit or manifest.inputs.tree) if manifest else "",
        stale=bool(manifest and manifest.inputs.tree != present.tree),
        seconds=round(observed.reply.seconds, 3) if observed else 0.0,
        cpu_seconds=round(state.cpu_seconds, 3) if state else 0.0,
        memory_kib=state.memory_kib if state else 0,
        measures=measures,
        adopted=bool(manifest and manifest.adopted),
        not_applicable=state.not_applicable if state else 0,
        seals=state.seals if state and "seals" not in state.failed else None,
        born=manifest.born if manifest else 0.0,
    )


def _content_path(site: Site, digest: str) -> Path:
    return site.drift / CONTENTS / digest[:2] / digest


def _add_sessions(
    site: Site, parts: list[Part], account: str, secrets: Callable[[], list[str]]
) -> None:
    """Ask drifted hosts once more: what is in the files that differ, and who was there today.

    account: the engines' own, which is on every host all the time.
    """
    wanted = {
        part.host: [f.name for f in part.findings if showable(site, f)][:SHOWN_FILES]
        for part in parts
        if any(f.answer is Verdict.DRIFTED for f in part.findings)
    }
    fetched = fetch(site, wanted, sessions=True)
    for part in parts:
        if part.host not in fetched:
            continue
        there = fetched[part.host]
        people = {
            f"{who}, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(at))}"
            for at, who in there.sessions
            if not who.startswith(f"{account} ")
        }
        for number, found in enumerate(part.findings):
            if found.answer is not Verdict.DRIFTED:
                continue
            shown = ""
            if found.name in there.contents and showable(site, found):
                shown = _diff(site, found, there.contents[found.name], secrets)
            part.findings[number] = replace(found, diff=shown, logged_in=tuple(sorted(people)))


def showable(site: Site, found: Finding) -> bool:
    """Say whether the content of what differs is fetched to be shown."""
    if found.kind not in FILES or found.answer is not Verdict.DRIFTED:
        return False
    if found.place == "content":
        return _content_path(site, found.expected).is_file()
    # What nobody declared may hold anything: whoever only watches does not read it.
    return (
        site.watch_host is None
        and found.cause is Cause.UNMANAGED
        and found.seen.startswith("file ")
        and ("keyed:" not in found.seen)
    )


def _diff(site: Site, found: Finding, content: bytes, secrets: Callable[[], list[str]]) -> str:
    if found.place == "content":
        expected = _content_path(site, found.expected).read_bytes()
        return diff(found.name, expected, content, secrets())
    return diff(found.name, b"", content[:KEPT_BYTES], secrets())


def keep_contents(site: Site, made: Iterable[Manifest]) -> None:
    """Fetch the contents of managed files that are no secrets and are not kept yet."""
    missing: dict[str, list[str]] = {}
    taken: set[str] = set()
    for manifest in made:
        for kind in FILES:
            for path, row in manifest.items.get(kind, {}).items():
                fields = row.split("\t")
                digest = fields[4]
                if (
                    fields[0] == "f"
                    and re.fullmatch(r"[0-9a-f]{64}", digest)
                    and digest not in taken
                    and not _content_path(site, digest).exists()
                ):
                    taken.add(digest)
                    missing.setdefault(manifest.host, []).append(path)
    for fetched in fetch(site, missing).values():
        for content in fetched.contents.values():
            # Whatever its name is: a private key never leaves its host to be shown.
            if len(content) <= KEPT_BYTES and not PRIVATE_KEY.search(content):
                kept = _content_path(site, hashlib.sha256(content).hexdigest())
                kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private(kept, content)


def drop_contents(site: Site, hosts: Iterable[str]) -> None:
    """Remove the contents that no host's manifest speaks of any more; they would add up for years.

    hosts: all of the site's. Nothing is removed while one of their manifests cannot be believed.
    """
    try:
        read = [manifest for host in hosts if (manifest := manifests.read(site, host))]
    except TamperedError:
        return
    rows = (row for m in read for kind in FILES for row in m.items.get(kind, {}).values())
    spoken_of = {row.split("\t")[4] for row in rows}
    for kept in (site.drift / CONTENTS).glob("*/*"):
        if kept.name not in spoken_of:
            kept.unlink()


def before_apply(site: Site, hosts: list[str]) -> dict[str, State]:
    """Return the state of the hosts that can be asked already; bare ones cannot."""
    parts = {host: _open(site, host) for host in hosts}
    extra = {host: part.manifest.extra if part.manifest else [] for host, part in parts.items()}
    seen = observe(site, extra)
    return {host: observed.state for host, observed in seen.items() if observed.state}


def after_apply(
    site: Site,
    declared: Mapping[str, Mapping[str, Rows]],
    engines: frozenset[str],
    bare: set[str],
    before: Mapping[str, State],
    hosts: Iterable[str],
) -> Iterator[tuple[str, str]]:
    """Compile, sign and keep the manifests of hosts; yield each host that has none, and why.

    declared: by host and engine; bare: hosts that were met as their installer left them; hosts:
    all of the site's.
    """
    inputs = inputs_of(site)
    extra = {
        host: {path for rows in by_engine.values() for kind in FILES for path in rows.get(kind, {})}
        for host, by_engine in declared.items()
    }
    made = []
    for host, observed in observe(site, extra, AFTER_APPLY).items():
        if observed.state is None:
            yield host, observed.why
            continue
        try:
            previous = manifests.read(site, host)
        except TamperedError as error:
            # What it vouched for is not known any more: the host is adopted anew, and says so.
            previous = None
            yield host, f"its manifest was changed ({error}); it is adopted anew as it is"
        applied = Applied(declared[host], engines, host in bare, before.get(host), observed.state)
        compiled = manifests.compile_manifest(host, applied, previous, inputs)
        manifests.write(site, compiled)
        made.append(compiled)
    keep_contents(site, made)
    drop_contents(site, hosts)
