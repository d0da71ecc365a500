"""Replication: 正 and 副 record the same matters, and exactly one server takes writes (K-03)."""

from __future__ import annotations

from typing import Any

from koseki_ops.core.language import _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.verify.batch import TIMER_OK, Question, timer
from koseki_ops.verify.expect import check, expect
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.keys import NO_KEY, Way, every_key
from koseki_ops.verify.plugin import Everywhere, Facts, Questions, on_hosts

# Less than one segment of the log behind: a replica that replays at all stays well below.
REPLAY_LAG_BYTES = 16 * 1024 * 1024
SNAPSHOT = "koseki-standby-snapshot"
# The cluster's own: whoever writes etcd may tell Patroni anything, by way of it or not.
MEMBER_KEYS = {"/etc/patroni/tls/member.key", "/etc/etcd/tls/etcd.key"}
PATRONICTL = "patronictl -c /etc/patroni/config.yml"
RESUME = "runuser -u postgres -- psql -c 'select pg_wal_replay_resume()'"
SETTINGS = (
    "archive_mode",
    "data_checksums",
    "fsync",
    "full_page_writes",
    "shared_preload_libraries",
    "ssl",
    "synchronous_commit",
    "wal_level",
)
SQL = """
runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 <<'SQL'
select json_build_object(
  'replica', pg_is_in_recovery(),
  'version', current_setting('server_version'),
  'timeline', case when pg_is_in_recovery()
    then (select received_tli from pg_stat_wal_receiver)
    else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end,
  'paused', case when pg_is_in_recovery() then pg_is_wal_replay_paused() else false end,
  'senders', (select coalesce(json_agg(json_build_object(
      'name', application_name, 'state', state, 'sync', sync_state,
      'lag', pg_wal_lsn_diff(sent_lsn, replay_lsn))), '[]') from pg_stat_replication
      where application_name not like 'pg_basebackup%'),
  'receiver', (select status from pg_stat_wal_receiver),
  'system', (select system_identifier from pg_control_system())::text,
  'settings', (select json_object_agg(name, setting) from pg_settings where name in ({settings})),
  'restart', (select coalesce(json_agg(name), '[]') from pg_settings where pending_restart),
  'opting out', (select count(*) from pg_db_role_setting, unnest(setconfig) as entry
      where entry like 'synchronous_commit=%'),
  'collations', (select json_agg(json_build_object('name', datname, 'kept', datcollversion,
      'actual', pg_database_collation_actual_version(oid), 'provider', datlocprovider,
      'locale', datlocale, 'encoding', pg_encoding_to_char(encoding)) order by datname)
      from pg_database where datallowconn)
);
SQL
"""
# On a replica only: on the leader nothing of this is tried.
WRITE = """
runuser -u postgres -- psql -XAtq <<'SQL'
\\set VERBOSITY sqlstate
select pg_is_in_recovery() as replica \\gset
\\if :replica
create table public.not_on_a_replica (id int);
begin read write;
rollback;
select pg_switch_wal();
\\endif
SQL
"""
# What Patroni's members say, asked with the certificate that its own control program uses. Python's
# own modules only: the hosts have no curl.
PATRONI = """
python3 - <<'PYTHON'
import json, ssl, urllib.request
import yaml

with open("/etc/patroni/config.yml", encoding="utf-8") as file:
    settings = yaml.safe_load(file)
control, address = settings["ctl"], settings["restapi"]["connect_address"]
known = ssl.create_default_context(cafile=control["cacert"])
known.load_cert_chain(control["certfile"], control.get("keyfile"))

def ask(path, context):
    with urllib.request.urlopen(f"https://{address}{path}", context=context, timeout=10) as reply:
        return json.load(reply)

said = {name: ask(f"/{name}", known) for name in ("cluster", "config", "patroni")}
print(json.dumps(said))
PYTHON
"""


def questions(plan: Plan, host: str) -> Questions:
    """Ask each database host from its own mouth, and Patroni beside it."""
    if host == WORKSTATION or not plan.is_in(host, "databases", "db_clients"):
        return {}
    tried = {"keys": every_key(unsafe(plan, host))}
    if not plan.is_in(host, "databases"):
        return tried
    settings = ", ".join(f"'{name}'" for name in SETTINGS)
    return {
        **tried,
        "server": SQL.format(settings=settings),
        "write": WRITE,
        "patroni": Question(PATRONI, aside=True),
        "enabled": "systemctl is-enabled patroni.service",
        "record": timer(SNAPSHOT),
        # postgresql.service is an empty shell: Debian's own servers are its instances.
        "packaged": "systemctl list-units --all --no-legend --plain 'postgresql@*' && "
        "pg_lsclusters --no-header",
        "data": "stat -c '%U %a' \"$(runuser -u postgres -- psql -XAtqc 'show data_directory')\"",
    }


def unsafe(plan: Plan, host: str) -> list[Way]:
    """Return the ways on which something would change: what is asked for is what is set already."""
    return [
        (
            plan.address(member, host),
            plan.ports.patroni,
            "PATCH",
            "/config",
            {"ttl": plan.timing.ttl},
        )
        for member in plan.hosts_in("databases")
    ]


def servers(plan: Plan, everywhere: Everywhere) -> dict[str, dict[str, Any]]:
    """Return what each database host's PostgreSQL says of itself."""
    return {host: everywhere[host]["server"].json for host in plan.hosts_in("databases")}


def leader_of(plan: Plan, everywhere: Everywhere) -> str:
    """Return the host that leads; the test fails when there is not exactly one."""
    leaders = [host for host, row in servers(plan, everywhere).items() if not row["replica"]]
    check(
        len(leaders) == 1,
        _("exactly one leader"),
        leaders or _("no leader"),
        _("run `{patronictl} list` on {host}; of two leaders stop the one without the key").format(
            patronictl=PATRONICTL, host=plan.hosts_in("databases")[0]
        ),
        "patroni",
        plan.hosts_in("databases")[0],
    )
    return leaders[0]


def test_exactly_one_server_leads(plan: Plan, everywhere: Everywhere) -> None:
    """Two servers that both take writes would make two truths of one register (K-03)."""
    leader_of(plan, everywhere)


@on_hosts("databases")
def test_patroni_says_the_same_as_the_servers(
    plan: Plan, facts: Facts, everywhere: Everywhere
) -> None:
    """Each member names the leader that PostgreSQL names, and counts every server (K-03)."""
    members = {row["name"]: row["role"] for row in facts["patroni"].json["cluster"]["members"]}
    leader = leader_of(plan, everywhere)
    roles = {
        host: "leader" if host == leader else "sync_standby" for host in plan.hosts_in("databases")
    }
    seen = {name: role.replace("quorum_standby", "sync_standby") for name, role in members.items()}
    expect(
        seen,
        roles,
        _("run `{patronictl} list` on {host}; a member that is missing is started first").format(
            patronictl=PATRONICTL, host=facts.host
        ),
        "patroni",
    )


def test_the_second_recording_is_synchronous(plan: Plan, everywhere: Everywhere) -> None:
    """What the leader acknowledged the other has too: losing one loses nothing (K-03)."""
    leader = leader_of(plan, everywhere)
    others = set(plan.hosts_in("databases")) - {leader}
    senders = servers(plan, everywhere)[leader]["senders"]
    seen = {
        row["name"]
        for row in senders
        if row["state"] == "streaming" and row["sync"] in {"sync", "quorum"}
    }
    check(
        seen >= others if len(others) == 1 else seen & others,
        _("{hosts} streams synchronously").format(hosts=", ".join(sorted(others))),
        senders or _("no replica is connected"),
        _("run `systemctl start patroni` on {host}: until then there is one recording").format(
            host=min(others)
        ),
        "patroni",
        min(others),
    )


def test_replicas_replay_what_they_receive(plan: Plan, everywhere: Everywhere) -> None:
    """A replica that receives but does not replay would serve yesterday's register (K-03)."""
    leader = leader_of(plan, everywhere)
    rows = servers(plan, everywhere)
    for host in set(rows) - {leader}:
        check(
            rows[host]["receiver"] == "streaming" and not rows[host]["paused"],
            _("{host} receives and replays").format(host=host),
            _("receiver {receiver}, paused {paused}").format(
                receiver=rows[host]["receiver"], paused=rows[host]["paused"]
            ),
            _("run `{resume}` on {host}, or read Patroni's journal there").format(
                resume=RESUME, host=host
            ),
            "patroni",
            host,
        )
    late = {row["name"]: row["lag"] for row in rows[leader]["senders"]}
    check(
        all(int(lag) < REPLAY_LAG_BYTES for lag in late.values()),
        _("less than {replay_lag_bytes} bytes to replay").format(replay_lag_bytes=REPLAY_LAG_BYTES),
        late,
        _("by hand: look for a long query on the replica, and for a slow disk"),
        "patroni",
        leader,
    )


def test_replicas_refuse_writes(plan: Plan, everywhere: Everywhere) -> None:
    """Tried as the superuser: a replica takes nothing, whoever asks (K-03)."""
    leader = leader_of(plan, everywhere)
    for host in set(plan.hosts_in("databases")) - {leader}:
        refusals = everywhere[host]["write"].errors
        # 25006: a read-only transaction; 0A000 and 55000: not during recovery.
        seen = [code for code in ("25006", "0A000", "55000") if code in refusals]
        check(
            "25006" in seen and refusals.count("ERROR") == 3,
            _("three attempts refused, with SQLSTATE 25006 and 0A000 or 55000"),
            everywhere[host]["write"],
            _("run `systemctl stop patroni` on {host} at once: two servers take writes").format(
                host=host
            ),
            "patroni",
            host,
        )


def test_timelines_are_equal(plan: Plan, everywhere: Everywhere) -> None:
    """After a change of leader both servers go on in the same history (K-03)."""
    rows = servers(plan, everywhere)
    seen = {host: (row["timeline"], row["system"]) for host, row in rows.items()}
    check(
        len(set(seen.values())) == 1,
        _("one timeline of one system on every server"),
        seen,
        _("by hand: the replica with the older timeline comes anew: docs/remedies.md"),
        "patroni",
        min(seen),
    )


def test_versions_are_equal(plan: Plan, everywhere: Everywhere) -> None:
    """A replica of another version would refuse the log, or restore what cannot be read (K-08)."""
    seen = {host: row["version"] for host, row in servers(plan, everywhere).items()}
    check(
        len(set(seen.values())) == 1,
        _("one version"),
        seen,
        _("run `koseki apply --limit databases`"),
    )


def test_collations_are_equal(plan: Plan, everywhere: Everywhere) -> None:
    """An index sorted by another collation version silently misses people (K-19)."""
    rows = {host: row["collations"] for host, row in servers(plan, everywhere).items()}
    remedy = _("by hand: reindex the database, then alter it with refresh collation version")
    for host, databases in rows.items():
        changed = [row for row in databases if row["kept"] != row["actual"]]
        expect(changed, [], remedy, host=host)
        expect(databases, next(iter(rows.values())), remedy, host=host)


@on_hosts("databases")
def test_text_is_sorted_without_the_hosts_libraries(facts: Facts) -> None:
    """UTF-8 and the builtin C.UTF-8 locale: no upgrade of a host changes an order (K-19)."""
    wrong = [
        row
        for row in facts["server"].json["collations"]
        if (row["provider"], row["locale"], row["encoding"]) != ("b", "C.UTF-8", "UTF8")
    ]
    expect(wrong, [], _("by hand: restore that database into a new one with the right locale"))


@on_hosts("databases")
def test_nothing_that_protects_data_is_switched_off(facts: Facts) -> None:
    """Checksums, full pages, fsync, archiving and audit are on in the running server (K-08)."""
    seen = dict(facts["server"].json["settings"])
    libraries = seen.pop("shared_preload_libraries")
    wanted = {
        "archive_mode": "on",
        "data_checksums": "on",
        "fsync": "on",
        "full_page_writes": "on",
        "ssl": "on",
        "synchronous_commit": "on",
    }
    expect({key: seen.get(key) for key in wanted}, wanted, facts.remedy, "patroni")
    check(seen["wal_level"] in {"replica", "logical"}, "wal_level replica", seen, facts.remedy)
    check("pgaudit" in libraries, _("pgaudit is loaded"), libraries, facts.remedy, "patroni")


@on_hosts("databases")
def test_nobody_opts_out_of_the_second_recording(facts: Facts) -> None:
    """A role or database with its own synchronous_commit would lose acknowledged rows (K-03)."""
    expect(
        facts["server"].json["opting out"],
        0,
        _("by hand: alter that role or database with reset synchronous_commit"),
    )


@on_hosts("databases")
def test_no_restart_is_pending(facts: Facts) -> None:
    """What is configured is what runs; a change that waits is not yet true (K-08)."""
    expect(
        facts["server"].json["restart"],
        [],
        _("run `koseki restart --reason 'a setting waits for it'`"),
    )


@on_hosts("databases")
def test_patroni_follows_the_plan(plan: Plan, facts: Facts) -> None:
    """Timings, double recording and failsafe are the plan's, in the cluster itself (K-03)."""
    seen, timing = facts["patroni"].json["config"], plan.timing
    wanted = {
        "ttl": timing.ttl,
        "loop_wait": timing.loop_wait,
        "retry_timeout": timing.retry_timeout,
        "primary_start_timeout": timing.primary_start_timeout,
        "synchronous_mode": True,
        "synchronous_mode_strict": plan.platform.double_recording == "required",
        "failsafe_mode": True,
    }
    unset = {"synchronous_mode_strict": False}
    expect({key: seen.get(key, unset.get(key)) for key in wanted}, wanted, facts.remedy, "patroni")
    check(
        not seen.get("pause"),
        _("Patroni acts by itself"),
        _("paused"),
        _("run `{patronictl} resume` on {host}").format(patronictl=PATRONICTL, host=facts.host),
    )


@on_hosts("databases", "db_clients")
def test_patroni_obeys_its_members_alone(plan: Plan, facts: Facts) -> None:
    """Whoever may change Patroni's settings runs commands on both servers (K-01, S03).

    Every key of the host is tried, and none; members' own, from a member, show that it would do.
    """
    met = facts["keys"].json
    obeyed = {key for key, ways in met.items() if any(said[:3] == "200" for said in ways)}
    refused = {key for key, ways in met.items() if all(said[:3] != "200" for said in ways)}
    own = MEMBER_KEYS if plan.is_in(facts.host, "databases") else set()
    check(NO_KEY in refused, _("refused without a key"), met.get(NO_KEY), facts.remedy, "patroni")
    expect(obeyed, own, facts.remedy, "patroni")


@on_hosts("databases")
def test_only_patroni_starts_the_server(facts: Facts) -> None:
    """A server that the package's own unit starts would not ask who leads (K-03)."""
    expect(facts["enabled"].text, "enabled", facts.remedy, "patroni")
    check(facts["packaged"].rc == 0, _("an answer"), facts["packaged"], facts.remedy)
    expect(
        facts["packaged"].lines,
        [],
        _("by hand: run `pg_lsclusters` on {host} and drop what the package made").format(
            host=facts.host
        ),
    )


@on_hosts("databases")
def test_a_member_that_comes_back_finds_a_record(facts: Facts) -> None:
    """While nobody writes, a rewound member would wait for the next record for minutes (K-03)."""
    expect(facts["record"].lines, TIMER_OK, facts.remedy, SNAPSHOT)


@on_hosts("databases")
def test_the_data_is_private(facts: Facts) -> None:
    """Only the database's own account reads the register's files (K-01)."""
    expect(facts["data"].text, "postgres 700", facts.remedy)
