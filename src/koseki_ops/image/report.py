"""The report on an image: one page that opens without a network, beside a page for each look."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from koseki_ops.calendar.eras import in_era
from koseki_ops.image import lynis, seal
from koseki_ops.image.boot_check import BootCheck
from koseki_ops.report.picture import environment
from koseki_ops.verify.results import FAILED, PASSED, SKIPPED


def render(boot_check: BootCheck, timezone: str, ended_at: float) -> str:
    """Return the report as one HTML text. ended_at: seconds since 1970."""
    moment = datetime.fromtimestamp(ended_at, ZoneInfo(timezone))
    values = {
        "boot_check": boot_check,
        "described": boot_check.description,
        "sbom": seal.SBOM,
        "audit": boot_check.audit,
        "auditor": lynis.PACKAGE,
        "day": in_era(moment),
        "moment": moment,
        "passed": boot_check.count(PASSED),
        "failed": boot_check.count(FAILED),
        "skipped": boot_check.count(SKIPPED),
        "seconds": sum(stage.seconds for stage in boot_check.stages),
        "failures": [stage for stage in boot_check.stages if stage.count(FAILED)],
        "FAILED": FAILED,
        "PASSED": PASSED,
        "SKIPPED": SKIPPED,
    }
    return environment("koseki_ops.image").get_template("report.html.j2").render(values)
