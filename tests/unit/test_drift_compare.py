"""What differs, what kind of drift it is, and what of it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from koseki_ops.drift.judge.causes import MASKED, cause_of, diff, finding, mask
from koseki_ops.drift.judge.compare import Difference, clock_difference, compare, days_left
from koseki_ops.drift.judge.manifest import Manifest
from koseki_ops.drift.judge.repairs import mending, removal
from koseki_ops.drift.model import Cause, Verdict
from koseki_ops.drift.observe.items import ANY, COLUMNS, State, pack
from koseki_ops.plan.revision import Inputs
from koseki_ops.plan.site import Site

APPLIED = Inputs("aaaa", "abc", {})
PRESENT = Inputs("bbbb", "def", {})
FILE = ("f", "644", "root", "root", "0" * 64, "")


def manifest(**items: dict[str, str]) -> Manifest:
    """Return a manifest with these items; `_` in a kind stands for a space."""
    return Manifest("h", APPLIED, 0.0, {k.replace("_", " "): v for k, v in items.items()})


def state(**items: dict[str, str]) -> State:
    """Return a host's state with these items."""
    return State(items={k.replace("_", " "): dict(v) for k, v in items.items()})


def only(found: list[Difference]) -> Difference:
    """Return the one difference there is."""
    assert len(found) == 1, found
    return found[0]


def test_what_is_equal_holds_and_is_counted() -> None:
    """Every item of every kind counts once."""
    items = {kind: {"a": pack(["x"] * len(COLUMNS[kind]))} for kind in COLUMNS}
    whole = Manifest("h", APPLIED, 0.0, items)
    assert compare(whole, State(items={k: dict(v) for k, v in items.items()})) == (
        len(COLUMNS),
        [],
    )


@pytest.mark.parametrize("kind", [kind for kind, columns in COLUMNS.items() if columns])
def test_each_field_of_each_kind_is_compared(kind: str) -> None:
    """No field can differ unseen; the others of the item are not named."""
    for number, column in enumerate(COLUMNS[kind]):
        wanted = ["x"] * len(COLUMNS[kind])
        seen = [*wanted[:number], "y", *wanted[number + 1 :]]
        holds, found = compare(
            Manifest("h", APPLIED, 0.0, {kind: {"a": pack(wanted)}}),
            State(items={kind: {"a": pack(seen)}}),
        )
        assert holds == 0
        assert (only(found).kind, only(found).answer) == (kind, Verdict.DRIFTED)
        if column != "type":
            assert (only(found).place, only(found).expected) == (column, "x")


@pytest.mark.parametrize("kind", COLUMNS)
def test_what_is_missing_and_what_nobody_declared_is_named(kind: str) -> None:
    """An item that is gone is drift; one that is there without a declaration is unmanaged."""
    row = pack(["x", *["active"] * (len(COLUMNS[kind]) - 1)] if COLUMNS[kind] else [])
    gone = compare(Manifest("h", APPLIED, 0.0, {kind: {"a": row}}), State())[1]
    if kind == "service":  # a unit that is not there is as good as one that rests
        assert {d.place for d in gone} == {"enabled", "active"}
    else:
        assert (only(gone).seen, only(gone).unmanaged) == ("absent", False)
    came = compare(Manifest("h", APPLIED, 0.0, {}), State(items={kind: {"a": row}}))[1]
    if kind == "certificate":  # its file is named already
        assert came == []
    else:
        assert only(came).unmanaged


def test_a_silent_part_never_counts_as_good() -> None:
    """Its items are not verified, with the reason and their number; nothing of them holds."""
    rows = {"a": pack(FILE), "b": pack(FILE)}
    host = state(file=rows)
    host.failed["files"] = "malformed answer"
    holds, found = compare(manifest(file=rows), host)
    assert holds == 0
    assert only(found).answer is Verdict.NOT_VERIFIED
    assert only(found).kind == "files"
    assert only(found).why == "malformed answer (2 items not verified)"


def test_a_part_that_the_manifest_could_not_learn_is_not_verified() -> None:
    """What the last apply could not ask cannot hold now."""
    made = manifest()
    made.unasked = {"database": "no server"}
    host = state(role={"postgres": pack(("superuser", "-1", "", "none"))})
    _, found = compare(made, host)
    assert all(d.answer is Verdict.NOT_VERIFIED and "no server" in d.why for d in found)
    assert found


def test_a_field_that_may_be_anything_is_not_compared() -> None:
    """A oneshot may rest or run; a service that comes and goes may be there or not."""
    made = manifest(service={"a.service": pack(("x.wants", ANY)), "b.service": pack(("", ANY))})
    assert compare(made, state(service={"a.service": pack(("x.wants", "inactive"))})) == (2, [])
    enabled = state(
        service={"a.service": pack(("x.wants", "active")), "b.service": pack(("y.wants", "active"))}
    )
    assert only(compare(made, enabled)[1]).name == "b.service"


def test_a_unit_that_is_starting_is_asked_again() -> None:
    """Right after a restart a service is neither good nor bad."""
    made = manifest(service={"etcd.service": pack(("x.wants", "active"))})
    host = state(service={"etcd.service": pack(("x.wants", "inactive"))})
    assert only(compare(made, host)[1]).answer is Verdict.DRIFTED
    host.measures["_state etcd.service"] = 1.0
    assert only(compare(made, host)[1]).answer is Verdict.NOT_VERIFIED


def test_a_door_of_a_database_that_does_not_answer_is_not_verified() -> None:
    """While a member comes back its port is closed; it is drift when the database answers."""
    made = manifest(socket={"tcp 1:5432": pack(("/usr/lib/postgresql/17/bin/postgres",))})
    host = state()
    assert only(compare(made, host)[1]).answer is Verdict.DRIFTED
    host.failed["database"] = "no server"
    sockets = [d for d in compare(made, host)[1] if d.kind == "socket"]
    assert only(sockets).answer is Verdict.NOT_VERIFIED


def test_an_order_that_differs_because_a_rule_does_is_not_said_twice() -> None:
    """A new rule is named; a changed order alone is named too."""
    made = manifest(firewall_rule={"a": ""}, firewall={"ruleset": "1"})
    other = state(firewall_rule={"a": "", "b": ""}, firewall={"ruleset": "2"})
    assert only(compare(made, other)[1]).name == "b"
    order = state(firewall_rule={"a": ""}, firewall={"ruleset": "2"})
    assert only(compare(made, order)[1]).kind == "firewall"


def changed(kind: str = "file", name: str = "/etc/x", **more: object) -> Difference:
    """Return a difference that drifted."""
    return Difference(kind, name, Verdict.DRIFTED, **{"place": "content", **more})  # type: ignore[arg-type]


def test_what_kind_of_drift_it_is() -> None:
    """By the mark that the engine left on the host, and by who declared the item."""
    made = manifest(file={"/etc/x": pack(FILE)})
    made.by = {"file": {"/etc/x": "baseline"}}
    alone = changed(name="/etc/other", unmanaged=True)

    def cause(difference: Difference, mark: str) -> Cause:
        return cause_of(difference, made, {"baseline": mark, "services": mark}, PRESENT)

    assert cause(changed(), "aaaa") is Cause.CHANGED_ON_HOST
    assert cause(changed(), "bbbb") is Cause.NOT_APPLIED
    assert cause(changed(), "cccc") is Cause.FOREIGN_COMMIT
    assert cause(changed(name="/etc/nobodys"), "cccc") is Cause.CHANGED_ON_HOST
    assert cause(alone, "aaaa") is Cause.UNMANAGED
    assert cause(alone, "cccc") is Cause.FOREIGN_COMMIT
    assert cause(changed("socket", "tcp 1:1", unmanaged=True), "cccc") is Cause.UNMANAGED
    not_verified = Difference("file", "*", Verdict.NOT_VERIFIED, why="x")
    assert cause(not_verified, "aaaa") is Cause.UNKNOWN


def test_a_difference_shows_no_secret() -> None:
    """Passwords, verifiers, keys and the site's own secrets are masked on both sides."""
    before = b"repo1-cipher-pass=old-one\nport = 1\nuser:$y$j9T$abc$defghijk:\nplain-but-ours\n"
    after = b"repo1-cipher-pass=new-one\nport = 2\nuser:$y$j9T$xyz$defghijk:\nplain-but-ours\n"
    shown = diff("/etc/x", before, after, ["plain-but-ours"])
    assert "-port = 1" in shown
    assert "+port = 2" in shown
    for secret in ("old-one", "new-one", "$y$", "plain-but-ours"):
        assert secret not in shown
    assert MASKED in mask("password: hunter2")
    assert "hunter2" not in mask("password: hunter2")
    assert "SCRAM" not in mask("SCRAM-SHA-256$4096:abc$def:ghi")
    assert "masked" in diff("/etc/x", b"password=a", b"password=b")
    assert diff("/etc/x", b"\xff", b"a") == "/etc/x: no text, 1 bytes expected, 1 seen"


def test_every_unmanaged_kind_has_a_command_that_takes_it_away(tmp_path: Path) -> None:
    """And what an engine declared is mended by an apply."""
    site = Site(tmp_path, "lab", "lab")
    for kind in COLUMNS:
        assert removal(changed(kind, "a b", unmanaged=True, seen="x"))
    made = manifest(file={"/etc/x": pack(FILE)})
    made.by = {"file": {"/etc/x": "baseline"}}
    mended = finding(site, "h", changed(), made, {}, APPLIED)
    assert mended.repair == "koseki apply --limit h"
    unmanaged = changed(name="/etc/a b", unmanaged=True, place="", seen="file 644 root:root")
    assert "rm -- " in finding(site, "h", unmanaged, made, {}, APPLIED).repair


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "koseki_oshika append_only on platform.requests",
            {"place": "state", "expected": "enable always", "seen": "disable"},
            'ALTER TABLE platform.requests enable always TRIGGER "append_only"',
        ),
        (
            "koseki_oshika koseki_admit_operators on login",
            {"place": "state", "expected": "enable always", "seen": "disable"},
            'ALTER EVENT TRIGGER "koseki_admit_operators" enable always',
        ),
        (
            "koseki_oshika mine on koseki.registers",
            {"unmanaged": True, "place": "", "seen": "state=enable"},
            'DROP TRIGGER "mine" ON koseki.registers',
        ),
        (
            "koseki_oshika mine on login",
            {"unmanaged": True, "place": "", "seen": "state=enable"},
            'DROP EVENT TRIGGER "mine"',
        ),
    ],
)
def test_a_trigger_is_mended_in_its_database(
    name: str, change: dict[str, object], said: str
) -> None:
    """Of a table or of an event: switched on again, or dropped when it is nobody's (K-05)."""
    found = changed("trigger", name, **change)
    command = (removal if found.unmanaged else mending)(found)
    assert "-d koseki_oshika" in command
    assert said in command


def test_a_wrong_clock_and_an_end_are_told() -> None:
    """A clock fits when it lies between question and answer, with some seconds' grace."""
    assert clock_difference(100, 99, 101) == 0
    assert clock_difference(50, 99, 101) == -49
    assert clock_difference(200, 99, 101) == 99
    assert days_left("1970-01-11T00:00:00Z", 86400) == 9


def test_manifests_extra_files_are_asked_for() -> None:
    """Files that engines declared outside of the usual places are looked at as well."""
    made = manifest()
    made.by = {"file": {"/usr/sbin/policy-rc.d": "baseline"}, "user": {"x": "baseline"}}
    assert made.extra == ["/usr/sbin/policy-rc.d"]


def test_a_tab_inside_a_field_never_makes_a_field_more() -> None:
    """What a host names with a tab would otherwise shift every field behind it."""
    assert pack(("a\tb", "c")) == "a b\tc"
    assert pack(("a", "b")) == "a\tb"
    assert pack(("a\t",)) == "a "
    assert pack(()) == ""
