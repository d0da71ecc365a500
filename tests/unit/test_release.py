"""Releases: the same source gives the same bytes, and only what was signed gets anywhere."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.site import Site
from koseki_ops.supply import release

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / release.PROGRAM
PLAIN = """---
name: plain
version: {version}
packages: [{package}]
start: [run]
health: /health
schema: schema
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a signing key of its own."""
    made = Site(tmp_path, "lab", "lab")
    release.make_key(made)
    return made


def source(folder: Path, version: str = "1.0.0", package: str = "base-files") -> Path:
    """Write a small release's source."""
    (folder / "schema").mkdir(parents=True, exist_ok=True)
    (folder / "release.yml").write_text(PLAIN.format(version=version, package=package))
    (folder / "run").write_text("#!/bin/sh\nexec sleep 60\n")
    (folder / "run").chmod(0o755)
    (folder / "schema/0001-first.sql").write_text("CREATE SCHEMA own;\n")
    return folder


def signed(site: Site, folder: Path) -> Path:
    """Build and sign a release from a source."""
    archive = release.build(folder, release.folder_of(site))
    release.sign(archive, release.folder_of(site) / "signing_key")
    return archive


def refusal(site: Site, archive: Path) -> str:
    """Return the sentence with which a release is refused."""
    with pytest.raises(KosekiError) as caught:
        release.verify(archive, release.signers_of(site))
    return str(caught.value)


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    """Who builds again can prove that an archive came from this source."""
    one = release.build(source(tmp_path / "a"), tmp_path / "one").read_bytes()
    other = release.build(source(tmp_path / "b"), tmp_path / "other").read_bytes()
    assert one == other


def test_a_signed_release_is_verified(site: Site, tmp_path: Path) -> None:
    """Signer, version and SQL are known once the signature holds."""
    found = release.verify(signed(site, source(tmp_path / "a")), release.signers_of(site))
    assert (found["signer"], found["version"], found["schema_version"]) == ("releases", "1.0.0", 1)
    assert found["sql"] == {"schema/0001-first.sql": "CREATE SCHEMA own;\n"}


def test_the_stand_in_is_a_release(site: Site) -> None:
    """What the lab runs is built from the repository and passes its own verification."""
    found = release.verify(signed(site, ROOT / release.STAND_IN), release.signers_of(site))
    assert found["name"] == release.STAND_IN_NAME


def test_an_unsigned_release_is_refused(site: Site, tmp_path: Path) -> None:
    """Without a signature nothing is read."""
    archive = release.build(source(tmp_path / "a"), release.folder_of(site))
    assert "is not signed" in refusal(site, archive)


def test_a_strangers_signature_is_refused(site: Site, tmp_path: Path) -> None:
    """A signature by a key that is not on the list counts as none."""
    archive = release.build(source(tmp_path / "a"), release.folder_of(site))
    release.sign(archive, release.make_key(Site(tmp_path / "stranger", "lab", "lab")))
    assert "signed by nobody who may" in refusal(site, archive)


def test_one_changed_byte_is_refused(site: Site, tmp_path: Path) -> None:
    """What was signed is every byte."""
    archive = signed(site, source(tmp_path / "a"))
    content = bytearray(archive.read_bytes())
    content[-1] ^= 1
    archive.write_bytes(content)
    assert "is not what releases signed" in refusal(site, archive)


def test_a_signature_for_another_purpose_is_refused(site: Site, tmp_path: Path) -> None:
    """The key's signature under a letter is no signature of a release."""
    archive = release.build(source(tmp_path / "a"), release.folder_of(site))
    key = release.folder_of(site) / "signing_key"
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", str(key), str(archive)]
    subprocess.run(argv, check=True, capture_output=True)
    assert "signed for another purpose" in refusal(site, archive)


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../b", "link"])
def test_nothing_leaves_its_folder(site: Site, tmp_path: Path, name: str) -> None:
    """Even a signed archive holds plain files below its own folder, and nothing else."""
    archive = signed(site, source(tmp_path / "a"))
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as packed:
        member = tarfile.TarInfo(name)
        member.type = tarfile.SYMTYPE if name == "link" else tarfile.REGTYPE
        packed.addfile(member, io.BytesIO())
    archive.write_bytes(gzip.compress(content.getvalue()))
    release.sign(archive, release.folder_of(site) / "signing_key")
    assert "is no plain file in its place" in refusal(site, archive)


@pytest.mark.parametrize("line", ["\\! id", "COMMIT;", "RESET ROLE;", "set role postgres;"])
def test_sql_stays_in_its_role(site: Site, tmp_path: Path, line: str) -> None:
    """A schema file works as the owner of one database, in one transaction."""
    folder = source(tmp_path / "a")
    (folder / "schema/0001-first.sql").write_text(f"CREATE SCHEMA own;\n{line}\n")
    assert "has no place in a schema file" in refusal(site, signed(site, folder))


def test_schema_files_are_numbered(tmp_path: Path) -> None:
    """A gap would leave one municipality behind another."""
    folder = source(tmp_path / "a")
    (folder / "schema/0003-third.sql").write_text("SELECT 1;\n")
    with pytest.raises(KosekiError, match="has not the next number"):
        release.build(folder, tmp_path / "out")


# The host's half, on folders of its own; packages are asked of this machine's dpkg.


@pytest.fixture
def program(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The hosts' program, at home in a temporary folder."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("koseki_release_program", str(PROGRAM))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, loader.name, module)
    loader.exec_module(module)
    for name in ("BASE", "STATE", "ENVIRONMENT"):
        monkeypatch.setattr(module, name, tmp_path / name.lower())
        (tmp_path / name.lower()).mkdir()
    monkeypatch.setattr(module, "SIGNERS", release.signers_of(site))
    monkeypatch.setattr(module, "INCOMING", module.STATE / "incoming.tar.gz")
    return module


def ask(program: ModuleType, archive: Path, version: str, **more: object) -> list[str]:
    """Bring an archive to the host, ask what it would do; return that."""
    for tail in ("", ".sig"):
        target = Path(f"{program.INCOMING}{tail}")
        target.write_bytes(Path(f"{archive}{tail}").read_bytes())
    digest = program.digest(archive.read_bytes())
    wanted = program.Wanted(version, digest, {"iida": {"A": "1"}}, "test", **more)
    host = program.Host(wanted, check=True)
    host.converge()
    done: list[str] = host.done
    return done


def test_a_host_says_what_it_would_do(program: ModuleType, site: Site, tmp_path: Path) -> None:
    """Under check a signed release would be unpacked and switched to; nothing is."""
    said = ask(program, signed(site, source(tmp_path / "a")), "1.0.0")
    assert said == ["unpack 1.0.0", "tell iida its environment", "switch from nothing to 1.0.0"]
    assert list(program.BASE.iterdir()) == []


def test_going_back_by_mistake_is_refused(program: ModuleType, site: Site, tmp_path: Path) -> None:
    """An older version is refused unless it is meant."""
    archive = signed(site, source(tmp_path / "a", "1.9.0"))
    (program.BASE / "current").symlink_to("releases/1.10.0")
    with pytest.raises(program.Refused, match=r"1\.10\.0 is running and 1\.9\.0 is older"):
        ask(program, archive, "1.9.0")
    assert ask(program, archive, "1.9.0", allow_downgrade=True)[-1].startswith("switch from 1.10.0")


def test_a_missing_package_is_named(program: ModuleType, site: Site, tmp_path: Path) -> None:
    """A release that could not start is refused before it is unpacked."""
    archive = signed(site, source(tmp_path / "a", package="no-such-package"))
    with pytest.raises(program.Refused, match=r"not installed \(no-such-package\)"):
        ask(program, archive, "1.0.0")


def test_the_record_shows_an_edit(program: ModuleType) -> None:
    """Each row holds the digest of the row before."""
    log = program.STATE / "record.jsonl"
    for number in range(3):
        program.record(log, {"action": "switch", "version": f"1.0.{number}"})
    assert program.broken_link(log) is None
    rows = log.read_text().splitlines()
    rows[1] = json.dumps({**json.loads(rows[1]), "version": "9.9.9"})
    log.write_text("\n".join(rows) + "\n")
    assert program.broken_link(log) == 3


def test_an_environment_is_literal(program: ModuleType) -> None:
    """A value stands in single quotes as it is; one that would end them is refused."""
    assert "A='x $HOME %n'" in program.environment_text({"A": "x $HOME %n"})
    with pytest.raises(program.Refused, match="cannot hold this"):
        program.environment_text({"A": "it's"})
