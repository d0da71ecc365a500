"""Every name that is made from a municipality: the one place that spells them.

The suites spell them once more, on purpose: they are the second reading.
"""

from __future__ import annotations

from dataclasses import dataclass

MUNICIPALITIES = "/etc/koseki/municipalities"
TABLESPACES = "/var/lib/koseki/tablespaces"
EXCHANGES = "/srv/koseki/exchange"
DUPLICATES = "/srv/koseki/duplicates"


def database_of(slug: str) -> str:
    """Return the name of a municipality's database, and of its tablespace."""
    return f"koseki_{slug}"


@dataclass(frozen=True)
class Key:
    """Where a key and its certificate lie on a host."""

    key: str
    certificate: str


@dataclass(frozen=True)
class Names:
    """What a municipality's things are called on the platform. code6: with its check digit."""

    slug: str
    code6: str

    @property
    def database(self) -> str:
        """Its database."""
        return database_of(self.slug)

    @property
    def tablespace(self) -> str:
        """Its tablespace."""
        return self.database

    @property
    def tablespace_folder(self) -> str:
        """Where its tablespace lies on a database server."""
        return f"{TABLESPACES}/{self.code6}"

    @property
    def owner_role(self) -> str:
        """The role that owns its schema; a release's files come as it, from the leader alone."""
        return f"{self.database}_owner"

    @property
    def application_role(self) -> str:
        """The role of its application's instance."""
        return f"{self.database}_app"

    @property
    def link_role(self) -> str:
        """The role of its exchange with the residents' registry."""
        return f"{self.database}_link"

    @property
    def duplicate_role(self) -> str:
        """The role of the program that sends its duplicates (副本)."""
        return f"{self.database}_duplicate"

    @property
    def read_role(self) -> str:
        """The role that an operator is let into by a request to read."""
        return f"{self.database}_read"

    @property
    def correct_role(self) -> str:
        """The role that an operator is let into by a request to correct."""
        return f"{self.database}_correct"

    @property
    def takeover_role(self) -> str:
        """The role of the instance that issues for it while it is cut off."""
        return f"{self.database}_takeover"

    @property
    def unix_user(self) -> str:
        """The account that its instance and its engine run as."""
        return f"koseki-{self.slug}"

    @property
    def network(self) -> str:
        """The network namespace of its programs on a host, which is theirs alone."""
        return self.unix_user

    @property
    def takeover_instance(self) -> str:
        """The instance that issues for it while it is cut off."""
        return f"takeover-{self.slug}"

    @property
    def takeover_unix_user(self) -> str:
        """The account that this instance runs as."""
        return f"koseki-{self.takeover_instance}"

    @property
    def exchange_account(self) -> str:
        """The account that its registry exchanges files by."""
        return f"link-{self.slug}"

    @property
    def exchange_folder(self) -> str:
        """Where these files lie."""
        return f"{EXCHANGES}/{self.slug}"

    @property
    def duplicates_folder(self) -> str:
        """Where its duplicates' files and journal lie on the host that sends them."""
        return f"{DUPLICATES}/{self.slug}"


def key_of(instance: str, kind: str = "client") -> Key:
    """Return where an instance keeps a key. instance: a slug, or `Names.takeover_instance`."""
    folder = f"{MUNICIPALITIES}/{instance}"
    return Key(f"{folder}/{kind}.key", f"{folder}/{kind}.crt")
