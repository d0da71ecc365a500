"""A sweep of the schedule: kept, what is new is told, page and metrics are written."""

from __future__ import annotations

import time

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_atomic
from koseki_ops.drift.history.store import Store
from koseki_ops.drift.model import Sweep
from koseki_ops.drift.report.alerts import raise_alerts, raise_fault
from koseki_ops.drift.report.exports import as_prometheus
from koseki_ops.drift.report.page import write_page
from koseki_ops.plan.site import Site
from koseki_ops.verify.expectations import Plan

METRICS_FILE = "drift.prom"


def record_and_alert(site: Site, found: Sweep) -> tuple[Store, Sweep, list[str]]:
    """Chain a sweep to the history and tell of it; return both, and what could not be told.

    Raises KosekiError when it cannot be kept: history or waivers were tampered with, or cannot be
    read. That is told once as well.
    """
    plan = Plan.of(site)
    settings, timezone = plan.platform.drift_alerts, plan.platform.timezone
    try:
        store = Store.open(site)
        sweep = store.append(found)
    except KosekiError as error:
        lost = raise_fault(site.drift, site.name, str(error), settings)
        if lost:
            raise KosekiError(error.what, error.seen, f"{error.remedy}; {lost}") from error
        raise
    lost = raise_fault(store.folder, site.name, "", settings)
    faults = raise_alerts(store, sweep, settings, timezone).faults
    write_atomic(store.folder / METRICS_FILE, as_prometheus(sweep, store.waiver_statuses))
    write_page(plan, store, time.time())
    return store, sweep, list(filter(None, (lost, *faults)))
