"""A municipality joins the running platform; the others notice nothing (K-02)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import N_, _
from koseki_ops.core.progress import OnProgress
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import Joining
from koseki_ops.plan.site import Site
from koseki_ops.procedures.base import Procedure
from koseki_ops.procedures.municipality import SUITES, Outcome, bring_about, record, row_of


class Enroll(Procedure[Outcome]):
    """Bring a municipality onto the platform, and prove it.

    Whoever is in already stays so: nothing is changed then. What broke off is finished by running
    it again; the plan says that it is in, so there is nothing to take back.
    """

    name = "enroll"
    title = N_("Bring a municipality onto the running platform.")

    def __init__(self, site: Site, slug: str) -> None:
        """Take the municipality's slug."""
        super().__init__(site)
        self.slug = slug

    @property
    def arguments(self) -> Mapping[str, str]:
        """Which municipality."""
        return {"municipality": self.slug}

    def preflight(self) -> None:
        """Ask for its documents and its day."""
        may_go_live(self.inventory, self.slug)

    def describe(self) -> Sequence[str]:
        """Return what it will do."""
        name = row_of(self.inventory, self.slug).name
        return [
            _("apply the plan, in which {name} has joined").format(name=name),
            _("verify {suites} on all hosts").format(suites=", ".join(SUITES)),
        ]

    def run(self, on_progress: OnProgress) -> Outcome:
        """Apply, verify, and record who joined by which documents."""
        outcome = bring_about(self.site, on_progress)
        documents = row_of(self.inventory, self.slug).joining or Joining()
        row = {"action": "enroll", "municipality": self.slug, **documents.model_dump()}
        record(self.site, {**row, "held": outcome.holds})
        return outcome

    def succeeded(self, outcome: Outcome) -> bool:
        """Say whether it is in and every suite agrees."""
        return outcome.holds

    def facts(self, outcome: Outcome) -> Mapping[str, Any]:
        """Return how many changes were made."""
        return {"changed": outcome.applied.changed}


def may_go_live(inventory: Inventory, slug: str) -> None:
    """Raise KosekiError with what is missing before a municipality goes live (K-02)."""
    row = row_of(inventory, slug)
    if lacks := row.missing_documents:
        raise KosekiError(
            _("{name} cannot go live without the ids of its documents").format(name=row.name),
            _("{lacks} missing").format(lacks=", ".join(lacks)),
            _("add them to joining in its row of municipalities.yml"),
        )
    day = inventory.effective_day
    if row.joined_on is None:
        raise KosekiError(
            _("{name} has no day of joining").format(name=row.name),
            _("joined_on is null"),
            _("write it into municipalities.yml"),
        )
    if row.has_left(day):
        raise KosekiError(
            _("{name} has left").format(name=row.name),
            _("left_on {left_on}").format(left_on=row.left_on),
            _("correct `left_on` in municipalities.yml, or leave it out"),
        )
    if not row.is_active(day):
        raise KosekiError(
            _("{name} has not joined yet").format(name=row.name),
            _("joined_on {joined_on}, today is {day}").format(joined_on=row.joined_on, day=day),
            _("wait for its day, or correct municipalities.yml"),
        )
