"""The sealed copies come back whole, text included; one that does not is told (K-04, K-19)."""

from __future__ import annotations

import pytest

from drills.conftest import Platform
from koseki_ops.rehearsal import Rehearsal

# Each would be lost by one of the usual mistakes: normalisation, a narrow type, a wrong code page.
HARD_TEXT = "葛󠄂 葛󠄀 𠮷 﨑 \ufa2a \ufa19 \U0010de92 〜 ～ − － 髙"
BUNDLES = "find /srv/vault/remote/repo/backup/koseki -path '*/bundle/*' -type f"


def rehearsed(platform: Platform, code: int) -> dict[str, Rehearsal]:
    """Rehearse, hold the exit code, and return what each vault's copy was worth."""
    done = platform.koseki("restore", "rehearse", "--json", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    report = platform.last_json(done)
    return {row["vault"]: Rehearsal(**row) for row in report["vaults"]}


@pytest.mark.drill
def test_every_copy_is_restored_and_a_broken_one_is_told(platform: Platform):
    """All municipalities equal from both vaults; a bundle that is gone fails its vault alone."""
    insert = f"insert into platform.probe (id, note) values (4400, '{HARD_TEXT}')"  # noqa: S608 - a constant of our own
    platform.sh("primary1", f'runuser -u postgres -- psql -XAtqd koseki_oshika -c "{insert}"')
    towns = len(platform.lab.inventory.shared["municipalities"])
    for row in rehearsed(platform, 0).values():
        assert row.holds
        assert len(row.equal) >= towns
        assert "koseki_oshika" in row.equal
    left = platform.sh("secondary1", "ls /var/lib/postgresql && find /run -name '*rehears*'")
    assert left.split() == ["17"], "the rehearsal left something behind"

    platform.sh("remote-backup1", f"rm $({BUNDLES} | sort | head -n 1)")
    after = rehearsed(platform, 1)
    assert (after["city"].holds, after["remote"].holds) == (True, False)
