"""The boot loader: GRUB for BIOS and UEFI, written into a disk without ever being installed there.

Both programs carry every module that they need, and read one configuration from the root volume,
which belongs to the image alone: no package writes it anew, and it names the kernel by the links
that Debian keeps, so that a newer kernel is booted without a word.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from koseki_ops.command import run
from koseki_ops.image.tools import Tools
from koseki_ops.image.volumes import Layout

SECTOR = 512
CONFIGURATION = Path("boot/grub/grub.cfg")
MODULES = (
    *("part_gpt", "ext2", "search", "search_fs_uuid", "configfile", "normal", "linux", "echo"),
    *("test", "minicmd", "reboot", "halt", "password_pbkdf2", "gcry_sha512", "all_video"),
    "gfxterm",
)
ROUNDS, SALT_BYTES, HASH_BYTES = 100_000, 64, 64
SUPERUSER = "root"
# Where GRUB's first sector says which sector comes next, and where it decides what it booted from:
# a disk needs no such question (two NOPs).
NEXT_SECTOR, BOOTED_FROM, NO_QUESTION = 0x5C, 0x66, b"\x90\x90"
# The last entry of the list of sectors that the second one loads: where the rest begins.
REST_BEGINS = SECTOR - 12
CODE_BYTES = 440


def verifier(password: str, host: str) -> str:
    """Return what GRUB recognises a password by; it cannot be read back from it.

    The salt comes from the password and the host, so that a second build gives the same.
    """
    salt = hashlib.sha512(f"{host}\0{password}".encode()).digest()[:SALT_BYTES]
    made = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ROUNDS, HASH_BYTES)
    return f"grub.pbkdf2.sha512.{ROUNDS}.{salt.hex()}.{made.hex()}".upper().replace(
        "GRUB.PBKDF2.SHA512", "grub.pbkdf2.sha512"
    )


def configuration(layout: Layout, words: Sequence[str], password: str, host: str) -> str:
    """Return GRUB's configuration: one entry that boots unasked; all else asks for the password.

    words: the kernel's command line.
    """
    template = files("koseki_ops.image").joinpath("files/grub.cfg.j2").read_text(encoding="utf-8")
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701 - no HTML
    return environment.from_string(template).render(
        root=layout.volumes[0].id,
        words=" ".join(words),
        superuser=SUPERUSER,
        verifier=verifier(password, host),
    )


def programs(tools: Tools, layout: Layout, folder: Path) -> tuple[Path, Path]:
    """Make GRUB's programs; return the one for a BIOS and the one for UEFI."""
    early = folder / "early.cfg"
    early.write_text(
        f"search.fs_uuid {layout.volumes[0].id} root\nset prefix=($root)/{CONFIGURATION.parent}\n",
        encoding="ascii",
    )
    made = []
    for platform, more in (("i386-pc", ["biosdisk"]), ("x86_64-efi", [])):
        program = folder / platform
        tools.run(
            "/usr/bin/grub-mkimage",
            *("-O", platform, "-d", str(tools.tree / "usr/lib/grub" / platform)),
            *("-o", str(program), "-c", str(early), "-p", "/boot/grub", *MODULES, *more),
        )
        made.append(program)
    return made[0], made[1]


def embed(tools: Tools, layout: Layout, program: Path, disk: Path) -> None:
    """Write GRUB's first sector and what it loads into a disk, as `grub-bios-setup` would.

    That one asks the kernel for a disk device; here is only a file.
    """
    first = bytearray((tools.tree / "usr/lib/grub/i386-pc/boot.img").read_bytes())
    rest = bytearray(program.read_bytes())
    begins = layout.bios // SECTOR
    first[NEXT_SECTOR : NEXT_SECTOR + 8] = struct.pack("<Q", begins)
    first[BOOTED_FROM : BOOTED_FROM + 2] = NO_QUESTION
    rest[REST_BEGINS : REST_BEGINS + 8] = struct.pack("<Q", begins + 1)
    if len(rest) > layout.esp - layout.bios:
        raise ValueError(f"GRUB's program has {len(rest)} bytes: its partition is too small")
    with disk.open("r+b") as file:
        # Behind the code lie the disk's signature and the partition table, which stay.
        file.write(first[:CODE_BYTES])
        file.seek(layout.bios)
        file.write(rest)


def esp(program: Path, folder: Path, size: int, serial: int, moment: int) -> Path:
    """Make the partition that UEFI reads, with GRUB where a firmware looks by itself.

    moment: what stands for now in its folders, in seconds.
    """
    partition = folder / "esp"
    with partition.open("wb") as file:
        file.truncate(size)
    run(["mkfs.vfat", "--invariant", "-F", "32", "-i", f"{serial:08x}", str(partition)])
    then = ["env", "TZ=UTC", f"SOURCE_DATE_EPOCH={moment}"]
    for made in ("::EFI", "::EFI/BOOT"):
        run([*then, "mmd", "-i", str(partition), made])
    run([*then, "mcopy", "-m", "-i", str(partition), str(program), "::EFI/BOOT/BOOTX64.EFI"])
    return partition
