"""Link: each registry enters its own town's exchange and no other; each engine sees its own (K-17).

In a lab every town's registry really connects, with its own key from its own line, to its own
account and to every other town's. Elsewhere nobody here is a registry: then the host is asked.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from functools import cache
from typing import Any

from koseki_ops.core.language import _
from koseki_ops.lab.network import LabNetwork
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.plan.model import Municipality
from koseki_ops.registers.link.service import stand_in_of
from koseki_ops.verify.batch import Question
from koseki_ops.verify.connections import OPEN, SHUT, UNREACHABLE, from_origin, outcomes_on_lines
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Everywhere, Facts, Questions, on_hosts
from koseki_ops.verify.registers import SUPERUSER, is_leader

EXCHANGE = "koseki-exchange.service"
ENGINE, RECONCILE = "koseki-link@{}.service", "koseki-link-reconcile@{}"
# What systemd-analyze may count against an engine's unit, of 10; sshd needs root's part.
EXPOSURE, EXCHANGE_EXPOSURE = 2.0, 5.0
ROOM = ["done", "in", "out", "quarantine", "work"]
INSIDE, REFUSED = "inside", "Authentication failed."
FLOWS = [
    "address-change",
    "collation",
    "resident-record",
    "statement",
    "transfer-in",
    "transfer-out",
]
RIGHTS = {
    "SELECT flows",
    "INSERT flows",
    "UPDATE flows",
    "SELECT ledger",
    "INSERT ledger",
    "SELECT outbox",
    "SELECT statement",
    "INSERT statement",
    "DELETE statement",
}
ATTEMPT_SECONDS = 90
WORKERS = 12

SHUT_SECONDS = 1.5
TRIES = 3

# Makes each socket in the namespace it is to come from, where it stays; connects with several. What
# came to no answer, on a busy machine, is no refusal: it is tried again.
ATTEMPTS = """
import json, os, socket, sys
from concurrent.futures import ThreadPoolExecutor

import paramiko

told = json.loads(sys.argv[1])

def enter(netns):
    handle = os.open(f"/run/netns/{netns}", os.O_RDONLY)
    os.setns(handle, os.CLONE_NEWNET)
    os.close(handle)

def attempt(netns, source, account, key, others):
    for _ in range(told["tries"]):
        row = once(netns, source, account, key, others)
        if row["answered"]:
            break
    return row

def once(netns, source, account, key, others):
    row = {"said": "", "room": [], "others": [], "answered": False}
    enter(netns)
    sock = socket.socket()
    sock.bind((source, 0))
    sock.settimeout(told["seconds"])
    try:
        sock.connect((told["address"], told["port"]))
    except OSError as error:
        sock.close()
        return {**row, "said": str(error)}
    with paramiko.Transport(sock) as way:
        way.banner_timeout = way.auth_timeout = told["seconds"]
        try:
            way.start_client(timeout=told["seconds"])
            way.auth_publickey(account, paramiko.Ed25519Key.from_private_key_file(key))
            row["said"], row["answered"] = "inside", True
            with way.open_sftp_client() as files:
                row["room"] = sorted(files.listdir("/"))
                for place in others:
                    try:
                        files.stat(place)
                        row["others"].append(place)
                    except OSError:
                        pass
            try:
                way.open_session(timeout=told["seconds"]).exec_command("id")
                row["shell"] = "asked"
            except paramiko.SSHException as error:
                row["shell"] = str(error)
        except (paramiko.SSHException, OSError, EOFError) as error:
            row["said"] = str(error) or type(error).__name__
            row["answered"] = isinstance(error, paramiko.AuthenticationException)
    return row

def done(line, account, kind, row):
    print(json.dumps({"line": line, "account": account, "kind": kind, **row}), flush=True)

with ThreadPoolExecutor(told["workers"]) as pool:
    begun = []
    for line, netns, source, account, key, kind in told["attempts"]:
        others = told["others"][line] if kind == "own" else []
        tried = pool.submit(attempt, netns, source, account, key, others)
        begun.append((line, account, kind, tried))
        while len(begun) > told["workers"]:
            *first, answer = begun.pop(0)
            done(*first, answer.result())
    for *first, answer in begun:
        done(*first, answer.result())
"""
# What an engine's process has before its eyes, and what its account could open without that.
SEES = """
for slug in {slugs}; do
    pid=$(systemctl show -P MainPID "koseki-link@$slug.service")
    if [ "$pid" = 0 ]; then echo "$slug runs not"; continue; fi
    seen=$(nsenter --target "$pid" --mount sh -c 'cd /srv/koseki/exchange && echo * &&
        cd /etc/koseki/municipalities && echo *' | paste -sd' ')
    echo "$slug sees $seen"
    able=$(setpriv --reuid="koseki-$slug" --regid="koseki-$slug" --groups="link-$slug" sh -c '
        for other in {slugs}; do
            for place in "/srv/koseki/exchange/$other/in" "/srv/koseki/exchange/$other/done" \
                "/etc/koseki/municipalities/$other/link.key"; do
                if [ -r "$place" ]; then echo "$other"; fi
            done
        done' | sort -u | paste -sd' ')
    echo "$slug can $able"
done
"""
STATES = """
systemctl show --property=Id,ActiveState,UnitFileState,NeedDaemonReload,Result {units}
"""
FOLDERS = (
    "find /srv/koseki/exchange -ignore_readdir_race -maxdepth 2 -type d -printf '%m %u %g %P\\n'"
)
BOOKS = """\\connect {database}
select json_build_object('municipality', '{slug}',
  'flows', (select json_agg(flow order by flow) from link.flows),
  'rights', (select json_agg(privilege_type || ' ' ||
      case table_schema when 'link' then table_name else table_schema || '.' || table_name end)
      from information_schema.role_table_grants
      where grantee in ('koseki_link', '{database}_link')),
  'owners', (select json_agg(distinct tableowner) from pg_tables where schemaname = 'link'));
"""


def questions(plan: Plan, host: str) -> Questions:
    """Ask the link's host for units and folders, the leader for the books; connect in a lab."""
    if host == WORKSTATION:
        if not plan.site.is_lab:
            return {}
        return {
            "attempts": Question(attempts_program(plan), aside=True, seconds=ATTEMPT_SECONDS),
            "terminal": Question(terminal_program(plan), aside=True),
        }
    if plan.is_in(host, "databases"):
        books = "".join(BOOKS.format(database=t.database, slug=t.slug) for t in plan.joined)
        return {"books": f"{SUPERUSER} <<'SQL'\n{books}SQL"}
    if not plan.is_in(host, "registry_link"):
        return {}
    slugs = [municipality.slug for municipality in plan.joined]
    units = [EXCHANGE, *(ENGINE.format(slug) for slug in slugs)]
    units += [RECONCILE.format(slug) + end for slug in slugs for end in (".timer", ".service")]
    address = plan.platform.lines[slugs[0]].registry
    return {
        "states": STATES.format(units=" ".join(units)),
        "folders": FOLDERS,
        "sees": SEES.format(slugs=" ".join(slugs)),
        "groups": "; ".join(f"echo $(id -nG link-{slug})" for slug in slugs),
        "sshd": (
            "sshd -T -f /etc/koseki/exchange/sshd_config "
            f"-C user=link-{slugs[0]},host={address},addr={address}"
        ),
        "longest": f"systemctl show --property=LimitFSIZE --value {EXCHANGE}",
        "doors": "sshd -T | grep -i '^allowgroups'",
        "engine": f"systemd-analyze security --no-pager {ENGINE.format(slugs[0])} | tail -n 1",
        "exchange": f"systemd-analyze security --no-pager {EXCHANGE} | tail -n 1",
    }


def attempts_program(plan: Plan) -> str:
    """Return the command by which a lab's registries connect to the exchange."""
    (host, *_) = plan.hosts_in("registry_link")
    network = LabNetwork(plan.site.netns, plan.inventory)
    slugs = [municipality.slug for municipality in plan.joined]
    rows = []
    for line in slugs:
        counter = network.counter(line)
        own = str(stand_in_of(plan.site, line))
        for account in slugs:
            kind = "own" if account == line else "key"
            rows.append((line, counter.netns, counter.registry, f"link-{account}", own, kind))
        # With the right key for the account, but from another town's line.
        other = slugs[(slugs.index(line) + 1) % len(slugs)]
        theirs = str(stand_in_of(plan.site, other))
        rows.append((line, counter.netns, counter.registry, f"link-{other}", theirs, "line"))
    first = network.counter(slugs[0])
    key = str(stand_in_of(plan.site, first.slug))
    rows += [
        (first.slug, first.netns, first.registry, name, key, "account")
        for name in ("root", plan.platform.automation_account, f"koseki-{first.slug}")
    ]
    # The lines take turns: one registry's address may not begin more than a few at once.
    turns = {line: iter(range(len(rows))) for line in slugs}
    rows = [row for _turn, row in sorted((next(turns[row[0]]), row) for row in rows)]
    told = {
        "address": plan.address(host, WORKSTATION),
        "port": plan.platform.link_policy.port,
        "seconds": 30,
        "tries": TRIES,
        "workers": WORKERS,
        "attempts": rows,
        "others": {
            line: [
                place
                for other in slugs
                if other != line
                for place in (f"/../{other}", f"/srv/koseki/exchange/{other}", f"../{other}/in")
            ]
            for line in slugs
        },
    }
    return shlex.join([sys.executable, "-c", ATTEMPTS, json.dumps(told)])


def terminal_program(plan: Plan) -> str:
    """Return the command by which the first town's terminal tries the exchange's door."""
    (host, *_) = plan.hosts_in("registry_link")
    counter = LabNetwork(plan.site.netns, plan.inventory).counter(plan.joined[0].slug)
    address, port = plan.address(host, WORKSTATION), plan.platform.link_policy.port
    return from_origin([f"{address},tcp,{port},{SHUT_SECONDS},{counter.netns},{counter.terminal}"])


@cache
def _met(text: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    rows = [json.loads(line) for line in text.splitlines()]
    return {(row["line"], row["account"], row["kind"]): row for row in rows}


def attempt(
    plan: Plan, everywhere: Everywhere, line: str, account: str, kind: str
) -> dict[str, Any]:
    """Return what one attempt met; not verified where nobody here is a registry."""
    if not plan.site.is_lab:
        not_verified(_("nobody here is a registry: try from one"))
    said = everywhere[WORKSTATION]["attempts"]
    found = _met(said.text).get((line, account, kind))
    check(
        found,
        _("{account} tried from the line of {line}").format(account=account, line=line),
        said.errors or said,
        _("run `koseki verify link`"),
    )
    return found or {}


def states(facts: Facts) -> dict[tuple[str, str], str]:
    """Return what systemd says of each unit, by unit and field."""
    found: dict[tuple[str, str], str] = {}
    for block in facts["states"].text.split("\n\n"):
        rows = dict(line.split("=", 1) for line in block.splitlines())
        found |= {(rows["Id"], field): value for field, value in rows.items()}
    return found


def remedy_of(plan: Plan) -> str:
    """Return the ordinary remedy."""
    return _("run `koseki apply --limit {host}`, then verify again").format(
        host=plan.hosts_in("registry_link")[0]
    )


def test_each_registry_enters_its_own_exchange(
    plan: Plan, everywhere: Everywhere, municipality: Municipality
) -> None:
    """With its key, from its address: its own room, no way out of it, no shell (K-17)."""
    found = attempt(plan, everywhere, municipality.slug, f"link-{municipality.slug}", "own")
    (host, *_) = plan.hosts_in("registry_link")
    seen = (found["said"], found.get("room"), found.get("others"))
    expect(seen, (INSIDE, ROOM, []), remedy_of(plan), EXCHANGE, host)


def test_no_registry_enters_another_exchange(
    plan: Plan, everywhere: Everywhere, pair: tuple[str, str]
) -> None:
    """Its key at another town's account: refused (K-01)."""
    line, account = pair
    found = attempt(plan, everywhere, line, f"link-{account}", "key")
    (host, *_) = plan.hosts_in("registry_link")
    expect(found["said"], REFUSED, remedy_of(plan), EXCHANGE, host)


def test_a_key_opens_from_its_own_line_only(
    plan: Plan, everywhere: Everywhere, municipality: Municipality
) -> None:
    """The right key for an account, on another town's line: refused (K-01)."""
    slugs = [row.slug for row in plan.joined]
    if len(slugs) == 1:
        not_verified(_("there is one municipality alone"))
    line = slugs[slugs.index(municipality.slug) - 1]
    found = attempt(plan, everywhere, line, f"link-{municipality.slug}", "line")
    expect(found["said"], REFUSED, remedy_of(plan), EXCHANGE)


def test_nobody_else_enters_the_exchange(plan: Plan, everywhere: Everywhere) -> None:
    """A counter's terminal does not reach it; it knows no account but the registries' (K-01)."""
    first = plan.joined[0].slug
    if not plan.site.is_lab:
        not_verified(_("nobody here is a registry: try from one"))
    said = everywhere[WORKSTATION]["terminal"]
    met = list(outcomes_on_lines(said.text).values())
    check(met and {*met} <= {OPEN, *SHUT}, _("an attempt"), said, _("run `koseki verify link`"))
    expect(met, [UNREACHABLE], remedy_of(plan), "nftables")
    for name in ("root", plan.platform.automation_account, f"koseki-{first}"):
        found = attempt(plan, everywhere, first, name, "account")
        check(
            found["said"] == REFUSED,
            _("{name} is refused").format(name=name),
            found,
            remedy_of(plan),
            EXCHANGE,
        )


@on_hosts("registry_link")
def test_exchange_and_engines_run(plan: Plan, facts: Facts) -> None:
    """They run, come back after a boot, and read the units that are there (K-17)."""
    seen = states(facts)
    running = [EXCHANGE]
    for municipality in plan.joined:
        running += [
            ENGINE.format(municipality.slug),
            RECONCILE.format(municipality.slug) + ".timer",
        ]
    for unit in running:
        state = [seen.get((unit, f)) for f in ("ActiveState", "UnitFileState", "NeedDaemonReload")]
        expect((unit, state), (unit, ["active", "enabled", "no"]), facts.remedy, unit)


@on_hosts("registry_link")
def test_registry_and_register_agree(facts: Facts, municipality: Municipality) -> None:
    """The last reconciliation found no difference; one that did left its report in out/ (K-17)."""
    unit = RECONCILE.format(municipality.slug) + ".service"
    expect(
        (unit, states(facts).get((unit, "Result"))),
        (unit, "success"),
        _("read the report: `koseki link status {slug}`, and docs/link.md").format(
            slug=municipality.slug
        ),
        unit,
    )


@on_hosts("registry_link")
def test_folders_belong_to_whom_the_plan_says(plan: Plan, facts: Facts) -> None:
    """The chroot is root's; the registry writes in/ and out/, the engine the others (K-01)."""
    wanted = {"755 root root"}
    for municipality in plan.joined:
        peer, engine, slug = (
            f"link-{municipality.slug}",
            f"koseki-{municipality.slug}",
            municipality.slug,
        )
        wanted |= {
            f"750 root {peer} {slug}",
            f"2770 {peer} {peer} {slug}/in",
            f"2770 {engine} {peer} {slug}/out",
            f"2750 {engine} {peer} {slug}/done",
            f"2750 {engine} {peer} {slug}/quarantine",
            f"2700 {engine} {peer} {slug}/work",
        }
    gone = {municipality.slug for municipality in plan.gone}
    lines = {line.split()[-1]: line for line in facts["folders"].lines}
    seen = {line for path, line in lines.items() if path.split("/")[0] not in gone}
    expect(seen, wanted, facts.remedy)
    # What a town left behind is root's alone, whatever lies in it.
    kept = {line for path, line in lines.items() if path in gone}
    expect(kept - {f"700 root root {slug}" for slug in gone}, set(), facts.remedy)


@on_hosts("registry_link")
def test_an_engine_sees_its_own_municipality(facts: Facts, municipality: Municipality) -> None:
    """Neither its process nor its account reaches another town's files or keys (K-01)."""
    slug = municipality.slug
    seen = [line for line in facts["sees"].lines if line.startswith(f"{slug} ")]
    expect(seen, [f"{slug} sees {slug} {slug}", f"{slug} can {slug}"], facts.remedy, "koseki-link@")


@on_hosts("registry_link")
def test_accounts_of_registries_open_nothing_else(plan: Plan, facts: Facts) -> None:
    """They are in no group but their own, so that the host's own sshd does not know them (K-01)."""
    expect(
        facts["groups"].lines,
        [f"link-{municipality.slug}" for municipality in plan.joined],
        facts.remedy,
    )
    check(
        "allowgroups" in facts["doors"].text and "link-" not in facts["doors"].text,
        _("a list of groups without the registries'"),
        facts["doors"],
        facts.remedy,
        "ssh",
    )


@on_hosts("registry_link")
def test_the_exchange_carries_files_alone(plan: Plan, facts: Facts) -> None:
    """SFTP in a chroot: no shell, no tunnel, no password, no certificate of a person (K-01)."""
    seen = dict(line.split(" ", 1) for line in facts["sshd"].lines if " " in line)
    wanted = {
        "chrootdirectory": f"/srv/koseki/exchange/{plan.joined[0].slug}",
        "disableforwarding": "yes",
        "permittty": "no",
        "permitrootlogin": "no",
        "passwordauthentication": "no",
        "kbdinteractiveauthentication": "no",
        "authenticationmethods": "publickey",
        "trustedusercakeys": "none",
        "pubkeyacceptedalgorithms": "ssh-ed25519",
    }
    expect({key: seen.get(key) for key in wanted}, wanted, facts.remedy, EXCHANGE)
    forced = seen.get("forcecommand", "")
    check(
        forced.startswith("internal-sftp ") and "symlink,hardlink" in forced,
        "internal-sftp without links",
        forced,
        facts.remedy,
        EXCHANGE,
    )


@on_hosts("registry_link")
def test_no_session_writes_more_than_a_file(plan: Plan, facts: Facts) -> None:
    """The kernel ends an upload that goes on for ever (K-17)."""
    most = plan.platform.link_policy.file_mb << 20
    expect(facts["longest"].text.strip(), str(most), facts.remedy, EXCHANGE)


@on_hosts("registry_link")
def test_the_units_are_locked_in(facts: Facts) -> None:
    """systemd-analyze counts at most 2.0 of 10 against an engine; sshd has root's least (K-01)."""
    for name, most in (("engine", EXPOSURE), ("exchange", EXCHANGE_EXPOSURE)):
        found = re.search(r": ([\d.]+)", facts[name].text)
        check(
            found is not None and float(found.group(1)) <= most,
            _("an exposure of at most {most}").format(most=most),
            facts[name],
            facts.remedy,
            name,
        )


def test_the_books_are_there_and_append_only(plan: Plan, everywhere: Everywhere) -> None:
    """Flows, and a ledger that the link's role can neither change nor empty; no register (K-17)."""
    hosts = [host for host in plan.hosts_in("databases") if is_leader(everywhere[host])]
    if not hosts:
        not_verified(_("no database host leads; see the suite replication"))
    rows = [json.loads(line) for line in everywhere[hosts[0]]["books"].lines]
    seen = {row.pop("municipality"): {**row, "rights": sorted(row["rights"])} for row in rows}
    wanted = {"flows": FLOWS, "rights": sorted(RIGHTS), "owners": ["postgres"]}
    expect(
        seen, {municipality.slug: wanted for municipality in plan.joined}, _("run `koseki apply`")
    )
