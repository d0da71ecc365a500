"""New drift is told once, again when it changes, and once more when it is over.

By a mail through the local MTA, by a file that an Alertmanager takes (API v2), and to an
Alertmanager by HTTP when the plan names one. What was told is kept beside the file; it is written
after the mail was handed over, so a kill in between repeats a mail and never loses one.
"""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_private
from koseki_ops.core.formatting import in_zone, one_line, rfc3339
from koseki_ops.core.language import _
from koseki_ops.drift.history.store import Store, finding_from
from koseki_ops.drift.model import Finding, Sweep, Verdict

if TYPE_CHECKING:
    from koseki_ops.plan.model import AlertWebhook, DriftAlerts

FOLDER, ALERTS_FILE, STATE_FILE = "alerts", "alertmanager.json", "told.json"
FAULT_FILE = "fault.txt"
SHOWN_IN_MAIL = 50
MTA_SECONDS, WEBHOOK_SECONDS = 60, 10
OK, BAD_REQUEST = 200, 300


@dataclass(frozen=True)
class Notified:
    """What was told now.

    faults: why something could not be told, a sentence each; it is told with the next sweep.
    """

    new: tuple[Finding, ...]
    changed: tuple[Finding, ...]
    resolved: tuple[Finding, ...]
    faults: tuple[str, ...]

    @property
    def anything(self) -> bool:
        """Whether there was anything to tell."""
        return bool(self.new or self.changed or self.resolved)


def raise_alerts(store: Store, sweep: Sweep, settings: DriftAlerts, timezone: str) -> Notified:
    """Tell what is new, changed or over in a sweep that was just kept in `store`.

    A finding of a host that did not answer is neither; a finding that a waiver covers is over.
    """
    folder = store.folder / FOLDER
    before = _read_state(folder / STATE_FILE)
    unseen = {
        i: store.known.findings[i] for i in store.known.unseen if not store.known.findings[i].waiver
    }
    present = {finding.id: finding for finding in sweep.open} | unseen
    notified = Notified(
        new=tuple(f for i, f in present.items() if i not in before.notified),
        changed=tuple(
            f
            for i, f in present.items()
            if i in before.notified and i not in unseen and _mark(f) != _mark(before.notified[i])
        ),
        resolved=tuple(f for i, f in before.notified.items() if i not in present),
        faults=(),
    )
    holds = settings.holds_minutes * 60
    ended = {i: pair for i, pair in before.ended.items() if sweep.at - pair[1] < holds}
    ended = {i: pair for i, pair in ended.items() if i not in present}
    ended |= {finding.id: (finding, sweep.at) for finding in notified.resolved}
    rows = [_alert(sweep.site, f, sweep.at + holds) for f in present.values()]
    rows += [_alert(sweep.site, f, at) for f, at in ended.values()]
    text = json.dumps(rows, ensure_ascii=False, indent=1)
    write_private(folder / ALERTS_FILE, text + "\n")
    faults = []
    try:
        if notified.anything:
            _mail(message(notified, sweep, settings, timezone, store.head()), settings)
        # What was not mailed counts as not told: the next sweep tries again.
        write_private(folder / STATE_FILE, _State(present, ended).as_text())
    except KosekiError as error:
        faults.append(str(error))
    if settings.webhook:
        try:
            _post(settings.webhook, text.encode())
        except KosekiError as error:
            faults.append(str(error))
    return Notified(notified.new, notified.changed, notified.resolved, tuple(faults))


def raise_fault(folder: Path, site: str, fault: str, settings: DriftAlerts) -> str:
    """Tell once that sweeps cannot be kept; `fault` is the sentence, empty when they can again.

    folder: the site's drift folder. Returns why it could not be told, empty when it could.
    """
    path = folder / FOLDER / FAULT_FILE
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if fault == before:
        return ""
    mail = _envelope(settings)
    state = "記録の異常 the history" if fault else "記録は正常 the history is whole again"
    mail["Subject"] = f"[koseki {site}] 差異 drift: {state}"
    mail.set_content(f"{one_line(fault or before)}\n\nkoseki drift verify-history\n")
    try:
        _mail(mail, settings)
    except KosekiError as error:
        return str(error)
    write_private(path, fault)
    return ""


@dataclass(frozen=True)
class _State:
    """What was told and stands, and what ended a short while ago, by id."""

    notified: Mapping[str, Finding]
    ended: Mapping[str, tuple[Finding, float]]

    def as_text(self) -> str:
        plain = {
            "told": [asdict(finding) for finding in self.notified.values()],
            "ended": [{"at": at, "finding": asdict(f)} for f, at in self.ended.values()],
        }
        return json.dumps(plain) + "\n"


def _read_state(path: Path) -> _State:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        notified = [finding_from(row) for row in plain["told"]]
        ended = [(finding_from(row["finding"]), float(row["at"])) for row in plain["ended"]]
    except FileNotFoundError:
        return _State({}, {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KosekiError(
            _("the record of sent alerts cannot be read"),
            f"{path}: {error}",
            _("delete it (`rm`): everything that is open is reported once more"),
        ) from error
    return _State({f.id: f for f in notified}, {f.id: (f, at) for f, at in ended})


def _mark(finding: Finding) -> str:
    """Return what makes a finding another one for a reader."""
    parts = (finding.answer, finding.cause, finding.expected, finding.seen, finding.why)
    return sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def summary(finding: Finding) -> str:
    """Return a finding as one line."""
    place = f" ({finding.place})" if finding.place else ""
    what = one_line(f"{finding.host}: {finding.kind} {finding.name}{place}")
    if finding.answer is Verdict.NOT_VERIFIED:
        return f"{what} 未確認 not verified: {one_line(finding.why)}"
    return f"{what} 差異 {finding.cause}"


def difference(finding: Finding) -> str:
    """Return what was expected and what was seen, on one line; empty when there is neither."""
    parts = (("expected", finding.expected), ("seen", finding.seen))
    return ", ".join(f"{name} {one_line(text)}" for name, text in parts if text)


def _alert(site: str, finding: Finding, ends: float) -> dict[str, Any]:
    labels = {
        "alertname": "KosekiDrift",
        "site": site,
        "id": finding.id,
        "host": finding.host,
        "kind": finding.kind,
        "name": finding.name,
        "place": finding.place,
        "severity": "warning" if finding.answer is Verdict.NOT_VERIFIED else "critical",
    }
    annotations = {
        "summary": summary(finding),
        "description": difference(finding),
        "cause": finding.cause,
        "repair": finding.repair,
    }
    return {
        "labels": _filled(labels),
        "annotations": _filled(annotations),
        "startsAt": rfc3339(finding.first_seen),
        "endsAt": rfc3339(ends),
    }


def _filled(pairs: Mapping[str, str]) -> dict[str, str]:
    # An Alertmanager takes an empty value for a missing one.
    return {name: one_line(value) for name, value in pairs.items() if one_line(value)}


def message(
    notified: Notified, sweep: Sweep, settings: DriftAlerts, timezone: str, head: str
) -> EmailMessage:
    """Return the mail about what is new, changed and over; its subject holds counts only."""
    counts = (
        ("新規 new", notified.new),
        ("変化 changed", notified.changed),
        ("解消 resolved", notified.resolved),
    )
    mail = _envelope(settings)
    subject = ", ".join(f"{name} {len(rows)}" for name, rows in counts if rows)
    mail["Subject"] = f"[koseki {sweep.site}] 差異 drift: {subject}"
    drifted, unverified = sweep.count(Verdict.DRIFTED), sweep.count(Verdict.NOT_VERIFIED)
    now = f"差異 {drifted} drifted, 未確認 {unverified} not verified, site {sweep.site}"
    lines = [f"{in_zone(sweep.at, timezone)} {timezone}: {now}", ""]
    for name, rows in counts:
        if rows:
            lines += [f"== {name}: {len(rows)}", *_listed(rows, timezone), ""]
    # The head outside of the machine that wrote it shows later that nothing before was rewritten.
    lines += ["koseki drift --explain ID", f"history: {head}"]
    mail.set_content("\n".join(lines) + "\n")
    return mail


def _envelope(settings: DriftAlerts) -> EmailMessage:
    mail = EmailMessage(SMTP.clone(cte_type="7bit"))
    mail["From"] = settings.sender
    mail["To"] = [_address(row.role, row.address) for row in settings.recipients]
    mail["Auto-Submitted"] = "auto-generated"
    return mail


def _address(role: str, address: str) -> Address:
    return Address(display_name=one_line(role), addr_spec=address)


def _listed(findings: Iterable[Finding], timezone: str) -> Iterable[str]:
    rows = list(findings)
    for finding in rows[:SHOWN_IN_MAIL]:
        yield f"{finding.id}  {summary(finding)}"
        since = f"since {in_zone(finding.first_seen, timezone)}"
        people = f", logged in: {', '.join(finding.logged_in)}" if finding.logged_in else ""
        yield f"    {one_line(since + people)}"
        if difference(finding):
            yield f"    {difference(finding)}"
        if finding.repair:
            yield f"    {one_line(finding.repair)}"
    if len(rows) > SHOWN_IN_MAIL:
        yield f"    … and {len(rows) - SHOWN_IN_MAIL} more: `koseki drift` has them all"


def _mail(mail: EmailMessage, settings: DriftAlerts) -> None:
    recipients = [row.address for row in settings.recipients]
    argv = [settings.sendmail, "-i", "-f", settings.sender, "--", *recipients]
    try:
        done = subprocess.run(  # noqa: TID251 - each way to fail has a remedy of its own
            argv, input=mail.as_bytes(), capture_output=True, check=False, timeout=MTA_SECONDS
        )
    except OSError as error:
        raise KosekiError(
            _("the mail about drift was not sent: the MTA cannot be started"),
            str(error),
            _("install an MTA on the watch host, or correct `drift_alerts.sendmail`"),
        ) from error
    except subprocess.TimeoutExpired as error:
        raise KosekiError(
            _("the mail about drift was not sent: the MTA did not finish in time"),
            f"{MTA_SECONDS} s, {settings.sendmail}",
            _("read `journalctl -u opensmtpd` on the watch host"),
        ) from error
    if done.returncode:
        output = one_line(done.stderr.decode(errors="replace"))
        raise KosekiError(
            _("the mail about drift was not sent: the MTA refused it"),
            _("{sendmail}: exit {returncode} {output}").format(
                sendmail=settings.sendmail, returncode=done.returncode, output=output
            ),
            _("read `journalctl -u opensmtpd` on the watch host"),
        )


def _post(webhook: AlertWebhook, body: bytes) -> None:
    place = f"http://{webhook.address}:{webhook.port}{webhook.path}"
    connection = http.client.HTTPConnection(
        str(webhook.address), webhook.port, timeout=WEBHOOK_SECONDS
    )
    try:
        connection.request("POST", webhook.path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        output = one_line(answer.read(200).decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        raise KosekiError(
            _("the Alertmanager did not take the alerts"),
            f"{place}: {error}",
            _("check that it runs, and `drift_alerts.webhook` in the inventory"),
        ) from error
    finally:
        connection.close()
    if not OK <= answer.status < BAD_REQUEST:
        raise KosekiError(
            _("the Alertmanager refused the alerts"),
            f"{place}: {answer.status} {output}",
            _("read its log, and check `drift_alerts.webhook` in the inventory"),
        )
