"""What hosts are supplied with beside packages: the toolkit's own, what is noted, releases."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click import Group
from click.testing import CliRunner, Result

from hosts import Answer, Hosts
from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site, project_root
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.supply import release, toolkit
from koseki_ops.supply.release_cli import release_group
from koseki_ops.trust.secrets import init_secrets
from release_samples import source

ROOT = project_root()
HOST = "workstation1"


def quiet(_line: str) -> None:
    """Say nothing."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A checkout on the control node."""
    root = tmp_path / "checkout"
    root.mkdir()
    for name in ("inventories", "host_programs"):
        (root / name).symlink_to(ROOT / name)
    monkeypatch.setenv("KOSEKI_ROOT", str(root))
    return Site.open(name="mine")


@pytest.fixture
def site_with_secrets(site: Site) -> Site:
    """The checkout with secrets of its own, which what is handed over is held against."""
    inventories = site.root / "inventories"
    inventories.unlink()
    ignore = shutil.ignore_patterns("secrets.yml")
    shutil.copytree(ROOT / "inventories", inventories, symlinks=True, ignore=ignore)
    init_secrets(site)
    return site


def call(group: Group, *words: str) -> Result:
    """Run a command on the site."""
    return CliRunner().invoke(group, [*words, "--name", "mine"])


def refusal(done: Result) -> str:
    """Return the one sentence with which it was refused."""
    assert isinstance(done.exception, KosekiError), done.output
    return str(done.exception)


# The toolkit's own packages.


def wheel(folder: Path) -> str:
    """Write a package of Python into a folder; return its row in a lock."""
    path = folder / "sample-1.0-py3-none-any.whl"
    info = "sample-1.0.dist-info"
    files = {
        "sample.py": b"",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(text).digest()).decode().rstrip('=')},\n"
        for name, text in files.items()
    )
    with zipfile.ZipFile(path, "w") as packing:
        for name, text in files.items():
            packing.writestr(name, text)
        packing.writestr(f"{info}/RECORD", record)
    return f"sample==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def index(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where this machine's pip finds packages, and a lock of the checkout for it."""
    folder = tmp_path / "index"
    folder.mkdir()
    (site.root / toolkit.LOCK).write_text(wheel(folder), encoding="ascii")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_the_locks_packages_are_collected_once(site: Site, index: Path) -> None:
    """From wherever pip is configured to; then nobody is asked."""
    with pytest.raises(KosekiError, match="run `koseki mirror build`"):
        toolkit.wheels_bundle(site)
    toolkit.build_wheelhouse(site, quiet)
    with tarfile.open(fileobj=io.BytesIO(toolkit.wheels_bundle(site))) as tar:
        assert tar.getnames() == ["sample-1.0-py3-none-any.whl", toolkit.LOCK]
    shutil.rmtree(index)
    toolkit.build_wheelhouse(site, lambda _line: pytest.fail("pip was asked"))


def test_a_package_with_another_hash_is_not_kept(site: Site, index: Path) -> None:
    """Pip refuses it; nothing is left of what came."""
    path = index / "sample-1.0-py3-none-any.whl"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(KosekiError):
        toolkit.build_wheelhouse(site, quiet)
    folder = toolkit.wheelhouse(site).parent
    assert not folder.exists() or list(folder.iterdir()) == []


# What is handed over.


@pytest.fixture
def hosts(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    """Hosts of a site that has a configuration."""
    ensure_site_ssh(site, Inventory(site.inventory))
    yield Hosts(tmp_path, monkeypatch)
    shutil.rmtree(site.run_dir, ignore_errors=True)


def test_what_is_noted_goes_to_the_watch_host_when_it_is_another(
    site_with_secrets: Site, hosts: Hosts
) -> None:
    """One question; what lies there already is not sent."""
    site = site_with_secrets
    hosts.answer(Answer("cat /var/lib/koseki-watch/.handed-over", "nothing\n"), Answer("tar -x"))
    assert toolkit.hand_over(site, HOST) == ""
    asked = hosts.asked()
    assert len(asked) == 2
    (digest,) = (word for word in asked[1].split() if len(word) == 64)
    assert "mine/ssh/known_hosts" in asked[1]
    assert "PRIVATE KEY" not in asked[1]
    hosts.answer(Answer(".handed-over", f"{digest}\n"))
    assert toolkit.hand_over(site, HOST) == ""
    assert len(hosts.asked()) == 3
    (site.state / "ssh/known_hosts").write_text("other\n", encoding="ascii")
    hosts.answer(Answer("tar -x", stderr="tar: no space\n", code=2), Answer("cat", f"{digest}\n"))
    assert toolkit.hand_over(site, HOST) == "tar: no space"


def test_a_watch_host_that_is_away_is_told_apart(site_with_secrets: Site, hosts: Hosts) -> None:
    """Nothing is sent to it; why is the answer."""
    site = site_with_secrets
    hosts.answer()
    assert toolkit.hand_over(site, HOST).endswith("No route to host")
    assert len(hosts.asked()) == 1


# Releases.


def test_a_release_is_built_signed_and_verified_by_commands(site: Site, tmp_path: Path) -> None:
    """As docs/releases.md has it; each key is made once."""
    for part in release.TAILS:
        key = call(release_group, "key", "--as", part).output.strip()
        content = Path(key).read_bytes()
        assert call(release_group, "key", "--as", part).output.strip() == key
        assert Path(key).read_bytes() == content
    file = call(release_group, "build", str(source(tmp_path / "source"))).output.strip()
    for part, tail in release.TAILS.items():
        assert f"is not signed by the {part}" in refusal(call(release_group, "verify", file))
        assert call(release_group, "sign", "--as", part, file).output.strip() == f"{file}{tail}"
    done = call(release_group, "verify", file, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output.splitlines()[-1])
    assert (found["version"], "sql" in found) == ("1.0.0", False)
    assert found["sha256"] == hashlib.sha256(Path(file).read_bytes()).hexdigest()
    assert done.output.startswith("plain 1.0.0: signed by vendor SHA256:")
    assert ", 2 files, schema 1, sha256 " in done.output
    # Another site's list of who may sign does not have this one.
    other = release.make_key(Site(tmp_path / "other", "lab", "lab"), release.VENDOR)
    assert "signed by nobody who may" in refusal(
        call(release_group, "verify", file, "--signers", str(other.with_name("allowed_signers")))
    )
    assert site.is_lab


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: (folder / "release.yml").unlink(), "no release.yml in this folder"),
        (
            lambda folder: (folder / "release.yml").write_text("name: plain\n", encoding="ascii"),
            "release.yml has other keys than it must (name): write health, name, packages,",
        ),
        (
            lambda folder: (folder / "release.yml").write_text("- plain\n", encoding="ascii"),
            "release.yml has other keys than it must (['plain'])",
        ),
        (
            lambda folder: (folder / "link").symlink_to("run"),
            "a release may contain plain files only (link)",
        ),
    ],
)
def test_a_source_that_is_none_is_refused(
    site: Site, tmp_path: Path, change: Callable[[Path], object], sentence: str
) -> None:
    """One sentence each, and no archive."""
    folder = source(tmp_path / "source")
    change(folder)
    assert sentence in refusal(call(release_group, "build", str(folder)))
    assert not list(site.var.rglob("*.tar.gz"))


def test_what_a_run_left_is_no_part_of_a_release(tmp_path: Path) -> None:
    """Compiled files are left out: the same source gives the same bytes."""
    folder = source(tmp_path / "source")
    before = release.build(folder, tmp_path / "one").read_bytes()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/run.pyc").write_bytes(b"x")
    assert release.build(folder, tmp_path / "other").read_bytes() == before


def test_a_labs_stand_in_is_signed_once(site: Site) -> None:
    """Signed anew where the source is another, or nobody's signature is there any more."""
    shutil.copytree(
        ROOT / release.STAND_IN,
        site.root / release.STAND_IN,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    release.ensure_stand_in(site)
    (archive,) = release.folder_of(site).glob("*.tar.gz")
    signature = archive.with_name(archive.name + release.TAILS[release.CITY])

    def stamp() -> int:
        return signature.stat().st_mtime_ns

    first = stamp()
    release.ensure_stand_in(site)
    assert stamp() == first
    signature.unlink()
    release.ensure_stand_in(site)
    second = stamp()
    readme = site.root / release.STAND_IN / "release.yml"
    file = next(path for path in readme.parent.rglob("*.py"))
    file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    release.ensure_stand_in(site)
    assert stamp() > second
    assert release.verify(archive, release.signers_of(site))["version"]
