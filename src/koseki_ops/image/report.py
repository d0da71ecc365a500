"""The report on an image: one page that opens without a network, beside a page for each look."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from koseki_ops.calendar.eras import in_era
from koseki_ops.image import lynis, seal
from koseki_ops.image.trial import Trial
from koseki_ops.report.picture import environment
from koseki_ops.verify.results import FAILED, PASSED, SKIPPED


def render(trial: Trial, timezone: str, ended_at: float) -> str:
    """Return the report as one HTML text. ended_at: seconds since 1970."""
    moment = datetime.fromtimestamp(ended_at, ZoneInfo(timezone))
    values = {
        "trial": trial,
        "described": trial.description,
        "sbom": seal.SBOM,
        "audit": trial.testimony,
        "witness": lynis.PACKAGE,
        "day": in_era(moment),
        "moment": moment,
        "passed": trial.count(PASSED),
        "failed": trial.count(FAILED),
        "skipped": trial.count(SKIPPED),
        "seconds": sum(stage.seconds for stage in trial.stages),
        "failures": [stage for stage in trial.stages if stage.count(FAILED)],
        "FAILED": FAILED,
        "PASSED": PASSED,
        "SKIPPED": SKIPPED,
    }
    return environment("koseki_ops.image").get_template("report.html.j2").render(values)
