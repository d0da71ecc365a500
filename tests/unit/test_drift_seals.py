"""The vaults' sealed chains, witnessed: real trees of koseki-seal, real answers of the probe."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from drift_samples import HOSTS, NOW, QUARTER, sweep
from koseki_ops.drift.history.seals import Expected, applied, changes, retained
from koseki_ops.drift.history.store import Store
from koseki_ops.drift.model import Finding, HostSweep, SealLink, Verdict
from koseki_ops.drift.observe import probe
from koseki_ops.drift.observe.items import State
from vault_samples import HOST, SEALING, VAULT, Vault


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    """A vault with eight generations of two days."""
    made = Vault(tmp_path / "vaults")
    made.prepare()
    for minutes in (15, 15, 900, 15, 15, 15, 15, 15):
        made.seal(minutes)
    return made


@dataclass
class Watch:
    """Who sweeps: a history, and when it was last asked."""

    store: Store
    at: float = NOW

    def look(
        self, seals: dict[str, tuple[SealLink, ...]] | None, **values: object
    ) -> list[Finding]:
        """Sweep the vault's host once; return what was found of its seals."""
        self.at += QUARTER
        told = HostSweep(HOST, answered=True, seals=seals)
        found = sweep(at=self.at)
        host = HostSweep(**{**vars(told), **values})
        kept = self.store.append(type(found)(found.site, self.at, 1.0, found.commit, (host,), ()))
        assert self.store.verify().fault == ""
        return [finding for finding in kept.findings if finding.kind == "seal"]


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """A history that knows where the vault is."""
    return Watch(Store(tmp_path / "drift", "lab", HOSTS, sealing=SEALING))


def places(found: list[Finding]) -> set[str]:
    """Return which ways a chain was another one."""
    return {finding.place for finding in found}


@pytest.mark.parametrize("seed", range(2))
def test_what_the_policy_lets_go_is_never_missed(vault: Vault, watch: Watch, seed: int) -> None:
    """Sealed and expired by the program itself, at any distance between two sweeps, over days."""
    chosen = random.Random(seed)  # noqa: S311 - no secret
    for _ in range(8):
        for _ in range(chosen.choice((0, 1, 1, 2, 7))):
            vault.seal(chosen.choice((15, 15, 15, 400, 1500)))
        assert watch.look(vault.answer()) == []
    kept = {link.stamp for link in vault.answer()[VAULT] if link.kept}
    assert kept == retained(vault.made, SEALING)


def all_but_the_newest(vault: Vault) -> None:
    """What a datacenter's root would do: one generation stays, and by itself it holds."""
    *old, _newest = sorted(vault.generations.glob("*.manifest"))
    for path in (*old, *vault.generations.glob("*.expired")):
        path.unlink()


def one_in_the_middle(vault: Vault) -> None:
    """Take one generation away, leaving what the chain needs of it."""
    path = sorted(vault.generations.glob("*.manifest"))[2]
    previous = re.search(r"^previous (\S+)$", path.read_text(), re.MULTILINE)
    assert previous
    digest = subprocess.check_output(["sha256sum", str(path)], text=True).split()[0]
    path.with_suffix(".expired").write_text(f"hash {digest}\nprevious {previous[1]}\n")
    path.unlink()


def written_anew(vault: Vault) -> None:
    """Let the newest generation name other objects."""
    path = max(vault.generations.glob("*.manifest"))
    path.chmod(0o600)
    path.write_text(path.read_text().replace("copy", "c0py"))


def begun_anew(vault: Vault) -> None:
    """Remove all, and let the program begin a new chain."""
    shutil.rmtree(vault.generations)
    vault.seal()


def put_in_between(vault: Vault) -> None:
    """Bring a generation that no sweep has seen, from a time that is over."""
    vault.generations.joinpath("20261124T090001Z.manifest").write_text(
        f"koseki-seal 1\nvault remote\nsealed_at x\nprevious {'a' * 64}\nfiles 0\n"
    )


@pytest.mark.parametrize(
    ("harm", "wanted"),
    [
        (all_but_the_newest, {"generations"}),
        (one_in_the_middle, {"generations"}),
        (written_anew, {"content"}),
        (begun_anew, {"generations"}),
        (put_in_between, {"order", "chain"}),
    ],
)
def test_root_of_the_vault_cannot_undo_what_was_witnessed(
    vault: Vault, watch: Watch, harm: Callable[[Vault], None], wanted: set[str]
) -> None:
    """It is told, told again at the next sweep, and named with what was sealed (K-04)."""
    assert watch.look(vault.answer()) == []
    harm(vault)
    found = watch.look(vault.answer())
    assert places(found) == wanted
    (first, *_) = found
    assert (first.host, first.name, first.answer) == (HOST, VAULT, Verdict.DRIFTED)
    vault.seal()
    assert places(watch.look(vault.answer())) >= wanted - {"order"}


def test_an_older_copy_of_all_is_listed(vault: Vault, watch: Watch, tmp_path: Path) -> None:
    """Rolled back, the chain is whole: only who remembers its head can tell (K-04)."""
    shutil.copytree(vault.folder, tmp_path / "before")
    vault.seal()
    assert watch.look(vault.answer()) == []
    shutil.rmtree(vault.folder)
    shutil.copytree(tmp_path / "before", vault.folder)
    gone, back = watch.look(vault.answer())
    assert (gone.place, back.place) == ("generations", "order")
    assert vault.made[-1] in gone.expected
    assert gone.seen == f"1 gone: {vault.made[-1]}"
    assert "1 put in between" in back.seen, "what had expired is back"


def test_a_loss_is_over_when_the_policy_would_have_let_it_go(vault: Vault, watch: Watch) -> None:
    """Until then every sweep tells of it; afterwards nobody is owed it any more."""
    watch.look(vault.answer())
    all_but_the_newest(vault)
    for _ in range(SEALING.generations):
        assert places(watch.look(vault.answer())) == {"generations"}
        vault.seal()
    for _ in range(SEALING.days):
        vault.seal(1440)
    assert watch.look(vault.answer()) == []


def test_a_host_that_was_set_up_anew_owes_nothing_of_before(vault: Vault, watch: Watch) -> None:
    """As the manifest says that an apply met it bare, which no host can say of itself."""
    watch.look(vault.answer(), born=1.0)
    begun_anew(vault)
    assert watch.look(vault.answer(), born=2.0) == []
    all_but_the_newest(vault)
    vault.seal()
    assert watch.look(vault.answer(), born=2.0) == []


def test_what_is_not_told_is_not_verified_and_not_forgotten(vault: Vault, watch: Watch) -> None:
    """Neither a host that is silent nor one that tells all but this gets away with it."""
    watch.look(vault.answer())
    (found,) = watch.look(None)
    assert found.answer is Verdict.NOT_VERIFIED
    assert watch.look(None, answered=False) == []
    all_but_the_newest(vault)
    assert places(watch.look(vault.answer())) == {"generations"}
    assert places(watch.look({})) == {"generations"}


def test_the_history_tells_it_from_its_rows_alone(vault: Vault, watch: Watch) -> None:
    """What is owed is in the signed rows: another process that reads them demands the same."""
    watch.look(vault.answer())
    again = Watch(Store(watch.store.folder, "lab", HOSTS, sealing=SEALING), watch.at)
    all_but_the_newest(vault)
    assert places(again.look(vault.answer())) == {"generations"}


def test_changes_tell_what_is_owed_in_few_words() -> None:
    """A row holds what is new, and what is owed no more; both together give all of it."""
    before = {VAULT: Expected(1.0, {"a": "1", "b": "2"})}
    for after in (
        {VAULT: Expected(1.0, {"b": "2", "c": "3"})},
        {VAULT: Expected(2.0, {"b": "2"})},
        before,
    ):
        told = changes(before, after)
        assert applied(before, told) == after
        assert applied({}, changes({}, after)) == after
    assert changes(before, before) == {}


@pytest.mark.parametrize(
    "line",
    [
        "x",
        f"{'a' * 64}  /srv/vault/../etc-sealed/generations/20261124T090001Z.manifest",
        f"/srv/vault/a-sealed/generations/20261124T090001Z.manifest hash {'a' * 64}",
        "/srv/vault/a-sealed/generations/20261124T090001Z.expired previous x",
    ],
)
def test_an_answer_that_is_none_is_refused(line: str) -> None:
    """What a vault's host sends is a generation's name and hash, or not believed."""
    with pytest.raises(ValueError, match="no generation"):
        probe.READERS["seals"](State(), f"{line}\n")
