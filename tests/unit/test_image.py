"""Images: what lies where, what gives a machine away, and what may be used."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from koseki_ops.cli import cli
from koseki_ops.core.errors import KosekiError
from koseki_ops.image import loader, sanitize, seal
from koseki_ops.image.boot_check import BootCheck, Stage
from koseki_ops.image.check import GROW
from koseki_ops.image.report import render
from koseki_ops.image.tools import Tools
from koseki_ops.image.volumes import MIB, layout_of
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.supply import mirror
from koseki_ops.verify.results import FAILED, PASSED, Results, TestResult

ROOT = Path(__file__).resolve().parents[2]
MOMENT = 1_750_000_000
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAA\n"


@pytest.fixture(scope="module")
def plan() -> Inventory:
    """The real plan."""
    return Inventory(ROOT / "inventories/iida")


def test_a_volume_is_told_to_grow_in_the_words_that_were_tried() -> None:
    """What a check does is what the page says to whoever enlarges a server's disk."""
    page = (ROOT / "docs/images.md").read_text(encoding="utf-8")
    assert GROW in "".join(line.removeprefix("   ") for line in page.splitlines(keepends=True))


def tree(folder: Path) -> Path:
    """Lay down what identity looks at."""
    for name in (
        "etc/ssh",
        "etc/ssl/certs",
        "var/log/journal",
        "var/log/audit",
        "var/lib/app",
        "usr/lib",
        "root",
    ):
        (folder / name).mkdir(parents=True)
    (folder / "etc/shadow").write_text(
        "root:!*:20000:0:99999:7:::\n"
        "one:$y$j9T$salt$hash:0:0:180:7::22370:\ntwo:$y$j9T$salt$hash:20111:0:180:7:::\n"
    )
    (folder / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (folder / "etc/ssh/ssh_host_ed25519_key").write_text(KEY)
    (folder / "var/log/journal/old").write_text("somebody was here")
    (folder / "usr/lib/library.so").write_bytes(b"\0" + KEY.encode())
    return folder


def test_volumes_lie_one_after_the_other(plan: Inventory) -> None:
    """The root is first, no volume lies on another, and every host has the log's."""
    for host in plan.hosts:
        layout = layout_of(plan, "iida", host)
        mounts = [str(volume.mount) for volume in layout.volumes]
        assert mounts[:2] == ["/", "/var/log"]
        ends = [volume.offset + volume.size for volume in layout.volumes]
        assert [volume.offset for volume in layout.volumes][1:] == ends[:-1]
        assert layout.volumes[0].offset == layout.esp + 64 * MIB
        assert layout.size == ends[-1] + MIB
    assert "/var/lib/postgresql" in {
        str(volume.mount) for volume in layout_of(plan, "iida", "primary1").volumes
    }
    assert "/srv" in {
        str(volume.mount) for volume in layout_of(plan, "iida", "remote-backup1").volumes
    }


def test_names_of_volumes_are_a_hosts_own_and_the_same_again(plan: Inventory) -> None:
    """Two hosts on one hypervisor never share an id; a second build gives the same."""
    one, other = (layout_of(plan, "iida", host) for host in ("primary1", "secondary1"))
    assert one == layout_of(plan, "iida", "primary1")
    ids = [layout.id for layout in (one, other)]
    ids += [volume.id for layout in (one, other) for volume in layout.volumes]
    assert len(ids) == len(set(ids))


def test_the_loader_recognises_the_password(plan: Inventory) -> None:
    """What stands in the configuration is PBKDF2 of the password, and not the password."""
    layout = layout_of(plan, "iida", "primary1")
    text = loader.configuration(layout, ["audit=1", "quiet"], "correct horse", "primary1")
    assert "correct horse" not in text
    line = next(line for line in text.splitlines() if line.startswith("password_pbkdf2 root "))
    *_, rounds, salt, made = line.split(".")
    seen = hashlib.pbkdf2_hmac(
        "sha512", b"correct horse", bytes.fromhex(salt), int(rounds), len(made) // 2
    )
    assert seen.hex().upper() == made
    assert "--unrestricted" in text
    assert f"root=UUID={layout.volumes[0].id} ro audit=1 quiet\n" in text


def test_the_first_sectors_lead_to_the_rest(plan: Inventory, tmp_path: Path) -> None:
    """A BIOS reads the first sector, that one the program's first, that one the rest."""
    layout = layout_of(plan, "iida", "primary1")
    (tmp_path / "usr/lib/grub/i386-pc").mkdir(parents=True)
    (tmp_path / "usr/lib/grub/i386-pc/boot.img").write_bytes(b"\xaa" * 512)
    program, disk = tmp_path / "core", tmp_path / "disk"
    program.write_bytes(b"\xbb" * 2048)
    disk.write_bytes(b"\xcc" * (4 * MIB))
    loader.embed(Tools(tmp_path, MOMENT), layout, program, disk)
    written = disk.read_bytes()
    begins = layout.bios // 512
    assert struct.unpack_from("<Q", written, 0x5C) == (begins,)
    assert struct.unpack_from("<Q", written, layout.bios + 500) == (begins + 1,)
    # The disk's signature and the partition table are not the loader's.
    assert written[440:512] == b"\xcc" * 72


def test_nothing_of_the_machine_stays(tmp_path: Path) -> None:
    """Keys, id, traces, passwords and secrets go; what every machine has stays."""
    made = tree(tmp_path)
    (made / "var/lib/app/settings").write_text("password = geheim-und-lang\n")
    (made / "root/key").write_text(KEY)
    for public in ("key.pub", "key-cert.pub"):
        (made / "root" / public).write_text("ssh-ed25519 AAAA\n")
    gone = sanitize.strip_identity(made, ["geheim-und-lang"], [], MOMENT)
    assert {(found.path, found.what) for found in gone} == {
        ("root/key", "a private key"),
        ("var/lib/app/settings", "a secret of the site"),
    }
    assert not list((made / "etc/ssh").iterdir())
    # Its folders are there for daemons that expect them.
    assert [path for path in (made / "var/log").rglob("*") if not path.is_dir()] == []
    assert (made / "var/log/audit").is_dir()
    assert not list((made / "root").glob("key*"))
    assert (made / "etc/machine-id").read_text() == ""
    shadow = (made / "etc/shadow").read_text()
    assert "$y$" not in shadow
    # An account that must change its password at once still must.
    assert "\none:!:0:0:180" in shadow
    assert f"\ntwo:!:{MOMENT // 86400}:0:180" in shadow
    assert list(sanitize.scan(made, ["geheim-und-lang"])) == []


def authority(name: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Return an authority's own certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    return certificate(name, key, name, key), key


def certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    """Return a certificate, signed by another key or its own."""
    subject, signer = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer)
    )
    day = datetime(2026, 11, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(day)
        .not_valid_after(day.replace(year=2027))
    )
    return made.sign(by, SHA256())


def test_the_build_labs_certificates_go_with_its_keys(tmp_path: Path) -> None:
    """Those that its authority signed, and its own; the world's, and another's, stay."""
    made = tree(tmp_path)
    ours, our_key = authority("build lab")
    second, _ = authority("build lab's roles")
    _, their_key = authority("another")
    key = ec.generate_private_key(ec.SECP256R1())
    for place, found in {
        "etc/koseki/ca.crt": ours,
        "etc/koseki/roles.crt": second,
        "etc/koseki/host.crt": certificate("host", key, "build lab", our_key),
        "etc/koseki/other.crt": certificate("host", key, "another", their_key),
        "etc/koseki/liar.crt": certificate("host", key, "build lab", their_key),
        "etc/ssl/certs/known.pem": ours,
    }.items():
        path = made / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(found.public_bytes(Encoding.PEM))
    (made / "etc/koseki/link.crt").symlink_to("ca.crt")
    (made / "etc/ssl/certs/hanging.pem").symlink_to("not-there.pem")
    (made / "etc/ssl/certs/elsewhere.pem").symlink_to("/usr/share/not-there.crt")
    gone = sanitize.strip_identity(made, [], [ours, second], MOMENT)
    expected = {"etc/koseki/ca.crt", "etc/koseki/roles.crt", "etc/koseki/host.crt"}
    assert {found.path for found in gone} == expected
    assert {found.what for found in gone} == {"a certificate of the build lab"}
    left = {path.name for path in (made / "etc/ssl/certs").iterdir()}
    assert {"known.pem", "elsewhere.pem"} <= left
    assert "hanging.pem" not in left


def test_a_secret_is_found_wherever_it_lies(tmp_path: Path) -> None:
    """In a library, across the border of what is read at once, and a key outside of packages."""
    made = tree(tmp_path)
    edge = sanitize.PIECE - 5
    (made / "usr/lib/big").write_bytes(b"\0" * edge + b"geheim-und-lang" + b"\0" * 100)
    found = {one.path for one in sanitize.scan(made, ["geheim-und-lang"])}
    assert found == {"etc/ssh/ssh_host_ed25519_key", "usr/lib/big"}


def test_nothing_is_younger_than_the_commit(tmp_path: Path) -> None:
    """Files, folders and links alike."""
    made = tree(tmp_path)
    (made / "etc/link").symlink_to("nowhere")
    sanitize.clamp_mtimes(made, MOMENT)
    assert {path.lstat().st_mtime for path in (made, *made.rglob("*"))} == {MOMENT}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site whose image is sealed, made from this very checkout."""
    made = Site(tmp_path, "lab", "lab")
    origin = seal.Origin("lab", "c" * 40, "t" * 16, "m" * 64, MOMENT)
    monkeypatch.setattr(seal, "origin_of", lambda _site: origin)
    folder = seal.folder_of(made)
    folder.mkdir(parents=True)
    image = folder / "primary1.qcow2"
    image.write_bytes(b"disk" * 1000)
    beside = [folder / f"primary1{ending}" for ending in (seal.SBOM, seal.AUDIT)]
    for path in beside:
        path.write_text("{}")
    told = seal.Description(
        "primary1", "qcow2", origin, seal.digest(image), 4000, *map(seal.digest, beside)
    )
    seal.seal(made, told, folder / "primary1.json")
    return made


def image_of(site: Site) -> Path:
    """Return the image of a site."""
    return seal.folder_of(site) / "primary1.qcow2"


def test_a_sealed_image_may_be_used(site: Site) -> None:
    """It says which host it is, and from what it was made."""
    assert seal.verify(site, image_of(site)).host == "primary1"


def test_one_flipped_bit_is_refused(site: Site) -> None:
    """In the disk, in the list of packages, in what is signed, in the signature."""
    for ending in ("qcow2", "spdx.json", "witness.json", "json", "json.sig"):
        path = seal.folder_of(site) / f"primary1.{ending}"
        whole = path.read_bytes()
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        with pytest.raises(KosekiError, match=r"altered|not signed by a known signer"):
            seal.verify(site, image_of(site))
        path.write_bytes(whole)
    assert seal.verify(site, image_of(site))


def test_somebody_elses_signature_is_refused(site: Site, tmp_path: Path) -> None:
    """A key that is not on the list signs nothing."""
    told = seal.folder_of(site) / "primary1.json"
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    told.with_name("primary1.json.sig").unlink()
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-n", seal.NAMESPACE, "-f", str(key), str(told)],
        check=True,
    )
    with pytest.raises(KosekiError, match="not signed by a known signer"):
        seal.verify(site, image_of(site))


def test_an_image_of_another_commit_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold, and is not what this checkout says."""
    here = replace(seal.origin_of(site), commit="d" * 40)
    monkeypatch.setattr(seal, "origin_of", lambda _site: here)
    with pytest.raises(KosekiError, match="another commit"):
        seal.verify(site, image_of(site))


def test_a_missing_image_is_one_sentence() -> None:
    """The path and what to run."""
    said = CliRunner().invoke(cli, ["image", "check", "nowhere.qcow2"])
    assert isinstance(said.exception, KosekiError)
    assert "koseki image build" in str(said.exception)


def test_an_unknown_host_is_one_sentence() -> None:
    """The name, and those that there are; nothing is made."""
    said = CliRunner().invoke(cli, ["image", "build", "primary9"])
    assert isinstance(said.exception, KosekiError)
    assert "primary9" in str(said.exception)
    assert "secondary1" in str(said.exception)


def test_where_it_comes_from_is_gits_and_the_mirrors(tmp_path: Path) -> None:
    """A changed checkout is another origin, and so are other package lists."""
    site = Site(tmp_path, "lab", "lab")
    (tmp_path / "inventories/lab").mkdir(parents=True)
    (tmp_path / "inventories/lab/hosts.yml").write_text("all: {}\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    with pytest.raises(KosekiError, match="made from a commit"):
        seal.origin_of(site)
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True)
    lists = mirror.mirror_folder(site) / "dists/trixie/Release"
    lists.parent.mkdir(parents=True)
    lists.write_text("one")
    first = seal.origin_of(site)
    lists.write_text("two")
    second = seal.origin_of(site)
    assert (first.commit, first.tree) == (second.commit, second.tree)
    assert first.mirror != second.mirror
    (tmp_path / "inventories/lab/hosts.yml").write_text("all: {children: {}}\n")
    assert seal.origin_of(site).commit == first.commit + "+"
    assert json.dumps(first.moment).isdigit()


def test_a_report_tells_what_does_not_hold(site: Site) -> None:
    """The stage, the check, what to do, and the audit's words; nothing comes from outside."""
    said = {"version": "3", "index": 67, "tests": 200, "left_out": ["KRNL-6000"], "suggestions": []}
    remark = {"test": "MAIL-8818", "text": "Hide <the banner>", "details": ""}
    image_of(site).with_suffix(seal.AUDIT).write_text(json.dumps({**said, "warnings": [remark]}))
    told = json.loads(image_of(site).with_suffix(".json").read_text())
    told["origin"] = seal.Origin(**told["origin"])
    looked = Results([_test(PASSED), _test(FAILED)])
    stages = [Stage("restart", 60.0, text="it is there again"), Stage("after: time", 9.0, looked)]
    page = render(
        BootCheck(image_of(site), seal.Description(**told), "tcg", stages), "Asia/Tokyo", 0.0
    )
    for wanted in (
        "1 check failed",
        "it is there again",
        'href="after.html"',
        "1 passed, 1 failed",
        "set the clock",
        "Hide &lt;the banner&gt;",
        "67",
        "c" * 40,
    ):
        assert wanted in page
    assert "http" not in page


def _test(outcome: str) -> TestResult:
    return TestResult(
        suite="time",
        test="test_clock",
        id=f"test_time.py::test_clock[{outcome}]",
        host="primary1",
        parameters=outcome,
        outcome=outcome,
        seconds=0.1,
        why="One clock.",
        docstring="One clock.",
        requirements=["K-20"],
        expected="12:00",
        seen="12:07",
        remedy="set the clock",
    )
