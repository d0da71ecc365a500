"""What the watch may ask of a host: the program that answers, the probe, the suites' questions."""

from __future__ import annotations

from datetime import date

from pyinfra.api import deploy
from pyinfra_deploys.baseline.host_data import HostData
from pyinfra_deploys.baseline.operations import File, put_files

from koseki_ops.drift.judge.declared import Declared
from koseki_ops.drift.observe.probe import policy_text, probe_text
from koseki_ops.plan.host_programs import program_files
from koseki_ops.trust.ssh_ca import WATCH_HOSTS
from koseki_ops.verify.admitted import admitted_questions
from koseki_ops.verify.expectations import Plan

LIBRARY = "/usr/local/lib/koseki-inspect"
OWNER = "# Managed by koseki (pyinfra, baseline/inspection.py). Do not edit.\n"


@deploy("Keep what the watch may ask")
def inspection(data: HostData, today: date) -> None:
    """Keep all that may be started for the watch, root's and known to every sweep by its hash.

    The questions come with an apply: one that a later toolkit asks is refused until then.
    """
    Declared.of(data.name).folder(LIBRARY, "0755", "root", "root")
    programs = program_files(data.site.root, "koseki_inspect")
    put_files(
        name="Keep what the watch may ask",
        files=[
            File(f"{LIBRARY}/policy", OWNER + policy_text()),
            File(f"{LIBRARY}/probe", probe_text()),
            File(f"{LIBRARY}/questions", _questions(data, today), "0600"),
            *(File(file.path, file.source.read_bytes(), file.mode) for file in programs),
        ],
    )


def _questions(data: HostData, today: date) -> str:
    """Return the hashes of the suites' questions, sorted as the program compares them."""
    plan = Plan(data.site, data.inventory, data.plan, today)
    hashes = {
        digest
        for watch_host in data.inventory.hosts_in(WATCH_HOSTS)
        for digest in admitted_questions(plan, data.name, watch_host)
    }
    return "".join(f"{digest}\n" for digest in sorted(hashes))
