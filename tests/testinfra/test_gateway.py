"""Gateway: a terminal is admitted by certificate and line together, and to its own town (K-01).

In a lab every municipality's terminal connects, with its own certificate and with every other's,
from its own line. Elsewhere nobody here stands at a counter: then the host is asked what can be
asked without one.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509

from koseki_ops.core.language import _
from koseki_ops.lab.network import LabNetwork
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.plan.model import Municipality
from koseki_ops.supply.release import STAND_IN_NAME
from koseki_ops.trust.terminals import NEVER_ADMITTED, stand_ins_of
from koseki_ops.verify.batch import Question
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Everywhere, Facts, Questions, on_hosts

UNIT = "nginx.service"
AUTHORITY = "/etc/koseki/gateway/terminals.pem"
# What systemd-analyze may count against the unit, of 10.
EXPOSURE = 2.0
NOBODY = "nobody"  # who connects without a certificate
TOO_LARGE = "too large"
# Asked for in a query and in a path; must be in no log. As a browser sends 葛󠄂.
CANARY = "%E8%91%9B%F3%A0%84%82-canary-of-a-name"
REFUSED, CONTENT_TOO_LARGE, OK = 403, 413, 200
# By how many seconds at most a host's clock and the control node's do (suite `time`: one).
CLOCKS_DIFFER = 2
# All that a line of the log may hold, and in which form.
LOGGED = {
    "line": re.compile(r"none|[a-z][a-z0-9]{1,15}"),
    "certificate": re.compile(r"none|[a-z][a-z0-9]{1,15}"),
    "serial": re.compile(r"[0-9A-F]*"),
    "method": re.compile(r"[A-Z]+|other"),
    "status": re.compile(r"[0-9]{3}"),
    "bytes": re.compile(r"[0-9]+"),
    "seconds": re.compile(r"[0-9.]+"),
    "upstream": re.compile(r"-|[0-9]{3}|"),
}
# A header that changes with the second and says nothing.
DATE = re.compile(rb"\r\nDate: [^\r]*")

# Enters one line after the other and connects with one certificate after the other.
ATTEMPTS = """
import hashlib, json, os, re, socket, ssl, sys

told = json.loads(sys.argv[1])
known = {}

def context(name):
    if name not in known:
        made = known[name] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.load_verify_locations(told["authority"])
        if name != "nobody":
            made.load_cert_chain(f"{told['keys']}/{name}.crt", f"{told['keys']}/{name}.key")
    return known[name]

def answer_to(name, request):
    with socket.create_connection((told["address"], 443), told["seconds"]) as plain:
        with context(name).wrap_socket(plain, server_hostname=told["address"]) as door:
            door.sendall(request)
            said = b""
            while part := door.recv(65536):
                said += part
    return said

def attempt(line, name, kind, request):
    for _ in range(told["tries"]):
        row = once(name, request)
        # No answer at all, on a busy machine, is neither a refusal nor a page.
        if row["status"]:
            break
    print(json.dumps({"line": line, "who": name, "kind": kind, **row}), flush=True)

def once(name, request):
    try:
        said = answer_to(name, request)
        status = int(said.split(b" ", 2)[1])
        title = re.search(rb"<h1>(.*?)</h1>", said)
        row = {"status": status, "title": title.group(1).decode() if title else ""}
        if status != 200:
            row["said"] = said.decode(errors="replace")
    except (OSError, ValueError, IndexError) as error:
        row = {"status": 0, "title": "", "said": str(error)}
    return row

def asked(method, path, length):
    head = f"{method} {path} HTTP/1.1\\r\\nHost: gateway\\r\\nConnection: close\\r\\n"
    return f"{head}Content-Length: {length}\\r\\n\\r\\n".encode() + b"x" * length

plain = asked("GET", "/", 0)
for line, (netns, names) in told["lines"].items():
    handle = os.open(f"/run/netns/{netns}", os.O_RDONLY)
    os.setns(handle, os.CLONE_NEWNET)
    os.close(handle)
    for name in names:
        attempt(line, name, "plain", plain)
first, _ = next(iter(told["lines"].items()))
handle = os.open(f"/run/netns/{told['lines'][first][0]}", os.O_RDONLY)
os.setns(handle, os.CLONE_NEWNET)
for name in told["never"]:
    attempt(first, name, "plain", plain)
attempt(first, told["own"], "query", asked("GET", "/?kana=" + told["canary"], 0))
attempt(first, "nobody", "query", asked("GET", "/" + told["canary"], 0))
attempt(first, told["own"], "too large", asked("POST", "/filings", told["too_large"]))
"""
# Without a certificate and from no line: what any site's own host can be asked.
OLD_TLS = "openssl s_client -connect 127.0.0.1:443 -tls1_2 </dev/null 2>&1"
WITHOUT = """
python3 - <<'PYTHON'
import socket, ssl, sys
door = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
door.load_verify_locations("/etc/koseki/pki/ca.crt")
with door.wrap_socket(
    socket.create_connection(("127.0.0.1", 443), 10), server_hostname=socket.gethostname()
) as way:
    way.sendall(b"GET / HTTP/1.1\\r\\nHost: gateway\\r\\nConnection: close\\r\\n\\r\\n")
    while part := way.recv(65536):
        sys.stdout.buffer.write(part)
PYTHON
"""


@dataclass(frozen=True)
class Attempt:
    """What one attempt met: status (0: no answer at all), a page's title, and what was said."""

    status: int
    title: str
    said: str = ""


def questions(plan: Plan, host: str) -> Questions:
    """Ask the application's hosts for configuration and unit, a lab's terminals to connect."""
    if host == WORKSTATION and plan.site.is_lab:
        return {"attempts": Question(attempts_program(plan), aside=True)}
    if not plan.is_in(host, "application"):
        return {}
    return {
        "configuration": 'nginx -e stderr -t -q -g "pid /run/nginx/nginx.pid;"',
        "state": f"systemctl show -P ActiveState -P UnitFileState -P NeedDaemonReload {UNIT}",
        "account": f"stat -c %U /proc/$(systemctl show -P MainPID {UNIT})",
        "security": f"systemd-analyze security --no-pager {UNIT} | grep -F 'Overall exposure'",
        "authority": f"cat {AUTHORITY}",
        "old tls": OLD_TLS,
        "without": WITHOUT,
    }


def later_questions(plan: Plan, host: str, everywhere: Everywhere) -> Questions:
    """Ask for the log, once there has been something to write into it.

    All that was written since the first question, and nothing that is still on its way to the disk.
    """
    if not plan.is_in(host, "application"):
        return {}
    since = int(everywhere.replies[host].asked_at) - CLOCKS_DIFFER
    log = f'journalctl --sync && journalctl -u {UNIT} --since="@$argument" --no-pager -q -o cat'
    return {"log": Question(log, argument=str(since))}


def attempts_program(plan: Plan) -> str:
    """Return the command by which a lab's terminals connect to the first application host."""
    (host, *_) = plan.hosts_in("application")
    network = LabNetwork(plan.site.netns, plan.inventory)
    slugs = [municipality.slug for municipality in plan.joined]
    terminal = {slug: own_terminal(plan, slug) for slug in slugs}
    told = {
        "authority": str(plan.site.state / "pki" / "ca.crt"),
        "keys": str(stand_ins_of(plan.site)),
        "address": plan.address(host, WORKSTATION),
        "seconds": 10,
        "tries": 3,
        "lines": {slug: (network.counter(slug).netns, list(terminal.values())) for slug in slugs},
        "never": [NOBODY, *NEVER_ADMITTED],
        "own": terminal[slugs[0]],
        "canary": CANARY,
        "too_large": plan.platform.gateway.body_kb * 1024 + 1,
    }
    return shlex.join([sys.executable, "-c", ATTEMPTS, json.dumps(told)])


def own_terminal(plan: Plan, slug: str) -> str:
    """Return the first terminal of a municipality."""
    return next(row.id for row in plan.platform.terminals if row.municipality == slug)


@cache
def _met(text: str) -> dict[tuple[str, str, str], Attempt]:
    rows = [json.loads(line) for line in text.splitlines()]
    return {
        (row["line"], row["who"], row["kind"]): Attempt(
            row["status"], row["title"], row.get("said", "")
        )
        for row in rows
    }


def attempt(
    plan: Plan, everywhere: Everywhere, line: str, who: str, kind: str = "plain"
) -> Attempt:
    """Return what one attempt met; not verified where nobody stands at a counter."""
    if not plan.site.is_lab:
        not_verified(_("nobody here stands at a counter: try from a terminal"))
    said = everywhere[WORKSTATION]["attempts"]
    found = _met(said.text).get((line, who, kind))
    check(
        found,
        _("{who} connecting from the line of {line}").format(who=who, line=line),
        said.errors or said,
        _("run `koseki verify gateway`"),
    )
    return found or Attempt(0, "")


def bytes_of(said: str) -> str:
    """Return an answer without the second that it was given in."""
    return DATE.sub(b"", said.encode()).decode()


def refusal(plan: Plan, everywhere: Everywhere) -> str:
    """Return what whoever has no certificate is told."""
    found = attempt(plan, everywhere, plan.joined[0].slug, NOBODY)
    expect(found.status, REFUSED, remedy_of(plan), UNIT, plan.hosts_in("application")[0])
    return bytes_of(found.said)


def remedy_of(plan: Plan) -> str:
    """Return the ordinary remedy."""
    return _("run `koseki apply --limit {host}`, then verify again").format(
        host=plan.hosts_in("application")[0]
    )


def test_each_terminal_reaches_its_own_municipality(
    plan: Plan, everywhere: Everywhere, municipality: Municipality
) -> None:
    """With its certificate, from its line: its own municipality's pages (K-01)."""
    found = attempt(plan, everywhere, municipality.slug, own_terminal(plan, municipality.slug))
    (host, *_) = plan.hosts_in("application")
    expect(found.status, OK, remedy_of(plan), f"koseki-application@{municipality.slug}", host)
    if plan.platform.application_release.name == STAND_IN_NAME:
        expect(found.title, f"{municipality.name}　戸籍", remedy_of(plan), UNIT, host)


def test_no_terminal_passes_for_another(
    plan: Plan, everywhere: Everywhere, pair: tuple[str, str]
) -> None:
    """A certificate on another's line: refused, with the bytes that strangers get (K-01)."""
    certificate, line = pair
    found = attempt(plan, everywhere, line, own_terminal(plan, certificate))
    (host, *_) = plan.hosts_in("application")
    expect(
        (found.status, bytes_of(found.said)),
        (REFUSED, refusal(plan, everywhere)),
        remedy_of(plan),
        UNIT,
        host,
    )


def test_what_was_revoked_or_never_ours_opens_nothing(plan: Plan, everywhere: Everywhere) -> None:
    """Revoked, expired or another CA's: refused alike, though names and line are right (K-01)."""
    wanted = (REFUSED, refusal(plan, everywhere))
    for name in NEVER_ADMITTED:
        found = attempt(plan, everywhere, plan.joined[0].slug, name)
        seen = (found.status, bytes_of(found.said))
        check(
            seen == wanted,
            _("the refusal ({name})").format(name=name),
            seen,
            remedy_of(plan),
            UNIT,
        )


def test_a_refusal_tells_nothing(plan: Plan, everywhere: Everywhere) -> None:
    """No municipality's name, no reason, and for a path that does not exist the same (K-01)."""
    text = refusal(plan, everywhere)
    words = [word for row in plan.platform.municipalities for word in (row.name, row.slug)]
    expect([word for word in [*words, "certificate", "証明"] if word in text], [], remedy_of(plan))
    elsewhere = attempt(plan, everywhere, plan.joined[0].slug, NOBODY, "query")
    expect(bytes_of(elsewhere.said), text, remedy_of(plan), UNIT)


def test_a_body_that_is_too_large_is_refused(plan: Plan, everywhere: Everywhere) -> None:
    """One KiB more than the plan's limit does not reach the application (K-08)."""
    first = plan.joined[0].slug
    found = attempt(plan, everywhere, first, own_terminal(plan, first), TOO_LARGE)
    expect(found.status, CONTENT_TOO_LARGE, remedy_of(plan), UNIT)


@on_hosts("application")
def test_without_certificate_and_line_nobody_enters(facts: Facts) -> None:
    """From the host itself, which is on no line: refused (K-01)."""
    check(
        f" {REFUSED} " in facts["without"].text.partition("\n")[0],
        _("a refusal"),
        facts["without"],
        facts.remedy,
        UNIT,
    )


@on_hosts("application")
def test_older_tls_is_refused(facts: Facts) -> None:
    """TLS 1.2 ends in an alert: 1.3 alone is spoken (K-01)."""
    seen = facts["old tls"]
    check(
        "alert protocol version" in seen.text,
        _("an alert: protocol version"),
        seen,
        facts.remedy,
        UNIT,
    )


@on_hosts("application")
def test_the_log_holds_nothing_of_a_person(plan: Plan, facts: Facts) -> None:
    """Municipality, certificate, outcome: no address, path, query, not one word more (K-20)."""
    lines = facts["log"].lines
    requests = [json.loads(line) for line in lines if line.startswith("{")]
    if plan.site.is_lab:
        # The last of the requests just made, after those that had a name in them.
        last = [row for row in requests if row.get("status") == CONTENT_TOO_LARGE]
        check(last, _("lines of the requests just made"), facts["log"], facts.remedy, UNIT)
    strange = [
        row
        for row in requests
        if set(row) != set(LOGGED)
        or not all(LOGGED[key].fullmatch(str(value)) for key, value in row.items())
    ]
    expect(strange[:3], [], facts.remedy)
    expect([line for line in lines if "canary" in line], [], facts.remedy)


@on_hosts("application")
def test_the_gateway_runs_by_a_configuration_that_holds(facts: Facts) -> None:
    """It runs, comes back after a boot, and nginx finds no fault with its file (K-08)."""
    check(facts["configuration"].rc == 0, _("no fault"), facts["configuration"], facts.remedy, UNIT)
    expect(facts["state"].lines, ["active", "enabled", "no"], facts.remedy, UNIT)


@on_hosts("application")
def test_the_gateway_is_locked_in(facts: Facts) -> None:
    """Never as root, and systemd-analyze counts at most 2.0 of 10 against its unit (K-01)."""
    expect(facts["account"].text, "www-data", facts.remedy, UNIT)
    found = re.search(r": ([\d.]+)", facts["security"].text)
    check(
        found is not None and float(found.group(1)) <= EXPOSURE,
        _("an exposure of at most {exposure}").format(exposure=EXPOSURE),
        facts["security"],
        facts.remedy,
        UNIT,
    )


@on_hosts("application")
def test_the_list_of_revoked_certificates_is_fresh(plan: Plan, facts: Facts) -> None:
    """A list that has run out shuts every counter: renewed in time, as certificates are (K-08)."""
    text = facts["authority"].text
    found = x509.load_pem_x509_crl(text[text.index("-----BEGIN X509 CRL") :].encode())
    left = (found.next_update_utc or datetime.now(UTC)) - datetime.now(UTC)
    days = plan.platform.certificate_policy.renew_when_days_left - 1
    check(
        left > timedelta(days=days),
        _("more than {days} days left").format(days=days),
        f"{left.days}",
        facts.remedy,
    )
