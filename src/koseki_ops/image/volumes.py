"""What lies where on an image's disk: partitions, their places and their names."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import DiskVolume

MIB = 1 << 20
# GPT's own tables at both ends, and the loader's place in between.
LEAD_MIB, BIOS_MIB, ESP_MIB, TAIL_MIB = 1, 1, 64, 1
ROOT = PurePosixPath("/")
# The space of names that a disk's and its volumes' ids are made in: the same inventory gives the
# same ids, and two hosts never share one.
NAMES = uuid.UUID("6b6f7365-6b69-4f70-8000-000000000000")


@dataclass(frozen=True)
class Volume:
    """One file system of a host.

    mount: where it is seen; offset, size: in bytes, on the disk; options: for its mount; id: its
    UUID.
    """

    mount: PurePosixPath
    offset: int
    size: int
    options: tuple[str, ...]
    id: uuid.UUID

    @property
    def fstab(self) -> str:
        """What the system mounts it by."""
        order = 1 if self.mount == ROOT else 2
        options = ",".join(self.options) or "defaults"
        return f"UUID={self.id} {self.mount} ext4 {options} 0 {order}\n"


@dataclass(frozen=True)
class Layout:
    """A disk. volumes: the root first, then as the inventory lists them; id: the disk's own."""

    id: uuid.UUID
    volumes: tuple[Volume, ...]

    @property
    def bios(self) -> int:
        """Where the part that a BIOS loads begins, in bytes."""
        return LEAD_MIB * MIB

    @property
    def esp(self) -> int:
        """Where the part that UEFI reads begins, in bytes."""
        return self.bios + BIOS_MIB * MIB

    @property
    def size(self) -> int:
        """The disk's size in bytes."""
        last = self.volumes[-1]
        return last.offset + last.size + TAIL_MIB * MIB


def layout_of(inventory: Inventory, platform: str, host: str) -> Layout:
    """Return the disk of a host. platform: the inventory's name, which the ids are made from."""

    def name(part: str) -> uuid.UUID:
        return uuid.uuid5(NAMES, f"{platform} {host} {part}")

    offset = (LEAD_MIB + BIOS_MIB + ESP_MIB) * MIB
    volumes = []
    for row in rows_of(inventory, host):
        size, mount = row.size_mib * MIB, PurePosixPath(row.mount)
        volumes.append(Volume(mount, offset, size, tuple(row.options), name(str(mount))))
        offset += size
    return Layout(name("disk"), tuple(volumes))


def rows_of(inventory: Inventory, host: str) -> Sequence[DiskVolume]:
    """Return the inventory's rows for a host, the root first."""
    groups = set(inventory.groups_of(host))
    rows = [row for row in inventory.platform.volumes if not row.groups or groups & set(row.groups)]
    return sorted(rows, key=lambda row: row.mount != str(ROOT))
