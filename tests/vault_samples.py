"""A vault as koseki-seal itself makes it, by the test's own clock, and what a sweep reads of it."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from koseki_ops.drift.history.seals import Sealing
from koseki_ops.drift.model import SealLink
from koseki_ops.drift.observe import probe
from koseki_ops.drift.observe.items import State

ROOT = Path(__file__).resolve().parents[1]
SEAL = ROOT / "host_programs/koseki_seal/sbin/koseki-seal"
PROBE = ROOT / "src/koseki_ops/drift/observe/probe.sh"
HOST, VAULT = "remote-backup1", "remote"
SEALING = Sealing({VAULT: HOST}, 6, 3)
# What the program needs of a host that this machine's disk and account may not give.
STAND_INS = {
    "chattr": "#!/bin/sh\n",
    "setpriv": '#!/bin/sh\nshift 3\nexec "$@"\n',
    "date": "#!/bin/sh\ncat {folder}/now\n",
}


@dataclass
class Vault:
    """A vault's host: its sealed generations, the clock by which they are made, its program."""

    folder: Path
    now: datetime = datetime(2026, 11, 24, 8, 15, tzinfo=UTC)
    made: list[str] = field(default_factory=list)

    @property
    def generations(self) -> Path:
        """Where the manifests lie."""
        return self.folder / f"{VAULT}-sealed/generations"

    def prepare(self) -> None:
        """Give the program the places and helpers that it needs."""
        for name in ("bin", "etc", "state", VAULT):
            (self.folder / name).mkdir(parents=True)
        for name, text in STAND_INS.items():
            (self.folder / "bin" / name).write_text(text.format(folder=self.folder))
            (self.folder / "bin" / name).chmod(0o755)
        text = SEAL.read_text(encoding="utf-8")
        for place, ours in (
            ("/etc/koseki/vaults", "etc"),
            ("/var/lib/koseki/seal", "state"),
            ("/run/koseki-seal", "lock"),
        ):
            text = text.replace(place, str(self.folder / ours))
        (self.folder / "bin/koseki-seal").write_text(text)
        (self.folder / f"etc/{VAULT}.conf").write_text(
            f"ROOT={self.folder / VAULT}\nACCOUNT=nobody\n"
            f"KEEP_GENERATIONS={SEALING.generations}\nKEEP_DAYS={SEALING.days}\n"
        )

    def seal(self, minutes: float = 15) -> None:
        """Upload something, and seal it some minutes after the last time."""
        self.now += timedelta(minutes=minutes)
        stamp = self.now.strftime("%Y%m%dT%H%M%SZ")
        (self.folder / "now").write_text(stamp + "\n")
        (self.folder / VAULT / "copy").write_text(stamp)
        self.made.append(stamp)
        assert self.run("make").returncode == 0

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the program on this vault."""
        return subprocess.run(
            [
                # An open hole neither fills this disk nor outlives its test.
                *("timeout", "60", "sh", "-c", 'ulimit -f 40000; exec sh "$@"', "sh"),
                *(str(self.folder / "bin/koseki-seal"), words[0], VAULT, *words[1:]),
            ],
            env={"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"},
            check=False,
            capture_output=True,
            text=True,
        )

    def answer(self) -> dict[str, tuple[SealLink, ...]]:
        """Return what a sweep reads from this host's answer."""
        text = PROBE.read_text(encoding="utf-8")
        functions = [
            re.search(rf"^{name}\(\) {{\n.*?^}}\n", text, re.MULTILINE | re.DOTALL)
            for name in ("there", "ask_seals", "part_seals")
        ]
        script = "\n".join(found[0] for found in functions if found)
        done = subprocess.run(
            ["sh", "-uc", f"patience=1 sealed={self.generations}\n{script}\npart_seals"],
            check=True,
            capture_output=True,
            text=True,
        )
        state = State()
        said = done.stdout.replace(str(self.folder), "/srv/vault")
        probe.READERS["seals"](state, said)
        return state.seals
