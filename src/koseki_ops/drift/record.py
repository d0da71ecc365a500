"""What becomes of a sweep: it is kept, what is new is told, page and metrics are written."""

from __future__ import annotations

from dataclasses import dataclass

from koseki_ops.drift.history.store import Store
from koseki_ops.drift.model import Sweep
from koseki_ops.plan.site import Site


@dataclass(frozen=True)
class Recorded:
    """A sweep as it was kept, and what must be said: waivers that cover nothing, lost alerts."""

    sweep: Sweep
    notices: tuple[str, ...]


def record(site: Site, found: Sweep, *, alert: bool) -> Recorded:
    """Chain a sweep to a site's history; return it with its beginnings and waivers.

    alert: tell what is new, changed or over, and write the page and the metrics beside the history;
    for the sweeps of a schedule, not for those of a person who is looking anyway. Raises
    KosekiError when the history was tampered with; that is told once as well.
    """
    if not alert:
        store = Store.open(site)
        sweep = store.append(found)
        return Recorded(sweep, _idle(store))
    # A person who looks does not wait for charts and mail.
    from koseki_ops.drift.scheduled import record_and_alert  # noqa: PLC0415

    store, sweep, faults = record_and_alert(site, found)
    return Recorded(sweep, (*_idle(store), *faults))


def _idle(store: Store) -> tuple[str, ...]:
    return tuple(status.fault for status in store.waiver_statuses if status.fault)
