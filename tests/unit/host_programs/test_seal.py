"""koseki-seal takes what was uploaded, and nothing that is put in its place meanwhile (K-04)."""

from __future__ import annotations

from pathlib import Path

import pytest

from vault_samples import VAULT, Vault

# Who becomes the uploader to read: just before, a file is something else.
SWAPS = {
    "a link to a file of the host": "ln -sfn /etc/passwd {file}",
    "a link without end": "ln -sfn /dev/zero {file}",
    "a pipe that nobody fills": "rm {file}; mkfifo {file}",
    "a file that grows": "[ -e {file}.1 ] || head -c 9000000 /dev/zero | tee {file}.1 >{file}",
}
SETPRIV = """#!/bin/sh
shift 3
case $1 in dd | cat) {swap} ;; esac
exec "$@"
"""


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """A vault with one generation."""
    made = Vault(tmp_path / "vaults")
    made.prepare()
    made.seal()
    return made


@pytest.mark.parametrize("name", SWAPS)
def test_what_replaces_a_file_is_neither_shown_nor_sealed(vault: Vault, name: str) -> None:
    """The uploader swaps it between the look and the reading: no byte of another file, no end."""
    file = vault.folder / VAULT / "copy"
    file.write_text("an upload")
    swap = SWAPS[name].format(file=file)
    (vault.folder / "bin/setpriv").write_text(SETPRIV.format(swap=swap))
    (vault.folder / "now").write_text("20261124T100000Z\n")
    said = vault.run("make")
    objects = list((vault.folder / f"{VAULT}-sealed/objects").rglob("*"))
    sizes = {path.stat().st_size for path in objects if path.is_file()}
    if name == "a file that grows":
        assert said.returncode == 0, "it rests at the second look"
        assert sizes == {16, 9_000_000}
    else:
        assert said.returncode == 1
        assert "copy is no file any more and was not sealed" in said.stderr
        assert sizes == {16}


def test_a_file_is_sealed_byte_for_byte(vault: Vault, tmp_path: Path) -> None:
    """Empty, of one byte, of a whole block, and longer than one: as it was uploaded."""
    sizes = (0, 1, 1 << 20, (1 << 20) + 1)
    for size in sizes:
        (vault.folder / VAULT / f"of-{size}").write_bytes(bytes(range(251)) * 9000)
        with (vault.folder / VAULT / f"of-{size}").open("r+b") as file:
            file.truncate(size)
    vault.seal()
    assert vault.run("restore", vault.made[-1], str(tmp_path / "back")).returncode == 0
    for size in sizes:
        uploaded = (vault.folder / VAULT / f"of-{size}").read_bytes()
        assert (tmp_path / f"back/of-{size}").read_bytes() == uploaded
    assert "every hash and the chain hold" not in vault.run("verify").stderr


# What a seal asks.
ASKED = ("awk", "chattr", "cut", "dd", "find", "mktemp", "sha256sum", "sort", "sync", "tail", "wc")


@pytest.mark.parametrize("way", ["echo why >&2; exit 1", "printf 'garbage\\n'"])
@pytest.mark.parametrize("asked", ASKED)
def test_a_seal_without_what_it_asks_is_none(vault: Vault, asked: str, way: str) -> None:
    """It says that it failed, and the next one holds everything: no generation lacks a file."""
    if way.startswith("printf") and asked in {"chattr", "sync"}:
        pytest.skip("none of its words is read")
    (vault.folder / VAULT / "copy").write_text("another upload")
    (vault.folder / VAULT / "second").write_text("one more")
    (vault.folder / "now").write_text("20261124T100000Z\n")
    (vault.folder / "bin" / asked).write_text(f"#!/bin/sh\n{way}\n")
    (vault.folder / "bin" / asked).chmod(0o755)
    said = vault.run("make")
    (vault.folder / "bin" / asked).unlink()
    if asked == "chattr":
        (vault.folder / "bin/chattr").write_text("#!/bin/sh\n")
        (vault.folder / "bin/chattr").chmod(0o755)
    assert said.returncode != 0, said.stdout
    assert said.stderr.strip()
    (vault.folder / "now").write_text("20261124T110000Z\n")
    assert vault.run("make").returncode == 0
    back = vault.folder / "back"
    assert vault.run("restore", "20261124T110000Z", str(back)).returncode == 0
    assert {path.name: path.read_text() for path in back.iterdir()} == {
        "copy": "another upload",
        "second": "one more",
    }
