"""The house's pages: hosts as a picture, one look, times as the books write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from koseki_ops.core.formatting import printable
from koseki_ops.core.language import ngettext, translate
from koseki_ops.plan.host_kinds import HOST_KINDS, hosts_of
from koseki_ops.plan.inventory import Inventory

# The picture's measures, in its own units.
CARD_WIDTH, CARD_HEIGHT, GAP, MARGIN = 228, 104, 28, 24
HEADING = 46
COUNTERS_WIDTH, LINE_WIDTH = 132, 116


@dataclass(frozen=True)
class Stand:
    """How a host stands: a class for its colour, words, a symbol beside them, address and part."""

    state: str
    words: str
    symbol: str
    address: str = ""
    role: str = ""


@dataclass(frozen=True)
class Card:
    """One host in the picture: its place, its names, how it stands in words and colour."""

    x: float
    y: float
    host: str
    title: str
    subtitle: str
    stand: Stand


@dataclass(frozen=True)
class Box:
    """A room in the picture. note: what stands below its title."""

    x: float
    y: float
    width: float
    height: float
    title: str
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """The hosts as a picture: rooms, cards, and the lines between them."""

    width: float
    height: float
    city: Box
    datacenter: Box
    counters: Box
    cards: list[Card]
    municipalities: int
    recording: str

    @property
    def middle(self) -> float:
        """The height at which the lines leave the city."""
        return self.city.y + self.city.height / 2


def draw(
    inventory: Inventory, municipalities: int, recording: str, stand: Callable[[str], Stand]
) -> Picture:
    """Lay out the picture from the inventory: as many hosts in a group as there are.

    municipalities: how many municipalities' counters; recording: the mode of double recording.
    """
    levels = sorted({kind.row for kind in HOST_KINDS if kind.row is not None})
    rows = [
        hosts_of(inventory, [kind for kind in HOST_KINDS if kind.row == level]) for level in levels
    ]
    rows = [row for row in rows if row]
    columns = max(len(row) for row in rows)
    city = Box(
        MARGIN + COUNTERS_WIDTH + LINE_WIDTH,
        MARGIN,
        columns * (CARD_WIDTH + GAP) + GAP,
        HEADING + len(rows) * (CARD_HEIGHT + GAP) + GAP / 2,
        "飯田市 Iida City",
    )
    remote = hosts_of(inventory, [kind for kind in HOST_KINDS if not kind.in_city])
    datacenter = Box(
        city.x + city.width + LINE_WIDTH,
        MARGIN,
        CARD_WIDTH + 2 * GAP,
        city.height,
        "民間データセンター",
        "private datacenter",
    )
    counters = Box(MARGIN, MARGIN, COUNTERS_WIDTH, city.height, "市町村窓口")
    cards = []
    for level, row in enumerate(rows):
        for column, (host, kind) in enumerate(row):
            x = city.x + GAP + column * (CARD_WIDTH + GAP)
            y = city.y + HEADING + level * (CARD_HEIGHT + GAP)
            cards.append(Card(x, y, host, kind.japanese, kind.english, stand(host)))
    stack = len(remote) * (CARD_HEIGHT + GAP) - GAP
    top = datacenter.y + HEADING + (datacenter.height - HEADING - stack) / 2 - GAP / 4
    for number, (host, kind) in enumerate(remote):
        x, y = datacenter.x + GAP, top + number * (CARD_HEIGHT + GAP)
        cards.append(Card(x, y, host, kind.japanese, kind.english, stand(host)))
    return Picture(
        datacenter.x + datacenter.width + MARGIN,
        city.y + city.height + MARGIN,
        city,
        datacenter,
        counters,
        cards,
        municipalities,
        recording,
    )


def _seen(value: Any) -> Any:  # noqa: ANN401 - whatever a template shows
    """Return what a page shows of a value: what is markup was made here."""
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value) if plain else value


def environment(package: str) -> Environment:
    """Return a template environment for a package's own templates and the house's parts."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("koseki_ops.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(_=translate, ngettext=ngettext)
    return made
