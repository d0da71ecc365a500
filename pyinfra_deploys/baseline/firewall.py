"""nftables: the inventory's flows, both ways, and nothing else."""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra_deploys.baseline.host_data import HostData
from pyinfra_deploys.baseline.operations import File, ensure, put_files

from koseki_ops.plan.flows import firewall_of, ruleset

RULES = "/etc/nftables.conf"
LOADED = "/var/lib/koseki/firewall.loaded"
LOAD = f"nft -f {RULES} && mkdir -p /var/lib/koseki && nft -s list ruleset | sha256sum >{LOADED}"


@deploy("Keep the firewall")
def firewall(data: HostData) -> None:
    """Load the rules of this host's flows; undone by the host itself if they cut us off."""
    put_files(
        name="Keep its rules",
        files=(File(RULES, ruleset(firewall_of(data.inventory, data.name)), "0755"),),
        validate=f'nft -c -f "$STAGE{RULES}"',
        then=LOAD,
        rollback_unless_reachable=True,
    )
    ensure(
        name="Load the rules that are kept",
        question=f'[ "$(nft -s list ruleset | sha256sum)" = "$(cat {LOADED})" ]; echo $?',
        wanted=["0"],
        change=LOAD,
    )
    ensure(
        name="Load the rules at boot",
        question='printf "%s\\n" "$(systemctl is-enabled nftables.service)"',
        wanted=["enabled"],
        change="systemctl enable nftables.service",
        owns=[("service", "nftables.service", {})],
    )
