"""Values that YAML guesses: written as one thing, read as another.

YAML 1.1 reads `2026-04-01` as a date, `yes` as true, `0755` as 493, `12:30` as 750, `1e7` as text
and `1.0e+7` as a number; of a key that stands twice the last one counts. Engines differ in what
they make of it. Each is found where it stands, before anybody reads a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from koseki_ops.core.language import N_, _
from koseki_ops.plan.inventory import LOADER

TAG = "tag:yaml.org,2002:"
# By what YAML guesses, the one way to write it that nobody reads otherwise.
PLAIN = {
    "bool": re.compile(r"true|false"),
    "int": re.compile(r"-?(0|[1-9][0-9]*)"),
    "float": re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+"),
    "null": re.compile(r"null|"),
}
WRITTEN = {
    "bool": N_("write true or false, or put it in quotes"),
    "int": N_("write a decimal number, or put it in quotes"),
    "float": N_("write a decimal number as 1.5, or put it in quotes"),
    "null": N_("write null, or put it in quotes"),
    "timestamp": N_("put it in quotes: YAML makes a date of it"),
}
# Texts that some reader of YAML takes for a number, and this one does not.
NUMBERLIKE = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+")


@dataclass(frozen=True)
class Form:
    """A value that is not written as it is read. key: its path; seen: as it is written."""

    key: str
    seen: str
    remedy: str


def ambiguous(text: str) -> Iterator[Form]:
    """Yield every value, and every key that stands twice, in a file that is valid YAML."""
    node = yaml.compose(text, LOADER)
    if node is not None:
        yield from _of(node, "", frozenset())


def _of(node: yaml.Node, path: str, above: frozenset[int]) -> Iterator[Form]:
    if id(node) in above:
        yield Form(path, _("inside of itself"), _("write out what is meant"))
        return
    above |= {id(node)}
    if isinstance(node, yaml.ScalarNode):
        if remedy := _remedy(node):
            yield Form(path, node.value, remedy)
    elif isinstance(node, yaml.SequenceNode):
        for number, child in enumerate(node.value):
            yield from _of(child, f"{path}[{number}]", above)
    elif isinstance(node, yaml.MappingNode):
        seen: set[Any] = set()
        for key, child in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            place = f"{path}.{name}" if path else name
            if name in seen:
                yield Form(place, _("there twice"), _("remove one: the last one would count"))
            seen.add(name)
            yield from _of(key, place, above)
            yield from _of(child, place, above)


def _remedy(node: yaml.ScalarNode) -> str:
    """Return what to write instead of a value, nothing when it is read as it is written."""
    kind = node.tag.removeprefix(TAG)
    # In quotes, or as a block, it is a text whatever it looks like.
    if node.style:
        return ""
    if kind == "str":
        return _(WRITTEN["int"]) if NUMBERLIKE.fullmatch(node.value) else ""
    if kind not in WRITTEN:
        return ""
    plain = PLAIN.get(kind)
    return "" if plain and plain.fullmatch(node.value) else _(WRITTEN[kind])
