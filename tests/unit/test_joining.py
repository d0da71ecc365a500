"""What is asked before a municipality joins or leaves: each refusal is one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site, project_root
from koseki_ops.procedures.base import Order, Procedure, perform
from koseki_ops.procedures.cli import withdraw_command
from koseki_ops.procedures.delete import Delete
from koseki_ops.procedures.enroll import Enroll, may_go_live
from koseki_ops.procedures.withdraw import Withdraw

ROOT = project_root()
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A checkout with inventories of its own, where nothing was applied."""
    ignore = shutil.ignore_patterns("secrets.yml")
    shutil.copytree(ROOT / "inventories", tmp_path / "inventories", symlinks=True, ignore=ignore)
    monkeypatch.setenv("KOSEKI_ROOT", str(tmp_path))
    return Site.open(name="mine")


def edit(site: Site, name: str, change: Edit) -> None:
    """Change one file of the plan."""
    path = site.root / "inventories/iida/group_vars/all" / name
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")


def row_of(plan: dict[str, Any]) -> dict[str, Any]:
    """Return the row of 売木村."""
    rows: list[dict[str, Any]] = plan["municipalities"]
    return next(row for row in rows if row["slug"] == "urugi")


def municipality(**values: object) -> Edit:
    """Return an edit of the row of 売木村."""
    return lambda plan: row_of(plan).update(values)


def documents(*names: str) -> Edit:
    """Return an edit that takes documents away."""
    return lambda plan: [row_of(plan)["joining"].pop(name) for name in names]


def certificate(folder: Path, days: int) -> Path:
    """Return a self-signed certificate that ends so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "urugi")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=9))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, SHA256())
    )
    path = folder / f"{days}.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM))
    return path


def ordered(procedure: Procedure[Any]) -> None:
    """Run it as whoever sits at the lab; nothing is said."""
    perform(procedure, Order("", "root"), lambda _line: None)


def test_who_has_everything_may_go_live(site: Site) -> None:
    """Row, day and documents are there: nothing is said."""
    may_go_live(Inventory(site.inventory), "urugi")


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("municipalities.yml", documents("resolution"), "議決 missing"),
        ("municipalities.yml", documents("approval", "agreement"), "認容, 調印 missing"),
        (
            "municipalities.yml",
            lambda plan: row_of(plan).pop("joining"),
            "認容, 議決, 調印 missing",
        ),
        ("municipalities.yml", municipality(joined_on=None), "no day of joining"),
        (
            "municipalities.yml",
            municipality(joined_on="2999-04-01"),
            "joined_on 2999-04-01, today is",
        ),
        ("municipalities.yml", municipality(left_on="2020-04-01"), "has left"),
    ],
)
def test_who_lacks_something_is_refused(site: Site, name: str, change: Edit, sentence: str) -> None:
    """The sentence names what is missing, before anything is asked of a host (K-02)."""
    edit(site, name, change)
    with pytest.raises(KosekiError, match=sentence):
        ordered(Enroll(site, "urugi"))


def test_a_stranger_is_refused(site: Site) -> None:
    """A slug that is not of the plan."""
    with pytest.raises(KosekiError, match=r"no such municipality.*matsumoto"):
        ordered(Enroll(site, "matsumoto"))


def test_nobody_is_put_out_whom_the_plan_keeps(site: Site, tmp_path: Path) -> None:
    """Withdrawing and deleting ask for the day of leaving first."""
    with pytest.raises(KosekiError, match="has not left"):
        ordered(Withdraw(site, "urugi", certificate(tmp_path, 9), tmp_path))
    with pytest.raises(KosekiError, match="has not left"):
        ordered(Delete(site, "urugi", "確認-1", ("sousa01", "sousa02")))


def test_data_is_encrypted_for_somebody_and_goes_somewhere(site: Site, tmp_path: Path) -> None:
    """An expired certificate, a text that is none, a folder that is not there."""
    edit(site, "municipalities.yml", municipality(left_on="2020-04-01"))
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("none", encoding="ascii")
    for recipient, folder, sentence in (
        (certificate(tmp_path, -1), tmp_path, "not valid today"),
        (wrong, tmp_path, "not a certificate to encrypt for"),
        (certificate(tmp_path, 9), tmp_path / "nowhere", "not a folder"),
    ):
        with pytest.raises(KosekiError, match=sentence):
            ordered(Withdraw(site, "urugi", recipient, folder))


@pytest.mark.parametrize(
    ("who", "sentence"),
    [
        (("sousa01", "sousa01"), "who deletes does not approve"),
        (("sousa01", "nobody"), "not a valid operator today"),
        (("sousa01", "sousa02"), "never handed over"),
    ],
)
def test_a_deletion_takes_two_persons_and_an_export(
    site: Site, who: tuple[str, str], sentence: str
) -> None:
    """The same person twice, a stranger, and data that nobody was given (K-02)."""
    edit(site, "municipalities.yml", municipality(left_on="2020-04-01"))
    with pytest.raises(KosekiError, match=sentence):
        ordered(Delete(site, "urugi", "確認-1", who))


@pytest.mark.parametrize("words", [["--delete"], ["--to", "."], []])
def test_half_a_command_is_refused(site: Site, words: list[str]) -> None:
    """What is missing is named, and the value that was given is shown."""
    done = CliRunner().invoke(withdraw_command, ["urugi", "--name", site.name, *words])
    assert isinstance(done.exception, KosekiError)
    assert "give" in str(done.exception)
