"""Takeover: nobody reads for another municipality unless that is declared (K-06).

Read only: nothing is declared here. In a lab every municipality's terminal connects, from its own
line and with its own certificate, where the host municipality would issue for the one that is
cut off.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from koseki_ops.core.language import N_, _
from koseki_ops.lab.network import LabNetwork
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.plan.model import Municipality
from koseki_ops.trust.terminals import stand_ins_of
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Everywhere, Facts, Questions, on_hosts
from koseki_ops.verify.registers import SUPERUSER, is_leader

NOBODY = "nobody"
# A header that changes with the second and says nothing.
DATE = re.compile(r"^Date: .*$", re.MULTILINE)
SECONDS = 150
RECORD = ["takeover_documents", "takeover_ends", "takeovers"]
# What the server says to who stands in while nothing is declared.
SHUT = ("permission denied for database", "no takeover of ")
REMEDY = N_("run `koseki drift`: it names the command that mends it; find out who changed it")
END = N_("by hand: end it (`koseki takeover status` names it), or read koseki-requests' journal")
IN_DATABASE = """
select json_build_object('database', current_database(),
  'role', (select rolcanlogin and not (rolsuper or rolcreaterole or rolcreatedb or rolreplication
      or rolbypassrls) from pg_roles where rolname = current_database() || '_takeover'),
  'holds', (select coalesce(json_agg(g.rolname order by g.rolname), '[]') from pg_auth_members
      join pg_roles m on m.oid = member join pg_roles g on g.oid = roleid
      where m.rolname = current_database() || '_takeover'),
  'declared', exists (select from platform.takeovers t where ends_at > clock_timestamp()
      and not exists (select from platform.takeover_ends e where e.number = t.number)),
  'unended', (select count(*) from platform.takeovers t
      where ends_at < clock_timestamp() - interval '{seconds} s'
      and not exists (select from platform.takeover_ends e where e.number = t.number)),
  'sessions', (select count(*) from pg_stat_activity
      where datname = current_database() and usename = datname || '_takeover'),
  'login', (select coalesce(json_agg(json_build_array(evtevent, evtenabled,
      pg_get_userbyid(evtowner), pg_get_userbyid(proowner), prosecdef)), '[]')
      from pg_event_trigger join pg_proc p on p.oid = evtfoid
      where evtname = 'koseki_admit_takeover'),
  'append only', (select coalesce(json_agg(relname order by relname), '[]') from pg_trigger
      join pg_class c on c.oid = tgrelid where tgname = 'append_only' and tgenabled = 'A'
      and relname like 'takeover%'),
  'last', (select max(last) from platform.takeover_numbers),
  'numbers', (select coalesce(json_agg(number order by number), '[]')
      from platform.takeover_documents));
"""
# As who stands in, with its own key, through the proxy.
ATTEMPT = (
    "cd / && env PGUSER=koseki_{slug}_takeover PGSSLMODE=verify-ca PGCONNECT_TIMEOUT=10 "
    "PGSSLROOTCERT=/etc/koseki/pki/ca.crt "
    "PGSSLCERT=/etc/koseki/municipalities/takeover-{slug}/client.crt "
    "PGSSLKEY=/etc/koseki/municipalities/takeover-{slug}/client.key "
    "nsenter --net=/run/netns/koseki-takeover-{slug} "
    "setpriv --reuid=koseki-takeover-{slug} --regid=koseki-takeover-{slug} --clear-groups "
    "psql -XAtq 'host=127.0.0.1 port={port} dbname=koseki_{slug}' "
    "-c 'select current_user' 2>&1"
)

# Whoever stands in asks the database at each request. Where it cannot be reached at once, on a busy
# machine or while the leader changes, 503, or no answer, is neither a refusal nor a way in: it is
# asked again.
PATIENT = (
    'for attempt in 1 2 3; do said=$({}); case $said in "HTTP/1.1 503 "*|"") sleep 3;; *) break;; '
    """esac; done; printf '%s\\n' "$said\""""
)


def questions(plan: Plan, host: str) -> Questions:
    """Ask the servers for rights and records; let terminals and who stands in connect."""
    if host == WORKSTATION:
        return {"attempts": attempts(plan)} if plan.site.is_lab and plan.cut_off else {}
    asked: dict[str, str] = {}
    if plan.is_in(host, "databases"):
        asks = "".join(
            f"\\connect {t.database}\n{IN_DATABASE.format(seconds=SECONDS)}" for t in plan.joined
        )
        asked["told"] = f"cd / && {SUPERUSER} <<'SQL'\n{asks}SQL\n"
    if plan.is_in(host, "application"):
        for municipality in plan.cut_off:
            asked[f"stand-in {municipality.slug}"] = ATTEMPT.format(
                slug=municipality.slug, port=plan.ports.proxy_leader
            )
        asked["keys"] = "cd /etc/koseki/municipalities && ls -d takeover-*"
    return asked


def attempts(plan: Plan) -> str:
    """Return the commands by which every terminal of a lab, and nobody, asks for each stand-in."""
    network, keys = LabNetwork(plan.site.netns, plan.inventory), stand_ins_of(plan.site)
    (host, *_) = plan.hosts_in("application")
    address = plan.address(host, WORKSTATION)
    authority = plan.site.state / "pki" / "ca.crt"
    terminal = {row.municipality: row.id for row in plan.platform.terminals}
    lines = []
    for cut_off in plan.cut_off:
        for path in (f"/takeover/{cut_off.slug}/", f"/takeover/{cut_off.slug}"):
            for name in (*(municipality.slug for municipality in plan.joined), NOBODY):
                line = plan.host_municipality.slug if name == NOBODY else name
                own = f"{keys}/{terminal.get(name)}"
                certificate = [] if name == NOBODY else ["--cert", f"{own}.crt"]
                certificate += [] if name == NOBODY else ["--key", f"{own}.key"]
                command = ["nsenter", f"--net=/run/netns/{network.counter(line).netns}"]
                command += ["curl", "-s", "-i", "-m", "10", "--cacert", str(authority)]
                command += [*certificate, f"https://{address}{path}"]
                lines.append(f"echo '@@ {name} {path}'; {PATIENT.format(shlex.join(command))}")
    return "\n".join(lines)


def of_municipality(facts: Facts, municipality: Municipality) -> dict[str, Any]:
    """Return what a server tells of one municipality's database."""
    said = facts["told"]
    check(said.rc == 0, _("an answer of every database"), said, facts.remedy, "patroni", facts.host)
    rows = [json.loads(line) for line in said.lines]
    return dict(next(row for row in rows if row["database"] == municipality.database))


def leading(plan: Plan, everywhere: Everywhere) -> Facts:
    """Return the facts of the host that leads."""
    for host in plan.hosts_in("databases"):
        if is_leader(everywhere[host]):
            return everywhere[host]
    return not_verified(_("no database host leads; see the suite replication"))


def undeclared(plan: Plan, everywhere: Everywhere, municipality: Municipality) -> None:
    """End the test where a takeover is declared: what is refused then is another matter."""
    if of_municipality(leading(plan, everywhere), municipality)["declared"]:
        not_verified(_("a takeover of {slug} is declared").format(slug=municipality.slug))


def test_only_the_clause_brings_who_stands_in(
    plan: Plan, everywhere: Everywhere, municipality: Municipality
) -> None:
    """A role where the plan says issued_by_host_in_failure; for every other town none (K-06)."""
    seen = of_municipality(leading(plan, everywhere), municipality)
    expect(seen["role"], True if municipality in plan.cut_off else None, _(REMEDY), "patroni")


def test_who_stands_in_holds_a_right_while_it_is_declared(
    plan: Plan, everywhere: Everywhere, municipality: Municipality
) -> None:
    """To read this town alone, by the declaration's row; otherwise just its series (K-06)."""
    seen = of_municipality(leading(plan, everywhere), municipality)
    wanted = ["koseki_takeover"] if municipality in plan.cut_off else []
    wanted = [f"{municipality.database}_read"] * seen["declared"] + wanted
    expect(sorted(seen["holds"]), sorted(wanted), _(END), "patroni")


@on_hosts("databases")
def test_the_database_asks_who_stands_in(facts: Facts, municipality: Municipality) -> None:
    """The login trigger is there, always on, the superuser's, in every town's database (K-06)."""
    seen = [tuple(row) for row in of_municipality(facts, municipality)["login"]]
    expect(seen, [("login", "A", "postgres", "postgres", True)], _(REMEDY), "patroni")


@on_hosts("databases")
def test_declarations_and_documents_are_only_added(
    facts: Facts, municipality: Municipality
) -> None:
    """No row of a declaration, its end or an issued document is changed or deleted (K-06)."""
    expect(of_municipality(facts, municipality)["append only"], RECORD, _(REMEDY), "patroni")


@on_hosts("databases")
def test_what_has_ended_is_over(facts: Facts, municipality: Municipality) -> None:
    """The clock's end is written down, and nobody's session outlives it (K-06)."""
    seen = of_municipality(facts, municipality)
    expect(seen["unended"], 0, _(END), "koseki-requests")
    if not seen["declared"]:
        expect(seen["sessions"], 0, _(END), "koseki-requests")


def test_issued_numbers_have_no_gap(
    plan: Plan, everywhere: Everywhere, municipality: Municipality
) -> None:
    """From one to the last that was taken, each number has its document (K-06)."""
    seen = of_municipality(leading(plan, everywhere), municipality)
    remedy = _("run `koseki takeover status`; find out who removed a document")
    expect(seen["numbers"], list(range(1, seen["last"] + 1)), remedy)


@on_hosts("application")
def test_who_stands_in_is_refused_by_the_database(
    plan: Plan, everywhere: Everywhere, facts: Facts
) -> None:
    """With its own key, through the proxy, while nothing is declared (K-06)."""
    if not plan.cut_off:
        not_verified(_("no municipality that has joined has the clause"))
    for municipality in plan.cut_off:
        undeclared(plan, everywhere, municipality)
        seen = facts[f"stand-in {municipality.slug}"]
        check(any(said in seen.text for said in SHUT), _("a refusal"), seen, _(END), "haproxy")


@on_hosts("application")
def test_only_who_stands_in_has_such_a_key(plan: Plan, facts: Facts) -> None:
    """No key to another municipality's registers but that of the clause (K-06)."""
    wanted = [f"takeover-{municipality.slug}" for municipality in plan.cut_off]
    expect(
        facts["keys"].lines,
        wanted,
        _("remove what is too much; {remedy}").format(remedy=facts.remedy),
    )


def test_undeclared_every_terminal_is_refused_alike(
    plan: Plan, everywhere: Everywhere, municipality: Municipality
) -> None:
    """The host municipality's too: the very bytes that somebody without a certificate gets (K-06).

    With and without the last slash, so that not even the path tells that there is such a clause.
    """
    if not plan.site.is_lab or not plan.cut_off:
        not_verified(_("nobody here stands at a counter: try from a terminal"))
    met = split_attempts(everywhere[WORKSTATION]["attempts"].text)
    for cut_off in plan.cut_off:
        undeclared(plan, everywhere, cut_off)
        for path in (f"/takeover/{cut_off.slug}/", f"/takeover/{cut_off.slug}"):
            refusal, seen = met[f"{NOBODY} {path}"], met[f"{municipality.slug} {path}"]
            check(
                " 403 " in refusal.partition("\n")[0], _("a refusal of nobody"), refusal, _(REMEDY)
            )
            expect(seen, refusal, _(REMEDY), "nginx", plan.hosts_in("application")[0])


def split_attempts(said: str) -> dict[str, str]:
    """Return what each attempt met, by who and path, without the second that it was given in."""
    parts = (part.partition("\n") for part in said.split("@@ ")[1:])
    return {name: DATE.sub("", rest).strip() for name, _, rest in parts}
