"""Databases: one of everything per municipality, and no way from one to another (K-01, K-02).

From the client hosts every municipality really connects, through the proxy and with its own
certificate, at every other municipality's database: 14 times 13 attempts for Iida's plan. Those of
a municipality are made one after the other, its own database's two ways too: all at once would be a
hundred processes, and time would be up for some before they had any.
"""

from __future__ import annotations

from typing import Any

from koseki_ops.core.language import _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.plan.model import Municipality
from koseki_ops.verify.batch import Question
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Everywhere, Facts, Questions, on_hosts
from koseki_ops.verify.proxy import CONNECTIONS, abandoned
from koseki_ops.verify.registers import is_leader, psql

# What the server says when it turns somebody away for who they are; an error of the network or of
# the proxy is no such refusal.
RIGHT_REASONS = (
    "no pg_hba.conf entry for host",
    "pg_hba.conf rejects connection",
    "certificate authentication failed",
    "permission denied for database",
)
# Databases that hold no register, and the role that only opens the platform's own probe table.
NO_REGISTERS = {"postgres", "template1", "koseki_template"}
COMMON_ROLE = "koseki_application"
# Groups without a login: the platform's own probe table, the link, and the series of a takeover.
GROUP_ROLES = {COMMON_ROLE, "koseki_link", "koseki_takeover"}
LOGINS = ("app", "link")
# As whom a release's SQL comes, from the databases' hosts themselves alone.
OWNER = "owner"
RELEASES = "koseki-release"
# Roles of persons: what they may is the suite requests'.
OPERATOR = "operator_"
# What announces a municipality's own database in a session, by one of its two ways: no slug is so.
LEADER, REPLICA = "own leader", "own replica"
CATALOG = """
runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 <<'SQL'
select json_build_object(
  'databases', (select json_object_agg(datname, json_build_object(
      'owner', pg_get_userbyid(datdba), 'tablespace', spcname,
      'place', pg_tablespace_location(t.oid)))
      from pg_database d join pg_tablespace t on t.oid = d.dattablespace where datallowconn),
  'sealed', (select coalesce(json_agg(datname), '[]') from pg_database
      where not datallowconn and datname <> 'template0'),
  'tablespaces', (select json_object_agg(spcname, pg_tablespace_location(oid))
      from pg_tablespace where spcname !~ '^pg_'),
  'roles', (select json_object_agg(rolname, json_build_object('login', rolcanlogin,
      'super', rolsuper, 'createdb', rolcreatedb, 'createrole', rolcreaterole,
      'replication', rolreplication, 'bypass', rolbypassrls,
      'password', rolpassword is not null)) from pg_authid where rolname !~ '^pg_'),
  'members', (select coalesce(json_agg(json_build_array(pg_get_userbyid(member),
      pg_get_userbyid(roleid))), '[]') from pg_auth_members
      where pg_get_userbyid(member) !~ '^pg_'),
  'may connect', (select coalesce(json_agg(json_build_array(rolname, datname)), '[]')
      from pg_roles, pg_database where rolcanlogin and not rolsuper and datallowconn
      and has_database_privilege(rolname, datname, 'CONNECT')),
  'hba', (select json_agg(json_build_object('type', type, 'database', database,
      'user', user_name, 'address', address, 'method', auth_method, 'options', options,
      'error', error)
      order by line_number) from pg_hba_file_rules),
  'ident', (select coalesce(json_agg(json_build_array(pg_username, sys_name)), '[]')
      from pg_ident_file_mappings)
);
SQL
"""


def clients(plan: Plan) -> list[str]:
    """Return the hosts that municipalities' programs run on."""
    return plan.hosts_in("db_clients")


def source_host(plan: Plan, source: str, target: str) -> str:
    """Return the client host from which an attempt is made: the pairs are shared out evenly."""
    slugs = [municipality.slug for municipality in plan.joined]
    hosts = clients(plan)
    return hosts[(slugs.index(source) + slugs.index(target)) % len(hosts)]


def role_on(plan: Plan, host: str) -> str:
    """Return whose key a client host has: its applications' (app), or its engines' (link)."""
    return "app" if plan.is_in(host, "application") else "link"


def attempts(plan: Plan, host: str, source: Municipality) -> str:
    """Return a municipality's attempts: at its own database both ways, then at each to be tried.

    One after the other, each a psql of its own: one that connects anew ends with the first refusal
    (PostgreSQL 17.12; those before went on).
    """
    leads = plan.ports.proxy_leader
    ways = {
        LEADER: (leads, source.database),
        REPLICA: (plan.ports.proxy_replica, source.database),
    }
    ways |= {
        municipality.slug: (leads, municipality.database)
        for municipality in plan.joined
        if municipality != source and source_host(plan, source.slug, municipality.slug) == host
    }
    who = "select current_database(), current_user, pg_is_in_recovery()"
    session = psql(plan, source, role_on(plan, host))
    one = f'{session} "host=127.0.0.1 port=$2 dbname=$3" -c "{who}" 2>&1'
    lines = [f"attempt '{name}' {port} {database}" for name, (port, database) in ways.items()]
    return "\n".join([f'attempt() {{ echo "@@ $1"; {one}; }}', *lines, ":"])


def questions(plan: Plan, host: str) -> Questions:
    """Ask the databases for their catalogue, and connect from the client hosts."""
    if host == WORKSTATION:
        return {}
    asked: dict[str, str | Question] = {}
    if plan.is_in(host, "databases"):
        asked["catalog"] = CATALOG
        asked["places"] = "stat -c '%n %U %a' /var/lib/koseki/tablespaces/*"
    if host in clients(plan):
        asked["accounts"] = "getent passwd"
        asked["connections"] = Question(CONNECTIONS, aside=True)
        for municipality in plan.joined:
            asked[f"attempts of {municipality.slug}"] = Question(
                attempts(plan, host, municipality), aside=True
            )
    return asked


def catalog(plan: Plan, everywhere: Everywhere) -> dict[str, Any]:
    """Return the catalogue as the leader has it."""
    for host in plan.hosts_in("databases"):
        if is_leader(everywhere[host]):
            return dict(everywhere[host]["catalog"].json)
    return not_verified(_("no database host leads; see the suite replication"))


def test_no_municipality_enters_another(
    plan: Plan, everywhere: Everywhere, pair: tuple[str, str]
) -> None:
    """Connecting with its own certificate at another's database, a town is refused (K-01).

    Refused by the server, for who it is: an attempt that failed on the way would prove nothing.
    """
    source, target = pair
    host = source_host(plan, source, target)
    seen = met(everywhere[host], source, target)
    check(
        any(reason in seen for reason in RIGHT_REASONS),
        _("{source} is refused by {target}'s database, for lack of a right").format(
            source=source, target=target
        ),
        seen,
        _("close pg_hba and revoke CONNECT with `koseki apply --limit databases`; report it"),
        "patroni",
        host,
    )


def met(facts: Facts, source: str, announced: str) -> str:
    """Return what one attempt of a session met: an attempt that was not made says nothing."""
    said = facts[f"attempts of {source}"].text
    parts = (part.partition("\n") for part in said.split("@@ ")[1:])
    found = " ".join(rest.strip() for name, _, rest in parts if name.strip() == announced)
    return found.strip() or f"no attempt was made: {said[:200]}"


@on_hosts("db_clients")
def test_each_municipality_enters_its_own(
    plan: Plan, facts: Facts, municipality: Municipality
) -> None:
    """With its certificate, through the proxy, as its own role; writes reach the leader (K-01)."""
    expect(
        met(facts, municipality.slug, LEADER),
        f"{municipality.database}|{municipality.database}_{role_on(plan, facts.host)}|f",
        _("run `koseki apply --limit databases --limit {host}`").format(host=facts.host),
        "haproxy",
    )


@on_hosts("db_clients")
def test_reads_go_to_the_second_recording(
    plan: Plan, facts: Facts, municipality: Municipality
) -> None:
    """The reading port leads to a replica, so that 副 carries its part (K-03)."""
    expect(
        met(facts, municipality.slug, REPLICA),
        f"{municipality.database}|{municipality.database}_{role_on(plan, facts.host)}|t",
        _("see whether a replica runs (`koseki verify replication`)"),
        "haproxy",
    )


@on_hosts("db_clients")
def test_who_left_holds_no_place_at_a_door(plan: Plan, facts: Facts) -> None:
    """A door has so many places: the proxy gives back each, after a server was lost, too (K-01)."""
    doors, left = abandoned(facts["connections"].text)
    wanted = {
        (f"koseki-{municipality.slug}", str(port))
        for municipality in plan.joined
        for port in (plan.ports.proxy_leader, plan.ports.proxy_replica)
    }
    remedy = _(
        "run `systemctl restart haproxy` on {host}; programs connect anew by themselves"
    ).format(host=facts.host)
    expect(sorted(wanted - doors), [], remedy, "haproxy")
    expect(left, [], remedy, "haproxy")


def test_the_catalogue_lets_no_municipality_into_another(
    plan: Plan, everywhere: Everywhere
) -> None:
    """Beneath the network's lists the database itself grants CONNECT to the owner's role (K-01)."""
    pairs = catalog(plan, everywhere)["may connect"]
    # Persons, and who stands in for a town, come by the suites requests and takeover.
    seen = {
        (role, name)
        for role, name in pairs
        if not role.startswith(OPERATOR) and role != f"{name}_takeover"
    }
    kinds = (*LOGINS, OWNER)
    wanted = {
        (f"{municipality.database}_{kind}", municipality.database)
        for municipality in plan.joined
        for kind in kinds
    }
    municipalities = {municipality.database for municipality in plan.joined}
    of_municipalities = {
        (role, name) for role, name in seen if name in municipalities or (role, name) in wanted
    }
    expect(of_municipalities, wanted, _("revoke CONNECT: run `koseki apply --limit databases`"))
    roles = {
        f"{municipality.database}_{kind}"
        for municipality in plan.platform.municipalities
        for kind in kinds
    }
    elsewhere = {pair for pair in seen if pair[0] in roles} - wanted
    expect(elsewhere, set(), _("revoke CONNECT from PUBLIC: run `koseki apply --limit databases`"))


def test_each_active_municipality_has_its_own_of_everything(
    plan: Plan, everywhere: Everywhere
) -> None:
    """Database, tablespace, owner and login role: one each, for who has joined (K-02)."""
    seen = catalog(plan, everywhere)
    wanted = {
        municipality.database: {
            "owner": f"{municipality.database}_owner",
            "tablespace": municipality.database,
            "place": f"/var/lib/koseki/tablespaces/{municipality.code6}",
        }
        for municipality in plan.joined
    }
    registers = {n: row for n, row in seen["databases"].items() if n not in NO_REGISTERS}
    expect(registers, wanted, _("run `koseki apply --limit databases`"))
    kept = {
        municipality.database: f"/var/lib/koseki/tablespaces/{municipality.code6}"
        for municipality in plan.gone
    }
    expect(
        {name: place for name, place in (seen["tablespaces"] or {}).items() if name not in kept},
        {name: row["place"] for name, row in wanted.items()},
        _("by hand: one too many belongs to a municipality that has not joined: see what it holds"),
    )


def test_what_a_municipality_left_behind_is_sealed(plan: Plan, everywhere: Everywhere) -> None:
    """Kept until its deletion is confirmed, and open to nobody, no superuser either (K-02)."""
    seen = catalog(plan, everywhere)
    gone = {municipality.database for municipality in plan.gone}
    expect(set(seen["sealed"]) - gone, set(), _("find out who closed it: `koseki drift`"))
    roles = [
        name
        for name, row in seen["roles"].items()
        if row["login"] and name.rsplit("_", 1)[0] in gone
    ]
    expect(
        [*sorted(gone & set(seen["databases"])), *roles],
        [],
        _("run `koseki apply`: a municipality that has left has no door"),
    )


def test_roles_can_do_their_part_only(plan: Plan, everywhere: Everywhere) -> None:
    """Only postgres is superuser; nobody has a password to lose (K-11)."""
    roles = catalog(plan, everywhere)["roles"]
    expect(
        {n for n, row in roles.items() if row["super"]},
        {"postgres"},
        _("by hand: find out who made the others superusers, and alter them"),
    )
    kinds = (OWNER, "read", "correct", *LOGINS)
    able = (OWNER, *LOGINS)
    wanted = {f"{t.database}_{kind}": kind in able for t in plan.joined for kind in kinds}
    wanted |= {f"{municipality.database}_takeover": True for municipality in plan.cut_off}
    gone = {municipality.database for municipality in plan.gone}
    seen = {
        name: row["login"]
        for name, row in roles.items()
        if name.startswith("koseki_")
        and name not in GROUP_ROLES
        and name.rsplit("_", 1)[0] not in gone
    }
    open_groups = [name for name in sorted(GROUP_ROLES) if roles.get(name, {}).get("login")]
    expect(open_groups, [], _("by hand: alter these roles with nologin: they are groups"))
    expect(seen, wanted, _("run `koseki apply --limit databases`"))
    powers = ("createdb", "createrole", "replication", "bypass", "password")
    strong = {
        n: [p for p in powers if roles[n][p]] for n in seen if any(roles[n][p] for p in powers)
    }
    expect(strong, {}, _("by hand: alter these roles: a municipality's role has no such power"))
    expect(
        {name for name, row in roles.items() if row["password"]},
        set(),
        _("by hand: alter these roles with password null: everybody comes with a certificate"),
    )


def test_no_role_stands_for_another_municipality(plan: Plan, everywhere: Everywhere) -> None:
    """A membership across municipalities would be a door behind the wall (K-01)."""
    crossing = [
        f"{member} in {role}"
        for member, role in catalog(plan, everywhere)["members"]
        if role not in GROUP_ROLES
        and not member.startswith(OPERATOR)
        and member.rsplit("_", 1)[0] != role.rsplit("_", 1)[0]
    ]
    expect(crossing, [], _("by hand: revoke that membership, and find out who granted it"))


@on_hosts("databases")
def test_the_list_of_doors_has_no_wide_one(plan: Plan, facts: Facts) -> None:
    """Over the network: TLS and a certificate, one database and role a line, then reject (K-01)."""
    rules = facts["catalog"].json["hba"]
    expect([rule["error"] for rule in rules if rule["error"]], [], facts.remedy, "patroni")
    wide = []
    for rule in rules:
        if rule["method"] == "reject" or rule["type"] == "local":
            continue
        municipalities = {municipality.database for municipality in plan.platform.municipalities}
        for_register = set(rule["database"]) & municipalities or "all" in rule["database"]
        may = {f"{name}_{kind}" for name in municipalities for kind in LOGINS}
        may |= {f"{municipality.database}_takeover" for municipality in plan.cut_off}
        owner, _, _ = rule["user"][0].rpartition("_")
        own = rule["database"] == [owner] and len(rule["user"]) == 1 and rule["user"][0] in may
        if rule["type"] != "hostssl" or rule["method"] != "cert" or (for_register and not own):
            wide.append(" ".join(map(str, rule.values())))
    expect(wide, [], facts.remedy, "patroni")
    local = [rule for rule in rules if rule["type"] == "local" and rule["method"] != "peer"]
    expect([rule for rule in local if rule["method"] != "reject"], [], facts.remedy, "patroni")
    last = rules[-1]
    expect(
        (last["method"], last["database"], last["user"]),
        ("reject", ["all"], ["all"]),
        facts.remedy,
        "patroni",
    )


@on_hosts("databases")
def test_a_releases_sql_has_one_door(plan: Plan, facts: Facts) -> None:
    """An owner comes over this host's socket, as the program that brings releases alone (K-08)."""
    owners = {f"{municipality.database}_{OWNER}" for municipality in plan.platform.municipalities}
    doors = [
        (rule["type"], rule["database"], rule["user"], rule["method"], rule["options"])
        for rule in facts["catalog"].json["hba"]
        if owners & set(rule["user"])
    ]
    wanted = [
        (
            "local",
            [municipality.database],
            [f"{municipality.database}_{OWNER}"],
            "peer",
            ["map=releases"],
        )
        for municipality in plan.joined
    ]
    expect(doors, wanted, facts.remedy, "patroni")
    mapped = {name for name, account in facts["catalog"].json["ident"] if account != RELEASES}
    expect(sorted(mapped & owners), [], facts.remedy, "patroni")


@on_hosts("databases")
def test_each_municipality_has_a_disk_area_of_its_own(plan: Plan, facts: Facts) -> None:
    """The ministry's condition: an independent area per municipality, on 正 and 副 alike (K-01)."""
    wanted = {f"/var/lib/koseki/tablespaces/{t.code6} postgres 700" for t in plan.joined}
    kept = {f"/var/lib/koseki/tablespaces/{t.code6} postgres 700" for t in plan.gone}
    # Where the area is a volume of its own, ext4's drawer for what a check of it finds.
    kept.add("/var/lib/koseki/tablespaces/lost+found root 700")
    expect(set(facts["places"].lines) - kept, wanted, facts.remedy)


@on_hosts("db_clients")
def test_each_municipality_has_a_unix_account_that_cannot_log_in(plan: Plan, facts: Facts) -> None:
    """Programs of a municipality run as its own account, which is nobody's login (K-01)."""
    rows = {line.split(":")[0]: line.split(":") for line in facts["accounts"].lines}
    seen = {
        name: row[6].rsplit("/", 1)[-1] in {"nologin", "false"}
        for name, row in rows.items()
        if name.removeprefix("koseki-")
        in {municipality.slug for municipality in plan.platform.municipalities}
    }
    expect(
        seen, {f"koseki-{municipality.slug}": True for municipality in plan.joined}, facts.remedy
    )
