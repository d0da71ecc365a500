"""Names, time, journal and console: the same on every host."""

from __future__ import annotations

import time

from pyinfra.api import StringCommand, deploy, operation
from pyinfra_deploys.baseline.host_data import HostData
from pyinfra_deploys.baseline.operations import Commands, File, ShellAnswer, ask, put_files
from pyinfra_deploys.baseline.templates import render

from koseki_ops.engines.connector import seconds_apart
from koseki_ops.engines.prefetch import AT_THIS_MOMENT

OWNER = "# Managed by koseki (pyinfra, baseline/system.py). Do not edit.\n"
TOLERATED_SKEW_SECONDS = 1.5


def hosts_file(data: HostData) -> str:
    """Return /etc/hosts: names and addresses as this host sees them."""
    domain = data.plan.domain
    lines = [OWNER + "127.0.0.1 localhost"]
    lines += [
        f"{address} {name}.{domain} {name}" for name, address in sorted(data.known_hosts.items())
    ]
    return "\n".join(lines) + "\n"


@operation()
def set_clock(data: HostData) -> Commands:
    """Set the clock of a host that asks nobody, over the management connection, when it is off."""
    if data.time_sources:
        return
    asked = time.time()
    (answer,) = ask(ShellAnswer, question=f"{AT_THIS_MOMENT}date +%s.%N")
    if seconds_apart(float(answer), asked, time.time()) > TOLERATED_SKEW_SECONDS:
        yield StringCommand(f"date --set=@{time.time():.3f}")


@deploy("Settle names, time, journal and console")
def system(data: HostData) -> None:
    """Keep what makes every host the same kind of host."""
    put_files(
        name="Settle names",
        files=(File("/etc/hostname", f"{data.name}\n"), File("/etc/hosts", hosts_file(data))),
        then="hostname -F /etc/hostname",
    )
    put_files(
        name="Settle time",
        files=(
            File(
                "/etc/chrony/chrony.conf",
                render("/etc/chrony/chrony.conf", sources=data.time_sources),
            ),
            File("/etc/localtime", link_to=f"/usr/share/zoneinfo/{data.plan.timezone}"),
            File("/etc/timezone", f"{data.plan.timezone}\n"),
        ),
        validate='[ ! -e "$STAGE/etc/chrony/chrony.conf" ] || '
        'chronyd -p -f "$STAGE/etc/chrony/chrony.conf" >/dev/null',
        then="systemctl try-restart chrony.service",
    )
    set_clock(name="Set the clock of a host that asks nobody", data=data)
    put_files(
        name="Keep the journal across reboots",
        files=(
            File(
                "/etc/systemd/journald.conf.d/koseki.conf",
                OWNER + "[Journal]\nStorage=persistent\nSystemMaxUse=1G\nMaxRetentionSec=1year\n",
            ),
        ),
        then="mkdir -p /var/log/journal && systemctl restart systemd-journald.service && "
        "journalctl --flush",
    )
    put_files(
        name="Lock the console",
        files=(
            File(
                "/etc/profile.d/koseki-idle.sh",
                render("/etc/profile.d/koseki-idle.sh", seconds=data.policy.console_idle_seconds),
            ),
            File("/etc/systemd/system/ctrl-alt-del.target", link_to="/dev/null"),
            File(
                "/etc/systemd/system.conf.d/koseki.conf",
                OWNER + "[Manager]\nCtrlAltDelBurstAction=none\n",
            ),
        ),
        then="systemctl daemon-reload",
    )
