"""Images are made and tried in a lab's name of their own: KOSEKI_IMAGE_LAB names another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from drills.conftest import koseki
from images import proven
from koseki_ops.core.errors import KosekiError
from koseki_ops.image import seal
from koseki_ops.lab.lab import Lab
from koseki_ops.plan.site import Site, project_root

KOSEKI = Path(sys.executable).with_name("koseki")
NAME = os.environ.get("KOSEKI_IMAGE_LAB", "images")
BESIDE = "-beside"
# Whom an image trusts is part of it; all other keys are those of the site that makes it.
AUTHORITIES = ("ssh/user_ca", "ssh/user_ca.pub", "ssh/host_ca", "ssh/host_ca.pub")
KEPT_BY_AUTHORITIES = ("terminals", "release", "link")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let CI ask for one of the pairs."""
    parser.addoption("--due", action="store_true", help="of the pairs, only the one that is due")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the pair that is due, and say why."""
    if not config.getoption("due"):
        return
    which, why = proven.due(project_root())
    config.get_terminal_writer().line(why)
    config.hook.pytest_deselected(items=[item for item in items if item.name != which])
    items[:] = [item for item in items if item.name == which]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Let a run in which no pair is due be green: that is what it was asked."""
    nothing = exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED
    if nothing and session.config.getoption("due") and not proven.due(project_root())[0]:
        session.exitstatus = pytest.ExitCode.OK


@dataclass(frozen=True)
class Maker:
    """Whoever makes images of the lab's plan."""

    site: Site

    def koseki(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user would; return what it said."""
        return koseki(self.site, *words)

    def build(self, host: str) -> Path:
        """Build a host's image; return it."""
        done = self.koseki("image", "build", host)
        assert done.returncode == 0, done.stderr
        return seal.folder_of(self.site) / f"{host}.qcow2"

    def image_of(self, host: str) -> Path:
        """Return a host's image of this commit; built when there is none that may be used."""
        image = seal.folder_of(self.site) / f"{host}.qcow2"
        try:
            seal.verify(self.site, image)
        except KosekiError:
            return self.build(host)
        return image

    @property
    def left(self) -> list[str]:
        """What is in the folder of images beside whole ones."""
        hosts = Lab(self.site).inventory.hosts
        known = ("allowed_signers", "signing_key", *(f"{host}." for host in hosts))
        folder = seal.folder_of(self.site)
        found = folder.iterdir() if folder.exists() else ()
        return [path.name for path in found if not path.name.startswith(known)]


@pytest.fixture(scope="session")
def maker() -> Iterator[Maker]:
    """Whoever makes images; nothing runs afterwards."""
    site = Site.open(None, NAME)
    yield Maker(site)
    Lab(site.build_lab).down()


@pytest.fixture(scope="session")
def image(maker: Maker) -> Path:
    """The primary server's image."""
    return maker.image_of("primary1")


@pytest.fixture(scope="session")
def beside(maker: Maker, image: Path) -> Iterator[Maker]:  # noqa: ARG001 - its maker's authorities
    """Somebody else who makes images of the same plan while the first one is under test.

    The authorities are copies: two commands that renew what lies in one folder at the same time
    would get in each other's way. Everything else is made anew, so nothing of it can be in a disk
    that is the same.
    """
    site = Site.open(None, NAME + BESIDE)
    Lab(site.build_lab).down()
    for state in (site.state, site.build_lab.state):
        if state.exists():
            shutil.rmtree(state)
    (site.state / "ssh").mkdir(mode=0o700, parents=True)
    for name in AUTHORITIES:
        shutil.copy2(maker.site.state / name, site.state / name)
    for name in KEPT_BY_AUTHORITIES:
        shutil.copytree(maker.site.state / name, site.state / name)
    yield Maker(site)
    Lab(site.build_lab).down()
