"""What becomes of a sweep: it is kept, what is new is told, page and metrics are written."""

from __future__ import annotations

import time
from dataclasses import dataclass

from koseki_ops.core.errors import KosekiError
from koseki_ops.drift.history.store import Store, write_whole
from koseki_ops.drift.model import Sweep
from koseki_ops.drift.report.exports import as_prometheus
from koseki_ops.plan.site import Site

METRICS_FILE = "drift.prom"


@dataclass(frozen=True)
class Kept:
    """A sweep as it was kept, and what must be said: waivers that cover nothing, lost alerts."""

    sweep: Sweep
    said: tuple[str, ...]


def keep(site: Site, found: Sweep, *, alert: bool) -> Kept:
    """Chain a sweep to a site's history; return it with its beginnings and waivers.

    alert: tell what is new, changed or over, and write the page and the metrics beside the history;
    for the sweeps of a schedule, not for those of a person who is looking anyway. Raises
    KosekiError when the history was tampered with; that is told once as well.
    """
    store = Store.open(site)
    if not alert:
        sweep = store.append(found)
        return Kept(sweep, _idle(store))
    # A person who looks does not wait for charts.
    from koseki_ops.drift.report.alerts import raise_alerts, raise_fault  # noqa: PLC0415
    from koseki_ops.drift.report.page import write_page  # noqa: PLC0415
    from koseki_ops.verify.expectations import Plan  # noqa: PLC0415

    plan = Plan.of(site)
    settings, timezone = plan.platform.drift_alerts, plan.platform.timezone
    try:
        sweep = store.append(found)
    except KosekiError as error:
        lost = raise_fault(store.folder, site.name, str(error), settings)
        if lost:
            raise KosekiError(error.what, error.seen, f"{error.remedy}; {lost}") from error
        raise
    lost = raise_fault(store.folder, site.name, "", settings)
    faults = raise_alerts(store, sweep, settings, timezone).faults
    write_whole(store.folder / METRICS_FILE, as_prometheus(sweep, store.standings))
    write_page(plan, store, time.time())
    return Kept(sweep, (*_idle(store), *filter(None, (lost, *faults))))


def _idle(store: Store) -> tuple[str, ...]:
    return tuple(standing.fault for standing in store.standings if standing.fault)
