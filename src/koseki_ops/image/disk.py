"""A disk from trees: GPT, a loader for BIOS and UEFI, ext4 volumes; no loop device, no mount."""

from __future__ import annotations

import stat
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

from koseki_ops.core.subprocesses import run
from koseki_ops.image import loader
from koseki_ops.image.tools import Tools
from koseki_ops.image.volumes import BIOS_MIB, ESP_MIB, MIB, NAMES, ROOT, Layout, Volume

BIOS_TYPE = "21686148-6449-6E6F-744E-656564454649"
ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
LINUX_TYPE = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
CHUNK = 1 << 20


def write(tools: Tools, layout: Layout, trees: Mapping[str, Path], disk: Path) -> None:
    """Write a raw disk. trees: what each volume holds, by its mount."""
    with disk.open("wb") as file:
        file.truncate(layout.size)
    run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", str(disk)], _table(layout))
    with tempfile.TemporaryDirectory(prefix="koseki-image-") as name:
        folder = Path(name)
        loader.embed(tools, layout, loader.bios_program(tools, layout, folder), disk)
        serial = uuid.uuid5(NAMES, f"{layout.id} esp").int & 0xFFFFFFFF
        made = loader.esp(tools, layout, folder, ESP_MIB * MIB, serial)
        _copy(made, disk, layout.esp)
    for volume in layout.volumes:
        _format(tools, volume, trees[str(volume.mount)], disk)


def _table(layout: Layout) -> str:
    def part(offset: int, size: int, kind: str, name: str) -> str:
        identity = uuid.uuid5(NAMES, f"{layout.id} {name}")
        return (
            f"start={offset // loader.SECTOR}, size={size // loader.SECTOR}, type={kind}, "
            f'uuid={identity}, name="{name}"'
        )

    lines = [
        "label: gpt",
        f"label-id: {layout.id}",
        part(layout.bios, BIOS_MIB * MIB, BIOS_TYPE, "bios"),
        part(layout.esp, ESP_MIB * MIB, ESP_TYPE, "esp"),
    ]
    lines += [
        part(volume.offset, volume.size, LINUX_TYPE, _label(volume)) for volume in layout.volumes
    ]
    return "\n".join(lines) + "\n"


def _label(volume: Volume) -> str:
    return "root" if volume.mount == ROOT else str(volume.mount).strip("/").replace("/", "-")


def _format(tools: Tools, volume: Volume, tree: Path, disk: Path) -> None:
    seed, top = uuid.uuid5(NAMES, f"{volume.id} seed"), tree.stat()
    # A volume's own folder hides the one that it is mounted on, and belongs to whom that did.
    owner = f"root_owner={top.st_uid}:{top.st_gid},root_perms={stat.S_IMODE(top.st_mode):o}"
    tools.run(
        "/usr/sbin/mke2fs",
        *("-q", "-F", "-t", "ext4", "-m", "1", "-d", str(tree), "-U", str(volume.id)),
        *("-E", f"hash_seed={seed},offset={volume.offset},{owner}"),
        *(str(disk), f"{volume.size // 1024}k"),
    )


def _copy(source: Path, disk: Path, offset: int) -> None:
    """Copy a partition into its place, and leave out what is empty."""
    with source.open("rb") as read, disk.open("r+b") as file:
        for number, chunk in enumerate(iter(lambda: read.read(CHUNK), b"")):
            if chunk.strip(b"\0"):
                file.seek(offset + number * CHUNK)
                file.write(chunk)


def squeeze(raw: Path, output: Path) -> None:
    """Write a raw disk as a compressed qcow2."""
    options = ["-O", "qcow2", "-c", "-o", "compression_type=zstd"]
    run(["qemu-img", "convert", "-f", "raw", *options, str(raw), str(output)])
