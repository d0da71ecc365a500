"""The sealed copies, and when backups are made."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from koseki_ops.plan.model.values import Positive, Slug, Table


class Vault(Table):
    """One sealed copy."""

    name: Slug
    """Its name, as `koseki restore rehearse --vault` takes it."""
    group: str
    """The group with its one host."""
    repository: Positive
    """Its number at pgBackRest (`--repo`)."""
    account: Annotated[str, Field(pattern=r"^vault-[a-z0-9]+$")]
    """The account that uploads."""
    root: Annotated[str, Field(pattern=r"^/srv/")]
    """Its folder on its host."""
    cipher_secret: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    """Name of its encryption key in the vault of secrets."""


class VaultSeal(Table):
    """How often a vault is sealed and what is kept."""

    every_minutes: Annotated[int, Field(ge=1, le=59)]
    """Minutes between two generations."""
    keep_generations: Positive
    """How many of the newest are kept."""
    keep_days: Positive
    """Of how many days the first generation is kept beside them."""


class BackupPolicy(Table):
    """When backups are made (systemd calendar events), what is kept, when the alarm rings."""

    full_keep: Positive
    """Full backups that are kept."""
    differential_keep: Positive
    """Differential backups that are kept."""
    full_calendar: str
    """When a full one is made."""
    differential_calendar: str
    """When a differential one is made."""
    incremental_calendar: str
    """When an incremental one is made."""
    rehearse_within_days: Positive
    """Within how many days each vault's copy is to be restored; later, every sweep tells."""
    lag_wanted_minutes: Positive
    """How far the second backup should be behind at most; no host's content comes from it."""
    lag_alarm_minutes: Positive
    """How far behind it may be before the alarm rings."""
