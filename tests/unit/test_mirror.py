"""The package mirror: sources read from the machine, and nothing believed that is not signed."""

from __future__ import annotations

import http.client
import http.server
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click import Group
from click.testing import CliRunner, Result

from debian_archive import CITY, VAULT, make_archive
from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.site import Site, WatchHost, project_root
from koseki_ops.supply import mirror, toolkit
from koseki_ops.supply.mirror import (
    KEYRING,
    Source,
    build_mirror,
    mirror_folder,
    own_release,
    parse_sources,
    plain_name,
    upstream_lines,
    verify_mirror,
)
from koseki_ops.supply.mirror_cli import mirror_group

ROOT = project_root()
HOST = "workstation1"
HERE = "http://upstream.invalid/debian"
SECURITY = "http://upstream.invalid/security"
VENDOR = "http://vendor.invalid/apt"

DEB822 = f"""\
# This machine's own.
Types: deb deb-src
URIs: {HERE}/
Suites: bookworm bookworm-updates
Components: main

Types: deb
URIs: {SECURITY}
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.invalid/
Suites: bookworm
"""


def test_both_forms_of_apt_sources_are_read() -> None:
    """deb822 and one-line entries; what is switched off or for sources only is none."""
    assert list(parse_sources("debian.sources", DEB822)) == [
        Source(HERE, ("bookworm", "bookworm-updates")),
        Source(SECURITY, ("bookworm-security",)),
    ]
    one_line = f"deb [arch=amd64] {HERE} bookworm main\ndeb-src {HERE} bookworm main\n# deb x y z\n"
    assert list(parse_sources("sources.list", one_line)) == [Source(HERE, ("bookworm",))]


def test_only_debians_own_sources_lead_upstream() -> None:
    """The hosts' release is asked where this machine gets its own; a vendor is left out."""
    sources = [*parse_sources("debian.sources", DEB822), Source(VENDOR, ("llvm-15",))]
    lines = [line.split("] ")[1] for line in upstream_lines(sources, "bookworm", "trixie")]
    assert lines == [
        f"{HERE} trixie main",
        f"{HERE} trixie-updates main",
        f"{SECURITY} trixie-security main",
    ]
    with pytest.raises(KosekiError, match="no Debian source"):
        upstream_lines([Source(VENDOR, ("llvm-15",))], "bookworm", "trixie")


def test_small_readings() -> None:
    """An epoch in a file name is dropped; the release is read or asked for."""
    assert plain_name("chrony_1%3a4.6-1_amd64.deb") == "chrony_4.6-1_amd64.deb"
    assert own_release('ID=debian\nVERSION_CODENAME="trixie"\n') == "trixie"
    with pytest.raises(KosekiError, match="not a Debian"):
        own_release("ID=other\n")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian archive with a key of its own; it is made once."""
    folder = tmp_path_factory.mktemp("archive")
    make_archive(folder, tmp_path_factory.mktemp("gpg"))
    return folder


def known_to_apt(patch: pytest.MonkeyPatch, archive: Path) -> None:
    """Let this machine's apt know the archive and no other."""
    patch.setattr(mirror, "UPSTREAM_KEYRING", archive / "keyring.gpg")
    patch.setattr(mirror, "_machine_sources", lambda: [Source(f"copy:{archive}", ("stable",))])


@pytest.fixture
def upstream(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The archive as this machine's apt knows it; what a test changes is put right after it."""
    shutil.copytree(archive, tmp_path / "as-it-was")
    known_to_apt(monkeypatch, archive)
    yield archive
    shutil.rmtree(archive)
    shutil.copytree(tmp_path / "as-it-was", archive)


@pytest.fixture(scope="module")
def inventories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plan, of which every concern asks for one package; the vaults' for one of their own."""
    folder = tmp_path_factory.mktemp("plan") / "inventories"
    ignore = shutil.ignore_patterns("secrets.yml")
    shutil.copytree(ROOT / "inventories", folder, symlinks=True, ignore=ignore)
    path = folder / "iida/group_vars/all/packages.yml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["packages"] = {
        concern: ["vaults-own" if concern in mirror.VAULT_CONCERNS else "one"]
        for concern in content["packages"]
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@pytest.fixture
def site(inventories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A checkout on the control node."""
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "inventories").symlink_to(inventories)
    monkeypatch.setenv("KOSEKI_ROOT", str(root))
    return Site.open(name="mine")


@pytest.fixture(scope="module")
def first(inventories: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a checkout's first build left; it is built once."""
    root = tmp_path_factory.mktemp("first")
    (root / "inventories").symlink_to(inventories)
    made = Site(root, "lab", "mine")
    with pytest.MonkeyPatch.context() as patch:
        known_to_apt(patch, archive)
        assert build_mirror(made)
    return made.var


@pytest.fixture
def built(site: Site, first: Path, upstream: Path) -> Site:
    """A checkout with that mirror and its key."""
    del upstream
    shutil.copytree(first, site.var)
    return site


def listed(site: Site, suite: str) -> set[str]:
    """Return the packages of a suite of the mirror."""
    (path,) = (mirror_folder(site) / "dists" / suite).glob("main/*/Packages")
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.rpartition("/")[2] for line in lines if line.startswith("Filename: ")}


def whole(site: Site) -> dict[str, bytes]:
    """Return every file of the mirror."""
    folder = mirror_folder(site)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def beside(site: Site) -> set[str]:
    """Return what lies beside the mirror, as an interrupted build would leave it."""
    return {path.name for path in site.var.iterdir()} - {"mirror", "keys", "wheelhouse"}


def call(group: Group, *words: str) -> Result:
    """Run a command on the site."""
    return CliRunner().invoke(group, [*words, "--name", "mine"])


def refusal(done: Result) -> str:
    """Return the one sentence with which it was refused."""
    assert isinstance(done.exception, KosekiError), done.output
    return str(done.exception)


# Building.


def test_the_mirror_holds_what_the_plan_needs_and_no_more(site: Site, upstream: Path) -> None:
    """With what that depends on; the vaults' suite has theirs alone; signed with our key."""
    del upstream
    (site.root / toolkit.LOCK).write_text("", encoding="ascii")
    toolkit.wheelhouse(site).mkdir(parents=True)  # the toolkit's own packages are there
    done = call(mirror_group, "build")
    assert done.exit_code == 0, done.output
    assert "package mirror: 4 packages, signed" in done.output
    assert (listed(site, "trixie"), listed(site, "vault")) == (CITY, VAULT)
    assert {path.name for path in (mirror_folder(site) / "pool").iterdir()} == CITY
    key = site.var / "keys/mirror/signing-key.asc"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert call(mirror_group, "verify", "--json").output.splitlines() == [
        "4 packages, every hash and the signature are right",
        '{"packages": 4}',
    ]
    assert beside(site) == set()


def test_what_is_complete_is_not_built_again(built: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked; whoever wants to know what is new says so, and the key stays."""
    before = whole(built)

    def asked(_argv: list[str]) -> str:
        pytest.fail("the upstream was asked")

    with monkeypatch.context() as patch:
        patch.setattr(mirror, "_fetch", asked)
        said: list[str] = []
        assert not build_mirror(built, said.append)
    assert said == ["package mirror: complete"]
    assert build_mirror(built, refresh=True)
    after = whole(built)
    assert after[KEYRING] == before[KEYRING]
    assert set(after) == set(before)


def test_an_altered_mirror_is_not_called_complete(built: Site) -> None:
    """Before anybody builds on it, each file is held against its hash."""
    path = mirror_folder(built) / "pool/one_4.6-1_all.deb"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(KosekiError, match="run `koseki mirror build --refresh`"):
        build_mirror(built)
    assert build_mirror(built, refresh=True)
    assert verify_mirror(built) == 4


def rotten(upstream: Path) -> None:
    """Change a package after its index was signed."""
    path = upstream / "pool/one_4.6-1_all.deb"
    path.write_bytes(path.read_bytes() + b"x")


def unsigned(upstream: Path) -> None:
    """Sign the index with nobody's key."""
    path = upstream / "dists/trixie/InRelease"
    path.write_bytes(path.read_bytes().replace(b"Suite: trixie", b"Suite: sid"))


@pytest.mark.parametrize("change", [rotten, unsigned])
def test_what_upstream_gives_wrong_changes_nothing(
    built: Site, upstream: Path, change: Callable[[Path], None]
) -> None:
    """The mirror of before is whole still, and nothing half lies beside it."""
    before = whole(built)
    change(upstream)
    with pytest.raises(KosekiError, match="apt-get"):
        build_mirror(built, refresh=True)
    assert whole(built) == before
    assert beside(built) == set()


@pytest.mark.parametrize("step", ["_sign", "_verify_folder"])
def test_an_interrupted_build_changes_nothing(
    built: Site, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it was: it is built aside and put in place in one step."""
    before = whole(built)

    def interrupt(*_given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mirror, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_mirror(built, refresh=True)
    assert whole(built) == before
    assert beside(built) == set()


def after_download(change: Callable[[Path], object]) -> Callable[[list[str]], str]:
    """Return a fetch after which something happens to the packages that came."""

    def fetch(argv: list[str]) -> str:
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        if "--download-only" in argv:
            (cache,) = (word.partition("=")[2] for word in argv if word.startswith("-oDir::Cache="))
            change(Path(cache) / "archives/beneath_1.0_all.deb")
        return said

    return fetch


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda path: path.unlink(missing_ok=True), "a package did not arrive"),
        (lambda path: path.write_bytes(b"x"), "a package arrived altered"),
    ],
)
def test_a_package_that_did_not_arrive_whole_is_named(
    site: Site,
    upstream: Path,
    change: Callable[[Path], object],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Held against the index's hash once more before it is signed as ours."""
    del upstream
    monkeypatch.setattr(mirror, "_fetch", after_download(change))
    with pytest.raises(KosekiError, match=rf"{sentence} \(beneath_1\.0_all\.deb\)"):
        build_mirror(site)
    assert not mirror_folder(site).exists()
    assert beside(site) == set()


def test_an_index_that_resolves_to_nothing_is_named(
    site: Site, upstream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An apt that says nothing, or in words of its own, gives no mirror."""
    del upstream
    monkeypatch.setattr(mirror, "_fetch", lambda _argv: "Reading package lists...")
    with pytest.raises(KosekiError, match=r"resolved to nothing \(Reading package lists"):
        build_mirror(site)


def test_without_debians_keys_nothing_is_believed(
    site: Site, upstream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package that has them is named."""
    monkeypatch.setattr(mirror, "UPSTREAM_KEYRING", upstream / "nowhere.gpg")
    with pytest.raises(KosekiError, match="apt-get install debian-archive-keyring"):
        build_mirror(site)


def test_a_package_beside_the_plan_is_fetched(site: Site, upstream: Path, tmp_path: Path) -> None:
    """As one to compare with; what this machine's sources do not have is refused."""
    folder = tmp_path / "beside"
    folder.mkdir()
    file = mirror.download(site, "unasked", folder)
    assert file.read_bytes() == (upstream / "pool/unasked_1.0_all.deb").read_bytes()
    with pytest.raises(KosekiError, match="nowhere"):
        mirror.download(site, "nowhere", folder)


def test_a_watch_host_has_the_signed_lists_alone(built: Site) -> None:
    """They are checked; a list that is another is refused there, too."""
    watch = Site(built.root, "lab", "mine", WatchHost(HOST, "lab", "mine", ""))
    shutil.rmtree(mirror_folder(built) / "pool")
    assert verify_mirror(watch) == 4
    (path,) = mirror_folder(built).glob("dists/vault/main/*/Packages")
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(KosekiError, match="the package mirror is altered"):
        verify_mirror(watch)


def test_a_disk_that_is_full_is_a_sentence(
    site: Site, upstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lists the packages fails with its own last words."""
    del upstream
    programs = tmp_path / "programs"
    programs.mkdir()
    failing = "#!/bin/sh\necho 'E: Write error - No space left' >&2\nexit 100\n"
    (programs / "apt-ftparchive").write_text(failing, encoding="ascii")
    (programs / "apt-ftparchive").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    with pytest.raises(KosekiError, match="No space left") as refused:
        build_mirror(site)
    assert "check the room on the disk with `df`" in str(refused.value)
    assert beside(site) == set()


def test_the_mirror_is_served_to_whoever_asks(
    built: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over HTTP, its own folder alone; what went well is not said."""
    bound: list[int] = []
    ready = threading.Event()

    def once(server: http.server.ThreadingHTTPServer) -> None:
        bound.append(server.server_address[1])
        ready.set()
        server.handle_request()
        server.handle_request()
        server.server_close()

    monkeypatch.setattr(http.server.ThreadingHTTPServer, "serve_forever", once)
    # Whatever port is free; the option takes none below 1.
    real = http.server.ThreadingHTTPServer.__init__

    def anywhere(
        self: http.server.ThreadingHTTPServer, address: tuple[str, int], handler: object
    ) -> None:
        real(self, (address[0], 0), handler)  # type: ignore[arg-type] # as it is given

    monkeypatch.setattr(http.server.ThreadingHTTPServer, "__init__", anywhere)
    words = ["serve", "--bind", "127.0.0.1", "--port", "8080", "--name", "mine"]
    serving = threading.Thread(
        target=lambda: mirror_group.main(words, standalone_mode=False), daemon=True
    )
    serving.start()
    assert ready.wait(30)
    found = []
    for path in ("/dists/trixie/InRelease", "/../keys/mirror/signing-key.asc"):
        line = http.client.HTTPConnection("127.0.0.1", bound[0], timeout=30)
        line.request("GET", path, headers={"Connection": "close"})
        answer = line.getresponse()
        found.append((answer.status, answer.read()))
        line.close()
    serving.join(30)
    release_file = mirror_folder(built) / "dists/trixie/InRelease"
    assert found[0] == (200, release_file.read_bytes())
    assert found[1][0] == 404
    assert "200" not in capsys.readouterr().err


def test_an_address_that_is_not_ours_cannot_be_listened_on(site: Site) -> None:
    """Address, port and why are in the sentence."""
    del site
    done = call(mirror_group, "serve", "--bind", "192.0.2.1", "--port", "8080")
    assert refusal(done) == (
        "cannot listen (192.0.2.1:8080: Cannot assign requested address): "
        "give another --bind or --port"
    )


# Verifying.


def test_this_checkouts_own_mirror_holds() -> None:
    """Every hash and the signature of what the lab's hosts are supplied with."""
    assert verify_mirror(Site.open()) > 100


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file without touching the one it is linked to."""
    content = change(path.read_bytes())
    path.unlink()
    path.write_bytes(content)


def package(folder: Path) -> Path:
    """Return the smallest package."""
    return min((folder / "pool").iterdir(), key=lambda path: path.stat().st_size)


TAMPERINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "one byte of a package": (
        lambda folder: rewrite(package(folder), lambda old: old[:-1] + bytes([old[-1] ^ 1])),
        "is altered (",
    ),
    "a package too many": (
        lambda folder: shutil.copy(package(folder), folder / "pool/guest_1_all.deb"),
        "altered by an unsigned file",
    ),
    "a package too few": (lambda folder: package(folder).unlink(), "incomplete"),
    "an index": (
        lambda folder: rewrite(
            next((folder / "dists").glob("trixie/main/*/Packages")),
            lambda old: old.replace(b"SHA256: ", b"SHA256:  ", 1),
        ),
        "is altered (",
    ),
    "no signature": (lambda folder: (folder / "dists/trixie/InRelease").unlink(), "unsigned"),
    "another text under the signature": (
        lambda folder: rewrite(
            folder / "dists/trixie/InRelease", lambda old: old.replace(b"koseki", b"intruder", 1)
        ),
        "not signed by the platform's key",
    ),
    "no key": (lambda folder: (folder / KEYRING).unlink(), "without its key"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_an_altered_or_unsigned_mirror_is_refused(built: Site, name: str) -> None:
    """One sentence: what is wrong with which file, and what to do."""
    tamper, said = TAMPERINGS[name]
    tamper(mirror_folder(built))
    with pytest.raises(KosekiError, match="koseki mirror build --refresh") as refused:
        verify_mirror(built)
    assert said in str(refused.value)


def test_there_must_be_a_mirror(tmp_path: Path) -> None:
    """Before the first build, the remedy is to build."""
    with pytest.raises(KosekiError, match="run `koseki mirror build`"):
        verify_mirror(Site(tmp_path, "lab", "lab"))
