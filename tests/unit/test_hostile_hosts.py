"""A host may answer anything: it is bounded, named and not verified, and the others are heard."""

from __future__ import annotations

import io
import json
import os
import resource
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fuzz.targets import BATCH, tar
from koseki_ops.core import foreign, subprocesses
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.subprocesses import CUT_OFF, TIMED_OUT, Bounds, hear
from koseki_ops.drift.judge import sweep as judge
from koseki_ops.drift.judge.causes import COMPARED_LINES, diff, mask, repair_of
from koseki_ops.drift.judge.compare import Difference
from koseki_ops.drift.judge.manifest import Manifest
from koseki_ops.drift.judge.sweep import (
    MOST_FINDINGS,
    Observed,
    Part,
    _host_sweep,
    _judge_alone,
)
from koseki_ops.drift.model import Verdict
from koseki_ops.drift.observe import probe, transport
from koseki_ops.drift.observe.items import MOST_ITEMS, State
from koseki_ops.drift.observe.transport import Reply, _fetched
from koseki_ops.engines import connector
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.revision import Inputs
from koseki_ops.plan.site import Site, project_root
from koseki_ops.remote import run as remote
from koseki_ops.remote.cluster import members
from koseki_ops.verify import batch
from koseki_ops.verify import transport as verification
from koseki_ops.verify.batch import Question

# What a host says for ever, or not at all.
ENDLESS = {
    "an endless line": "exec cat /dev/zero",
    "endless lines": "exec yes",
    "silence": "exec sleep 60",
    "half an answer, then silence": "echo half; exec sleep 60",
    "an endless error": "exec cat /dev/zero >&2",
    "it closes its output and stays": "exec >&- 2>&-; sleep 60",
}
MEMORY_MIB = 400


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Let hosts answer by a shell program each; `*` is any other."""
    programs = tmp_path / "programs"
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(
        f'#!/bin/sh\nshift 2\n[ -e {programs}/"$1" ] || set -- other\nexec sh {programs}/"$1"\n',
        encoding="ascii",
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def answer(host: str, program: str) -> None:
        (programs / host).write_text(program + "\n", encoding="utf-8")

    return answer


SITE = Site(project_root(), "lab", "lab")


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    """Hold that no answer is kept that is larger than its bound."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < MEMORY_MIB * 1024


@pytest.mark.parametrize("program", ENDLESS.values(), ids=ENDLESS.keys())
def test_a_program_is_heard_within_bounds(program: str) -> None:
    """It ends with a reason, whatever it does, and what it said is no answer."""
    begun = time.monotonic()
    heard = hear(["sh", "-c", program], b"x" * 100_000, Bounds(1.0, 1 << 20))
    assert time.monotonic() - begun < 5
    assert heard.code in {TIMED_OUT, CUT_OFF}
    assert heard.out == b""
    assert heard.cut in {"no answer within 1 s", "it said more than 1 MiB: cut off"}
    assert len(heard.err) <= subprocesses.ERROR_BYTES


def test_a_program_that_ends_is_heard_whole() -> None:
    """Both streams and the exit code, also when it never reads what it is sent."""
    heard = hear(
        ["sh", "-c", "head -c 3000000 /dev/zero; echo why >&2; exit 3"],
        b"x" * 9_000_000,
        Bounds(20),
    )
    assert (heard.code, len(heard.out), heard.err, heard.cut) == (3, 3_000_000, b"why\n", "")
    assert hear(["cat"], b"y" * 3_000_000, Bounds(20)).out == b"y" * 3_000_000
    # What it leaves running holds its streams of errors, as a shared connection does.
    assert hear(["sh", "-c", "sleep 9 >/dev/null & echo x"], b"", Bounds(5)).out == b"x\n"


def test_a_command_on_a_host_is_bounded(
    hosts: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What says too much is cut off; its reason is a sentence on one line."""
    monkeypatch.setattr(remote, "Bounds", lambda seconds: Bounds(seconds, 1 << 20))
    hosts("primary1", ENDLESS["endless lines"])
    done = remote.run(SITE, "primary1", "true", seconds=20)
    assert (done.code, done.stdout, done.reason) == (
        CUT_OFF,
        "",
        "it said more than 1 MiB: cut off",
    )
    hosts("primary1", "printf 'a\\033[31mb\\r\\nlast \\342\\200\\256x' >&2; exit 7")
    done = remote.run(SITE, "primary1", "true")
    assert (done.code, done.reason) == (7, "last \ufffdx")


def test_an_answer_in_a_file_leaves_room(
    hosts: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that is asked for a municipality's data cannot fill the control node's disk."""
    monkeypatch.setattr(remote, "ROOM_LOOKED_AFTER", 1 << 20)
    hosts("primary1", "head -c 5000000 /dev/zero")
    with (tmp_path / "copy").open("wb") as out:
        done = remote.run(SITE, "primary1", "true", out=out)
    assert (done.code, (tmp_path / "copy").stat().st_size) == (0, 5_000_000)
    monkeypatch.setattr(remote, "ROOM_BYTES", 1 << 60)
    with (tmp_path / "copy").open("wb") as out:
        done = remote.run(SITE, "primary1", "true", out=out)
    assert done.code == CUT_OFF
    assert "on the disk: cut off" in done.reason


@pytest.mark.parametrize("program", ENDLESS.values(), ids=ENDLESS.keys())
def test_an_engine_hears_a_host_within_bounds(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other hosts' greenlets go on; the reason is the command's error."""
    monkeypatch.setattr(connector, "COMMAND_SECONDS", 1)
    monkeypatch.setattr(connector, "ANSWER_BYTES", 1 << 20)
    code, out, err = connector.heard(["sh", "-c", program], b"x" * 100_000)
    assert code in {TIMED_OUT, CUT_OFF}
    assert out == b""
    assert err.startswith((b"no answer within 1 s", b"it said more than 1 MiB"))


def test_a_verification_hears_the_other_hosts(
    hosts: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that sends without end, one that is unreachable, one with half an answer: each named."""
    monkeypatch.setattr(verification, "HOST_SECONDS", 2)
    monkeypatch.setattr(verification, "ANSWER_BYTES", 1 << 20)
    (tmp_path / "batch").write_bytes(BATCH)
    (tmp_path / "half").write_bytes(BATCH[:700])
    hosts("other", f"cat {tmp_path}/batch")
    hosts("primary1", ENDLESS["an endless line"])
    hosts("secondary1", ENDLESS["half an answer, then silence"])
    hosts("application1", f"cat {tmp_path}/half")
    asked = {"a question": Question("true")}
    names = ("primary1", "secondary1", "application1", "registry-link1")
    replies = verification.ask_all(SITE, dict.fromkeys(names, asked))
    assert replies["registry-link1"].answers["a question"].json == {"a": 1}
    assert replies["primary1"].unreachable_reason == "it said more than 1 MiB: cut off"
    assert replies["secondary1"].unreachable_reason == "no answer within 2 s"
    assert replies["application1"].unreachable_reason.startswith("the answers did not arrive whole")


def packed(**values: object) -> bytes:
    """Return a tar archive of one member with a header of its own."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as archive:
        row = tarfile.TarInfo("./0.rc")
        for name, value in values.items():
            setattr(row, name, value)
        archive.addfile(row)
    return whole.getvalue()


STRANGE = {
    "a sparse member of a petabyte": packed(
        pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "9" * 15}
    ),
    "a sparse map that is none": packed(pax_headers={"GNU.sparse.map": "x"}),
    "a link": packed(type=tarfile.SYMTYPE, linkname="/etc/shadow"),
    "a device": packed(type=tarfile.CHRTYPE),
    "nothing": b"",
    "zeros": bytes(4096),
    "an answer twice": tar({"./0.rc": b"0"})[:1024] + BATCH,
    "trailing garbage": BATCH + b"x",
    "half": BATCH[:1800],
    "no end": BATCH[:2560],
    "no number": BATCH.replace(b"ustar", b"ustab", 1),
    "another name": tar({"./1.rc": b"0", "./1.out": b"", "./1.err": b""}),
    "one more": tar({"./0.rc": b"0", "./0.out": b"", "./0.err": b"", "./7.rc": b"0"}),
    "no exit code": tar({"./0.rc": b"x", "./0.out": b"", "./0.err": b""}),
    "an exit code without an end": tar({"./0.rc": b"1" * 5000, "./0.out": b"", "./0.err": b""}),
    "an exit code below zero": tar({"./0.rc": b"-1", "./0.out": b"", "./0.err": b""}),
    "no output": tar({"./0.rc": b"0", "./0.err": b""}),
}  # fmt: skip


@pytest.mark.parametrize("stream", STRANGE.values(), ids=STRANGE.keys())
def test_a_batch_is_what_was_asked_or_refused(stream: bytes) -> None:
    """Nothing of an archive's own that a batch does not write is believed (S08)."""
    with pytest.raises(KosekiError):
        batch.parse(stream, ["asked"])


def test_a_compressed_answer_is_none() -> None:
    """Ten kilobytes that read as gigabytes are no archive."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:xz") as archive:
        row = tarfile.TarInfo("./0.rc")
        row.size = 1 << 20
        archive.addfile(row, io.BytesIO(bytes(row.size)))
    with pytest.raises(KosekiError):
        batch.parse(whole.getvalue(), ["asked"])


def test_what_is_fetched_was_asked_for() -> None:
    """Files that nobody asked for are not kept; what came before the archive broke is."""
    good = tar({"/etc/hosts": b"here\n", "/etc/other": b"x"})
    found = _fetched(
        b"99999999999.0 h Accepted a for b from c" + probe.CONTENTS + good,
        frozenset({"/etc/hosts"}),
    )
    assert (found.contents, found.sessions) == ({"/etc/hosts": b"here\n"}, [])
    assert _fetched(probe.CONTENTS + good[:1024] + b"x" * 512, frozenset({"/etc/hosts"})).contents
    assert _fetched(b"\xff" * 1000, frozenset()).contents == {}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000, "[" * 60 + "]" * 60, '{"a": 1, "a": 2}', "NaN", "[Infinity]",
        "-Infinity", "1e999",
        "9" * 21, "[" + "9" * 5000 + "]", '"\\ud800"', '{"\\udfff": 1}', "", "{} x", "\ufeff{}",
    ],
)  # fmt: skip
def test_json_that_two_readers_read_as_two_is_none(text: str) -> None:
    """Deep, double, endless, no number, no text: a ValueError for whoever asked."""
    with pytest.raises(ValueError, match=r"."):
        foreign.loads(text)


def test_json_as_hosts_write_it_is_read() -> None:
    """Numbers of 64 bits, as etcd names its members, and forms of a name."""
    said = {"member_id": 2**64 - 1, "a": [1.5, None, True], "name": "葛󠄂城"}
    assert foreign.loads(json.dumps(said)) == said
    assert foreign.parsed('{"a\\nb": ["x\\u001b[31m\\ny  z"]}') == {"a b": ["x\ufffd[31m y  z"]}
    assert foreign.loads("[" * 50 + "]" * 50)


PROBE_LINES = 100_000


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("rights", "/a " + "cap_a=ep" * PROBE_LINES + "!\n"),
        ("firewall", "table t {\n set s {\n" + "elements = {}\n" * PROBE_LINES + "}\n}\n"),
        ("keys", "/f\t" + "ssh-a " * PROBE_LINES + "\n"),
        ("sockets", 'tcp L 0 0 a b users:(("' + '("' * PROBE_LINES + "\n"),
        ("host", "NaN\n1 1\n-\n"),
        ("host", "1e999\n1 1\n-\n"),
        ("database", '{"leads": "yes", "lag": null}\n'),
        ("database", '{"leads": true, "lag": NaN}\n'),
        ("database", '{"package": [["x"]]}\n'),
        ("database", '{"setting": [["' + "x" * 20_000 + '", "1", "false"]]}\n'),
        ("database", "[" * 100_000 + "\n"),
        ("packages", "".join(f"p{n}\tall\t1\tii\n" for n in range(MOST_ITEMS + 1))),
        ("cost", "0mnans 0m0s\n0m0s 0m0s\n1\n"),
    ],
)  # fmt: skip
def test_a_part_is_read_in_time_or_not_verified(part: str, content: str) -> None:
    """No reader takes the square of what came, and none believes what is no number (S08)."""
    begun = time.monotonic()
    state = State()
    try:
        probe.READERS[part](state, content)
    except (ValueError, TypeError):
        assert part not in {"firewall", "sockets"}
    else:
        assert part in {"firewall", "sockets"}
    assert time.monotonic() - begun < 3


def test_masks_and_differences_take_no_square() -> None:
    """A line made for it would have taken minutes in the process that hears all hosts."""
    begun = time.monotonic()
    assert mask("token" * 12_000)
    lines = "".join(f"{n % 90}\n" for n in range(20_000)).encode()
    assert "too long to be shown" in diff("/etc/x", lines, lines[::-1])
    short = b"".join(b"%d\n" % (n % 90) for n in range(COMPARED_LINES))
    assert diff("/etc/x", short, short[::-1])
    assert time.monotonic() - begun < 8
    assert mask("password: geheim-1") == "password: ‹masked›"


def test_a_sweep_hears_the_other_hosts(hosts: Callable[[str, str], None]) -> None:
    """Endless, half, garbage and another host's answer: each is named, the whole one is read."""
    hosts("primary1", ENDLESS["an endless line"])
    hosts("secondary1", ENDLESS["half an answer, then silence"])
    hosts("application1", "head -c 100000 /dev/urandom")
    hosts("registry-link1", "cat")
    names = ("primary1", "secondary1", "application1", "registry-link1")
    bounds = transport.Bounds(seconds=2, answer=1 << 20)
    replies = transport.ask_all(SITE, dict.fromkeys(names, "@m whole\n"), bounds)
    assert replies["primary1"].unreachable_reason == "it said more than 1 MiB: cut off"
    assert replies["secondary1"].unreachable_reason == "no whole answer within 2 s"
    for host in names[2:]:
        assert replies[host].unreachable_reason == ""
        with pytest.raises(probe.MalformedError):
            probe.parse(replies[host].out, b"", "@another mark")


def part(host: str = "primary1") -> Part:
    """Return a host's part of a sweep with an answer."""
    return Part(
        host, Manifest(host, Inputs("0", "", {}), 0.0, {}), "", Observed(Reply(host), State())
    )


def test_what_one_answer_makes_of_us_is_that_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as a host that did not answer: what was wrong there before is not over."""

    def falls(_site: Site, wrong: Part, *_more: object) -> None:
        wrong.holds = 7
        raise RecursionError("deep")

    monkeypatch.setattr(judge, "_judge", falls)
    one = part()
    _judge_alone(SITE, one, Inputs("0", "", {}), 1.0, list)
    (found,) = one.findings
    assert (one.holds, found.answer, found.kind) == (0, Verdict.NOT_VERIFIED, "host")
    assert "RecursionError" in found.why
    assert not _host_sweep(one, Inputs("0", "", {})).answered


def test_a_flood_of_findings_hides_none_that_was_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many are kept; the host counts as one that did not answer, so that nothing is over."""

    def floods(_site: Site, wrong: Part, *_more: object) -> None:
        for number in range(MOST_FINDINGS + 10):
            wrong.unverified("file", f"/{number}", "x")

    monkeypatch.setattr(judge, "_judge", floods)
    one = part()
    _judge_alone(SITE, one, Inputs("0", "", {}), 1.0, list)
    assert len(one.findings) == MOST_FINDINGS + 1
    assert one.findings[-1].why == "10 more differences: look at the host itself"
    assert not _host_sweep(one, Inputs("0", "", {})).answered


@pytest.mark.parametrize("name", ["/etc/a\nb", "/etc/\x1b[2J", "/etc/\u202ex"])
def test_no_command_is_shown_for_a_name_that_cannot_be(name: str) -> None:
    """As it is shown it is another name: who copies the command would remove another file."""
    known = Manifest("primary1", Inputs("0", "", {}), 0.0, {})
    wrong = Difference("file", name, Verdict.DRIFTED, unmanaged=True)
    assert repair_of(SITE, "primary1", wrong, known) == ""
    plain = Difference("file", "/etc/葛󠄂", Verdict.DRIFTED, unmanaged=True)
    assert "/etc/葛󠄂" in repair_of(SITE, "primary1", plain, known)


def test_the_cluster_is_asked_of_the_next_host(hosts: Callable[[str, str], None]) -> None:
    """A database host that answers nonsense is passed by; when all do, that is one sentence."""
    inventory = Inventory(SITE.inventory)
    row = '[{"Member": "secondary1", "Role": "Leader", "State": "running", "TL": 3}]'
    hosts("primary1", "echo '[{}]'")
    hosts("secondary1", f"echo '{row}'")
    assert [(one.name, one.timeline) for one in members(SITE, inventory)] == [("secondary1", 3)]
    hosts("secondary1", f"printf '%s' '{'[' * 4000}'")
    with pytest.raises(KosekiError, match="secondary1 does not say who is in it"):
        members(SITE, inventory)
