"""Every slip of the pen in an inventory is found, at its file and key, with its remedy."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from koseki_ops.cli import cli
from koseki_ops.core.errors import KosekiError
from koseki_ops.lab.network import LabNetwork
from koseki_ops.plan.earlier_form import MOVED, MOVED_IN_ROW
from koseki_ops.plan.flows import firewall_of
from koseki_ops.plan.for_ansible import exchanges, instances, municipality_names, subnets
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import check_digit
from koseki_ops.plan.rules import check_inventory, load_platform

ROOT = Path(__file__).resolve().parents[2]
TODAY = date(2026, 11, 1)
Edit = Callable[[dict[str, Any]], None]


@pytest.fixture
def inventories(tmp_path: Path) -> Path:
    """A copy of both inventories, links kept as links."""
    return Path(
        shutil.copytree(
            ROOT / "inventories",
            tmp_path / "inventories",
            symlinks=True,
            ignore=shutil.ignore_patterns("secrets.yml"),
        )
    )


def edit(path: Path, change: Edit) -> None:
    """Change one value file as an administrator's editor would."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")


def municipality(index: int, **values: object) -> Edit:
    """Return an edit of one municipality's row."""
    return lambda content: content["municipalities"][index].update(values)


def flow(**values: object) -> Edit:
    """Return an edit of the first flow."""
    return lambda content: content["flows"][0].update(values)


def profile(**values: object) -> Edit:
    """Return an edit of the timing profile in use."""
    return lambda content: content["timing_profiles"]["swift"].update(values)


def waived(**values: object) -> Edit:
    """Return an edit that grants a waiver with something wrong in it."""
    good = {
        "id": "W-2026-001",
        "host": "primary1",
        "kind": "package",
        "name": "tcpdump",
        "owner": "sousa01",
        "approver": "sousa02",
        "reason": "回線障害の調査",
        "granted": "2026-11-01T00:00:00Z",
        "expires": "2026-12-01T00:00:00Z",
    }
    return lambda content: content["waivers"].append(good | values)


BAD: dict[str, tuple[str, Edit, str, str]] = {
    "wrong check digit": (
        "municipalities.yml",
        municipality(0, code6="202054"),
        "municipalities[0].code6 is '202054'",
        "wrong check digit; 20205 takes 3",
    ),
    "code as integer": (
        "municipalities.yml",
        municipality(0, code6=202053),
        "municipalities[0].code6 is 202053",
        "is a string, not a number",
    ),
    "five-digit code": (
        "municipalities.yml",
        municipality(0, code6="20205"),
        "municipalities[0].code6 is '20205'",
        "six digits",
    ),
    "duplicate code": (
        "municipalities.yml",
        municipality(1, code6="202053", name="飯田市", kana="いいだし", kind="市"),
        "municipalities[1].code6",
        "municipalities[0] has it already",
    ),
    "下条 for 下條": (
        "municipalities.yml",
        municipality(3, name="下条村"),
        "municipalities[3].name is '下条村'",
        "registered as 下條村",
    ),
    "松川村 for 松川町": (
        "municipalities.yml",
        municipality(8, name="松川村", kind="村"),
        "municipalities[8].name is '松川村'",
        "registered as 松川町",
    ),
    "date that is none": (
        "municipalities.yml",
        municipality(0, joined_on="2015-11-31"),
        "municipalities[0].joined_on is '2015-11-31'",
        'written "YYYY-MM-DD"',
    ),
    "left before it joined": (
        "municipalities.yml",
        municipality(1, left_on="2015-10-31"),
        "municipalities[1]",
        "left_on is not after joined_on",
    ),
    "the host leaves": (
        "municipalities.yml",
        municipality(0, left_on="2026-04-01"),
        "municipalities[0]",
        "cannot leave it",
    ),
    "going live without a document": (
        "municipalities.yml",
        lambda plan: plan["municipalities"][7]["joining"].pop("resolution"),
        "municipalities[7].joining is without 議決",
        "大鹿村 went live on 2015-11-01: add the ids",
    ),
    "going live without any document": (
        "municipalities.yml",
        lambda plan: plan["municipalities"][7].pop("joining"),
        "municipalities[7].joining is without 認容, 議決, 調印",
        "add the ids of these documents",
    ),
    "document without an id": (
        "municipalities.yml",
        lambda plan: plan["municipalities"][7]["joining"].update(approval=""),
        "municipalities[7].joining.approval is ''",
        "at least 1 character",
    ),
    "a mail server that no flow leads to": (
        "drift.yml",
        lambda plan: plan["drift_alerts"].update(relay={"address": "10.20.10.25", "port": 25}),
        "drift_alerts.relay.address is '10.20.10.25'",
        "no flow leads there from workstation1",
    ),
    "a neighbour called as a group": (
        "network.yml",
        lambda plan: plan["neighbours"].update(databases="10.20.10.25"),
        "neighbours.databases",
        "choose another name",
    ),
    "misspelt key": (
        "municipalities.yml",
        municipality(0, joined="2015-11-01"),
        "municipalities[0].joined",
        "no such key",
    ),
    "flow naming an unknown group": (
        "flows.yml",
        flow(to=["citty"]),
        "flows[0].to is 'citty'",
        "unknown group",
    ),
    "port out of range": (
        "flows.yml",
        flow(ports=[70000]),
        "flows[0].ports[0] is 70000",
        "less than or equal to 65535",
    ),
    "flow to a port that has no name": (
        "flows.yml",
        flow(ports=["etcd"]),
        "flows[0].ports[0] is 'etcd'",
        "valid integer",
    ),
    "flow to a list of ports within one": (
        "flows.yml",
        flow(ports=[[22]]),
        "flows[0].ports[0] is [22]",
        "valid integer",
    ),
    "flow that is none": (
        "flows.yml",
        lambda content: content["flows"].append("etcd"),
        "flows[12] is 'etcd'",
        "valid dictionary",
    ),
    "package that is a number": (
        "packages.yml",
        lambda content: content["packages"]["etcd"].append(17),
        "packages.etcd[2] is 17",
        "valid string",
    ),
    "two services on one port": (
        "services.yml",
        lambda content: content["service_ports"].update(patroni=5432),
        "service_ports is",
        "patroni and postgresql are both 5432",
    ),
    "package with a gap that nothing fills": (
        "packages.yml",
        lambda content: content["packages"]["etcd"].append("etcd-{etcd_version}"),
        "packages.etcd[2] is 'etcd-{etcd_version}'",
        "match pattern",
    ),
    "service without a port": (
        "services.yml",
        lambda content: content["service_ports"].pop("patroni"),
        "service_ports.patroni is missing",
        "add it",
    ),
    "version as a text": (
        "services.yml",
        lambda content: content.update(postgresql_version="17"),
        "postgresql_version is '17'",
        "valid integer",
    ),
    "flow towards the terminals": (
        "flows.yml",
        flow(to=["terminals"]),
        "flows[0].to is 'terminals'",
        "unknown group",
    ),
    "terminal of no municipality": (
        "municipalities.yml",
        lambda content: content["municipalities"][0]["terminals"].append("matumoto-01"),
        "municipalities[0] is",
        "terminals[1] is matumoto-01: a terminal of iida is called iida-NN",
    ),
    "terminal under another's name": (
        "municipalities.yml",
        municipality(7, terminals=["iida-01"]),
        "municipalities[7] is",
        "is called oshika-NN",
    ),
    "two terminals of one name": (
        "municipalities.yml",
        municipality(0, terminals=["iida-01", "iida-01"]),
        "municipalities[0] is",
        "terminals[1] is iida-01, which is there already",
    ),
    "terminal with a free name": (
        "municipalities.yml",
        municipality(0, terminals=["counter 1"]),
        "municipalities[0].terminals[0] is 'counter 1'",
        "match pattern",
    ),
    "municipality without a terminal": (
        "municipalities.yml",
        municipality(13, terminals=[]),
        "municipalities[13].terminals is []",
        "at least 1 item",
    ),
    "takeover of the host itself": (
        "municipalities.yml",
        lambda content: content["municipalities"][0].update(
            takeover=dict(content["municipalities"][7]["takeover"])
        ),
        "municipalities[0] is",
        "issues for others; take its takeover out",
    ),
    "clause without what documents say": (
        "municipalities.yml",
        lambda content: content["municipalities"][7]["takeover"].pop("margin_note"),
        "municipalities[7].takeover.margin_note is missing",
        "add it",
    ),
    "takeover without anybody to issue": (
        "municipalities.yml",
        municipality(0, host=False),
        "municipalities is '0 rows with host: true'",
        "exactly one runs the platform",
    ),
    "margin note with a quote": (
        "municipalities.yml",
        lambda content: content["municipalities"][7]["takeover"].update(margin_note="it's"),
        'municipalities[7].takeover.margin_note is "it\'s"',
        "pattern",
    ),
    "signatory with a quote": (
        "municipalities.yml",
        municipality(0, signatory="it's"),
        'municipalities[0].signatory is "it\'s"',
        "pattern",
    ),
    "gateway that admits nothing": (
        "gateway.yml",
        lambda content: content["gateway"].update(body_kb=0),
        "gateway.body_kb is 0",
        "greater than 0",
    ),
    "registry on another municipality's line": (
        "network.yml",
        lambda content: content["lines"]["neba"].update(registry="10.20.101.21"),
        "lines.neba is",
        "the registry 10.20.101.21 is outside its counters",
    ),
    "municipality without a registry": (
        "network.yml",
        lambda content: content["lines"]["neba"].pop("registry"),
        "lines.neba.registry is missing",
        "add it",
    ),
    "exchange that no flow leads to": (
        "link.yml",
        lambda content: content["link_policy"].update(port=2023),
        "link_policy.port is 2023",
        "no flow from registries leads to this port",
    ),
    "timing rule": (
        "timing.yml",
        profile(loop_wait=11),
        "timing_profiles.swift is",
        "loop_wait + 2*retry_timeout is 21, more than ttl 20",
    ),
    "unknown timing profile": (
        "timing.yml",
        lambda content: content.update(timing_profile="fast"),
        "timing_profile is 'fast'",
        "no such profile",
    ),
    "municipality without a line": (
        "network.yml",
        lambda content: content["lines"].pop("neba"),
        "lines.neba is missing",
        "根羽村 has no line",
    ),
    "line without a network": (
        "network.yml",
        lambda content: content["lines"]["neba"].update(counters=[]),
        "lines.neba.counters is []",
        "at least 1 item",
    ),
    "overlapping subnets": (
        "network.yml",
        lambda content: content["lines"].update(
            neba={"counters": ["10.20.101.128/25"], "registry": "10.20.101.130"}
        ),
        "lines.",
        "overlaps",
    ),
    "host without address": (
        "network.yml",
        lambda content: content["host_addresses"].pop("secondary1"),
        "host_addresses is",
        "add the host secondary1",
    ),
    "address twice": (
        "network.yml",
        lambda content: content["host_addresses"]["secondary1"].update(city="10.20.10.11"),
        "host_addresses.secondary1.city is 10.20.10.11",
        "has it already",
    ),
    "datacenter inside the city": (
        "network.yml",
        lambda content: content["host_addresses"]["remote-backup1"].update(city="10.20.10.99"),
        "host_addresses.remote-backup1.city",
        "no place in the city's network",
    ),
    "expired operator": (
        "operators.yml",
        lambda content: content["operators"][0].update(valid_until="2026-10-31"),
        "operators[0].valid_until is 2026-10-31",
        "has expired",
    ),
    "certificate too long": (
        "certificates.yml",
        lambda content: content["certificate_policy"].update(lifetime_days=3650),
        "certificate_policy.lifetime_days is 3650",
        "less than or equal to 398",
    ),
    "two vaults with one key": (
        "vaults.yml",
        lambda content: content["vaults"][1].update(cipher_secret="pgbackrest_cipher_city"),
        "vaults[1].cipher_secret",
        "vaults[0] has it already",
    ),
    "waiver of one's own": (
        "waivers.yml",
        waived(approver="sousa01"),
        "waivers[0] is",
        "sousa01 approves a waiver of their own",
    ),
    "waiver by nobody": (
        "waivers.yml",
        waived(approver="sousa09"),
        "waivers[0].approver is 'sousa09'",
        "no such operator",
    ),
    "waiver by one who had left": (
        "waivers.yml",
        waived(approver="sousa03"),
        "waivers[0].approver is 'sousa03'",
        "was no operator on 2026-11-01",
    ),
    "waiver without end": (
        "waivers.yml",
        waived(expires="2027-02-01T00:00:00Z"),
        "waivers[0] is",
        "within 90 days",
    ),
    "waiver that ends before it begins": (
        "waivers.yml",
        waived(expires="2026-10-31T00:00:00Z"),
        "waivers[0] is",
        "ends after it is granted",
    ),
    "waiver in local time": (
        "waivers.yml",
        waived(expires="2026-12-01T00:00:00+09:00"),
        "waivers[0].expires is '2026-12-01T00:00:00+09:00'",
        "written in UTC and in quotes",
    ),
    "waiver on a day that is none": (
        "waivers.yml",
        waived(expires="2026-11-31T00:00:00Z"),
        "waivers[0].expires is",
        "correct the moment",
    ),
    "waiver without a reason": (
        "waivers.yml",
        waived(reason=""),
        "waivers[0].reason is ''",
        "at least 1 character",
    ),
    "waiver for an unknown host": (
        "waivers.yml",
        waived(host="primary9"),
        "waivers[0].host is 'primary9'",
        "no such host",
    ),
    "waiver with a free id": (
        "waivers.yml",
        waived(id="tcpdump"),
        "waivers[0].id is 'tcpdump'",
        "match pattern",
    ),
    "recipient without an address": (
        "drift.yml",
        lambda content: content["drift_alerts"]["recipients"][0].update(address="nobody"),
        "drift_alerts.recipients[0].address is 'nobody'",
        "match pattern",
    ),
    "alerts that end between sweeps": (
        "drift.yml",
        lambda content: content["drift_alerts"].update(holds_minutes=10),
        "drift_alerts.holds_minutes is 10",
        "greater than or equal to 30",
    ),
    "kernel parameter that is none": (
        "kernel.yml",
        lambda content: content["kernel_parameters"].update({"kptr restrict": 2}),
        "kernel_parameters.kptr restrict",
        "match pattern",
    ),
    "two words of a command line in one": (
        "kernel.yml",
        lambda content: content["kernel_command_line"].append("audit=1 quiet"),
        "kernel_command_line",
        "match pattern",
    ),
    "alarm before the warning": (
        "audit.yml",
        lambda content: content["audit_policy"].update(alarm_percent=10),
        "audit_policy",
        "the warning comes first",
    ),
    "keys of an unknown group": (
        "audit.yml",
        lambda content: content["audit_key_files"].update(database=["/etc/key"]),
        "audit_key_files is 'database'",
        "unknown group",
    ),
    "Jinja in a shared value": (
        "platform.yml",
        lambda content: content.update(domain="{{ platform_name }}.internal"),
        "domain is '{{ platform_name }}.internal'",
        "write a literal",
    ),
    "no such time zone": (
        "platform.yml",
        lambda content: content.update(timezone="Asia/Tokio"),
        "timezone is 'Asia/Tokio'",
        "write it as Asia/Tokyo",
    ),
    "kind that the name does not end with": (
        "municipalities.yml",
        municipality(0, kind="村"),
        "municipalities[0].kind is '村'",
        "does not end with it",
    ),
    "slug with a dash": (
        "municipalities.yml",
        municipality(0, slug="ii-da"),
        "municipalities[0].slug is 'ii-da'",
        "a slug has 2 to 16",
    ),
    "neighbour called as a group": (
        "network.yml",
        lambda content: content["neighbours"].update(databases="10.99.0.1"),
        "neighbours.databases",
        "choose another name",
    ),
    "operator on no group": (
        "operators.yml",
        lambda content: content["operators"][0].update(hosts=["database"]),
        "operators[0].hosts is 'database'",
        "unknown group",
    ),
    "operator who ends before beginning": (
        "operators.yml",
        lambda content: content["operators"][0].update(valid_until="2001-01-01"),
        "operators[0]",
        "valid_from is after valid_until",
    ),
    "vault on no group": (
        "vaults.yml",
        lambda content: content["vaults"][0].update(group="attic"),
        "vaults[0].group is 'attic'",
        "unknown group",
    ),
    "vault on two hosts": (
        "vaults.yml",
        lambda content: content["vaults"][0].update(group="databases"),
        "vaults[0].group is 'databases'",
        "2 hosts; a vault lives on exactly one",
    ),
    "keys of no group are audited": (
        "audit.yml",
        lambda content: content["audit_key_files"].update(attic=["/root/key"]),
        "audit_key_files is 'attic'",
        "unknown group",
    ),
    "mirror that nobody reaches": (
        "network.yml",
        lambda content: content.update(mirror_port=8999),
        "mirror_port is 8999",
        "no flow lets the hosts reach the mirror",
    ),
    "plan without the line": (
        "network.yml",
        lambda content: content["networks"].pop("line"),
        "networks is ['city']",
        "add the network line",
    ),
    "router of another network": (
        "network.yml",
        lambda content: content["networks"]["city"].update(router="10.99.0.1"),
        "networks.city",
        "the router 10.99.0.1 is outside",
    ),
    "address of no host": (
        "network.yml",
        lambda content: content["host_addresses"].update(
            primary9=dict(content["host_addresses"]["primary1"])
        ),
        "host_addresses.primary9",
        "",
    ),
    "host without the line": (
        "network.yml",
        lambda content: content["host_addresses"]["primary1"].pop("line"),
        "host_addresses.primary1 is 'no line'",
        "add the address that the datacenter line sees",
    ),
    "host outside its network": (
        "network.yml",
        lambda content: content["host_addresses"]["primary1"].update(city="10.99.0.1"),
        "host_addresses.primary1.city is 10.99.0.1",
        "outside networks.city",
    ),
    "line of nobody": (
        "network.yml",
        lambda content: content["lines"].update(
            nagano={"counters": ["10.99.0.0/24"], "registry": "10.99.0.21"}
        ),
        "lines.nagano is 'nagano'",
        "no such municipality",
    ),
    "packages by a former name": (
        "packages.yml",
        lambda content: content["packages"].update(foundation=content["packages"].pop("baseline")),
        "packages is 'without baseline'",
        "the row foundation is called so now",
    ),
    "no volume for the system": (
        "volumes.yml",
        lambda content: content.update(
            volumes=[v for v in content["volumes"] if v["mount"] != "/"]
        ),
        "volumes is 'without /'",
        "give every host a volume at /",
    ),
    "certificates that are never renewed": (
        "certificates.yml",
        lambda content: content["certificate_policy"].update(renew_when_days_left=9999),
        "certificate_policy",
        "must be shorter than lifetime_days",
    ),
    "misspelt value": (
        "platform.yml",
        lambda content: content.update(double_recordings="required"),
        "double_recordings is 'required'",
        "correct its spelling",
    ),
}


@pytest.mark.parametrize(("file", "change", "where", "remedy"), BAD.values(), ids=BAD.keys())
def test_bad_value_is_named(
    inventories: Path, file: str, change: Edit, where: str, remedy: str
) -> None:
    """One sentence names file, key, the value seen and the remedy."""
    edit(inventories / "iida/group_vars/all" / file, change)
    findings = [str(item) for item in check_inventory(Inventory(inventories / "iida"), TODAY)]
    matching = [text for text in findings if where in text and remedy in text]
    assert matching, findings
    assert all(f"inventories/iida/group_vars/all/{file}" in text for text in matching)


def test_a_waiver_that_is_right_holds(inventories: Path) -> None:
    """A waiver as the plan asks for is no finding, also when it has expired."""
    edit(inventories / "iida/group_vars/all/waivers.yml", waived())
    for today in (TODAY, date(2027, 6, 1)):
        assert check_inventory(Inventory(inventories / "iida"), today) == []


def test_even_number_of_etcd_members(inventories: Path) -> None:
    """Two members tolerate no failure; the plan refuses them."""
    path = inventories / "iida/hosts.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    del content["all"]["children"]["etcd_members"]["children"]["application"]
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    (finding,) = check_inventory(Inventory(inventories / "iida"), TODAY)
    assert str(finding).startswith("inventories/iida/hosts.yml: etcd_members is 2 hosts")


@pytest.mark.parametrize(
    ("group", "seen"),
    [("etcd_members", "in none"), ("databases", "in none"), ("remote_backup", "in secondary, ")],
)
def test_a_host_is_of_one_kind(inventories: Path, group: str, seen: str) -> None:
    """Its packages and its place in reports come from its kind: none, or two, is refused."""
    path = inventories / "iida/hosts.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    plan = content["all"]["children"]
    groups = plan | plan["city"]["children"]
    (groups[group]).setdefault("hosts", {})["secondary1" if "second" in seen else "spare1"] = None
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    findings = [str(item) for item in check_inventory(Inventory(inventories / "iida"), TODAY)]
    (finding,) = (text for text in findings if "of the groups of a kind" in text)
    assert seen in finding
    assert "put it into one of primary, secondary, application" in finding


@pytest.mark.parametrize("name", ["iida", "lab"])
def test_the_plan_holds(name: str) -> None:
    """What is in the repository passes its own check."""
    assert check_inventory(Inventory(ROOT / "inventories" / name), TODAY) == []


def test_lab_differs_in_addresses_only() -> None:
    """Each of Iida's files is linked into the lab; network.yml alone stands on its own."""
    iida = ROOT / "inventories/iida/group_vars/all"
    lab = ROOT / "inventories/lab/group_vars/all"
    own = {path.name for path in iida.glob("*.yml")} - {"secrets.yml"}
    assert own == {path.name for path in lab.glob("*.yml")} - {"secrets.yml"}
    for name in own - {"network.yml"}:
        assert (lab / name).is_symlink()
        assert (lab / name).resolve() == (iida / name).resolve()
    plan, copy = (yaml.safe_load((path / "network.yml").read_text()) for path in (iida, lab))
    assert plan.keys() == copy.keys()
    assert plan["host_addresses"].keys() == copy["host_addresses"].keys()


@pytest.mark.parametrize("code", ["202053", "204021", "204170", "204820", "131016", "011002"])
def test_check_digit(code: str) -> None:
    """Registered codes carry the digit that the rule gives (JIS X 0402)."""
    assert check_digit(code[:5]) == code[5]


def test_a_missing_host_is_named(inventories: Path) -> None:
    """Each kind of server that the plan needs, by its group, and the row of its address."""
    path = inventories / "iida/hosts.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["all"]["children"]["remote_backup"] = None
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    findings = [str(item) for item in check_inventory(Inventory(inventories / "iida"), TODAY)]
    assert any("hosts.yml: remote_backup is empty" in text for text in findings), findings
    assert any("host_addresses.remote-backup1" in text for text in findings), findings


def test_a_host_without_an_address_is_named(inventories: Path) -> None:
    """Nothing could be said of the way to it."""
    path = inventories / "iida/group_vars/all/network.yml"
    edit(path, lambda content: content["host_addresses"].pop("application1"))
    findings = [str(item) for item in check_inventory(Inventory(inventories / "iida"), TODAY)]
    assert any("add the host application1" in text for text in findings), findings


def test_a_value_that_was_renamed_is_told_its_name(inventories: Path) -> None:
    """An inventory from before would have a role take its default, or refuse half-way."""
    path = inventories / "iida/group_vars/databases/requests.yml"
    path.write_text('---\nrequest_expiry_calendar: "*:0/5"\n', encoding="utf-8")
    (finding,) = check_inventory(Inventory(inventories / "iida"), TODAY)
    assert str(finding) == (
        "inventories/iida/group_vars/databases/requests.yml: request_expiry_calendar is '*:0/5': "
        "it is called access_expiry_calendar now; rename it there"
    )


def test_a_filter_that_was_renamed_is_told_its_name(inventories: Path) -> None:
    """Ansible would say half-way through a run that it has no filter of that name."""
    path = inventories / "iida/group_vars/databases/postgresql.yml"
    text = path.read_text(encoding="utf-8").replace("koseki_municipality_names", "koseki_tenants")
    path.write_text(text, encoding="utf-8")
    (finding,) = check_inventory(Inventory(inventories / "iida"), TODAY)
    assert str(finding) == (
        "inventories/iida/group_vars/databases/postgresql.yml: koseki_tenants is "
        "'{{ koseki_municipalities_today | koseki_tenants }}': "
        "it is called koseki_municipality_names now; rename it there"
    )


def test_what_does_not_hold_is_never_used(inventories: Path) -> None:
    """Whoever asks for the typed plan is told the first fault, and how many more there are."""
    path = inventories / "iida/group_vars/all/municipalities.yml"
    edit(path, municipality(0, kind="村"))
    with pytest.raises(KosekiError, match="the inventory is not valid: municipalities") as one:
        load_platform(Inventory(inventories / "iida"), TODAY)
    assert "more:" not in str(one.value)
    edit(path, municipality(1, kind="村"))
    with pytest.raises(KosekiError, match=r"and \d+ more: run `koseki check`"):
        load_platform(Inventory(inventories / "iida"), TODAY)


# An inventory of the version before, by the key that is of it: its file, how it stood there, and
# where it is now.
EARLIER: dict[str, tuple[str, Edit, str]] = {
    "joinings": (
        "municipalities.yml",
        lambda plan: plan.update(joinings={"iida": {"approval": "認容-2015-01"}}),
        "move joinings.SLUG to joining in the municipality's row in municipalities.yml",
    ),
    "terminals": (
        "gateway.yml",
        lambda plan: plan.update(terminals=[{"id": "iida-01", "municipality": "iida"}]),
        "move the ids in terminals to terminals in the municipality's row in municipalities.yml",
    ),
    "takeovers": (
        "municipalities.yml",
        lambda plan: plan.update(takeovers=[{"municipality": "oshika", "longest_hours": 168}]),
        "move each row of takeovers to takeover in the municipality's row in municipalities.yml",
    ),
    "certificate_signatories": (
        "application.yml",
        lambda plan: plan.update(certificate_signatories={}),
        "move certificate_signatories.SLUG to signatory in the municipality's row",
    ),
    "line_subnets": (
        "network.yml",
        lambda plan: plan.update(line_subnets={"iida": ["10.20.101.0/24"]}),
        "move line_subnets.SLUG to lines.SLUG.counters in network.yml",
    ),
    "link_peers": (
        "network.yml",
        lambda plan: plan.update(link_peers={"iida": "10.20.101.21"}),
        "move link_peers.SLUG to lines.SLUG.registry in network.yml",
    ),
    "municipalities[].issued_by_host_in_failure": (
        "municipalities.yml",
        municipality(7, issued_by_host_in_failure=True),
        "takeover replaces it: take issued_by_host_in_failure out",
    ),
}


@pytest.mark.parametrize("key", EARLIER)
def test_an_earlier_form_is_told_which_row_goes_where(inventories: Path, key: str) -> None:
    """One sentence for each key that was moved, whatever else the inventory lacks."""
    file, change, where = EARLIER[key]
    edit(inventories / "iida/group_vars/all" / file, change)
    inventory = Inventory(inventories / "iida")
    (finding,) = check_inventory(inventory, TODAY)
    assert (finding.key, finding.file.name) == (key, file)
    assert where in finding.remedy
    with pytest.raises(KosekiError, match=re.escape(where)):
        _ = inventory.platform


def test_an_inventory_of_the_version_before_gets_one_refusal(
    inventories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it in one sentence, and exit 2; what is no longer there is not asked for."""
    folder = inventories / "iida/group_vars/all"
    for file, change, _ in EARLIER.values():
        edit(folder / file, change)
    edit(folder / "network.yml", lambda plan: plan.pop("lines"))
    (folder / "services.yml").unlink()
    monkeypatch.setenv("KOSEKI_ROOT", str(inventories.parent))
    done = CliRunner().invoke(cli, ["check", "-i", "iida"])
    (sentence,) = done.stderr.splitlines()
    assert done.exit_code == 2
    assert all(where in sentence for _, _, where in EARLIER.values())
    assert "add services.yml" in sentence
    assert set(MOVED) | {f"municipalities[].{key}" for key in MOVED_IN_ROW} == set(EARLIER)


NEW_MUNICIPALITY = """  - code6: "204820"
    name: 松川村
    kana: まつかわむら
    slug: matsukawamura
    romaji: Matsukawa-mura
    kind: 村
    phase: 3
    joined_on: "2026-10-01"
    terminals: [matsukawamura-01, matsukawamura-02]
    joining: {approval: 認容-2026-01, resolution: 議決-2026-01, agreement: 調印-2026-01}
"""
NEW_LINE = """  matsukawamura:
    counters: [10.99.0.0/24]
    registry: 10.99.0.21
"""


@pytest.mark.parametrize("name", ["iida", "lab"])
def test_a_new_municipality_takes_two_edits(inventories: Path, name: str) -> None:
    """Its row and its line; everything else that it has is made from them."""
    folder = inventories / name / "group_vars/all"
    before = Inventory(inventories / name).platform
    for file, row in (("municipalities.yml", NEW_MUNICIPALITY), ("network.yml", NEW_LINE)):
        with (folder / file).open("a", encoding="utf-8") as plan:
            plan.write(row)
        inventory = Inventory(inventories / name)
        holds = check_inventory(inventory, TODAY) == []
        assert holds == (file == "network.yml"), "neither of the two is enough"
    platform = inventory.platform
    municipality = platform.municipalities[-1]
    assert [municipality.slug for municipality in platform.joined] == [
        *(t.slug for t in before.joined),
        municipality.slug,
    ]
    assert [row.id for row in platform.terminals[-2:]] == municipality.terminals
    assert [row["database"] for row in municipality_names([municipality])] == [
        "koseki_matsukawamura"
    ]
    assert subnets([municipality], platform.lines) == {municipality.slug: ["10.99.0.0/24"]}
    (exchange,) = exchanges(
        [municipality], platform.lines, platform.link_policy, platform.service_ports, "/ca.crt"
    )
    assert (exchange["peer"], exchange["account"]) == ("10.99.0.21", "link-matsukawamura")
    assert (
        instances([municipality], platform.service_ports, "")[municipality.slug]["KOSEKI_CODE"]
        == "204820"
    )
    ways = {rule.flow: rule.peers for rule in firewall_of(inventory, "application1").inbound}
    ways |= {rule.flow: rule.peers for rule in firewall_of(inventory, "registry-link1").inbound}
    assert ways["counters"][-1] == "10.99.0.0/24"
    assert ways["exchange"][-1] == "10.99.0.21"
    assert LabNetwork("koseki-0-lab", inventory).counter(municipality.slug).registry == "10.99.0.21"
