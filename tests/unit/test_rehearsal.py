"""What two hosts say of one moment decides whether a sealed copy is whole."""

from __future__ import annotations

from koseki_ops.procedures.rehearse_restore import compare

VAULTS = [("city", 1), ("remote", 2)]
LEADER = [
    "digest before koseki_iida 3 71",
    "digest before koseki_oshika 2 50",
    "digest before koseki_neba 0 0",
    "digest after koseki_iida 3 71",
    "digest after koseki_oshika 3 90",
    "digest after koseki_neba 0 0",
]


def restored(repository: int, *rows: str) -> list[str]:
    """Return what the restoring host prints for a vault."""
    return [f"seconds {repository} 9", *(f"digest {repository} {row}" for row in rows)]


def test_equal_moved_and_different_are_told_apart() -> None:
    """A database that was written to meanwhile is neither good nor bad."""
    whole = restored(1, "koseki_iida 3 71", "koseki_oshika 2 50", "koseki_neba 0 0")
    changed = restored(2, "koseki_iida 3 72", "koseki_oshika 2 50", "koseki_neba 0 0")
    city, remote = compare(VAULTS, LEADER, [*whole, *changed])
    assert (city.equal, city.moved, city.different, city.seconds, city.holds) == (
        ["koseki_iida", "koseki_neba"],
        ["koseki_oshika"],
        [],
        9,
        True,
    )
    assert (remote.different, remote.holds) == (["koseki_iida"], False)


def test_a_database_that_is_missing_is_different() -> None:
    """What the copy does not hold cannot be equal to nothing."""
    (city,) = compare(VAULTS[:1], LEADER, restored(1, "koseki_iida 3 71"))
    assert city.different == ["koseki_neba"]
    assert not city.holds


def test_a_copy_that_was_never_restored_does_not_hold() -> None:
    """No answer is no proof, whatever the leader said; nor is an empty leader."""
    (city,) = compare(VAULTS[:1], LEADER, [])
    assert (city.seconds, city.holds) == (None, False)
    (city,) = compare(VAULTS[:1], [], restored(1))
    assert not city.holds
