"""Every session of our own has limits: for what others hold, for its work, and for its caller."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
# What asks by SQL on hosts, or has it asked there; the lab's and the benchmark's own have a lab.
PLACES = ("roles", "host_programs", "pyinfra_deploys", "playbooks", "src/koseki_ops")
WITHOUT = ("src/koseki_ops/lab/", "src/koseki_ops/bench/")
# A call of psql or of the driver: an argument list's word, a command's word, a connection.
CALL = re.compile(
    r"""\[psql,|"psql"|\bpsql (?:"?-[-X]|--no-psqlrc)"""
    r"""|psycopg2\.connect\(|postgresql_(?:query|script)"""
)
# Where another's limits hold: what a role's own settings bound, and what only reads a word.
BY_ROLE = {
    "host_programs/koseki_link/lib/koseki-link/koseki_link/ledger.py": "LINK in plan/shares.py",
    "src/koseki_ops/verify/plugin.py": "reads one function of the server, within the batch's time",
}


def texts() -> dict[str, str]:
    """Return each file of ours that asks a database, with its text."""
    found = {}
    for place in PLACES:
        for path in sorted((ROOT / place).rglob("*")):
            name = str(path.relative_to(ROOT))
            if path.is_file() and path.suffix in {"", ".sh", ".py", ".yml", ".service", ".j2"}:
                text = path.read_text(encoding="utf-8")
                if not name.startswith(WITHOUT) and CALL.search(text):
                    found[name] = text
    return found


def test_every_place_that_asks_has_limits() -> None:
    """A file that asks is red until it says how long its sessions wait and work."""
    found = texts()
    assert len(found) > 10
    endless = {
        name
        for name, text in found.items()
        if not ({"lock_timeout", "statement_timeout"} <= set(re.findall(r"\w+_timeout", text)))
        and "OWN_SESSION" not in text
    }
    assert endless == BY_ROLE.keys()


def test_the_server_ends_what_nobody_waits_for() -> None:
    """After a caller was killed: the server itself looks whether somebody is still there."""
    path = ROOT / "tests/unit/golden/primary1/etc/patroni/config.yml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))["postgresql"]["parameters"]
    assert settings["client_connection_check_interval"] == "5s"
    assert settings["tcp_user_timeout"] == "30s"
