"""Hold an inventory against the model and against the rules that span its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from ipaddress import IPv4Network
from itertools import combinations
from zoneinfo import ZoneInfo

import yaml
from pydantic import ValidationError

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.plan.earlier_form import earlier_form
from koseki_ops.plan.findings import Finding, of_validation, refused, shown
from koseki_ops.plan.flows import firewall_of
from koseki_ops.plan.host_kinds import HOST_KINDS, hosts_of, kinds_of
from koseki_ops.plan.inventory import LINE_ENDPOINTS, REGISTRIES, WORKSTATION, Inventory
from koseki_ops.plan.model import Platform
from koseki_ops.plan.yaml_forms import ambiguous


@dataclass(frozen=True)
class Rules:
    """What every rule sees: the inventory, its typed values, the day it is checked on."""

    inventory: Inventory
    platform: Platform
    today: date

    def finding(self, key: str, seen: object, remedy: str) -> Finding:
        """Return a finding at `key`, with the file that sets it."""
        return Finding(self.inventory.file_of(key), key, shown(seen), remedy)


def check_inventory(inventory: Inventory, today: date | None = None) -> list[Finding]:
    """Return everything that is wrong with an inventory; empty when it holds.

    today: the day on which it must hold; None for the platform's own.

    Types come first: rules that span tables are asked only when every table can be read.
    """
    findings = list(_ambiguous_values(inventory))
    if findings:
        # Whoever reads them reads something else than was written.
        return findings
    if found := earlier_form(inventory.shared, inventory.file_of):
        return found
    findings += _templated_values(inventory)
    findings += _unknown_names(inventory)
    findings += _renamed_values(inventory)
    try:
        platform = Platform.model_validate(inventory.shared)
    except ValidationError as error:
        return findings + [of_validation(item, inventory.file_of) for item in error.errors()]
    rules = Rules(inventory, platform, today or platform.today)
    for rule in ALL_RULES:
        findings += rule(rules)
    return findings


def _ambiguous_values(inventory: Inventory) -> Iterator[Finding]:
    """Yield what YAML reads otherwise than it is written, in any file of the inventory."""
    files = [inventory.folder / "hosts.yml"]
    files += [path for group in inventory.groups for path in inventory.files_of(group)]
    for path in files:
        place = path.relative_to(inventory.folder.parent.parent)
        for form in ambiguous(path.read_text(encoding="utf-8")):
            yield Finding(place, form.key, shown(form.seen), form.remedy)


def load_platform(inventory: Inventory, today: date | None = None) -> Platform:
    """Return the typed values of an inventory that holds; otherwise raise its first finding."""
    if findings := check_inventory(inventory, today):
        raise refused(findings)
    return inventory.platform


def _templated_values(inventory: Inventory) -> Iterator[Finding]:
    """Values that every engine reads are literals: pyinfra and testinfra see them raw."""
    for name, value in inventory.group_values("all").items():
        for key, text in _strings(name, value.value):
            if "{{" in text or "{%" in text:
                yield Finding(
                    inventory.file_of(name),
                    key,
                    shown(text),
                    _(
                        "other engines read this value raw; write a literal, or move it to the "
                        "group_vars of a group that only Ansible reads"
                    ),
                )


def _strings(key: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _strings(f"{key}.{name}", item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _strings(f"{key}[{index}]", item)


def _unknown_names(inventory: Inventory) -> Iterator[Finding]:
    known = set(Platform.model_fields)
    for name, value in inventory.group_values("all").items():
        if name not in known:
            yield Finding(
                inventory.file_of(name),
                name,
                shown(value.value),
                _("no such value for all hosts; correct its spelling or remove it"),
            )


# Of groups' values, by the name that they had: Ansible would pass over it in silence.
RENAMED = {
    "db_proxy_tenants": "municipal_accounts_tenants",
    "db_proxy_left": "municipal_accounts_left",
    "request_expiry_calendar": "access_expiry_calendar",
}


# Of the filters that such values call; Ansible would say only that it knows no such filter.
RENAMED_FILTERS = {"koseki_tenants": "koseki_municipality_names"}


def _renamed_values(inventory: Inventory) -> Iterator[Finding]:
    for group in inventory.groups:
        for name, value in inventory.group_values(group).items():
            text = value.value if isinstance(value.value, str) else ""
            renamed = {name: RENAMED.get(name)} | {
                was: now for was, now in RENAMED_FILTERS.items() if was in text
            }
            for was, now in renamed.items():
                if now:
                    place = value.file.relative_to(inventory.folder.parent.parent)
                    remedy = _("it is called {renamed} now; rename it there").format(renamed=now)
                    yield Finding(place, was, shown(value.value), remedy)


@cache
def official_names() -> dict[str, dict[str, str]]:
    """Return registered names and readings by six-digit code."""
    text = files("koseki_ops.plan").joinpath("official_names.yml").read_text(encoding="utf-8")
    table: dict[str, dict[str, str]] = yaml.safe_load(text)
    return table


def _duplicates(
    rules: Rules, table: str, attribute: str, rows: Sequence[object]
) -> Iterator[Finding]:
    counts = Counter(getattr(row, attribute) for row in rows)
    for index, row in enumerate(rows):
        value = getattr(row, attribute)
        first = next(i for i, other in enumerate(rows) if getattr(other, attribute) == value)
        if counts[value] > 1 and index != first:
            yield rules.finding(
                f"{table}[{index}].{attribute}",
                value,
                _("{table}[{first}] has it already; correct one").format(table=table, first=first),
            )


def _municipalities(rules: Rules) -> Iterator[Finding]:
    rows = rules.platform.municipalities
    for attribute in ("code6", "slug", "name"):
        yield from _duplicates(rules, "municipalities", attribute, rows)
    for index, row in enumerate(rows):
        official = official_names().get(row.code6, {"name": row.name, "kana": row.kana})
        for attribute in ("name", "kana"):
            if getattr(row, attribute) != official[attribute]:
                yield rules.finding(
                    f"municipalities[{index}].{attribute}",
                    getattr(row, attribute),
                    _("{code6} is registered as {official}; write exactly that").format(
                        code6=row.code6, official=official[attribute]
                    ),
                )
        if not row.name.endswith(row.kind):
            yield rules.finding(
                f"municipalities[{index}].kind",
                row.kind,
                _("{name} does not end with it").format(name=row.name),
            )
    hosts = [row for row in rows if row.host]
    if len(hosts) != 1:
        yield rules.finding(
            "municipalities",
            _("{count} rows with host: true").format(count=len(hosts)),
            _("exactly one runs the platform"),
        )


def _joinings(rules: Rules) -> Iterator[Finding]:
    for index, row in enumerate(rules.platform.municipalities):
        if row.has_joined(rules.today) and row.missing_documents:
            yield Finding(
                rules.inventory.file_of("municipalities"),
                f"municipalities[{index}].joining",
                _("without {missing_documents}").format(
                    missing_documents=", ".join(row.missing_documents)
                ),
                _("{name} went live on {joined_on}: add the ids of these documents").format(
                    name=row.name, joined_on=row.joined_on
                ),
            )


def _flow_endpoints(rules: Rules) -> Iterator[Finding]:
    known = [*sorted(rules.inventory.groups), WORKSTATION]
    for index, flow in enumerate(rules.platform.flows):
        for end, names in (("from", flow.from_), ("to", flow.to)):
            for name in names:
                if name in LINE_ENDPOINTS and end == "from":
                    continue
                if name in rules.platform.neighbours and end == "to":
                    continue
                if name not in known:
                    yield rules.finding(
                        f"flows[{index}].{end}",
                        name,
                        _("flow {flow} names an unknown group; choose of {known}").format(
                            flow=flow.name, known=", ".join(known)
                        ),
                    )


def _neighbours(rules: Rules) -> Iterator[Finding]:
    for name in rules.platform.neighbours:
        if name in {*rules.inventory.groups, *rules.inventory.hosts, *LINE_ENDPOINTS, WORKSTATION}:
            yield rules.finding(
                f"neighbours.{name}", name, _("a group or host is called so; choose another name")
            )


def _alert_routes(rules: Rules) -> Iterator[Finding]:
    alerts = rules.platform.drift_alerts
    for key, place in (("relay", alerts.relay), ("webhook", alerts.webhook)):
        if place is None:
            continue
        address = str(place.address)
        for host in rules.inventory.hosts_in("watch_hosts"):
            outbound = firewall_of(rules.inventory, host).outbound
            if not any(address in rule.peers and place.port in rule.ports for rule in outbound):
                yield rules.finding(
                    f"drift_alerts.{key}.address",
                    address,
                    _(
                        "no flow leads there from {host}: name it in neighbours, and add a flow"
                    ).format(host=host),
                )


def _named_groups(rules: Rules) -> Iterator[Finding]:
    for index, operator in enumerate(rules.platform.operators):
        for name in operator.hosts:
            if name not in rules.inventory.groups:
                yield rules.finding(
                    f"operators[{index}].hosts", name, _("unknown group; correct its spelling")
                )
    for index, vault in enumerate(rules.platform.vaults):
        if vault.group not in rules.inventory.groups:
            yield rules.finding(
                f"vaults[{index}].group", vault.group, _("unknown group; correct its spelling")
            )
    for name in rules.platform.audit_key_files:
        if name not in rules.inventory.groups:
            yield rules.finding("audit_key_files", name, _("unknown group; correct its spelling"))


def _host_kinds(rules: Rules) -> Iterator[Finding]:
    hosts_file = rules.inventory.folder.relative_to(rules.inventory.folder.parent.parent)
    for kind in HOST_KINDS:
        if kind.needed and not hosts_of(rules.inventory, [kind]):
            yield Finding(
                hosts_file / "hosts.yml",
                kind.group,
                _("empty"),
                _("the plan needs a host in this group"),
            )
    for host in rules.inventory.hosts:
        kinds = kinds_of(rules.inventory, host)
        if len(kinds) != 1:
            yield Finding(
                hosts_file / "hosts.yml",
                host,
                _("in {group} of the groups of a kind").format(
                    group=", ".join(kind.group for kind in kinds) or _("none")
                ),
                _("put it into one of {group}").format(
                    group=", ".join(kind.group for kind in HOST_KINDS)
                ),
            )
    members = rules.inventory.groups.get("etcd_members")
    count = len(rules.inventory.hosts_in("etcd_members")) if members else 0
    if count % 2 == 0:
        yield Finding(
            hosts_file / "hosts.yml",
            "etcd_members",
            _("{count} hosts").format(count=count),
            _(
                "an even number of etcd members tolerates no more failures than one fewer; "
                "make it odd, three or more"
            ),
        )


def _flows(rules: Rules) -> Iterator[Finding]:
    yield from _duplicates(rules, "flows", "name", rules.platform.flows)
    mirror = rules.platform.mirror_port
    reachable = any(
        WORKSTATION in flow.to and mirror in flow.ports and flow.protocol == "tcp"
        for flow in rules.platform.flows
    )
    if not reachable:
        yield rules.finding(
            "mirror_port", mirror, _("no flow lets the hosts reach the mirror on this port; add it")
        )


def _address_rows(rules: Rules) -> Iterator[Finding]:
    networks, table = rules.platform.networks, rules.platform.host_addresses
    for name in {"city", "line"} - networks.keys():
        yield rules.finding(
            "networks", sorted(networks), _("add the network {name}").format(name=name)
        )
    for host in rules.inventory.hosts:
        if host not in table:
            yield rules.finding(
                "host_addresses", sorted(table), _("add the host {host}").format(host=host)
            )
    for host in table:
        if host not in rules.inventory.hosts:
            yield rules.finding(
                f"host_addresses.{host}", host, _("no such host in hosts.yml; remove the row")
            )
    for host, kind in hosts_of(rules.inventory, HOST_KINDS):
        if not kind.in_city and host in table and table[host].city is not None:
            yield rules.finding(
                f"host_addresses.{host}.city",
                table[host].city,
                _("a datacenter host has no place in the city's network; remove it (K-01)"),
            )


def _address_values(rules: Rules) -> Iterator[Finding]:
    networks = rules.platform.networks
    rows = {f"host_addresses.{host}": row for host, row in rules.platform.host_addresses.items()}
    rows["workstation_addresses"] = rules.platform.workstation_addresses
    seen: dict[object, str] = {}
    for key, row in rows.items():
        if row.line is None:
            yield rules.finding(
                key, _("no line"), _("add the address that the datacenter line sees")
            )
        for network, address in (("city", row.city), ("line", row.line)):
            if address is None or network not in networks:
                continue
            place = f"{key}.{network}"
            cidr = networks[network].cidr
            if address not in cidr:
                yield rules.finding(
                    place,
                    address,
                    _("outside networks.{network} {cidr}; correct one of them").format(
                        network=network, cidr=cidr
                    ),
                )
            if address in seen:
                yield rules.finding(
                    place,
                    address,
                    _("{seen} has it already; correct one").format(seen=seen[address]),
                )
            seen[address] = place


def _lines(rules: Rules) -> Iterator[Finding]:
    lines = rules.platform.lines
    slugs = {row.slug for row in rules.platform.municipalities}
    for index, row in enumerate(rules.platform.municipalities):
        if row.slug not in lines:
            yield Finding(
                rules.inventory.file_of("lines"),
                f"lines.{row.slug}",
                _("missing"),
                _(
                    "municipalities[{index}] {name} has no line; add its counters' networks "
                    "and its registry's address"
                ).format(index=index, name=row.name),
            )
    for slug in lines.keys() - slugs:
        yield rules.finding(f"lines.{slug}", slug, _("no such municipality; remove it"))
    named: list[tuple[str, IPv4Network]] = [
        (f"lines.{slug}.counters", network)
        for slug, row in lines.items()
        for network in row.counters
    ]
    named += [(f"networks.{name}", row.cidr) for name, row in rules.platform.networks.items()]
    for (name, network), (other_name, other) in combinations(named, 2):
        if network.overlaps(other):
            yield rules.finding(
                name,
                network,
                _("overlaps {other_name} {other}; every network stands alone").format(
                    other_name=other_name, other=other
                ),
            )


def _exchange_way(rules: Rules) -> Iterator[Finding]:
    port = rules.platform.link_policy.port
    if not any(REGISTRIES in flow.from_ and port in flow.ports for flow in rules.platform.flows):
        yield rules.finding(
            "link_policy.port", port, _("no flow from registries leads to this port; add it")
        )


def _operators(rules: Rules) -> Iterator[Finding]:
    yield from _duplicates(rules, "operators", "id", rules.platform.operators)
    for index, operator in enumerate(rules.platform.operators):
        if operator.status == "active" and operator.is_over(rules.today):
            yield rules.finding(
                f"operators[{index}].valid_until",
                operator.valid_until,
                _(
                    "the validity of {id} has expired; renew it with an approval, or set "
                    "status: ended"
                ).format(id=operator.id),
            )


def _timing(rules: Rules) -> Iterator[Finding]:
    profiles = rules.platform.timing_profiles
    if rules.platform.timing_profile not in profiles:
        yield rules.finding(
            "timing_profile",
            rules.platform.timing_profile,
            _("no such profile; choose of {profiles}").format(profiles=", ".join(sorted(profiles))),
        )


def _vaults(rules: Rules) -> Iterator[Finding]:
    for attribute in ("name", "repository", "account", "cipher_secret", "root"):
        yield from _duplicates(rules, "vaults", attribute, rules.platform.vaults)
    for index, vault in enumerate(rules.platform.vaults):
        if vault.group in rules.inventory.groups:
            count = len(rules.inventory.hosts_in(vault.group))
            if count != 1:
                yield rules.finding(
                    f"vaults[{index}].group",
                    vault.group,
                    _(
                        "{count} hosts; a vault lives on exactly one: give it a group of its own"
                    ).format(count=count),
                )


def _packages(rules: Rules) -> Iterator[Finding]:
    if "baseline" not in rules.platform.packages:
        yield rules.finding(
            "packages",
            _("without baseline"),
            _("name what every host needs before any service; the row foundation is called so now"),
        )


def _volumes(rules: Rules) -> Iterator[Finding]:
    yield from _duplicates(rules, "volumes", "mount", rules.platform.volumes)
    if "/" not in {volume.mount for volume in rules.platform.volumes if not volume.groups}:
        yield rules.finding("volumes", _("without /"), _("give every host a volume at /"))
    for index, volume in enumerate(rules.platform.volumes):
        for place, group in enumerate(volume.groups):
            try:
                rules.inventory.hosts_in(group)
            except KosekiError as error:
                yield rules.finding(f"volumes[{index}].groups[{place}]", group, error.remedy)


def _waivers(rules: Rules) -> Iterator[Finding]:
    yield from _duplicates(rules, "waivers", "id", rules.platform.waivers)
    operators = {row.id: row for row in rules.platform.operators}
    zone = ZoneInfo(rules.platform.timezone)
    for index, waiver in enumerate(rules.platform.waivers):
        if waiver.host not in [*rules.inventory.hosts, WORKSTATION]:
            yield rules.finding(
                f"waivers[{index}].host", waiver.host, _("no such host in hosts.yml; correct it")
            )
        day = waiver.granted.astimezone(zone).date()
        for part, person in (("owner", waiver.owner), ("approver", waiver.approver)):
            row = operators.get(person)
            if row is None:
                yield rules.finding(
                    f"waivers[{index}].{part}", person, _("no such operator; name one of the plan")
                )
            elif not row.covers(day):
                yield rules.finding(
                    f"waivers[{index}].{part}",
                    person,
                    _("was no operator on {day}, when {id} was granted; name another").format(
                        day=day, id=waiver.id
                    ),
                )


ALL_RULES: tuple[Callable[[Rules], Iterator[Finding]], ...] = (
    _municipalities,
    _joinings,
    _flow_endpoints,
    _neighbours,
    _alert_routes,
    _named_groups,
    _host_kinds,
    _flows,
    _address_rows,
    _address_values,
    _lines,
    _exchange_way,
    _operators,
    _timing,
    _vaults,
    _packages,
    _volumes,
    _waivers,
)
