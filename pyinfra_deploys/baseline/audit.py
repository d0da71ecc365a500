"""Who did what, recorded by the kernel: auditd, its rules, and what happens when room runs out."""

from __future__ import annotations

from pyinfra.api import deploy
from pyinfra_deploys.baseline.host_data import HostData
from pyinfra_deploys.baseline.operations import Absent, File, ensure, put_files
from pyinfra_deploys.baseline.templates import render

DAEMON = "/etc/audit/auditd.conf"
RULES = "/etc/audit/rules.d/koseki.rules"
UNITS = ("audit-rules.service", "auditd.service")
OWNER = "# Managed by koseki (pyinfra, baseline/audit.py). Do not edit.\n"


@deploy("Keep the records of use")
def audit(data: HostData) -> None:
    """Keep auditd and its rules.

    The kernel takes rules at boot and locks them, so an apply loads none. A container has no audit
    of its own: there the files lie ready and the units stay at rest.
    """
    put_files(
        name="Keep the rules of the records of use",
        files=(
            File(
                RULES,
                render(
                    RULES,
                    key_files=data.inventory.audited_key_files(data.name),
                    engines=data.plan.automation_account,
                ),
                "0640",
            ),
            # The package's own would be a second list.
            Absent("/etc/audit/rules.d/audit.rules"),
            *(
                File(
                    f"/etc/systemd/system/{unit}.d/koseki.conf",
                    f"{OWNER}[Unit]\nConditionVirtualization=!container\n",
                )
                for unit in UNITS
            ),
        ),
        then="systemctl daemon-reload",
    )
    put_files(
        name="Keep the daemon of the records of use",
        files=(File(DAEMON, render(DAEMON, policy=data.audit_policy), "0640"),),
        then="if systemctl is-active --quiet auditd.service; then auditctl --signal reload; fi",
    )
    ensure(
        name="Record from boot on",
        # A unit that is not there yet is an answer, too.
        question="; ".join(f'echo "$(systemctl is-enabled {unit})"' for unit in UNITS),
        wanted=["enabled"] * len(UNITS),
        change=f"systemctl enable --quiet {' '.join(UNITS)}",
        owns=[("service", unit, {}) for unit in UNITS],
    )
