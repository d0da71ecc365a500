"""Shares: what one municipality may take of what all of them share, and no more (K-01).

docs/shared-resources.md names each of these resources, its bound, and those that have none yet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from koseki_ops.core.language import _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Everywhere, Facts, Questions, on_hosts
from koseki_ops.verify.registers import is_leader

OPEN_TO_ALL = Path(__file__).with_name("public_functions.yml")
# By kind of role: connections, and what its sessions begin with.
LOG = "log_min_messages=log"
SHARES = {
    "app": (13, ("256MB", "5min", "2min", "15min")),
    "link": (5, ("512MB", "10min", "5min", "30min")),
    "takeover": (7, ("256MB", "1min", "1min", "5min")),
    # One program comes as each owner in turn, with a release's files.
    "owner": (1, ("1GB", "10min", "1min", "15min")),
    "operator": (3, ("1GB", "30min", "10min", "2h")),
}
TIMES = ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
# Those of the server itself (Patroni, backups, sweeps, this verification).
OWN_CONNECTIONS = 20
EXTENSIONS = {"plpgsql"}
ROLES = """
runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 <<'SQL'
select json_build_object(
  'most', current_setting('max_connections')::int,
  'roles', (select json_object_agg(rolname, json_build_object('limit', rolconnlimit,
      'settings', coalesce((select setconfig from pg_db_role_setting
          where setrole = r.oid and setdatabase = 0), '{}')))
      from pg_roles r where rolcanlogin and not rolsuper and not rolreplication
      and rolname <> 'rewinder'));
SQL
"""
# One session after the other: what everybody may call is each database's own.
FUNCTIONS = """\\connect {database}
select json_build_object('database', '{database}',
  'functions', (select json_agg(distinct proname) from pg_proc p
      where pronamespace = 'pg_catalog'::regnamespace and provolatile = 'v'
      and exists (
        select from aclexplode(coalesce(proacl, acldefault('f', proowner)))
         where grantee = 0 and privilege_type = 'EXECUTE')),
  'extensions', (select json_agg(extname) from pg_extension));
"""
# What the proxy itself says of each of its doors: name and most connections.
DOORS = """
python3 - <<'PYTHON'
import socket
door = socket.socket(socket.AF_UNIX)
door.connect("/run/haproxy/admin.sock")
door.sendall(b"show stat -1 1 -1\\n")
said = b""
while part := door.recv(65536):
    said += part
for line in said.decode().splitlines():
    row = line.split(",")
    if len(row) > 6 and row[1] == "FRONTEND":
        print(row[0], row[6])
PYTHON
"""
# Within the network of a municipality: which interfaces there are, and what listens.
NETWORK = """
for name in {names}; do
    echo "$name $(ip -netns "$name" -br address | awk '{{print $1, $3}}' | paste -sd' ') \
$(nsenter --net="/run/netns/$name" ss -Hltnu | awk '{{print $5}}' | sort | paste -sd' ')"
done
"""
# In which network each instance and each engine is: its own by name, and not the host's.
PLACES = """
stat -Lc '%i %n' /run/netns/*
for unit in {units}; do
    pid=$(systemctl show -P MainPID "$unit")
    [ "$pid" = 0 ] || echo "$(stat -Lc %i "/proc/$pid/ns/net") $unit"
done
"""


def questions(plan: Plan, host: str) -> Questions:
    """Ask the catalogue, the proxy, and what processes have of a network."""
    if host == WORKSTATION:
        return {}
    asked = {}
    if plan.is_in(host, "databases"):
        each = "".join(
            FUNCTIONS.format(database=municipality.database) for municipality in plan.joined
        )
        asked["roles"] = ROLES
        asked["functions"] = (
            "PGOPTIONS='-c search_path=pg_catalog' runuser -u postgres -- psql -XAtq "
            f"-v ON_ERROR_STOP=1 <<'SQL'\n{each}SQL"
        )
    if plan.is_in(host, "db_clients"):
        asked["doors"] = DOORS
        asked["networks"] = NETWORK.format(names=" ".join(networks(plan, host)))
        asked["places"] = PLACES.format(units=" ".join(units(plan, host)))
    if plan.is_in(host, "registry_link"):
        asked["exchange"] = "sshd -T -f /etc/koseki/exchange/sshd_config | grep -i maxstartups"
    return asked


def networks(plan: Plan, host: str) -> dict[str, int]:
    """Return the networks that a host has for municipalities, and how many connections each has."""
    if plan.is_in(host, "application"):
        own = {f"koseki-{municipality.slug}": SHARES["app"][0] for municipality in plan.joined}
        lent = {f"koseki-takeover-{t.slug}": SHARES["takeover"][0] for t in plan.cut_off}
        return own | lent
    return {f"koseki-{municipality.slug}": SHARES["link"][0] for municipality in plan.joined}


def units(plan: Plan, host: str) -> list[str]:
    """Return the services that belong into these networks, each as its network is called."""
    kind = "application" if plan.is_in(host, "application") else "link"
    return [f"koseki-{kind}@{name.removeprefix('koseki-')}" for name in networks(plan, host)]


def kind_of(role: str) -> str:
    """Return whose share a role has."""
    return "operator" if role.startswith("operator_") else role.rsplit("_", 1)[-1]


def roles(plan: Plan, everywhere: Everywhere) -> dict[str, Any]:
    """Return what the leader says of the roles that log in."""
    for host in plan.hosts_in("databases"):
        if is_leader(everywhere[host]):
            return dict(everywhere[host]["roles"].json)
    return not_verified(_("no database host leads; see the suite replication"))


def test_each_role_has_its_share(plan: Plan, everywhere: Everywhere) -> None:
    """Connections, temporary files, times, and a session's errors in no log (K-01, K-20)."""
    seen, wanted = {}, {}
    for name, row in roles(plan, everywhere)["roles"].items():
        limit, (temporary, *times) = SHARES.get(kind_of(name), (0, ("", "", "", "")))
        held = [f"{key}={value}" for key, value in zip(TIMES, times, strict=True)]
        wanted[name] = (limit, sorted([LOG, f"temp_file_limit={temporary}", *held]))
        own = [line for line in row["settings"] if not line.startswith("pgaudit.")]
        seen[name] = (row["limit"], sorted(own))
    expect(seen, wanted, _("run `koseki apply --limit databases`"))


def test_no_more_connections_are_promised_than_there_are(
    plan: Plan, everywhere: Everywhere
) -> None:
    """All roles at their limit leave the server what it needs itself (K-01)."""
    said = roles(plan, everywhere)
    promised = sum(row["limit"] for row in said["roles"].values())
    unlimited = sorted(name for name, row in said["roles"].items() if row["limit"] < 0)
    expect(unlimited, [], _("run `koseki apply --limit databases`"))
    check(
        promised + OWN_CONNECTIONS <= said["most"],
        _("at most {most} connections, {own_connections} of them the server's own").format(
            most=said["most"], own_connections=OWN_CONNECTIONS
        ),
        promised,
        _(
            "raise postgresql_max_connections, run `koseki apply`,"
            " then `koseki restart --reason 'a setting waits for it'`"
        ),
    )


@on_hosts("databases")
def test_what_everybody_may_call_was_decided(plan: Plan, facts: Facts) -> None:
    """No function that changes something is open to all for being new or forgotten (K-01).

    Advisory locks, large objects and messages in the log take of what all databases share.
    """
    table = yaml.safe_load(OPEN_TO_ALL.read_text(encoding="utf-8"))
    decided = {name for row in table for name in row["names"]}
    said = [yaml.safe_load(line) for line in facts["functions"].lines]
    expect({row["database"] for row in said}, {t.database for t in plan.joined}, facts.remedy)
    more = {row["database"]: sorted({*row["functions"]} - decided) for row in said}
    expect({name: rows for name, rows in more.items() if rows}, {}, facts.remedy, "patroni")
    strange = {row["database"]: sorted({*row["extensions"]} - EXTENSIONS) for row in said}
    expect({name: rows for name, rows in strange.items() if rows}, {}, facts.remedy, "patroni")


@on_hosts("db_clients")
def test_each_has_its_own_doors_in_the_proxy(plan: Plan, facts: Facts) -> None:
    """The proxy lets each have so many connections, and no door is common to all (K-01)."""
    seen = {row.split()[0]: row.split()[1] for row in facts["doors"].lines}
    wanted = {
        f"{name}-{way}": str(most)
        for name, most in networks(plan, facts.host).items()
        for way in ("leader", "replica")
    }
    expect(seen, wanted, facts.remedy, "haproxy")


@on_hosts("db_clients")
def test_a_network_leads_to_the_databases_alone(plan: Plan, facts: Facts) -> None:
    """A loopback, the proxy's two doors on it, and nothing else: no etcd, no Patroni (K-01)."""
    ports = (plan.ports.proxy_leader, plan.ports.proxy_replica)
    doors = " ".join(f"127.0.0.1:{port}" for port in sorted(ports))
    seen = {row.split()[0]: row.split(maxsplit=1)[1] for row in facts["networks"].lines}
    seen = {name: row.replace("::1/128 ", "") for name, row in seen.items()}
    wanted = dict.fromkeys(networks(plan, facts.host), f"lo 127.0.0.1/8 {doors}")
    expect(seen, wanted, facts.remedy, "haproxy")


@on_hosts("db_clients")
def test_each_program_is_in_its_own_network(plan: Plan, facts: Facts) -> None:
    """Instances and engines have no way to another's doors, nor to any host (K-01)."""
    rows = [row.split() for row in facts["places"].lines]
    names = {inode: what.rpartition("/")[2] for inode, what in rows if what.startswith("/")}
    seen = {what: names.get(inode) for inode, what in rows if not what.startswith("/")}
    wanted = dict(zip(units(plan, facts.host), networks(plan, facts.host), strict=True))
    expect(seen, wanted, facts.remedy, "koseki-*")


@on_hosts("registry_link")
def test_no_registry_takes_the_exchanges_handshakes(plan: Plan, facts: Facts) -> None:
    """Who has not shown a key has a few places of its own, and all have room at once (K-01)."""
    seen = dict(line.split() for line in facts["exchange"].lines)
    room = 4 * len(plan.joined) + 8
    wanted = {"persourcemaxstartups": "4", "maxstartups": f"{room}:100:{room}"}
    expect(seen, wanted, facts.remedy, "koseki-exchange.service")
