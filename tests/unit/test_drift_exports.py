"""Other tools read a sweep as it is: what is not verified never looks good, no text breaks out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from drift_samples import COMMIT, HOSTILE, HOSTS, NOW, drifted, not_verified, store, sweep, waiver
from koseki_ops.drift.history.waivers import WaiverStatus
from koseki_ops.drift.model import Sweep
from koseki_ops.drift.report.exports import FINGERPRINT, FORMATS, as_junit, as_prometheus, as_sarif


@pytest.fixture
def kept(tmp_path: Path) -> tuple[Sweep, list[WaiverStatus]]:
    """A sweep with a difference, a waived one, a hostile one and an unreachable host."""
    waived = drifted(1, "application1")
    history = store(tmp_path, waiver(waived))
    one = sweep(
        drifted(),
        waived,
        drifted(2, name=HOSTILE, seen=HOSTILE),
        not_verified("secondary1"),
        unreachable=["secondary1"],
    )
    return history.append(one), history.waiver_statuses


def test_junit(kept: tuple[Sweep, list[WaiverStatus]]) -> None:
    """Each host a suite; a difference fails, an unreachable one errs, only a waiver skips."""
    root = ET.fromstring(as_junit(*kept))  # noqa: S314 - our own text
    assert [suite.get("name") for suite in root] == list(HOSTS)
    total = {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert total == {"tests": "9", "failures": "2", "errors": "1", "skipped": "1"}
    for name in total:
        assert sum(int(suite.attrib[name]) for suite in root) == int(root.attrib[name])
    assert len(root.findall(".//testcase")) == 9
    failure = root.find("./testsuite/testcase/failure")
    assert failure is not None
    assert failure.text
    assert drifted().id in failure.text
    assert "葛󠄂𠮷" in as_junit(*kept)


def test_an_unreachable_host_without_a_finding_is_an_error_all_the_same() -> None:
    """A host that did not answer is never green."""
    root = ET.fromstring(as_junit(sweep(unreachable=["primary1"])))  # noqa: S314 - our own text
    assert root.get("errors") == "1"
    log = json.loads(as_sarif(sweep(unreachable=["primary1"])))
    assert log["runs"][0]["invocations"][0]["executionSuccessful"] is False


def test_sarif(kept: tuple[Sweep, list[WaiverStatus]]) -> None:
    """The standard's structure; the id as fingerprint; what is not verified is open and loud."""
    log = json.loads(as_sarif(*kept))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == ["drift/file", "drift/host", "drift/package", "drift/unit"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["message"]["text"]
        assert (result["kind"], result["level"]) in {("fail", "error"), ("open", "none")}
        assert re.fullmatch(r"[0-9a-f]{12}", result["fingerprints"][FINGERPRINT])
    by_id = {result["fingerprints"][FINGERPRINT]: result for result in run["results"]}
    assert by_id[not_verified("secondary1").id]["kind"] == "open"
    (suppression,) = by_id[drifted(1, "application1").id]["suppressions"]
    assert suppression["justification"] == "W-2026-001 回線障害の調査"
    invocation = run["invocations"][0]
    assert invocation["executionSuccessful"] is False
    assert "secondary1" in invocation["toolExecutionNotifications"][0]["message"]["text"]
    later = json.loads(as_sarif(sweep(drifted(seen="0777"), at=NOW + 900)))
    assert later["runs"][0]["results"][0]["fingerprints"] == by_id[drifted().id]["fingerprints"]


SAMPLE = re.compile(
    r'([a-z_]+)(\{([a-z_]+="(\\["\\n]|[^"\\\n])*",?)+\})? (-?[0-9.e+-]+)', re.ASCII | re.DOTALL
)


def test_prometheus(kept: tuple[Sweep, list[WaiverStatus]]) -> None:
    """Every line is a comment or a sample, every family is told once, and the figures are right."""
    text = as_prometheus(*kept)
    families: list[str] = []
    values: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            families.append(line.split()[2])
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == families[-1]
            values[line.rpartition(" ")[0]] = float(match[5])
    assert len(families) == len(set(families))
    assert values['koseki_drift_items{host="primary1",answer="drifted"}'] == 2
    assert values['koseki_drift_items{host="primary1",answer="holds"}'] == 620
    assert values['koseki_drift_items{host="secondary1",answer="not_verified"}'] == 1
    assert values['koseki_drift_host_answered{host="secondary1"}'] == 0
    assert values['koseki_drift_waived_items{host="application1"}'] == 1
    assert values["koseki_drift_sweep_seconds"] == 1.84
    assert values["koseki_drift_last_sweep_timestamp_seconds"] == NOW
    assert values["koseki_drift_oldest_open_timestamp_seconds"] == NOW
    assert values['koseki_drift_waiver_days_left{waiver="W-2026-001",host="application1"}'] == 14
    assert 'koseki_backup_age_seconds{host="remote-backup1"}' in values
    assert text.endswith("\n")


def test_prometheus_has_the_lag_and_the_age() -> None:
    """What the probes measured is there under its own name."""
    text = as_prometheus(sweep(drifted(host='a"b\\c\nd')))
    assert 'koseki_replication_lag_bytes{host="secondary1"}' in text
    assert f'commit="{COMMIT}"' not in text


@pytest.mark.parametrize("name", FORMATS)
def test_empty_and_five_hundred(name: str) -> None:
    """Nothing found, and five hundred differences, are told as well."""
    assert FORMATS[name](sweep(), [])
    many = sweep(*(drifted(number) for number in range(500)))
    assert FORMATS[name](many, []).count("\n") > 10
