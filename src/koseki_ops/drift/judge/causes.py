"""From a difference to a finding: what kind of drift it is, and the command that mends it."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Mapping

from koseki_ops.core.formatting import printable
from koseki_ops.drift.judge.compare import ABSENT, Difference
from koseki_ops.drift.judge.manifest import Manifest
from koseki_ops.drift.judge.repairs import mending, removal
from koseki_ops.drift.model import Cause, Finding, Verdict
from koseki_ops.drift.observe.items import FILES
from koseki_ops.plan.revision import Inputs
from koseki_ops.plan.site import Site

MASKED = "‹masked›"
SECRET_WORD = re.compile(
    r"(?i)((?:pass(?:word|phrase|wd)?|secret|token|cipher-pass|private[_-]?key)\S{0,80}\s{0,20}[:=]\s{0,20})(\S+)"
)
# Crypt hashes, SCRAM verifiers, and the lines of a private key.
SECRET_VALUE = re.compile(
    r"\$(?:y|6|5|2b|1)\$[./A-Za-z0-9$]+|SCRAM-SHA-256\$\S+|"
    r"^(?![0-9a-f]{64}$)[A-Za-z0-9+/]{60,}={0,2}$",
    re.MULTILINE,
)
SHOWN_DIFF_LINES = 60
# Longer contents are not held against each other line by line: that takes the square of it.
COMPARED_LINES = 1000
# Kinds that the engines make what they are; others come with packages or by themselves.
OF_THE_CLUSTER = frozenset({"patroni", "hba", "hba order", "setting"})


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text with everything that looks like a secret, or is one of `secrets`, hidden."""
    for secret in secrets:
        text = text.replace(secret, MASKED)
    return SECRET_VALUE.sub(MASKED, SECRET_WORD.sub(rf"\1{MASKED}", text))


def diff(path: str, expected: bytes, seen: bytes, secrets: Iterable[str] = ()) -> str:
    """Return the difference between two contents as a unified diff, secrets masked."""
    try:
        before, after = expected.decode(), seen.decode()
    except UnicodeDecodeError:
        return f"{path}: no text, {len(expected)} bytes expected, {len(seen)} seen"
    old, new = mask(before, secrets).splitlines(), mask(after, secrets).splitlines()
    if max(len(old), len(new)) > COMPARED_LINES:
        return f"{path}: too long to be shown, {len(old)} lines expected, {len(new)} seen"
    lines = list(
        difflib.unified_diff(
            old,
            new,
            f"{path} (applied)",
            f"{path} (on the host)",
            lineterm="",
            n=1,
        )
    )
    if len(lines) > SHOWN_DIFF_LINES:
        lines = [*lines[:SHOWN_DIFF_LINES], f"… and {len(lines) - SHOWN_DIFF_LINES} more lines"]
    return "\n".join(lines) or f"{path}: only what is masked differs"


def cause_of(
    difference: Difference, manifest: Manifest, marks: Mapping[str, str], present: Inputs
) -> Cause:
    """Return what kind of drift a difference is."""
    if difference.answer is Verdict.NOT_VERIFIED:
        return Cause.UNKNOWN
    engine = manifest.by.get(difference.kind, {}).get(difference.name)
    mark = marks.get(engine or _engine_of(difference.kind), manifest.inputs.tree)
    if mark == manifest.inputs.tree or (not engine and not difference.unmanaged):
        return Cause.UNMANAGED if difference.unmanaged else Cause.CHANGED_ON_HOST
    if difference.unmanaged and not _made_by_engines(difference.kind):
        return Cause.UNMANAGED
    # An engine ran after the manifest was made: from the present tree, or from one unknown here.
    return Cause.NOT_APPLIED if mark == present.tree else Cause.FOREIGN_COMMIT


def _engine_of(kind: str) -> str:
    return "services" if kind in OF_THE_CLUSTER else "baseline"


def _made_by_engines(kind: str) -> bool:
    return kind in {*FILES, "service", "user", "group", "package", "firewall rule", "key"}


def on_host(site: Site, host: str, command: str) -> str:
    """Return a command for the workstation that runs one on a host as root."""
    config = site.ssh_config
    if config.is_relative_to(site.root):
        config = config.relative_to(site.root)
    return f"ssh -F {config} {host} {shlex.quote(f'sudo {command}')}"


def repair_of(site: Site, host: str, difference: Difference, manifest: Manifest | None) -> str:
    """Return the command that mends a difference."""
    if difference.answer is Verdict.NOT_VERIFIED or manifest is None:
        return ""
    if printable(difference.name) != difference.name or "\n" in difference.name:
        # As it is shown it is another name: a command that is copied would mend another thing.
        return ""
    apply = f"koseki apply --limit {host}" + ("" if site.is_lab else f" -i {site.inventory_name}")
    if difference.unmanaged:
        return on_host(site, host, removal(difference))
    if manifest.by.get(difference.kind, {}).get(difference.name):
        return apply
    command = mending(difference)
    return on_host(site, host, command) if command else apply


def finding(
    site: Site,
    host: str,
    difference: Difference,
    manifest: Manifest,
    marks: Mapping[str, str],
    present: Inputs,
    secrets: Iterable[str] = (),
) -> Finding:
    """Return a difference as a finding, secrets masked."""
    return Finding(
        host=host,
        kind=difference.kind,
        name=difference.name,
        answer=difference.answer,
        cause=cause_of(difference, manifest, marks, present),
        place=difference.place,
        expected=mask(difference.expected, secrets) if difference.expected != ABSENT else ABSENT,
        seen=mask(difference.seen, secrets) if difference.seen != ABSENT else ABSENT,
        why=difference.why,
        repair=repair_of(site, host, difference, manifest),
    )
