"""What the tests cost: rows are summed, shown, and held against what is declared."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import costs

Rows = list[dict[str, Any]]
# The machine has other things to do while these are asked: how long one takes is no property.
at_leisure = settings(deadline=None, database=None, max_examples=50)
files = st.sampled_from(["test_apply.py", "test_link.py", "test_lab.py"])
numbers = st.integers(0, 5)
seconds = st.integers(0, 10_000).map(lambda tenths: tenths / 10)
kinds = st.dictionaries(st.sampled_from(costs.KINDS), numbers)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "drill": st.just("tests/drills/some.py::test"),
            "file": files,
            "outcome": st.just("passed"),
            "lab": st.sampled_from(["gw0", "gw1"]),
            "wall": seconds,
            "waited": seconds,
            "cores": seconds,
            "counts": kinds,
        }
    ),
    min_size=1,
    max_size=12,
)
STAGE = {"stage": "lint", "wall": 20.0, "cores": 25.0, "exit": 0}


def declared_for(drills: Rows) -> dict[str, dict[str, int]]:
    """Return the declaration that is true of these rows."""
    return {
        file: {"drills": cost.drills, **cost.counts} for file, cost in costs.by_file(drills).items()
    }


@given(rows)
@at_leisure
def test_sums_lose_nothing(drills: Rows) -> None:
    """What all files cost is what all rows say."""
    sums = costs.by_file(drills).values()
    assert sum(cost.drills for cost in sums) == len(drills)
    assert sum(cost.wall for cost in sums) == pytest.approx(sum(row["wall"] for row in drills))
    told = sum((cost.counts for cost in sums), Counter[str]())
    assert told == sum((Counter(row["counts"]) for row in drills), Counter[str]()) + Counter()


@given(rows)
@at_leisure
def test_what_is_declared_is_silent(drills: Rows) -> None:
    """Also when a kind is declared with nothing, or only some of the drills ran."""
    declared = declared_for(drills)
    assert costs.undeclared(declared, drills) == []
    missing = {file: {**dict.fromkeys(costs.KINDS, 0), **said} for file, said in declared.items()}
    assert costs.undeclared(missing, drills) == []
    assert costs.undeclared(declared, drills[1:]) == []


@given(rows, st.sampled_from([*costs.KINDS, "drills"]), st.sampled_from([-1, 1]), st.data())
@at_leisure
def test_every_other_number_is_told(drills: Rows, kind: str, by: int, data: st.DataObject) -> None:
    """One more or less of anything is a sentence with the file, the kind and both numbers."""
    declared = declared_for(drills)
    file = data.draw(st.sampled_from(sorted(declared)))
    counted = declared[file].get(kind, 0)
    declared[file][kind] = counted + by
    if kind == "drills" and by > 0:
        # Then not all of them ran, and less is as it should be.
        assert costs.undeclared(declared, drills) == []
        return
    (sentence,) = costs.undeclared(declared, drills)
    assert f"({file}: {kind}: {counted} counted, {counted + by} declared)" in sentence


@given(rows, st.integers(0, 11))
@at_leisure
def test_a_failed_drill_may_do_less_and_never_more(drills: Rows, which: int) -> None:
    """It stopped somewhere; what it did beyond what is declared is told all the same."""
    failed = drills[which % len(drills)]
    declared = declared_for(drills)
    failed["outcome"] = "failed"
    done = failed["counts"]
    failed["counts"] = {}
    assert costs.undeclared(declared, drills) == []
    failed["counts"] = {**done, "apply": done.get("apply", 0) + 1}
    (sentence,) = costs.undeclared(declared, drills)
    assert failed["file"] in sentence


@given(rows)
@at_leisure
def test_a_file_without_a_declaration_is_told(drills: Rows) -> None:
    """With what to write down."""
    sentences = costs.undeclared({}, drills)
    assert len(sentences) == len({row["file"] for row in drills})
    first = min(row["file"] for row in drills)
    number = sum(row["file"] == first for row in drills)
    assert f"({first}: {{drills: {number}" in sentences[0]
    assert str(costs.DECLARED) in sentences[0]


@given(rows)
@at_leisure
def test_the_table_shows_the_longest_first(drills: Rows) -> None:
    """Stages, then a line a file by its wall, then the sum; every number under its caption."""
    lines = costs.table([STAGE], drills).splitlines()
    assert lines[0].split()[-len(costs.KINDS) :] == list(costs.KINDS)
    assert lines[1].split() == ["lint", "20.0", "1.25"]
    shown = [line.split()[0] for line in lines[2:-1]]
    sums = costs.by_file(drills)
    assert sorted(shown) == sorted(sums)
    walls = [sums[file].wall for file in shown]
    assert walls == sorted(walls, reverse=True)
    assert lines[-1].split()[:3] == ["all", "drills", str(len(drills))]
    for kind in costs.KINDS:
        end = lines[0].index(kind) + len(kind)
        total = sum(row["counts"].get(kind, 0) for row in drills)
        assert lines[-1][end - len(kind) : end].strip() == (str(total) if total else "")


def test_what_failed_is_seen_in_the_table() -> None:
    """A stage with its exit code, a file with how many of its drills did not pass."""
    drill = {"file": "test_lab.py", "wall": 2, "waited": 0, "cores": 1, "counts": {"odd": 1}}
    drills = [{**drill, "outcome": outcome} for outcome in ("passed", "failed", "skipped")]
    lines = costs.table([{**STAGE, "exit": 3}], drills).splitlines()
    assert lines[0].endswith("  sweep  odd"), "a kind that nobody knows has its column, too"
    assert lines[1].startswith("lint (exit 3) ")
    assert lines[2].startswith("test_lab.py (2 not passed) ")


def test_stages_alone_have_a_sum() -> None:
    """Without drills there are no columns for what drills do."""
    lines = costs.table([STAGE, {**STAGE, "stage": "types", "wall": 0}], []).splitlines()
    assert "restore" not in lines[0]
    assert lines[2].split() == ["types", "0.0"]
    assert lines[3].split() == ["all", "stages", "20.0", "2.50"]


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    """In order; a folder that is missing is made; what is not there has no rows."""
    path = tmp_path / "reports/stages.jsonl"
    assert costs.read(path) == []
    costs.append(path, STAGE)
    costs.append(path, {**STAGE, "stage": "戸籍"})
    assert [row["stage"] for row in costs.read(path)] == ["lint", "戸籍"]


def test_a_broken_row_is_one_sentence(tmp_path: Path) -> None:
    """It names the line and what to do."""
    path = tmp_path / "stages.jsonl"
    costs.append(path, STAGE)
    with path.open("a", encoding="utf-8") as ledger:
        ledger.write('{"stage": "ty')
    with pytest.raises(costs.CostsError, match=r"stages\.jsonl:2: .*remove the file"):
        costs.read(path)


def test_a_busy_machine_is_measured() -> None:
    """Whatever else runs: a quarter of a second of work is seen."""
    before, here = costs.busy_seconds(), time.process_time()
    while time.process_time() - here < 0.25:
        pass
    assert costs.busy_seconds() - before >= 0.2
