"""sshd: the platform's certificates and nothing else."""

from __future__ import annotations

from datetime import date

from pyinfra.api import deploy
from pyinfra_deploys.baseline.accounts import principals
from pyinfra_deploys.baseline.host_data import HostData
from pyinfra_deploys.baseline.operations import Absent, File, ShellAnswer, ask, put_files
from pyinfra_deploys.baseline.templates import render

from koseki_ops.trust.ssh_ca import FORCED_COMMAND, INSPECTOR, files_of, host_certificate

DROP_IN = "/etc/ssh/sshd_config.d/10-koseki.conf"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"


@deploy("Keep sshd")
def sshd(data: HostData, today: date) -> None:
    """Certify the host, list principals, close root; undone unless a new connection works."""
    (public_key,) = ask(ShellAnswer, question=f"cat {HOST_KEY}")
    certificate = host_certificate(data.site, data.inventory, data.name, f"{public_key}\n")
    authority = files_of(data.site).user_ca.with_suffix(".pub").read_text(encoding="ascii")
    put_files(
        name="Keep the certificate and the principals",
        files=(
            File("/etc/ssh/ssh_host_ed25519_key-cert.pub", certificate),
            File("/etc/ssh/koseki_user_ca.pub", authority),
            *principals(data, today),
        ),
        then="systemctl reload ssh.service",
    )
    put_files(
        name="Keep its configuration",
        files=(
            File(
                DROP_IN,
                render(DROP_IN, inspector=INSPECTOR, forced_command=FORCED_COMMAND),
            ),
        ),
        validate=f'sshd -t -f "$STAGE{DROP_IN}"',
        then="sshd -t && systemctl reload ssh.service",
        rollback_unless_reachable=True,
    )
    # The installer's key is no longer needed: the connection above has been proved.
    put_files(name="Remove root's keys", files=(Absent("/root/.ssh/authorized_keys"),))
