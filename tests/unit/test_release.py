"""Releases: the same source gives the same bytes, and only what was signed gets anywhere."""

from __future__ import annotations

import gzip
import io
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.site import Site
from koseki_ops.supply import release
from koseki_ops.trust import signatures
from release_samples import signed, source

pytestmark = pytest.mark.usefixtures("counted_programs")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with a signing key of its own."""
    made = Site(tmp_path, "lab", "lab")
    for part in release.TAILS:
        release.make_key(made, part)
    return made


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
    assert (found["version"], found["schema_version"]) == ("1.0.0", 1)
    assert re.fullmatch(r"vendor SHA256:\S+, city SHA256:\S+", found["signer"])
    assert found["sql"] == {"schema/0001-first.sql": "CREATE SCHEMA own;\n"}


def test_the_stand_in_is_a_release(site: Site) -> None:
    """What the lab runs is built from the repository and passes its own verification."""
    found = release.verify(signed(site, ROOT / release.STAND_IN), release.signers_of(site))
    assert found["name"] == release.STAND_IN_NAME


@pytest.mark.parametrize("part", list(release.TAILS))
def test_a_release_without_a_parts_signature_is_refused(
    site: Site, tmp_path: Path, part: str
) -> None:
    """Neither who wrote it nor who runs it brings it to a host alone; nothing of it is read."""
    archive = signed(site, source(tmp_path / "a"))
    archive.with_name(archive.name + release.TAILS[part]).unlink()
    assert f"is not signed by the {part}" in refusal(site, archive)


@pytest.mark.parametrize("part", list(release.TAILS))
def test_a_strangers_signature_is_refused(site: Site, tmp_path: Path, part: str) -> None:
    """A signature by a key that is not on the list counts as none."""
    archive = signed(site, source(tmp_path / "a"))
    stranger = release.make_key(Site(tmp_path / "stranger", "lab", "lab"), part)
    release.sign(archive, stranger, part)
    assert f"signed by nobody who may as the {part}" in refusal(site, archive)


def test_the_other_parts_signature_is_a_strangers(site: Site, tmp_path: Path) -> None:
    """The vendor's key does not sign for the city, nor its signature under the city's name."""
    archive = signed(site, source(tmp_path / "a"))
    release.sign(archive, release.key_of(site, release.VENDOR), release.CITY)
    assert "signed by nobody who may as the city" in refusal(site, archive)


def test_one_key_does_not_sign_twice(site: Site, tmp_path: Path) -> None:
    """Where the list names one key for both, two signatures by it are one."""
    archive = signed(site, source(tmp_path / "a"))
    key = release.key_of(site, release.VENDOR)
    signatures.allow(release.signers_of(site), release.CITY, release.NAMESPACE, key)
    release.sign(archive, key, release.CITY)
    assert "one key signed the release for vendor and city" in refusal(site, archive)


def test_a_list_from_before_there_were_two_is_added_to(tmp_path: Path) -> None:
    """A lab of before has one key under another name; it stays what it was, and signs as vendor."""
    site = Site(tmp_path, "lab", "lab")
    signatures.make_key(release.folder_of(site), "lab", "releases", release.NAMESPACE)
    archive = signed(site, source(tmp_path / "a"))
    assert release.verify(archive, release.signers_of(site))["version"] == "1.0.0"


def test_one_changed_byte_is_refused(site: Site, tmp_path: Path) -> None:
    """What was signed is every byte."""
    archive = signed(site, source(tmp_path / "a"))
    content = bytearray(archive.read_bytes())
    content[-1] ^= 1
    archive.write_bytes(content)
    assert "is not what the vendor signed" in refusal(site, archive)


def test_a_signature_for_another_purpose_is_refused(site: Site, tmp_path: Path) -> None:
    """The key's signature under a letter is no signature of a release."""
    archive = signed(site, source(tmp_path / "a"))
    archive.with_name(f"{archive.name}.sig").unlink()
    key = release.key_of(site, release.VENDOR)
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
    release.sign_all(site, archive)
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
    with pytest.raises(KosekiError, match="does not have the next number"):
        release.build(folder, tmp_path / "out")
