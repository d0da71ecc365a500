"""etcd: three members that agree, by certificate only; it decides which server leads (K-03)."""

from __future__ import annotations

import base64

from koseki_ops.core.language import _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.verify.batch import ANSWER_SECONDS, TIMER_OK, Question, timer
from koseki_ops.verify.expect import check, expect
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.keys import NO_KEY, Way, every_key
from koseki_ops.verify.plugin import Everywhere, Facts, Questions, on_hosts

SERIES = "3.5"
LEAD = "koseki-etcd-lead"
# What the running process was really started with, and etcdctl pointed at it with its own files.
PROCESS = """
pid=$(systemctl show -P MainPID etcd.service)
tr '\\0' '\\n' <"/proc/$pid/environ" | grep '^ETCD_'
tr '\\0' '\\n' <"/proc/$pid/cmdline" | grep -- '^--'
"""
CTL = """
. /etc/default/etcd
ctl() {{
    ETCDCTL_API=3 etcdctl --endpoints='{endpoints}' --command-timeout={seconds}s \\
        --cacert="$ETCDCTL_CACERT" --cert="$ETCDCTL_CERT" --key="$ETCDCTL_KEY" "$@"
}}
"""
# Never there, so that nothing is shown and nothing is lost where the door is open.
NEVER = base64.b64encode(b"/koseki-probe").decode()
# Whose certificates the cluster's own authority signed: a member of etcd, and Patroni's.
MEMBERS = ("/etc/etcd/tls/etcd.key", "/etc/patroni/tls/member.key")
DATA = """
pid=$(systemctl show -P MainPID etcd.service)
stat -c '%U %a' "$(tr '\\0' '\\n' <"/proc/$pid/environ" | sed -n 's/^ETCD_DATA_DIR=//p')"
"""
# As somebody with no certificate, and as somebody without TLS.
STRANGER = """
exec bash -c 'printf "GET /version HTTP/1.0\\r\\n\\r\\n" |
    timeout {seconds} openssl s_client -connect {own} -quiet -ign_eof; exit ${{PIPESTATUS[1]}}'
"""
PLAIN = """
exec bash -c 'exec 3<>/dev/tcp/{address}/{port}
printf "GET /version HTTP/1.0\\r\\n\\r\\n" >&3; timeout {seconds} cat <&3'
"""


def endpoints(plan: Plan, host: str) -> str:
    """Return the members' client addresses as a host sees them."""
    members = plan.hosts_in("etcd_members")
    port = plan.ports.etcd_clients
    return ",".join(f"https://{plan.address(member, host)}:{port}" for member in members)


def questions(plan: Plan, host: str) -> Questions:
    """Ask each member what it and the others say, and try it as a stranger would."""
    if host == WORKSTATION or not plan.is_in(host, "etcd_members"):
        return {}
    address, port = plan.address(host, host), plan.ports.etcd_clients
    own = f"{address}:{port}"
    never: dict[str, object] = {"key": NEVER}
    ways: list[Way] = [
        (address, port, "POST", "/v3/kv/range", never),
        (address, port, "POST", "/v3/kv/deleterange", never),
        ("127.0.0.1", port, "POST", "/v3/kv/range", never),
    ]
    ctl = CTL.format(endpoints=endpoints(plan, host), seconds=ANSWER_SECONDS)
    return {
        "process": PROCESS,
        "status": Question(f"{ctl}ctl endpoint status -w json", aside=True),
        "health": Question(f"{ctl}ctl endpoint health -w json", aside=True),
        "members": Question(f"{ctl}ctl member list -w json", aside=True),
        "leading": timer(LEAD),
        "alarms": Question(f"{ctl}ctl alarm list", aside=True),
        "stranger": Question(STRANGER.format(own=own, seconds=ANSWER_SECONDS), aside=True),
        "plain": Question(
            PLAIN.format(
                address=plan.address(host, host),
                port=plan.ports.etcd_clients,
                seconds=ANSWER_SECONDS,
            ),
            aside=True,
        ),
        "keys": every_key(ways),
        "control": Question(f"{ctl}ctl get --prefix / --keys-only --limit 1", aside=True),
        "enabled": "systemctl is-enabled etcd.service",
        "data": DATA,
    }


def later_questions(plan: Plan, host: str, everywhere: Everywhere) -> Questions:
    """Ask for the members' stories once more: the lead may have gone over between two of them."""
    del everywhere
    if host == WORKSTATION or not plan.is_in(host, "etcd_members"):
        return {}
    ctl = CTL.format(endpoints=endpoints(plan, host), seconds=ANSWER_SECONDS)
    return {"status again": Question(f"{ctl}ctl endpoint status -w json", aside=True)}


@on_hosts("etcd_members")
def test_all_members_are_healthy(plan: Plan, facts: Facts) -> None:
    """Each member reaches all the others and commits with them: losing one loses nothing (K-03)."""
    rows = facts["health"].json
    ill = [f"{row['endpoint']}: {row.get('error', 'ill')}" for row in rows if not row["health"]]
    expect(ill, [], _("run `journalctl -u etcd -n 50` on the member named"), "etcd")
    expect(len(rows), len(plan.hosts_in("etcd_members")), facts.remedy, "etcd")


@on_hosts("etcd_members")
def test_members_are_the_plans(plan: Plan, facts: Facts) -> None:
    """Exactly the plan's members vote; a forgotten one would count towards the majority (K-03)."""
    rows = facts["members"].json["members"]
    wanted = {
        f"https://{plan.address(member, facts.host)}:{plan.ports.etcd_peers}"
        for member in plan.hosts_in("etcd_members")
    }
    expect({url for row in rows for url in row["peerURLs"]}, wanted, facts.remedy, "etcd")
    learners = [row["name"] for row in rows if row.get("isLearner")]
    expect(
        learners,
        [],
        _("by hand: promote the learner, or remove it; see docs/remedies.md"),
        "etcd",
    )


def test_members_agree(plan: Plan, everywhere: Everywhere) -> None:
    """One cluster, one leader, one term: every member tells the same story (K-03).

    Members are not asked in one moment: who disagrees is asked again, some seconds later.
    """
    stories = told(plan, everywhere, "status")
    if len({repr(story) for story in stories.values()}) > 1:
        stories = told(plan, everywhere, "status again")
    for member, story in stories.items():
        check(
            story == next(iter(stories.values())) and all(len(part) == 1 for part in story),
            _("one cluster, one leader, one term"),
            stories,
            _("run `koseki verify flows`: heal the network between the members first"),
            "etcd",
            member,
        )


def told(plan: Plan, everywhere: Everywhere, question: str) -> dict[str, tuple[set[int], ...]]:
    """Return each member's story: clusters, leaders and terms that it knows of."""
    stories: dict[str, tuple[set[int], ...]] = {}
    for member in plan.hosts_in("etcd_members"):
        rows = [row["Status"] for row in everywhere[member][question].json]
        stories[member] = (
            {row["header"]["cluster_id"] for row in rows},
            {row["leader"] for row in rows},
            {row["raftTerm"] for row in rows},
        )
    return stories


@on_hosts("application")
def test_the_witness_leads(facts: Facts) -> None:
    """Etcd's leader stands beside no database: both dying at once is missed longer (K-03)."""
    expect(facts["leading"].lines, TIMER_OK, facts.remedy, LEAD)


@on_hosts("etcd_members")
def test_members_follow_closely(facts: Facts) -> None:
    """No member lags behind the log, so that any of them may lead at once (K-03)."""
    rows = [row["Status"] for row in facts["status"].json]
    lag = max(row["raftIndex"] for row in rows) - min(row["raftAppliedIndex"] for row in rows)
    check(
        lag < 100,
        _("less than 100 entries behind"),
        _("{lag} entries").format(lag=lag),
        facts.remedy,
        "etcd",
    )


@on_hosts("etcd_members")
def test_there_is_no_alarm(facts: Facts) -> None:
    """A full or corrupt store raises an alarm and stops writing; Patroni would demote (K-03)."""
    check(facts["alarms"].rc == 0, _("an answer"), facts["alarms"], facts.remedy, "etcd")
    expect(
        facts["alarms"].lines,
        [],
        _("run `koseki-etcd-compact` on {host}").format(host=facts.host),
        "etcd",
    )


@on_hosts("etcd_members")
def test_the_series_is_supported(facts: Facts) -> None:
    """Etcd 3.4 is at its end; all members run the 3.5 series."""
    seen = {row["Status"]["version"] for row in facts["status"].json}
    check(
        len(seen) == 1 and all(version.startswith(f"{SERIES}.") for version in seen),
        _("one version of {series}").format(series=SERIES),
        seen,
        facts.remedy,
    )


@on_hosts("etcd_members")
def test_a_stranger_is_refused(facts: Facts) -> None:
    """Without a certificate of the platform nobody reads or moves the leader key (K-01)."""
    stranger, plain = facts["stranger"], facts["plain"]
    told = "alert certificate required" in stranger.errors and not stranger.text
    check(told, _("refused for want of a certificate"), stranger, facts.remedy, "etcd")
    check(not plain.text, _("no answer without TLS"), plain, facts.remedy, "etcd")


@on_hosts("etcd_members")
def test_no_key_but_a_members_opens_it(facts: Facts) -> None:
    """A municipality, the gateway, a server's own key: none reads or deletes a key (K-01, S01).

    Whoever writes there writes PostgreSQL's settings. Members' own keys show that it would be told.
    """
    met = facts["keys"].json
    check(facts["control"].lines, _("a key that a member reads"), facts["control"], facts.remedy)
    opened = {key for key, ways in met.items() if any(said[:3] == "200" for said in ways)}
    check(NO_KEY in met and met.keys() - opened, _("other keys to try"), sorted(met), facts.remedy)
    expect(opened, {key for key in met if key in MEMBERS}, facts.remedy, "etcd")
    answered = {
        key: said
        for key, ways in met.items()
        for said in ways
        if key not in MEMBERS and not said.startswith("refused: ")
    }
    expect(answered, {}, facts.remedy, "etcd")
    loopback = {key: ways[-1] for key, ways in met.items() if "ConnectionRefused" not in ways[-1]}
    expect(loopback, {}, facts.remedy, "etcd")


@on_hosts("etcd_members")
def test_peers_speak_tls_both_ways(facts: Facts) -> None:
    """The running process asks clients and peers for certificates, and listens on TLS only."""
    settings = dict(line.removeprefix("--").partition("=")[::2] for line in facts["process"].lines)
    named = {key.removeprefix("ETCD_").replace("-", "_").upper(): v for key, v in settings.items()}
    wanted = {"CLIENT_CERT_AUTH": "true", "PEER_CLIENT_CERT_AUTH": "true"}
    expect({key: named.get(key, "unset") for key in wanted}, wanted, facts.remedy, "etcd")
    for key in ("LISTEN_CLIENT_URLS", "LISTEN_PEER_URLS"):
        plain = [url for url in named.get(key, "").split(",") if not url.startswith("https://")]
        expect(f"{key} {plain}", f"{key} []", facts.remedy, "etcd")


@on_hosts("etcd_members")
def test_it_starts_with_the_machine(facts: Facts) -> None:
    """After a power cut the majority comes back without a person (K-18)."""
    expect(facts["enabled"].text, "enabled", facts.remedy, "etcd")


@on_hosts("etcd_members")
def test_the_store_is_private(facts: Facts) -> None:
    """Only etcd reads its own store."""
    expect(facts["data"].text, "etcd 700", facts.remedy)
