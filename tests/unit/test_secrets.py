"""Secrets: made once, kept, opened by one password, never by chance and never in the clear."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import AccountPolicy
from koseki_ops.plan.site import Site, project_root
from koseki_ops.trust.secrets import (
    CLASSES,
    LENGTH,
    drawn,
    init_secrets,
    load_secrets,
    secrets_file,
    wanted_secrets,
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A copy of the plan without any secrets."""
    monkeypatch.delenv("KOSEKI_VAULT_PASSWORD_FILE", raising=False)
    shutil.copytree(
        project_root() / "inventories",
        tmp_path / "inventories",
        symlinks=True,
        ignore=shutil.ignore_patterns("secrets.yml"),
    )
    return Site(tmp_path, "lab", "lab")


def test_every_wanted_secret_is_made_once(site: Site) -> None:
    """Strong, all different, encrypted, private; a second time nothing is made."""
    made = init_secrets(site)
    secrets = load_secrets(site)
    values = [value for value in secrets.values() if isinstance(value, str)]
    values += secrets["operator_initial_passwords"].values()
    assert made == len(values) == len(set(values))
    assert min(map(len, values)) >= 32
    assert secrets.keys() == wanted_secrets(Inventory(site.inventory)).keys()
    stored = secrets_file(site).read_bytes()
    assert stored.startswith(b"$ANSIBLE_VAULT;")
    assert not any(value.encode() in stored for value in values)
    for path in (secrets_file(site), site.vault_password_file):
        assert path.stat().st_mode & 0o077 == 0
    assert init_secrets(site) == 0
    assert secrets_file(site).read_bytes() == stored


def test_whatever_is_drawn_our_own_policy_accepts_it() -> None:
    """Every class of characters in each, as many times as chance would need to leave one out."""
    most = AccountPolicy.model_fields["password_min_classes"].metadata
    assert max(getattr(limit, "le", 0) for limit in most) <= len(CLASSES)
    for _ in range(3_000):
        password = drawn()
        assert [letters for letters in CLASSES if not set(password) & set(letters)] == []
        assert len(password) == LENGTH


def test_a_new_operator_gets_a_row_and_the_others_keep_theirs(site: Site) -> None:
    """What is there stays."""
    init_secrets(site)
    before = load_secrets(site)
    plan = site.inventory / "group_vars/all/operators.yml"
    content = yaml.safe_load(plan.read_text(encoding="utf-8"))
    content["operators"].append({**content["operators"][0], "id": "op99"})
    plan.unlink()
    plan.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    assert init_secrets(site) == 1
    after = load_secrets(site)
    assert after["operator_initial_passwords"].pop("op99")
    assert after == before


def test_the_password_may_come_from_a_command(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """An executable file is run, and what it prints opens the vault; its failure is named."""
    init_secrets(site)
    command = site.root / "ask"
    command.write_text(f"#!/bin/sh\nexec cat {site.vault_password_file}\n", encoding="ascii")
    command.chmod(0o700)
    monkeypatch.setenv("KOSEKI_VAULT_PASSWORD_FILE", str(command))
    assert load_secrets(site)
    command.write_text("#!/bin/sh\nexit 3\n", encoding="ascii")
    with pytest.raises(KosekiError, match="exit 3"):
        load_secrets(site)


def test_without_secrets_the_remedy_is_named(site: Site) -> None:
    """Nothing was made yet."""
    with pytest.raises(KosekiError, match="run `koseki secrets init` first"):
        load_secrets(site)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (Path.unlink, "the vault password is missing"),
        (lambda path: path.write_text("another\n", encoding="ascii"), "does not open the secrets"),
        (lambda path: path.write_text("\n", encoding="ascii"), "the vault password is empty"),
    ],
    ids=["missing", "wrong", "empty"],
)
def test_a_bad_password_changes_nothing(site: Site, spoil: object, said: str) -> None:
    """Neither reading nor making goes on; above all no new secrets over the old ones."""
    init_secrets(site)
    stored = secrets_file(site).read_bytes()
    spoil(site.vault_password_file)  # type: ignore[operator] # a function of a path
    for use in (load_secrets, init_secrets):
        with pytest.raises(KosekiError, match=said):
            use(site)
    assert secrets_file(site).read_bytes() == stored


def test_no_secret_lies_in_the_repository() -> None:
    """The lab's own secrets are in no tracked file; they would be the same on every clone."""
    site = Site.open()
    secrets = load_secrets(site)
    values = [value for value in secrets.values() if isinstance(value, str)]
    values += secrets["operator_initial_passwords"].values()
    values.append(site.vault_password_file.read_text(encoding="ascii").strip())
    argv = ["git", "-C", str(site.root), "ls-files", "-z"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, listed):
        path = site.root / name
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            assert not any(value.encode() in content for value in values), name
