"""What the tests cost: the rows that stages and drills leave, their sums, and what is declared.

Two files of one JSON object a line hold them, below the checkout's `var/`. `tools/run-tests` writes
a row a stage: stage, wall (seconds), cores (core-seconds in which the machine was busy meanwhile),
exit. The drills' fixtures write a row a drill: drill (its id), file, outcome, lab, wall, waited
(seconds of it that passed while another lab had the machine), cores, counts (of each kind of heavy
work). `tests/drills/costs.yml` declares for each file how many drills it has and what they do:

    test_apply.py: {drills: 12, restore: 1, apply: 4, check: 2}

A kind that is not named is declared never to happen. The standard library of Debian 12's Python
is enough for this file, because `tools/run-tests` reads it before anything is installed.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

STAGES = Path("var/reports/stages.jsonl")
DRILLS = Path("var/drills/reports/drills.jsonl")
DECLARED = Path("tests/drills/costs.yml")
# Heavy work, in the order of the table's columns.
KINDS = ("restore", "apply", "check", "baseline", "playbook", "verify", "sweep")
HOW_MANY = "drills"
# Of /proc/stat's first line: user, nice, system, irq and softirq; what a guest used is in user.
BUSY_FIELDS = (1, 2, 3, 6, 7)
CAPTIONS = ("stage or drill file", "drills", "wall s", "waited s", "cores")


class CostsError(Exception):
    """A ledger that cannot be read: one sentence with what, what was seen, and the remedy."""


@dataclass
class Cost:
    """What some drills cost together.

    drills: how many; passed: how many of them passed; wall, waited: seconds; cores: core-seconds
    of the machine; counts: how often each kind of heavy work was done.
    """

    drills: int = 0
    passed: int = 0
    wall: float = 0.0
    waited: float = 0.0
    cores: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, row: Row) -> None:
        """Add a drill's row."""
        self.drills += 1
        self.passed += row["outcome"] == "passed"
        self.wall += row["wall"]
        self.waited += row["waited"]
        self.cores += row["cores"]
        # Not update(): a count of nothing shall not make a kind known.
        self.counts += Counter(row["counts"])


def busy_seconds() -> float:
    """Return the core-seconds that this machine was busy for since it started (proc(5))."""
    words = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return sum(int(words[number]) for number in BUSY_FIELDS) / os.sysconf("SC_CLK_TCK")


def append(path: Path, row: Row) -> None:
    """Add a row in one write, so that labs may share a ledger."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(row, ensure_ascii=False) + "\n"
    with path.open("ab", buffering=0) as ledger:
        ledger.write(line.encode())


def read(path: Path) -> list[dict[str, Any]]:
    """Return a ledger's rows, oldest first; none when there is no such file."""
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise CostsError(
                f"a ledger has a line that is no row ({path}:{number}: {error}): remove the file, "
                "the next run writes it anew"
            ) from error
        rows.append(row)
    return rows


def by_file(rows: Iterable[Row]) -> dict[str, Cost]:
    """Return the sum of each drill file."""
    costs: dict[str, Cost] = {}
    for row in rows:
        costs.setdefault(row["file"], Cost()).add(row)
    return costs


def table(stages: Sequence[Row], drills: Sequence[Row]) -> str:
    """Return stages, drill files (the longest first) and their sum as plain text.

    Cores is how many were busy on average meanwhile, with all that ran beside: lanes and labs that
    share the machine are all charged with it, and the walls of a sum may have overlapped.
    """
    costs = sorted(by_file(drills).items(), key=lambda item: -item[1].wall)
    total = Cost()
    for row in drills:
        total.add(row)
    kinds = [*KINDS, *sorted(set(total.counts) - set(KINDS))] if drills else []
    lines = [[*CAPTIONS, *kinds]]
    lines += [_stage_line(row) + [""] * len(kinds) for row in stages]
    lines += [_cost_line(file, cost, kinds) for file, cost in costs]
    if drills:
        lines.append(_cost_line("all drills", total, kinds))
    else:
        wall, cores = (sum(row[name] for row in stages) for name in ("wall", "cores"))
        lines.append(["all stages", "", f"{wall:.1f}", "", _average(cores, wall)])
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _stage_line(row: Row) -> list[str]:
    name = row["stage"] + (f" (exit {row['exit']})" if row["exit"] else "")
    return [name, "", f"{row['wall']:.1f}", "", _average(row["cores"], row["wall"])]


def _cost_line(name: str, cost: Cost, kinds: Sequence[str]) -> list[str]:
    failed = cost.drills - cost.passed
    return [
        name + (f" ({failed} not passed)" if failed else ""),
        str(cost.drills),
        f"{cost.wall:.1f}",
        f"{cost.waited:.1f}",
        _average(cost.cores, cost.wall),
        *(str(cost.counts[kind] or "") for kind in kinds),
    ]


def _average(cores: float, wall: float) -> str:
    return f"{cores / wall:.2f}" if wall else ""


def undeclared(declared: Mapping[str, Mapping[str, int]], rows: Iterable[Row]) -> list[str]:
    """Return a sentence for each drill file that does not cost what is declared for it.

    Exact when every drill of the file ran and passed; otherwise it may cost less, never more.
    """
    sentences = []
    for file, cost in sorted(by_file(rows).items()):
        counted = {HOW_MANY: cost.drills, **cost.counts}
        if file not in declared:
            seen = ", ".join(f"{kind}: {number}" for kind, number in counted.items())
            sentences.append(
                f"nothing is declared for a drill file ({file}: {{{seen}}} were counted): "
                f"declare it in {DECLARED}"
            )
            continue
        said = declared[file]
        whole = cost.passed == said.get(HOW_MANY)
        differences = [
            f"{kind}: {counted.get(kind, 0)} counted, {said.get(kind, 0)} declared"
            for kind in dict.fromkeys([HOW_MANY, *KINDS, *said, *counted])
            if counted.get(kind, 0) > said.get(kind, 0)
            or (whole and counted.get(kind, 0) != said.get(kind, 0))
        ]
        if differences:
            sentences.append(
                f"a drill file does not cost what it declares ({file}: {'; '.join(differences)}): "
                f"let it do what is declared, or declare what it does in {DECLARED}"
            )
    return sentences
