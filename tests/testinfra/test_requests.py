"""Requests: a person works in a town's database under an open request alone (K-05).

Read only, except that one person's account tries to enter once on each server where no request is
open: a refusal that is not tried and not recorded would prove nothing.
"""

from __future__ import annotations

import json
import re
from typing import Any

from koseki_ops.core.language import N_, _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.plan.model import Municipality
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Everywhere, Facts, Questions, on_hosts
from koseki_ops.verify.registers import SUPERUSER, is_leader, program

TIMER, SERVICE = "koseki-requests.timer", "koseki-requests.service"
PREFIX = "operator_"
RECORD = ("platform.request_ends", "platform.requests")
# The timer's minute, and some.
SECONDS = 150
REMEDY = N_("run `koseki drift`: it names the command that mends it; find out who changed it")

# Who a person's role is and what it holds, whatever a request says.
CLUSTER = """
select json_build_object(
  'roles', (select coalesce(json_agg(json_build_array(rolname, rolcanlogin, rolsuper
      or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls
      or rolpassword is not null)), '[]') from pg_authid where rolname like 'operator\\_%'),
  'holds', (select coalesce(json_agg(json_build_array(m.rolname, g.rolname, admin_option,
      set_option)), '[]') from pg_auth_members join pg_roles m on m.oid = member
      join pg_roles g on g.oid = roleid where m.rolname like 'operator\\_%'),
  'noted', (select coalesce(json_object_agg(rolname, setconfig), '{}') from pg_db_role_setting
      join pg_roles r on r.oid = setrole where rolname like 'operator\\_%' and setdatabase = 0),
  'named', (select coalesce(json_agg(distinct r.rolname), '[]') from pg_shdepend d
      join pg_roles r on r.oid = d.refobjid and d.refclassid = 'pg_authid'::regclass
      where r.rolname like 'operator\\_%' and d.deptype in ('o', 'a')),
  'sessions', (select coalesce(json_agg(json_build_array(usename, datname)), '[]')
      from pg_stat_activity where usename like 'operator\\_%'));
"""
IN_DATABASE = """
select json_build_object('database', current_database(),
  'open', (select coalesce(json_agg(json_build_array('operator_' || operator,
      current_database() || '_' || scope)), '[]') from platform.requests r
      where expires_at > clock_timestamp()
      and not exists (select from platform.request_ends e where e.number = r.number)),
  'unended', (select coalesce(json_agg(number), '[]') from platform.requests r
      where expires_at < clock_timestamp() - interval '{seconds} s'
      and not exists (select from platform.request_ends e where e.number = r.number)),
  'enter', (select coalesce(json_agg(rolname), '[]') from pg_roles where rolname like 'operator\\_%'
      and has_database_privilege(rolname, current_database(), 'CONNECT')),
  'login', (select coalesce(json_agg(json_build_array(evtevent, evtenabled,
      pg_get_userbyid(evtowner), pg_get_userbyid(proowner), prosecdef)), '[]') from pg_event_trigger
      join pg_proc p on p.oid = evtfoid where evtname = 'koseki_admit_operators'),
  'append only', (select coalesce(json_agg(tgrelid::regclass::text
      order by tgrelid::regclass::text), '[]') from pg_trigger
      where tgname = 'append_only' and tgenabled = 'A'
      and tgrelid in ('platform.requests'::regclass, 'platform.request_ends'::regclass)),
  'others', (select coalesce(json_agg(format('%s %s', grantee::regrole, name)), '[]') from (
      select proname::text, coalesce(proacl, acldefault('f', proowner)) from pg_proc p
        where pronamespace = 'platform'::regnamespace and proname ~ 'request|end_sessions'
      union all select relname, coalesce(relacl, acldefault('r', relowner)) from pg_class
        where relnamespace = 'platform'::regnamespace and relname ~ 'request|scopes_held'
          and relkind in ('r', 'v')) as t (name, acl), aclexplode(acl)
      where grantee <> 'postgres'::regrole));
"""
# As the person's own account: admitted under a request, otherwise the server's refusal.
ATTEMPT = (
    "cd / && setpriv --reuid={name} --regid={name} --clear-groups "
    "{program} -XAtq -d {database} -U operator_{name} -c 'select current_user' 2>&1"
)
STATE = (
    f"systemctl show -P ActiveState -P UnitFileState {TIMER};"
    f"systemctl show -P Result {SERVICE};"
    f"last=$(systemctl show -P LastTriggerUSec {TIMER}); "
    'echo $(($(date +%s) - $(date -d "$last" +%s)))'
)


def questions(plan: Plan, host: str) -> Questions:
    """Ask each server for roles, rights, triggers and timer, and let one person try to enter."""
    if host == WORKSTATION or not plan.is_in(host, "databases"):
        return {}
    asks = "".join(
        f"\\connect {t.database}\n{IN_DATABASE.format(seconds=SECONDS)}" for t in plan.joined
    )
    told = f"{SUPERUSER} <<'SQL'\n{CLUSTER}{asks}SQL\n"
    asked = {"told": f"cd / && {told}", "timer": STATE}
    if plan.joined:
        for name in workers(plan, host)[:1]:
            asked["attempt"] = ATTEMPT.format(
                name=name, database=plan.joined[0].database, program=program(plan)
            )
    return asked


def later_questions(plan: Plan, host: str, everywhere: Everywhere) -> Questions:
    """Ask for the server's record, once there has been something to write into it."""
    del everywhere
    if host == WORKSTATION or not plan.is_in(host, "databases"):
        return {}
    return {
        "record": "journalctl --sync && journalctl --quiet --no-pager --since=-5min --output=cat "
        "_SYSTEMD_UNIT=patroni.service | grep -E 'operator_[^ ]*@.*FATAL'"
    }


def workers(plan: Plan, host: str) -> list[str]:
    """Return the operators who may work on a host today."""
    return [row.id for row in plan.operators_on(host) if plan.is_valid(row)]


def of_cluster(facts: Facts) -> dict[str, Any]:
    """Return what a server tells of the roles."""
    return dict(lines(facts)[0])


def of_municipality(facts: Facts, municipality: Municipality) -> dict[str, Any]:
    """Return what a server tells of one municipality's database."""
    return next(row for row in lines(facts)[1:] if row["database"] == municipality.database)


def lines(facts: Facts) -> list[dict[str, Any]]:
    """Return the answer's objects; the test fails when the server did not give all."""
    said = facts["told"]
    check(said.rc == 0, _("an answer of every database"), said, facts.remedy, "patroni", facts.host)
    return [json.loads(line) for line in said.lines]


def leading(plan: Plan, everywhere: Everywhere) -> Facts:
    """Return the facts of the host that leads."""
    for host in plan.hosts_in("databases"):
        if is_leader(everywhere[host]):
            return everywhere[host]
    return not_verified(_("no database host leads; see the suite replication"))


def test_one_person_one_role_without_any_power(plan: Plan, everywhere: Everywhere) -> None:
    """Who is an operator today has a role that can log in and nothing else (K-05, K-11)."""
    facts = leading(plan, everywhere)
    wanted = {f"{PREFIX}{name}": (True, False) for name in workers(plan, facts.host)}
    seen = {name: (login, power) for name, login, power in of_cluster(facts)["roles"]}
    expect(seen, wanted, _(REMEDY), "patroni", facts.host)
    expect(
        of_cluster(facts)["named"],
        [],
        _("by hand: take back what was granted to these by name or owned"),
    )


def test_what_a_person_does_is_noted_without_names(plan: Plan, everywhere: Everywhere) -> None:
    """Which tables were read or changed, never the statement: it holds names (K-05, K-20)."""
    facts = leading(plan, everywhere)
    wanted = {
        f"{PREFIX}{name}": [
            "pgaudit.log=read, write, ddl, role",
            "pgaudit.log_relation=on",
            "pgaudit.log_statement=off",
        ]
        for name in workers(plan, facts.host)
    }
    # What else its sessions begin with is the suite shares'.
    seen = {
        role: sorted(row for row in rows if row.startswith("pgaudit."))
        for role, rows in of_cluster(facts)["noted"].items()
    }
    expect(seen, wanted, _(REMEDY), "patroni", facts.host)


def test_a_person_holds_what_a_request_grants(plan: Plan, everywhere: Everywhere) -> None:
    """Every membership of a person is one open request's, to use and not to hand on (K-05)."""
    facts = leading(plan, everywhere)
    granted = {
        tuple(pair)
        for municipality in plan.joined
        for pair in of_municipality(facts, municipality)["open"]
    }
    seen = {
        (member, role) if not (admin or may_set) else (member, f"{role} with more than its use")
        for member, role, admin, may_set in of_cluster(facts)["holds"]
    }
    expect(
        seen,
        granted,
        _("by hand: close it (`koseki request list` has its number), or revoke that membership"),
        SERVICE,
        facts.host,
    )


def test_only_a_request_opens_the_door(
    plan: Plan, everywhere: Everywhere, municipality: Municipality
) -> None:
    """CONNECT is with whom this town's open requests name, and nobody else (K-05)."""
    facts = leading(plan, everywhere)
    seen = of_municipality(facts, municipality)
    expect(
        set(seen["enter"]),
        {role for role, _granted in seen["open"]},
        _(REMEDY),
        SERVICE,
        facts.host,
    )


@on_hosts("databases")
def test_the_database_asks_at_every_login(facts: Facts, municipality: Municipality) -> None:
    """The login trigger is there, always on, the superuser's: a late timer opens nothing (K-05)."""
    seen = [tuple(row) for row in of_municipality(facts, municipality)["login"]]
    expect(seen, [("login", "A", "postgres", "postgres", True)], _(REMEDY), "patroni")


@on_hosts("databases")
def test_the_register_of_requests_is_only_added_to(
    facts: Facts, municipality: Municipality
) -> None:
    """No row is changed or deleted, and nobody but the superuser may touch the tables (K-05)."""
    seen = of_municipality(facts, municipality)
    expect(seen["append only"], list(RECORD), _(REMEDY), "patroni")
    expect(seen["others"], [], _("by hand: take back what was granted on these"))


@on_hosts("databases")
def test_what_has_expired_has_ended(facts: Facts, municipality: Municipality) -> None:
    """The clock's end is written down, and no session outlives its request (K-05)."""
    seen = of_municipality(facts, municipality)
    expect(
        seen["unended"],
        [],
        _("run `journalctl -u {service} -n 50` on {host}").format(service=SERVICE, host=facts.host),
        SERVICE,
    )
    may = {role for role, _granted in seen["open"]}
    here = {role for role, name in of_cluster(facts)["sessions"] if name == municipality.database}
    expect(
        here - may,
        set(),
        _("run `journalctl -u {service} -n 50` on {host}").format(service=SERVICE, host=facts.host),
        SERVICE,
    )


@on_hosts("databases")
def test_requests_end_by_the_clock(facts: Facts) -> None:
    """A timer on the server itself looks each minute, whether a workstation is on or not (K-05)."""
    active, enabled, result, *rest = facts["timer"].lines
    expect((active, enabled, result), ("active", "enabled", "success"), facts.remedy, SERVICE)
    ago = int(rest[0]) if rest and re.fullmatch(r"-?\d+", rest[0]) else SECONDS + 1
    check(
        ago <= SECONDS,
        _("at most {seconds} s ago").format(seconds=SECONDS),
        facts["timer"],
        facts.remedy,
        SERVICE,
    )


@on_hosts("databases")
def test_a_session_without_a_request_is_refused_and_recorded(plan: Plan, facts: Facts) -> None:
    """A person who tries to enter is turned away, with a line in the journal (K-05)."""
    if not plan.joined or not workers(plan, facts.host):
        not_verified(_("no municipality has joined, or no operator works here"))
    role = f"{PREFIX}{workers(plan, facts.host)[0]}"
    municipality = plan.joined[0]
    if role in {name for name, _granted in of_municipality(facts, municipality)["open"]}:
        not_verified(
            _("a request of {slug} is open for {role}").format(slug=municipality.slug, role=role)
        )
    seen = facts["attempt"]
    refused = "permission denied for database" in seen.text or "no open request" in seen.text
    check(refused and role not in seen.lines, _("a refusal for lack of a request"), seen, _(REMEDY))
    recorded = [
        line for line in facts["record"].lines if f"{role}@{municipality.database} " in line
    ]
    check(recorded, _("a line of that refusal"), facts["record"], _(REMEDY), "patroni")
