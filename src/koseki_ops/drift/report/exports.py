"""A sweep in the forms that other tools read: JUnit XML, SARIF 2.1.0, Prometheus text."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any
from xml.etree import ElementTree as ET

from koseki_ops.core.formatting import one_line, printable, rfc3339
from koseki_ops.drift.history.waivers import WaiverStatus
from koseki_ops.drift.model import Finding, HostSweep, Sweep, Verdict
from koseki_ops.drift.report.alerts import difference, summary

SARIF_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
FINGERPRINT = "kosekiFinding/v1"
KIB = 1024
VERDICTS = {
    "holds": Verdict.HOLDS,
    "drifted": Verdict.DRIFTED,
    "not_verified": Verdict.NOT_VERIFIED,
}
Labels = dict[str, str]
Sample = tuple[Labels, float]


def as_junit(sweep: Sweep, _waiver_statuses: Sequence[WaiverStatus] = ()) -> str:
    """Return JUnit XML: a suite for each host, a case for each finding and one for what holds.

    A difference is a failure, what was not verified an error (never a skip, which many tools count
    as good), a waived difference a skip.
    """
    root = ET.Element("testsuites", name="koseki drift", time=f"{sweep.seconds:.3f}")
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for host in sweep.hosts:
        suite = ET.SubElement(
            root,
            "testsuite",
            name=one_line(host.host),
            hostname=one_line(host.host),
            time=f"{host.seconds:.3f}",
            timestamp=rfc3339(sweep.at).removesuffix("Z"),
        )
        counts = dict.fromkeys(totals, 0)
        findings = [finding for finding in sweep.findings if finding.host == host.host]
        if host.answered:
            _case(suite, host.host, f"{host.holds} items as applied")
            counts["tests"] += 1
        elif not any(finding.answer is Verdict.NOT_VERIFIED for finding in findings):
            case = _case(suite, host.host, "the host answers")
            ET.SubElement(case, "error", type=Verdict.NOT_VERIFIED, message=one_line(host.why))
            counts["tests"] += 1
            counts["errors"] += 1
        for finding in findings:
            case = _case(suite, host.host, f"{finding.kind} {finding.name} {finding.place}")
            counts["tests"] += 1
            counts[_judged(case, finding)] += 1
        for name, count in counts.items():
            suite.set(name, str(count))
            totals[name] += count
    for name, count in totals.items():
        root.set(name, str(count))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _case(suite: ET.Element, host: str, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=one_line(host), name=one_line(name))


def _judged(case: ET.Element, finding: Finding) -> str:
    """Say in a case how its finding stands; return what it counts as."""
    if finding.waiver:
        ET.SubElement(case, "skipped", message=f"waived by {one_line(finding.waiver)}")
        return "skipped"
    verified = finding.answer is Verdict.DRIFTED
    element = ET.SubElement(
        case,
        "failure" if verified else "error",
        type=finding.cause if verified else finding.answer,
        message=summary(finding),
    )
    parts = {
        "id": finding.id,
        "expected": finding.expected,
        "seen": finding.seen,
        "since": rfc3339(finding.first_seen),
        "repair": finding.repair,
    }
    element.text = "\n".join(f"{name}: {printable(text)}" for name, text in parts.items() if text)
    return "failures" if verified else "errors"


def as_sarif(sweep: Sweep, waiver_statuses: Sequence[WaiverStatus] = ()) -> str:
    """Return SARIF 2.1.0: a rule for each kind of item, a result for each finding.

    What was not verified is a result of the kind `open` and an error of the run as well, so that no
    reader takes the run for a good one. A finding's fingerprint is its id.
    """
    kinds = sorted({finding.kind for finding in sweep.findings})
    reasons = {status.waiver.id: status.waiver.reason for status in waiver_statuses}
    unreachable = [host for host in sweep.hosts if not host.answered]
    unverified = [f for f in sweep.findings if f.answer is Verdict.NOT_VERIFIED]
    notes = [summary(finding) for finding in unverified]
    notes += [f"{one_line(host.host)} did not answer: {one_line(host.why)}" for host in unreachable]
    invocation = {
        "executionSuccessful": not notes,
        "startTimeUtc": rfc3339(sweep.at),
        "toolExecutionNotifications": [
            {"level": "error", "message": {"text": note}} for note in notes
        ],
    }
    driver = {
        "name": "koseki drift",
        "semanticVersion": version("koseki-ops"),
        "rules": [
            {
                "id": f"drift/{one_line(kind)}",
                "shortDescription": {"text": f"{one_line(kind)} is as the last apply left it"},
            }
            for kind in kinds
        ],
    }
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"koseki-drift/{sweep.site}/"},
        "invocations": [invocation],
        "results": [_result(finding, kinds, reasons) for finding in sweep.findings],
        "columnKind": "unicodeCodePoints",
    }
    log = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, ensure_ascii=False, indent=1) + "\n"


def _result(finding: Finding, kinds: Sequence[str], reasons: dict[str, str]) -> dict[str, Any]:
    verified = finding.answer is Verdict.DRIFTED
    place = "/".join(one_line(p) for p in (finding.host, finding.kind, finding.name) if p)
    text = "\n".join(part for part in (summary(finding), difference(finding)) if part)
    result: dict[str, Any] = {
        "ruleId": f"drift/{one_line(finding.kind)}",
        "ruleIndex": kinds.index(finding.kind),
        # The standard's word for "not enough is known to decide", which has no level.
        "kind": "fail" if verified else "open",
        "level": "error" if verified else "none",
        "message": {"text": text},
        "locations": [
            {
                "logicalLocations": [
                    {
                        "name": one_line(finding.name),
                        "fullyQualifiedName": place,
                        "kind": "resource",
                    }
                ]
            }
        ],
        "fingerprints": {FINGERPRINT: finding.id},
        "provenance": {"firstDetectionTimeUtc": rfc3339(finding.first_seen)},
        "properties": {"cause": finding.cause, "repair": one_line(finding.repair)},
    }
    if finding.waiver:
        justification = one_line(f"{finding.waiver} {reasons.get(finding.waiver, '')}")
        result["suppressions"] = [
            {"kind": "external", "status": "accepted", "justification": justification}
        ]
    return result


def as_prometheus(sweep: Sweep, waiver_statuses: Sequence[WaiverStatus] = ()) -> str:
    """Return Prometheus text, for node_exporter's textfile collector."""
    return "".join(
        f"# HELP {name} {about}\n# TYPE {name} gauge\n"
        + "".join(f"{name}{_labelled(labels)} {value!r}\n" for labels, value in samples)
        for name, about, samples in _families(sweep, waiver_statuses)
        if samples
    )


# Gauges with a sample a host: name, what it says, and its value.
PER_HOST: tuple[tuple[str, str, Callable[[HostSweep], float]], ...] = (
    ("koseki_drift_host_answered", "Whether a host's answer arrived whole.", lambda h: h.answered),
    ("koseki_drift_manifest_stale", "Whether a manifest is of another commit.", lambda h: h.stale),
    (
        "koseki_drift_host_beyond",
        "Kernel parameters not verified: of the machine below a container.",
        lambda h: h.not_applicable,
    ),
    ("koseki_drift_probe_seconds", "How long a host's probe ran.", lambda h: h.seconds),
    ("koseki_drift_probe_cpu_seconds", "CPU time of a host's probe.", lambda h: h.cpu_seconds),
    (
        "koseki_drift_probe_memory_bytes",
        "Most memory of a host's probe.",
        lambda h: h.memory_kib * KIB,
    ),
)


def _families(
    sweep: Sweep, waiver_statuses: Sequence[WaiverStatus]
) -> Iterator[tuple[str, str, list[Sample]]]:
    yield from _by_host(sweep)
    opened = [finding.first_seen for finding in sweep.open]
    yield "koseki_drift_open_items", "Findings that no waiver covers.", [({}, float(len(opened)))]
    yield (
        "koseki_drift_oldest_open_timestamp_seconds",
        "Since when the oldest of them stands.",
        [({}, min(opened))] if opened else [],
    )
    yield (
        "koseki_drift_waiver_days_left",
        "Days until a waiver ends.",
        [
            ({"waiver": s.waiver.id, "host": s.waiver.host}, float(s.days_left))
            for s in waiver_statuses
        ],
    )
    yield "koseki_drift_sweep_seconds", "How long the sweep took.", [({}, sweep.seconds)]
    yield (
        "koseki_drift_last_sweep_timestamp_seconds",
        "When the hosts were asked.",
        [({}, sweep.at)],
    )


def _by_host(sweep: Sweep) -> Iterator[tuple[str, str, list[Sample]]]:
    hosts = sweep.hosts
    yield (
        "koseki_drift_items",
        "Items of a host by answer; a waived difference counts as drifted.",
        [
            ({"host": h.host, "answer": name}, float(_count(sweep, h.host, h.holds, answer)))
            for h in hosts
            for name, answer in VERDICTS.items()
        ],
    )
    waived = Counter(finding.host for finding in sweep.findings if finding.waiver)
    yield (
        "koseki_drift_waived_items",
        "Differences of a host that a waiver covers.",
        [({"host": h.host}, float(waived[h.host])) for h in hosts],
    )
    for name, about, value in PER_HOST:
        yield name, about, [({"host": h.host}, float(value(h))) for h in hosts]
    for measure in sorted({name for h in hosts for name in h.measures}):
        samples = [({"host": h.host}, h.measures[measure]) for h in hosts if measure in h.measures]
        safe = re.sub(r"[^a-zA-Z0-9_]", "_", measure)
        yield f"koseki_{safe}", f"{safe} of a host, as its probe saw it.", samples


def _count(sweep: Sweep, host: str, holds: int, answer: Verdict) -> int:
    if answer is Verdict.HOLDS:
        return holds
    return sum(f.host == host and f.answer is answer for f in sweep.findings)


def _labelled(labels: Labels) -> str:
    if not labels:
        return ""
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + pairs + "}"


def _escaped(value: str) -> str:
    return one_line(value).replace("\\", "\\\\").replace('"', '\\"')


FORMATS: dict[str, Callable[[Sweep, Sequence[WaiverStatus]], str]] = {
    "junit": as_junit,
    "sarif": as_sarif,
    "prometheus": as_prometheus,
}
