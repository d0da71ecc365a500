"""Readers of foreign input, each as a function of bytes: it answers or refuses, and nothing else.

`tests/unit/test_foreign.py` tries each with inputs that hypothesis makes of its seeds, `make fuzz`
with as many as time allows. What is signed or hashed is given a right end where the reader would
not look further without one.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

from koseki_link.folders import Folders, _kept
from koseki_link.layout import Name, Refused
from koseki_link.layout import StandIn as LinkFile
from koseki_ops.core import foreign
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.formatting import in_short, json_line, printable
from koseki_ops.costs.model import load_agreement
from koseki_ops.drift.history.waivers import _rows as waiver_rows
from koseki_ops.drift.judge import manifest as manifests
from koseki_ops.drift.judge.causes import diff, finding
from koseki_ops.drift.judge.compare import compare, days_left
from koseki_ops.drift.judge.manifest import Applied, Manifest, TamperedError, compile_manifest
from koseki_ops.drift.observe import probe
from koseki_ops.drift.observe.items import State
from koseki_ops.drift.observe.transport import _fetched
from koseki_ops.duplicates.layout import StandIn as StatusFile
from koseki_ops.evidence import site_key
from koseki_ops.evidence.ledger import Ledger
from koseki_ops.plan.inventory import load_yaml
from koseki_ops.plan.revision import Inputs
from koseki_ops.plan.site import Site
from koseki_ops.plan.yaml_forms import ambiguous
from koseki_ops.registers.requests.service import read_event
from koseki_ops.remote.cluster import _member
from koseki_ops.verify import batch
from koseki_ops.watch.schedule import RUNS, run_states
from koseki_release import archive

CORPUS = Path(__file__).parent / "corpus"
MARK, CODE = "@0123", "202053"
# What a reader may say instead of an answer. Of the strict readers of `core` it is ValueError, and
# whoever calls them makes a sentence of it.
REFUSALS = (KosekiError, Refused, TamperedError, probe.MalformedError)
# What `read_event`, `members` and their kind are called within.
MALFORMED = (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError)


SESSION = (
    b'{"MESSAGE": "operator_sousa02@koseki_iida [local] LOG:  session under request 7", '
    b'"__REALTIME_TIMESTAMP": "1795564800000000"}'
)
TIMERS = "".join(
    f"Id={run.unit}.service\nActiveState=inactive\nResult=success\nExecMainStatus=0\n"
    f"Id={run.unit}.timer\nUnitFileState=enabled\n--\n"
    for run in RUNS
).encode()


@dataclass(frozen=True)
class Target:
    """A reader. seeds: inputs that it takes; within: what its caller makes a sentence of."""

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    within: tuple[type[Exception], ...] = ()

    def __call__(self, data: bytes) -> None:
        """Give it an input; whatever is raised is a hole."""
        with suppress(*REFUSALS, *self.within):
            self.read(data)


@cache
def folder() -> Path:
    """Return a folder in memory for readers of files; gone with this process."""
    made = tempfile.TemporaryDirectory(prefix="koseki-fuzz-", dir="/dev/shm")
    _kept_folders.append(made)
    return Path(made.name)


_kept_folders: list[tempfile.TemporaryDirectory[str]] = []


def _file(data: bytes, name: str = "input") -> Path:
    path = folder() / name
    path.write_bytes(data)
    return path


@cache
def site() -> Site:
    """Return a site of its own, with a key to sign by."""
    made = Site(folder(), "lab", "lab")
    site_key.make_key(made.drift)
    site_key.publish(made.drift)
    return made


# A sweep.


def seeds(name: str) -> tuple[bytes, ...]:
    """Return what is kept for a target, oldest first."""
    return tuple(path.read_bytes() for path in sorted((CORPUS / name).iterdir()))


INPUTS = Inputs("0" * 16, "", {})


@cache
def known_state() -> State:
    """Return what a host is by the first seed."""
    return probe.parse(seeds("probe")[0], b"", MARK)


def sweep(answer: bytes) -> None:
    """Read a host's answer and judge it, as a sweep and an apply do."""
    state = probe.parse(answer, answer[:1000], MARK)
    before = known_state()
    manifest = Manifest("primary1", INPUTS, 0.0, before.items, scope=probe.scope())
    _, differences = compare(manifest, state)
    for difference in differences[:50]:
        found = finding(site(), "primary1", difference, manifest, state.marks, INPUTS)
        _ = (found.id, in_short(found.seen), json_line(vars(found)), found.repair)
    for row in state.items.get("certificate", {}).values():
        if end := row.split("\t")[2]:
            days_left(end, state.clock)
    applied = Applied({}, frozenset({"ground"}), bare=False, before=before, after=state)
    compiled = compile_manifest("primary1", applied, manifest, INPUTS)
    json.dumps(compiled.items, sort_keys=True).encode()


def fetched(answer: bytes) -> None:
    """Read files that were fetched to be shown, and show them."""
    found = _fetched(answer, frozenset({"/etc/hosts"}))
    for at, _ in found.sessions:
        time.gmtime(at)
    for content in found.contents.values():
        printable(diff("/etc/hosts", b"127.0.0.1 localhost\n", content))


def tar(files: Mapping[str, bytes]) -> bytes:
    """Return files as tar gives them."""
    whole = BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.GNU_FORMAT) as made:
        for name, content in files.items():
            row = tarfile.TarInfo(name)
            row.size = len(content)
            made.addfile(row, BytesIO(content))
    return whole.getvalue()


BATCH = tar({"./0.rc": b"0", "./0.out": b'{"a": 1}\n', "./0.err": b""})
FETCHED = (
    b"1795564800.5 primary1 sshd-session[7]: Accepted publickey for a from 10.0.0.1\n"
    + probe.CONTENTS
    + tar({"/etc/hosts": b"127.0.0.1 localhost\n10.0.0.1 other\n"})
)


def answers(stream: bytes) -> None:
    """Read the answers to a verification's questions."""
    (answer,) = batch.parse(stream, ["asked"]).values()
    _ = (answer.lines, str(answer))
    with suppress(AssertionError):
        _ = answer.json


# What hosts say otherwise.


def said(data: bytes) -> None:
    """Read a line of JSON that a host said, and show it."""
    json.loads(json_line(foreign.parsed(data)))


def members(data: bytes) -> None:
    """Read the list of a cluster's members."""
    _ = [_member(row) for row in foreign.parsed(data)]


def journal(data: bytes) -> None:
    """Read a line of a host's journal."""
    read_event("primary1", data.decode(errors="replace"))


def timers(data: bytes) -> None:
    """Read how the runs of a host that keeps watch stand."""
    _ = [(row.sentence, row.well) for row in run_states(data.decode(errors="replace"))]


# Files.


def link_file(body: bytes) -> None:
    """Verify a link file as it came, and with a right end."""
    layout, name = LinkFile(), Name(CODE, "address-change", 1)
    sealed = body + b'{"sha256":"%s"}\n' % hashlib.sha256(body).hexdigest().encode()
    for content in (body, sealed):
        with suppress(Refused):
            path = _file(content)
            layout.verify(path, name, CODE, 4096)
            _ = list(layout.records(path))


def exchange_name(data: bytes) -> None:
    """Read the name of a file in an exchange, and set the file aside."""
    name = data.decode("utf-8", "surrogateescape").replace("/", "").replace("\0", "")[:255]
    if name in {"", ".", ".."} or len(name.encode("utf-8", "surrogateescape")) > 255:
        return
    LinkFile().ended(data)
    base = folder() / "exchange"
    for place in ("in", "work", "quarantine"):
        (base / place).mkdir(parents=True, exist_ok=True)
    folders = Folders(base)
    (folders.incoming / name).write_bytes(b"")
    kept = folders.drop(name, {"code": "name"})
    folders.explained(kept).unlink()
    _ = _kept(name)
    LinkFile().name_of(name)


def release(data: bytes) -> None:
    """Read an archive of a release as the hosts do once its signature holds."""
    files, modes = archive.members(data)
    archive.reject_manifest(json.loads(files.pop(archive.MANIFEST)), files, modes)


def status_file(data: bytes) -> None:
    """Read what the ministry's relay server says."""
    layout = StatusFile()
    found = layout.status(data)
    for answer in found.answers if found else ():
        json_line({"id": answer.id})
    layout.count(data)
    layout.key_of(data.decode("utf-8", "surrogateescape"))


def waivers(data: bytes) -> None:
    """Read the committed waivers."""
    waiver_rows(data, Path("waivers.yml"))


def signed_manifest(data: bytes) -> None:
    """Read a manifest as it lies there: what is behind a right signature is our own."""
    path = manifests.path_of(site(), "primary1")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    manifests.read(site(), "primary1")


def ledger(data: bytes) -> None:
    """Verify a record that somebody else wrote."""
    kept = Ledger(site(), "joinings")
    kept.path.parent.mkdir(parents=True, exist_ok=True)
    kept.path.write_bytes(data)
    kept.head.write_bytes(data.partition(b"\n")[0])
    kept.verify()
    for read in (kept.held, lambda: list(kept.rows())):
        with suppress(KosekiError):
            read()


def inventory(data: bytes) -> None:
    """Read a file of the inventory."""
    path = _file(data, "input.yml")
    load_yaml(path)
    _ = list(ambiguous(path.read_text(encoding="utf-8")))


def agreement(data: bytes) -> None:
    """Read an agreement on shares."""
    load_agreement(_file(data, "agreement.yml"), [CODE])


TARGETS: Mapping[str, Target] = {
    "sweep": Target(sweep, seeds("probe")),
    "fetched": Target(fetched, (FETCHED,)),
    "verification": Target(answers, (BATCH,)),
    "json": Target(said, (b'{"a": [1, "x", null, 1.5, true]}',), (ValueError,)),
    "members": Target(
        members,
        (b'[{"Member": "primary1", "Role": "Leader", "State": "running", "TL": 1}]',),
        MALFORMED,
    ),
    "journal": Target(journal, (SESSION,), MALFORMED),
    "timers": Target(timers, (TIMERS,), (ValueError,)),
    "link file": Target(link_file, seeds("link")),
    "exchange name": Target(
        exchange_name, (b"202053-address-change-00000001.jsonl", "戸籍.part".encode())
    ),
    "release": Target(release, seeds("release"), archive.MALFORMED),
    "status file": Target(status_file, seeds("status")),
    "waivers": Target(waivers, seeds("waivers")),
    "manifest": Target(signed_manifest, (b"00\n{}\n",)),
    "ledger": Target(ledger, (b'{"number": 1, "before": "0", "at": "x", "record": {}}\n',)),
    "inventory": Target(inventory, seeds("inventory")),
    "agreement": Target(agreement, seeds("agreement")),
}
