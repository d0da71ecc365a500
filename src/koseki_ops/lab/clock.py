"""The control node's clock: what a machine with a clock of its own asks for the time.

It serves this computer's time inside a lab's namespace and sets nothing here.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from koseki_ops.lab.network import LabNetwork
from koseki_ops.lab.process import Process

PACKAGES = ("chrony",)
CONFIGURATION = "koseki-clock.conf"


def serve(network: LabNetwork, tree: Path, address: str, log: Path) -> Process:
    """Serve time at an address of the lab's namespace; return the server.

    tree: a tree of the platform's own Debian with chrony in it.
    """
    # It is nobody's business but the machines': no commands, no file that outlives it.
    (tree / "etc/chrony" / CONFIGURATION).write_text(
        f"local stratum 3\nallow\nbindaddress {address}\ncmdport 0\nbindcmdaddress /\n"
        "pidfile /run/koseki-clock.pid\n",
        encoding="ascii",
    )
    chronyd = ["chronyd", "-x", "-d", "-u", "root", "-f", f"/etc/chrony/{CONFIGURATION}"]
    private = ["unshare", "--mount", "--propagation", "private", "chroot", str(tree)]
    with log.open("ab") as file:
        started = subprocess.Popen(
            network.enter([*private, *chronyd]),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    return Process.of(started.pid)
