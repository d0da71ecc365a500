"""Images: made twice the same, without a secret, and good on a machine that boots them.

The check takes minutes on one emulated processor. It is begun first, and what leaves this image and
its mirror as they are is tried meanwhile; what alters them comes after the test that awaits it.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from drills.conftest import HEARING
from images.conftest import KOSEKI, Maker
from koseki_ops.image import seal
from koseki_ops.supply.mirror import mirror_folder
from koseki_ops.trust.secrets import load_secrets

MAXIMUM_BYTES = 1_500_000_000
# Hears Ctrl-C even when a shell has put the tests into the background, and is told so as well when
# they were killed: whatever happens to them, it takes its machine away.
TOLD = [*HEARING, "setpriv", "--pdeathsig", "INT"]


@dataclass(frozen=True)
class Check:
    """A check that goes on beside the tests. folder: where its words are kept."""

    process: subprocess.Popen[bytes]
    folder: Path

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait until it has ended; return what it said."""
        code = self.process.wait()
        out, err = (
            (self.folder / name).read_text(encoding="utf-8") for name in ("stdout", "stderr")
        )
        return subprocess.CompletedProcess(self.process.args, code, out, err)


@pytest.fixture(scope="module")
def check(
    maker: Maker,
    beside: Maker,  # noqa: ARG001 - has its copies before anything else is at work
    image: Path,  # noqa: ARG001 - what is checked
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Check]:
    """The check of the primary server's image, just begun; it does not outlive the tests."""
    folder = tmp_path_factory.mktemp("check")
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [*TOLD, KOSEKI, "image", "check", "primary1", "--json"],
            env={**os.environ, "KOSEKI_NAME": maker.site.name},
            cwd=maker.site.root,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            # Ctrl-C is passed on once, by us.
            start_new_session=True,
        )
    try:
        yield Check(process, folder)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()


@pytest.fixture(scope="module", autouse=True)
def _begun_first(request: pytest.FixtureRequest) -> None:
    """Begin the check before the first test, if any of those that were chosen awaits it."""
    items = (item for item in request.session.items if isinstance(item, pytest.Function))
    if any("check" in item.fixturenames for item in items):
        request.getfixturevalue("check")


@pytest.mark.image
def test_a_second_build_gives_the_same_bytes(beside: Maker, image: Path) -> None:
    """The same commit, another hour, another machine id, other keys: the same disk."""
    second = beside.build("primary1")
    for suffix in (image.suffix, seal.SBOM):
        made = [seal.digest(each.with_suffix(suffix)) for each in (image, second)]
        assert made[0] == made[1], suffix
    assert second.stat().st_size < MAXIMUM_BYTES


@pytest.mark.image
def test_the_disk_holds_no_secret(maker: Maker, image: Path, tmp_path: Path) -> None:
    """Every secret's value is looked for in every byte of the raw disk."""
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(image), str(raw)], check=True)
    values = [value.encode() for value in _texts(load_secrets(maker.site))]
    with raw.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as disk:
        written = list(_written(file.fileno()))

        def holds(value: bytes) -> bool:
            return any(disk.find(value, begin, end) >= 0 for begin, end in written)

        # What is there is found: the search itself works.
        assert holds(b"koseki-first-boot")
        assert [value for value in values if holds(value)] == []


def _written(disk: int) -> Iterator[tuple[int, int]]:
    """Yield where a sparse file holds anything: nine tenths of a fresh disk are holes."""
    end = 0
    while True:
        try:
            begin = os.lseek(disk, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        end = os.lseek(disk, begin, os.SEEK_HOLE)
        yield begin, end


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, dict):
        for inner in content.values():
            yield from _texts(inner)
    else:
        yield str(content)


@pytest.mark.image
def test_what_is_listed_is_what_is_installed(image: Path) -> None:
    """The list of packages is SPDX, signed with the image, and names kernel and database."""
    listed = json.loads(image.with_suffix(seal.SBOM).read_text(encoding="utf-8"))
    assert listed["spdxVersion"].startswith("SPDX-2")
    names = {package["name"] for package in listed["packages"]}
    assert {"postgresql-17", "patroni", "openssh-server", "linux-image-amd64"} <= names


@pytest.mark.image
def test_an_interrupted_build_leaves_nothing(beside: Maker) -> None:
    """Neither a half-made disk nor a machine; the image that was there is whole."""
    image = beside.image_of("primary1")
    before = seal.digest(image)
    with subprocess.Popen(
        [*HEARING, KOSEKI, "image", "build", "primary1"],
        env={**os.environ, "KOSEKI_NAME": beside.site.name},
        cwd=beside.site.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as build:
        for line in build.stderr or ():
            if "Settle time" in line:
                build.send_signal(signal.SIGINT)
                break
        said = build.stderr.read() if build.stderr else ""
    assert build.returncode == 2, said
    assert "Traceback" not in said
    assert beside.left == []
    assert not Path("/run/netns", beside.site.build_lab.netns).exists()
    assert seal.digest(image) == before


@pytest.mark.image
def test_a_full_disk_is_one_sentence(beside: Maker) -> None:
    """Too little room is said before anything is begun."""
    image = beside.image_of("primary1")
    folder = seal.folder_of(beside.site)
    aside = folder.with_name("images-aside")
    folder.rename(aside)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=True)
    try:
        done = beside.koseki("image", "build", "primary1")
        left = list(folder.iterdir())
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
        aside.rename(folder)
    assert done.returncode == 2
    assert "needs more room" in done.stderr
    assert left == []
    assert image.exists()


@pytest.mark.image
def test_an_unknown_host_is_refused(maker: Maker) -> None:
    """The sentence names those that there are."""
    done = maker.koseki("image", "build", "primary9")
    assert done.returncode == 2
    assert "primary9" in done.stderr
    assert "secondary1" in done.stderr


@pytest.mark.image
def test_it_holds_on_a_machine_that_boots_it(check: Check, image: Path) -> None:
    """UEFI, joined, verified, restarted, cut off while it writes, BIOS: all holds."""
    done = check.end()
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["passed"] > 0
    assert told["failed"] == 0
    kept = json.loads((image.with_suffix(".check") / "check.json").read_text(encoding="utf-8"))
    assert kept["sha256"] == seal.digest(image)


@pytest.mark.image
def test_one_flipped_bit_is_refused(maker: Maker, image: Path) -> None:
    """Nothing boots what is not as it was signed."""
    with image.open("r+b") as file:
        file.seek(image.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    try:
        done = maker.koseki("image", "check", "primary1")
    finally:
        with image.open("r+b") as file:
            file.seek(image.stat().st_size // 2)
            file.write(bytes([byte]))
    assert done.returncode == 2
    assert "altered after it was signed" in done.stderr


@pytest.mark.image
def test_an_altered_mirror_is_refused(maker: Maker) -> None:
    """No image is made from packages that nobody signed."""
    package = next((mirror_folder(maker.site) / "pool").glob("nano_*.deb"))
    waiting = maker.site.state / package.name
    shutil.copyfile(package, waiting)
    try:
        with package.open("ab") as file:
            file.write(b"x")
        done = maker.koseki("image", "build", "primary1")
    finally:
        shutil.move(waiting, package)
    assert done.returncode == 2
    assert "the package mirror is altered" in done.stderr
    assert maker.left == []
