"""The boot loader: GRUB for BIOS and UEFI, written into a disk without ever being installed there.

For a BIOS a program is made that carries every module it needs; UEFI gets Debian's own, signed
ones, so that Secure Boot may be on. Both read one configuration from the root volume, which belongs
to the image alone: no package writes it anew (`update-grub` writes another place), and it names the
kernel by the links that Debian keeps, so that a newer kernel is booted without a word.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from koseki_ops.core.subprocesses import run
from koseki_ops.image.tools import Tools
from koseki_ops.image.volumes import Layout

SECTOR = 512
CONFIGURATION = Path("boot/koseki/grub.cfg")
PLATFORM = "i386-pc"
MODULES = (
    *("biosdisk", "part_gpt", "ext2", "search", "search_fs_uuid", "configfile", "normal"),
    *("linux", "echo", "test", "minicmd", "reboot", "halt", "password_pbkdf2", "gcry_sha512"),
    *("all_video", "gfxterm"),
)
ROUNDS, SALT_BYTES, HASH_BYTES = 100_000, 64, 64
SUPERUSER = "root"
# What a firmware looks for by itself: shim, signed with Microsoft's key, starts the GRUB beside it,
# signed with Debian's, which reads the place that Debian's build wrote into it.
SIGNED = {
    "EFI/BOOT/BOOTX64.EFI": "usr/lib/shim/shimx64.efi.signed",
    "EFI/BOOT/grubx64.efi": "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
}
SIGNED_READS = "EFI/debian/grub.cfg"
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


def _early(layout: Layout) -> str:
    """Return what GRUB is told before it has found its configuration: where that is."""
    place = CONFIGURATION.parent
    return f"search.fs_uuid {layout.volumes[0].id} root\nset prefix=($root)/{place}\n"


def bios_program(tools: Tools, layout: Layout, folder: Path) -> Path:
    """Make GRUB's program for a BIOS."""
    early, program = folder / "early.cfg", folder / PLATFORM
    early.write_text(_early(layout), encoding="ascii")
    tools.run(
        "/usr/bin/grub-mkimage",
        *("-O", PLATFORM, "-d", str(tools.tree / "usr/lib/grub" / PLATFORM)),
        *("-o", str(program), "-c", str(early), "-p", f"/{CONFIGURATION.parent}", *MODULES),
    )
    return program


def embed(tools: Tools, layout: Layout, program: Path, disk: Path) -> None:
    """Write GRUB's first sector and what it loads into a disk, as `grub-bios-setup` would.

    That one asks the kernel for a disk device; here is only a file.
    """
    first = bytearray((tools.tree / "usr/lib/grub" / PLATFORM / "boot.img").read_bytes())
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


def esp(tools: Tools, layout: Layout, folder: Path, size: int, serial: int) -> Path:
    """Make the partition that UEFI reads, with shim and GRUB where a firmware looks by itself.

    size: bytes; serial: the file system's number.
    """
    found = folder / "grub.cfg"
    found.write_text(f"{_early(layout)}configfile $prefix/{CONFIGURATION.name}\n", encoding="ascii")
    os.utime(found, (tools.moment, tools.moment))
    content = {place: tools.tree / program for place, program in SIGNED.items()}
    content[SIGNED_READS] = found
    folders = {parent for place in content for parent in Path(place).parents} - {Path()}
    partition = folder / "esp"
    with partition.open("wb") as file:
        file.truncate(size)
    run(["mkfs.vfat", "--invariant", "-F", "32", "-i", f"{serial:08x}", str(partition)])
    then = ["env", "TZ=UTC", f"SOURCE_DATE_EPOCH={tools.moment}"]
    for made in sorted(folders):
        run([*then, "mmd", "-i", str(partition), f"::{made}"])
    for place, program in content.items():
        run([*then, "mcopy", "-m", "-i", str(partition), str(program), f"::{place}"])
    return partition
