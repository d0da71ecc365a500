"""Bring a site to what its inventory says: the baseline first, then the services."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.core.locks import exclusive
from koseki_ops.core.progress import OnProgress
from koseki_ops.core.results import EngineResult, HostResult, merge
from koseki_ops.drift.history.waivers import hand_out
from koseki_ops.drift.judge.sweep import after_apply, before_apply
from koseki_ops.drift.observe.items import State
from koseki_ops.engines import ansible_run, pyinfra_run
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.rules import load_platform
from koseki_ops.plan.site import Site
from koseki_ops.registers.link import service as link
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.supply import release, toolkit
from koseki_ops.supply.mirror import verify_mirror
from koseki_ops.trust import authorities, terminals
from koseki_ops.trust.secrets import load_secrets

DEPLOYS = (
    "pyinfra_deploys/baseline/deploy.py",
    "pyinfra_deploys/vault/deploy.py",
    "pyinfra_deploys/watch_host/deploy.py",
)
PLAYBOOK = "playbooks/site.yml"
ENGINES = ("baseline", "services")


@dataclass(frozen=True)
class Plan:
    """What an apply is asked to do. limit: hosts, empty for all; check: change nothing."""

    check: bool = False
    limit: tuple[str, ...] = ()
    engines: tuple[str, ...] = ENGINES


def prepare(site: Site, inventory: Inventory) -> None:
    """Ask every question that can be asked before a host is touched.

    Raises KosekiError when the inventory does not hold, a secret cannot be read, or the mirror
    is missing, unsigned or altered, and the same for the application's release. A lab builds and
    signs the stand-in by itself, and plays the terminals.
    """
    if site.watch_host:
        raise KosekiError(
            _("{origin} only asks, and changes nothing").format(origin=site.origin),
            site.inventory_name,
            _("run `koseki apply` on the control node"),
        )
    platform = load_platform(inventory)
    secrets = load_secrets(site)
    authorities.require(site)
    verify_mirror(site)
    wanted = platform.application_release
    if site.is_lab and wanted.name == release.STAND_IN_NAME:
        release.ensure_stand_in(site)
    archive = release.folder_of(site) / f"{wanted.name}-{wanted.version}.tar.gz"
    release.verify(archive, release.signers_of(site))
    days = platform.certificate_policy.authority_days
    authorities.ensure_internal(site, str(secrets["pki_ca_passphrase"]), days)
    terminals.ensure_authority(site, platform)
    if site.is_lab:
        terminals.ensure_stand_ins(site, platform)
        link.ensure_stand_ins(site, platform)
    link.verify_keys(site, platform)
    ensure_site_ssh(site, inventory)


def one_at_a_time(site: Site) -> AbstractContextManager[None]:
    """Hold the site's lock; a second apply is refused at once instead of waiting."""
    return exclusive(
        site.state / "apply.lock", _("another apply is at work on {site}").format(site=site.name)
    )


def apply(site: Site, plan: Plan, on_progress: OnProgress) -> EngineResult:
    """Run the engines in order and return what they did on each host.

    A host that does not answer is named and left out of what follows; the others go on.
    Services are not started where the baseline failed.
    """
    inventory = Inventory(site.inventory)
    hosts = _limited(inventory, plan.limit)
    prepare(site, inventory)
    started = time.monotonic()
    results: list[EngineResult] = []
    with one_at_a_time(site):
        before = {} if plan.check else before_apply(site, hosts)
        if "baseline" in plan.engines:
            on_progress(_("baseline: {count} hosts").format(count=len(hosts)))
            results.append(
                pyinfra_run.run_deploys(
                    site, list(DEPLOYS), limit=hosts, check=plan.check, progress=on_progress
                )
            )
        stopped = {name for result in results for name, host in result.hosts.items() if _bad(host)}
        served = [
            host for host in inventory.hosts_in("city") if host in hosts and host not in stopped
        ]
        if plan.check:
            # Services need the accounts and packages that only a real apply would lay.
            bare = {name for result in results for name, host in result.hosts.items() if host.bare}
            if bare & set(served):
                on_progress(
                    _("services: what they change on bare hosts is known once the baseline is laid")
                )
            served = [host for host in served if host not in bare]
        if "services" in plan.engines and served:
            on_progress(_("services: {count} hosts").format(count=len(served)))
            results.append(
                ansible_run.run_playbook(
                    site, PLAYBOOK, limit=served, check=plan.check, progress=on_progress
                )
            )
        total = merge(results)
        for host in hosts:
            total.hosts.setdefault(host, HostResult())
        if not plan.check:
            _leave_manifests(site, inventory, plan, results, total, before, on_progress)
            total = merge([total, _hand_over(site, inventory, hosts, total, on_progress)])
    total.seconds = time.monotonic() - started
    return total


def _leave_manifests(
    site: Site,
    inventory: Inventory,
    plan: Plan,
    results: list[EngineResult],
    total: EngineResult,
    before: dict[str, State],
    on_progress: OnProgress,
) -> None:
    """Write down what must be true from now on, on every host where all engines did their work."""
    done = [name for name, host in total.hosts.items() if not _bad(host)]
    if not done:
        return
    on_progress(_("manifests: {count} hosts").format(count=len(done)))
    names = {pyinfra_run.ENGINE: "baseline", ansible_run.ENGINE: "services"}
    declared = {
        host: {
            names[result.engine]: result.hosts[host].declared
            for result in results
            if host in result.hosts
        }
        for host in done
    }
    bare = {host for host in done if total.hosts[host].bare}
    engines = frozenset(plan.engines)
    for host, why in after_apply(site, declared, engines, bare, before, inventory.hosts):
        total.hosts[host].failed += 1
        total.hosts[host].errors.append(_("{host}: its manifest: {why}").format(host=host, why=why))


def _hand_over(
    site: Site,
    inventory: Inventory,
    hosts: list[str],
    so_far: EngineResult,
    on_progress: OnProgress,
) -> EngineResult:
    """Give the hosts that keep watch what was noted here, also when others alone were changed.

    It is a copy of this workstation's own records: no change of the platform.
    """
    result = EngineResult("hand-over")
    hand_out(site)
    for host in toolkit.watch_hosts(inventory):
        if _bad(so_far.hosts.get(host, HostResult())):
            continue  # its own sentence has been printed
        unreachable_reason = toolkit.hand_over(site, host)
        if toolkit.NOT_KNOWN in unreachable_reason and host not in hosts:
            on_progress(
                _("{host} is no watch host yet: its first apply makes it one").format(host=host)
            )
        elif unreachable_reason:
            sentence = _(
                "{host} did not get what was applied ({unreachable_reason}): run "
                "`koseki apply` again"
            ).format(host=host, unreachable_reason=unreachable_reason)
            result.hosts[host] = HostResult(unreachable=True, errors=[sentence])
    return result


def _bad(host: HostResult) -> bool:
    return host.unreachable or host.failed > 0


def _limited(inventory: Inventory, limit: tuple[str, ...]) -> list[str]:
    chosen = {host for name in limit for host in inventory.resolve(name)}
    return [host for host in inventory.hosts if not limit or host in chosen]


def as_json(result: EngineResult) -> dict[str, Any]:
    """Return the contract's object: changed, failed, seconds, hosts."""
    return {
        "changed": result.changed,
        "failed": result.failed,
        "seconds": round(result.seconds, 1),
        "hosts": {
            name: {
                "changed": host.changed,
                "failed": host.failed,
                "unreachable": host.unreachable,
                "changes": host.changes,
                "errors": host.errors,
            }
            for name, host in result.hosts.items()
        },
    }
