"""The baseline, identical on every host: table of contents.

By hand: pyinfra @koseki/lab pyinfra_deploys/baseline/deploy.py
"""

from __future__ import annotations

from pyinfra import host
from pyinfra_deploys.baseline.accounts import accounts
from pyinfra_deploys.baseline.audit import audit
from pyinfra_deploys.baseline.firewall import firewall
from pyinfra_deploys.baseline.hardening_kernel import hardening_kernel
from pyinfra_deploys.baseline.host_data import HostData
from pyinfra_deploys.baseline.inspection import inspection
from pyinfra_deploys.baseline.operations import Absent, File, put_files, recover_rollback
from pyinfra_deploys.baseline.packages import package_source
from pyinfra_deploys.baseline.sshd import sshd
from pyinfra_deploys.baseline.system import system

from koseki_ops.plan.revision import inputs_of

# Beside it lies the services' own; `koseki drift` compares both with what it knows of.
MARK = "/var/lib/koseki/applied-baseline"
FORMER_MARK = "/var/lib/koseki/applied-ground"


def baseline() -> None:
    """Settle one host, in the order in which each part needs the one before."""
    data = HostData.of(host)
    today = data.inventory.today
    recover_rollback(name="Prove what a broken-off run left")
    package_source(data=data)
    system(data=data)
    inspection(data=data, today=today)
    accounts(data=data, today=today)
    sshd(data=data, today=today)
    firewall(data=data)
    hardening_kernel(data=data)
    audit(data=data)
    put_files(
        name="Note which inventory this baseline is from",
        files=(File(MARK, f"{inputs_of(data.site).tree}\n"), Absent(FORMER_MARK)),
    )


baseline()
