"""What a municipality left behind is deleted, once it confirmed that it holds its data (K-02)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import N_, _
from koseki_ops.core.progress import OnProgress
from koseki_ops.plan.naming import Names
from koseki_ops.plan.site import Site
from koseki_ops.procedures.base import Procedure
from koseki_ops.procedures.municipality import (
    Outcome,
    bring_about,
    departed,
    export_path,
    program_on_host,
    record,
    row_of,
    run_as_root,
)
from koseki_ops.registers.requests.service import RegisterService
from koseki_ops.remote.cluster import leader


class Delete(Procedure[Outcome]):
    """Delete what a municipality left behind. Nothing of it can be taken back."""

    name = "withdraw --delete"
    title = N_("Delete what a municipality that has left, left behind.")

    def __init__(self, site: Site, slug: str, confirmation: str, who: tuple[str, str]) -> None:
        """Take the municipality's slug, and who wants it gone.

        confirmation: id of its written confirmation; who: who deletes, and who approved it.
        """
        super().__init__(site)
        self.slug, self.confirmation, self.who = slug, confirmation, who

    @property
    def arguments(self) -> Mapping[str, str]:
        """Which municipality, its confirmation, and the two persons."""
        by, approver = self.who
        named = {"municipality": self.slug, "confirmation": self.confirmation}
        return {**named, "operator": by, "approver": approver}

    def preflight(self) -> None:
        """Ask for its day of leaving, two persons, and that its data was handed over."""
        row = departed(self.inventory, self.slug)
        deletes, approved = map(RegisterService.of(self.site).operator, self.who)
        if deletes == approved:
            raise KosekiError(
                _("who deletes does not approve"),
                approved,
                _("give another operator with --approver"),
            )
        if not export_path(self.site, self.slug).exists():
            raise KosekiError(
                _("the data of {name} was never handed over").format(name=row.name),
                _("no export of it"),
                _("run `koseki withdraw {slug} --to FOLDER --recipient CERTIFICATE` first").format(
                    slug=self.slug
                ),
            )

    def describe(self) -> Sequence[str]:
        """Return what it will do."""
        return [
            _("delete the database {database} and its files on both servers").format(
                database=self._names.database
            ),
            _("delete its exchange of files, {exchange_folder}").format(
                exchange_folder=self._names.exchange_folder
            ),
            _("apply the plan and verify the others"),
        ]

    def run(self, on_progress: OnProgress) -> Outcome:
        """Delete, record who did and who approved it, and see that the others are as they were."""
        site, names = self.site, self._names
        on_progress(_("{slug}: deleting its database").format(slug=self.slug))
        host = leader(site, self.inventory)
        program_on_host(site, host, "delete.sh", names.database)
        for host in self.inventory.hosts_in("databases"):
            # Empty once the member has dropped the tablespace; the other one follows the leader.
            folder = names.tablespace_folder
            empty = f"until [ ! -d {folder} ] || rmdir {folder}; do sleep 1; done"
            run_as_root(site, host, ["timeout", "60", "sh", "-c", f"{empty} 2>/dev/null"])
        for host in self.inventory.hosts_in("registry_link"):
            run_as_root(site, host, ["rm", "-rf", "--one-file-system", names.exchange_folder])
        by, approver = self.who
        record(
            site,
            {
                "action": "delete",
                "municipality": self.slug,
                "confirmation": self.confirmation,
                "by": by,
                "approver": approver,
            },
        )
        return bring_about(site, on_progress)

    def succeeded(self, outcome: Outcome) -> bool:
        """Say whether the others are where they were."""
        return outcome.holds

    @property
    def _names(self) -> Names:
        return row_of(self.inventory, self.slug).names
