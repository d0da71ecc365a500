"""A signature holds for its content and its key, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.evidence.site_key import KEY_FILE, make_key, sign, verify


def test_a_signature_holds_for_its_content_only(tmp_path: Path) -> None:
    """A signature holds for its content only."""
    make_key(tmp_path)
    signature = sign(tmp_path, "葛󠄂飾".encode())
    assert verify(tmp_path, "葛󠄂飾".encode(), signature)
    assert not verify(tmp_path, "葛󠄀飾".encode(), signature)
    assert not verify(tmp_path, "葛󠄂飾".encode(), signature[:-1])


def test_a_key_stays_and_is_private(tmp_path: Path) -> None:
    """A key stays and is private."""
    make_key(tmp_path)
    first = (tmp_path / KEY_FILE).read_bytes()
    make_key(tmp_path)
    assert (tmp_path / KEY_FILE).read_bytes() == first
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]


def test_another_key_is_told(tmp_path: Path) -> None:
    """Another key is told."""
    make_key(tmp_path)
    signature = sign(tmp_path, b"content")
    (tmp_path / KEY_FILE).unlink()
    make_key(tmp_path)
    assert not verify(tmp_path, b"content", signature)


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_key_that_is_missing_or_broken_is_one_sentence(
    tmp_path: Path, content: bytes | None
) -> None:
    """A key that is missing or broken is one sentence."""
    if content is not None:
        (tmp_path / KEY_FILE).write_bytes(content)
    with pytest.raises(KosekiError, match="signing key cannot be read"):
        sign(tmp_path, b"content")
