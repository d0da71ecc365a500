"""A value is read as it is written, wherever it stands, or it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from koseki_ops.plan.inventory import LOADER, Inventory
from koseki_ops.plan.rules import check_inventory
from koseki_ops.plan.site import Site, project_root
from koseki_ops.plan.yaml_forms import ambiguous

PLAN = project_root() / "inventories/iida"
# Of every kind of guess that YAML 1.1 makes, and of those that only other readers make.
GUESSED = (
    *("2026-04-01", "2026-04-01T09:00:00+09:00", "2001-1-1 1:01:01"),
    *("yes", "No", "on", "OFF", "True", "FALSE"),
    *("0755", "0o755", "0x1F", "0b11", "1_000", "+1", "12:30", "190:20:30"),
    *("1e7", "1.0e+7", ".5", "1.", ".inf", "-.INF", ".nan", "1_0.5", "20:30.15", "~", "Null"),
)


def scalars(node: yaml.Node, path: str = "") -> Iterator[tuple[str, yaml.ScalarNode]]:
    """Yield every value of a file with its path."""
    if isinstance(node, yaml.ScalarNode):
        yield path, node
    elif isinstance(node, yaml.SequenceNode):
        for place, child in enumerate(node.value):
            yield from scalars(child, f"{path}[{place}]")
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            yield from scalars(child, f"{path}.{key.value}" if path else str(key.value))


def test_a_guess_is_found_at_every_place_of_the_inventory() -> None:
    """Each value of each file of the plan in turn is written in one of these ways."""
    count = 0
    for path in sorted(PLAN.rglob("*.yml")):
        text = path.read_text(encoding="utf-8")
        assert list(ambiguous(text)) == [], path
        composed = yaml.compose(text, LOADER)
        assert composed is not None, path
        for key, node in scalars(composed):
            if node.start_mark.line != node.end_mark.line:
                continue
            guess = GUESSED[count % len(GUESSED)]
            count += 1
            lines = text.split("\n")
            line = lines[node.start_mark.line]
            before, behind = line[: node.start_mark.column], line[node.end_mark.column :]
            lines[node.start_mark.line] = f"{before} {guess}{behind}"
            found = [(form.key, form.seen) for form in ambiguous("\n".join(lines))]
            assert found == [(key, guess)], path
    assert count > 700


@pytest.mark.parametrize("guess", GUESSED)
def test_in_quotes_it_is_what_it_is(guess: str) -> None:
    """The remedy mends it; so does a block."""
    assert list(ambiguous(f'a: "{guess}"')) == []
    assert list(ambiguous(f"a: |\n  {guess}\n")) == []
    assert [form.seen for form in ambiguous(f"a: [{{b: {guess}}}]")] == [guess]


@given(st.text())
def test_any_file_is_told_or_refused(text: str) -> None:
    """Whatever stands in it: forms, or YAML's own error; never for ever."""
    try:
        list(ambiguous(text))
    except yaml.YAMLError:
        return


def test_a_key_that_stands_twice_and_a_circle() -> None:
    """The last one would count, silently; and a value inside of itself has no end."""
    assert [str(form.seen) for form in ambiguous("a: {b: 1, c: 2, b: 3}")] == ["there twice"]
    assert [form.seen for form in ambiguous("a: &x [*x]")] == ["inside of itself"]


def test_check_says_file_key_value_and_remedy(tmp_path: Path) -> None:
    """As for any other finding, and before anything else is read from it."""
    root = tmp_path / "inventories"
    (root / "iida").mkdir(parents=True)
    for path in PLAN.rglob("*"):
        if path.is_file():
            copy = root / "iida" / path.relative_to(PLAN)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    operators = root / "iida/group_vars/all/operators.yml"
    text = operators.read_text(encoding="utf-8")
    operators.write_text(text.replace('valid_from: "', "valid_from: ", 1).replace('"\n', "\n", 1))
    (finding,) = check_inventory(Inventory(Site(tmp_path, "iida", "iida").inventory))
    assert str(finding.file) == "inventories/iida/group_vars/all/operators.yml"
    assert finding.key.endswith("valid_from")
    assert "put it in quotes" in finding.remedy
