"""The probe as one program, and what a host answered as a `State`.

The program is `probe.sh` with a head: what to look at (the policy), a mark that no one on the host
knows (so that no file's name can pretend to be the end of a part), and the key for hashes of
secrets. Whoever may start programs on hosts sends all of it. The watch may not: on each host an
apply left policy and probe, and the watch sends mark and key as data (`question`).
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import math
import re
import secrets
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import takewhile
from typing import Any

from koseki_ops.core.foreign import loads, number
from koseki_ops.core.formatting import in_short
from koseki_ops.drift.observe import policy
from koseki_ops.drift.observe.items import FILES, FORMER_ENGINES, State, pack

SHA256_HEX = re.compile(r"[0-9a-f]{64}")
MODE = re.compile(r"[0-7]{1,4}")
CAPABILITY = re.compile(r"[a-z_,]+[=+][eip]+")
LISTENER = re.compile(r'\("([^"]*)",pid=(\d+)')
# Ports that a program gets when it names none (ip_local_port_range).
EPHEMERAL = 32768
FULL_KIB = 4096
# As much is said of why a part is not verified.
SHOWN_LENGTH = 200


class MalformedError(Exception):
    """A part of an answer is not what the probe writes."""


@dataclass(frozen=True)
class Program:
    """A probe for one host: the shell text, and the mark that its answer must bear."""

    text: str
    mark: str


def assemble(key: str, extra: Iterable[str] = (), patience: int = 1) -> Program:
    """Return the probe.

    key: hex, for hashes of secrets; extra: files outside of the roots; patience: how many times as
    long as usual each part may take.
    """
    mark = _mark_of_an_answer()
    reported = {"mark": mark, "key": key, "patience": str(patience), "extra": _extra(extra)}
    return Program(_assignments(reported) + policy_text() + probe_text(), mark)


def question(key: str, extra: Iterable[str], patience: int, seconds: float) -> Program:
    """Return what the watch sends for the same answer: data for `koseki-inspect` there.

    seconds: when the host ends the probe by itself; the others as `assemble` takes them.
    """
    mark = _mark_of_an_answer()
    lines = [
        *("sweep", f"scope {scope()}", f"mark {mark}", f"key {key}", f"patience {patience}"),
        f"seconds {math.ceil(seconds)}",
        *(f"extra {path}" for path in _extra(extra).split()),
    ]
    return Program("\n".join(lines) + "\n", mark)


def policy_text() -> str:
    """Return what a sweep looks at, as assignments of the shell; `scope` names them all."""
    values = {
        "scope": scope(),
        "roots": " ".join(policy.ROOTS),
        "programs": " ".join(policy.PROGRAMS),
        "units": " ".join(policy.RUNTIME_UNITS),
        "pruned": " ".join(
            f"{_test(pattern)} -prune -o" for pattern in (*policy.PRUNED, "/etc/ssl/certs/*.0")
        ),
        "volatile": _any(policy.VOLATILE),
        "secrets": _any(policy.SECRETS),
        "kernel": " ".join(f"/proc/sys/{name}" for name in policy.KERNEL),
        "cluster_questions": _text("cluster.sql"),
        "database_questions": _text("database.sql"),
    }
    return _assignments(values)


def probe_text() -> str:
    """Return the probe without what it is told."""
    return _text("probe.sh")


def _mark_of_an_answer() -> str:
    return f"@{secrets.token_hex(16)}"


def _extra(paths: Iterable[str]) -> str:
    return " ".join(path for path in paths if not re.search(r"\s", path))


def _assignments(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


@cache
def scope() -> str:
    """Return a name for the set of questions: a manifest answers those it was made for."""
    texts = [_text(name) for name in ("probe.sh", "policy.py", "cluster.sql", "database.sql")]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _text(name: str) -> str:
    return (files("koseki_ops.drift.observe") / name).read_text(encoding="utf-8")


def _test(pattern: str) -> str:
    return f"-path {pattern}" if "/" in pattern else f"-name {pattern}"


def _any(patterns: Iterable[str]) -> str:
    return " -o ".join(_test(pattern) for pattern in patterns)


SESSIONS = (
    "journalctl --quiet --no-pager --output=short-unix --since=-1d --lines=500 "
    "--grep='^Accepted [a-z]+ for ' SYSLOG_IDENTIFIER=sshd-session\n"
)
CONTENTS = b"\n\0contents\n"


def fetching(paths: Iterable[str], *, sessions: bool = False) -> str:
    """Return the program that sends files as one tar stream.

    What is not there, no file or larger than 64 KiB is left out. sessions: first tell who came in
    during the last day.
    """
    listed = "\n".join(path for path in paths if "\n" not in path)
    return (
        "set -u\nulimit -t 20\nLC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin\nexport LC_ALL PATH\n"
        f"{SESSIONS if sessions else ''}printf '\\n\\0contents\\n'\n"
        "while IFS= read -r path; do printf '%s\\0' \"$path\"; done <<'end_of_paths' | "
        "xargs -0 -r sh -c 'find \"$@\" -maxdepth 0 -type f -size -65k -print0' sh | "
        "timeout 10 tar -C / -c --ignore-failed-read --null -P -f - -T -\n"
        f"{listed}\nend_of_paths\n"
    )


def contents_question(paths: Iterable[str], *, sessions: bool = False) -> str:
    """Return what the watch sends for the same: data alone, and answered for open files only."""
    lines = ["contents", *(["sessions"] if sessions else [])]
    return "\n".join([*lines, *(f"path {path}" for path in paths if "\n" not in path)]) + "\n"


# Five hundred lines are asked for; what a line of the journal says of a session is short.
SESSION_LENGTH, SESSIONS_LENGTH = 1000, 500_000
SESSION = re.compile(r"([0-9]{1,10}\.[0-9]{1,9}) .*Accepted \w+ for (\S+) from (\S+)")


def sessions_in(text: str) -> list[tuple[float, str]]:
    """Return when each person came in, and who from where."""
    lines = [line[:SESSION_LENGTH] for line in text[:SESSIONS_LENGTH].splitlines()]
    matches = filter(None, map(SESSION.match, lines))
    return [(float(match[1]), f"{match[2]} from {match[3]}") for match in matches]


def prepare() -> None:
    """Import what reading certificates takes: a tenth of a second, while hosts make ready."""
    importlib.import_module("cryptography.x509")


def parse(answer: bytes, errors: bytes, mark: str) -> State:
    """Return what a host said; a part that is missing or malformed is named in `failed`.

    Raises MalformedError when the answer is no answer of this probe, or was cut off.
    """
    parts = _parts(answer, mark)
    errors_by_part = _first_errors(errors, mark)
    state = State()
    for part, read in READERS.items():
        if part not in parts:
            state.failed[part] = "it is missing in the answer"
            continue
        content, code = parts[part]
        if code:
            state.failed[part] = errors_by_part.get(part, f"exit {code}")
            if part not in TOLERANT:
                continue
        try:
            read(state, content)
        except Exception as error:  # noqa: BLE001 - whatever a reader makes of it, it is no answer
            state.failed[part] = in_short(f"malformed answer: {error}", SHOWN_LENGTH)
    _join_files(state, parts)
    return state


# These say nothing wrong when they fail for one file of many; the failure is kept beside.
TOLERANT = frozenset({"host"})


def _parts(answer: bytes, mark: str) -> dict[str, tuple[str, int]]:
    """Cut the stream at its marks; return content and exit code by part."""
    text = answer.decode("utf-8", "backslashreplace")
    if not text.endswith(f"{mark} whole\n"):
        end = "cut off" if mark in text else "no answer of the probe"
        raise MalformedError(f"{end} after {len(answer)} bytes")
    parts = {}
    for piece in text.split(f"{mark} begin ")[1:]:
        name, _, rest = piece.partition("\n")
        content, found, tail = rest.rpartition(f"\n{mark} end {name} ")
        code = tail.split("\n", 1)[0]
        if not found or not code.isdigit():
            raise MalformedError(f"part {name[:40]!r} has no end")
        parts[name] = (content, int(code))
    return parts


def _first_errors(errors: bytes, mark: str) -> dict[str, str]:
    """Return the first line of what each part complained of."""
    errors_by_part = {}
    for piece in errors.decode("utf-8", "backslashreplace").split(f"{mark} begin ")[1:]:
        name, _, rest = piece.partition("\n")
        if lines := rest.splitlines():
            errors_by_part[name] = in_short(lines[0], SHOWN_LENGTH)
    return errors_by_part


def _records(content: str, size: int) -> Iterable[list[str]]:
    """Yield records of `size` strings, each ended by a zero byte."""
    pieces = content.split("\0")
    rest = pieces.pop()
    if rest.strip() or len(pieces) % size:
        raise ValueError(f"{len(pieces)} pieces and {rest[:40]!r}")
    for start in range(0, len(pieces), size):
        yield pieces[start : start + size]


def _host(state: State, content: str) -> None:
    clock, uptime, container, *rooms = content.splitlines()
    state.clock = number(clock)
    state.measures["uptime_seconds"] = number(uptime.split()[0])
    state.container = "" if container == "-" else container
    for room in rooms:
        free, size, place = room.split(" ", 2)
        full = int(free) < FULL_KIB and int(free) * 10 < int(size)
        if full and (place == "/run" or not policy.PASSING_MOUNT.match(place)):
            state.full[place] = int(free)


def _mark(state: State, content: str) -> None:
    for line in content.splitlines():
        engine, _, tree = line.partition(" ")
        state.marks[FORMER_ENGINES.get(engine, engine)] = tree.strip()


def _hashes(content: str, end: str) -> dict[str, str]:
    found = {}
    pieces = content.split(end)
    if pieces.pop().strip():
        raise ValueError("the last hash was cut off")
    for piece in pieces:
        digest, path = piece[:64], piece[66:]
        if not SHA256_HEX.fullmatch(digest) or not path.startswith("/"):
            raise ValueError(f"no hash: {piece[:60]!r}")
        found[path] = digest
    return found


def _join_files(state: State, parts: dict[str, tuple[str, int]]) -> None:
    """Make one item of what four parts say about a file."""
    for part in FILE_PARTS:
        if part not in parts or part in state.failed:
            why = state.failed.get(part, "it is missing in the answer")
            state.failed["files"] = why if part == "files" else f"{part}: {why}"
            return
    content = {part: parts[part][0] for part in FILE_PARTS}
    try:
        for path, fields in _files(content):
            state.add(policy.kind_of(path), path, fields)
    except ValueError as error:
        for kind in FILES:
            state.items.pop(kind, None)
        state.failed["files"] = in_short(f"malformed answer: {error}", SHOWN_LENGTH)
        return
    _enablement(state)


FILE_PARTS = ("files", "hashes", "secrets", "flags")


def _files(content: dict[str, str]) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Yield each file's path and fields."""
    hashes = _hashes(content["hashes"], "\0")
    hashes |= {k: f"keyed:{v}" for k, v in _hashes(content["secrets"], "\n").items()}
    flags = dict(line.split(" ", 1)[::-1] for line in content["flags"].splitlines())
    for meta, target, path in _records(content["files"], 3):
        letter, mode, owner, group = meta.split("\t")
        if not MODE.fullmatch(mode):
            raise ValueError(f"no mode: {meta!r}")
        # A link's own mode means nothing.
        mode = "" if letter == "l" else mode
        held = target if letter == "l" else hashes.get(path, "")
        yield path, (letter, mode, owner, group, held, flags.get(path, ""))


def _enablement(state: State) -> None:
    """Tell which units are enabled or masked, from the links that say so."""
    links = [
        (path, row.split("\t"))
        for path, row in state.items.get("unit", {}).items()
        if path.startswith("/etc/systemd/system/") and row.startswith("l\t")
    ]
    wanted: dict[str, list[str]] = defaultdict(list)
    for path, row in links:
        folder, _, unit = path.removeprefix("/etc/systemd/system/").rpartition("/")
        if row[4] == "/dev/null":
            wanted[unit].append("masked")
        elif folder.endswith((".wants", ".requires")):
            wanted[unit].append(folder)
        else:
            continue
        del state.items["unit"][path]
    services = state.items.setdefault("service", {})
    for unit, places in wanted.items():
        active = services[unit].split("\t")[1] if unit in services else "inactive"
        services[unit] = pack((",".join(sorted(places)), active))


def _services(state: State, content: str) -> None:
    for line in content.splitlines():
        if not line.strip():
            continue
        unit, load, active, sub, *_ = line.split()
        if load == "not-found" and active == "inactive":
            continue
        if active == "activating":
            # A oneshot at its work is not running; one that is started again and again has failed.
            active = "failing" if sub.startswith("auto-restart") else "starting"
        elif active == "deactivating":
            active = "starting"
        if active in {"inactive", "starting"} or policy.PASSING_SERVICE.match(unit):
            state.measures[f"_state {unit}"] = 1.0 if active == "starting" else 0.0
            continue
        state.add("service", unit, ("", active))


def _rights(state: State, content: str) -> None:
    pieces = content.split("\0")
    capable = [pieces.pop()]
    if len(pieces) % 2:
        raise ValueError("a file of rights was cut off")
    for start in range(0, len(pieces), 2):
        head, _, meta = pieces[start].rpartition("setuid\t")
        capable.append(head)
        state.add("setuid", pieces[start + 1], meta.split("\t"))
    for line in "\n".join(capable).splitlines():
        if line.strip():
            words = line.rstrip().split(" ")
            held = len(list(takewhile(CAPABILITY.fullmatch, reversed(words))))
            path = " ".join(words[: len(words) - held])
            if not held or not path.startswith("/"):
                raise ValueError(f"no capability: {line[:80]!r}")
            state.add("capability", path, (" ".join(words[-held:]),))


def _programs(state: State, content: str) -> None:
    for meta, path in _records(content, 2):
        mode, owner, group, size, time = meta.split("\t")
        state.add("program", path, (mode, owner, group, size, time.split(".")[0]))


def _packages(state: State, content: str) -> None:
    rows, native = [], ""
    for line in content.splitlines():
        if line:
            name, architecture, version, status = line.split("\t")
            if name == "dpkg":
                native = architecture
            rows.append((name, architecture, version, status.strip()))
    for name, architecture, version, status in rows:
        foreign = "" if architecture in {native, "all"} else f":{architecture}"
        state.add("package", f"{name}{foreign}", (version, status))


def _accounts(state: State, content: str) -> None:
    users: dict[str, list[str]] = {}
    members: dict[str, set[str]] = {}
    for line in content.splitlines():
        file, _, rest = line.partition(":")
        fields = rest.split(":")
        if file == "/etc/passwd":
            name, _, uid, gid, gecos, home, shell = fields
            users[name] = [uid, gid, gecos, home, shell, "locked", "", ""]
        elif file == "/etc/group":
            name, _, gid, listed = fields
            members[name] = set(filter(None, listed.split(",")))
            state.add("group", name, (gid, ",".join(sorted(members[name]))))
        elif file == "/etc/shadow":
            name, password, max_days, expires = fields
            if name in users:
                users[name][5:] = [password, max_days, expires]
        elif line:
            raise ValueError(f"no account: {line[:60]!r}")
    for name, row in users.items():
        state.add("user", name, row)


KEY_TYPE = re.compile(r"(?:^|\s)((?:ssh-|ecdsa-|sk-)\S+)\s+([A-Za-z0-9+/=]+)\s*(.*)$")


def _keys(state: State, content: str) -> None:
    for line in content.splitlines():
        if not line:
            continue
        file, _, entry = line.partition("\t")
        match = KEY_TYPE.search(entry)
        if not match:
            state.add("key", f"{file}: {hashlib.sha256(entry.encode()).hexdigest()[:16]}", ("",))
            continue
        digest = hashlib.sha256(base64.b64decode(match[2])).digest()
        print_ = base64.b64encode(digest).decode().rstrip("=")
        name = f"{file}: SHA256:{print_} {match[3]}".strip()
        state.add("key", name, (entry[: match.start(1)].strip(),))


def _mounts(state: State, content: str) -> None:
    for line in content.splitlines():
        if not line:
            continue
        left, _, right = line.partition(" - ")
        _, _, _, _, point, options, *_ = left.split(" ")
        kind, source, *_ = right.split(" ")
        if not policy.PASSING_MOUNT.match(point):
            state.add("mount", point, (kind, source, options))


def _kernel(state: State, content: str) -> None:
    for line in content.splitlines():
        if not line:
            continue
        path, _, value = line.partition(":")
        name = path.removeprefix("/proc/sys/")
        # A container's kernel is its host's; only its network is its own.
        if state.container and not name.startswith(policy.NETWORK_PARAMETER):
            state.not_applicable += 1
        else:
            state.add("kernel parameter", name.replace("/", "."), (value,))


def _firewall(state: State, content: str) -> None:
    table = chain = ""
    order = hashlib.sha256()
    seen: dict[str, int] = defaultdict(int)
    elements = dynamic = False
    for raw in content.splitlines():
        line = raw.strip()
        if elements:
            elements = "}" not in line
            continue
        if line.startswith("table "):
            table = line.removesuffix(" {")
            line = ""
        elif line.endswith(" {") and line.split()[0] in {"chain", "set", "map", "flowtable"}:
            chain, dynamic = line.removesuffix(" {"), False
        elif line.startswith("flags "):
            # nft writes them before the elements.
            dynamic = "dynamic" in line
        elif line.startswith("elements = {") and dynamic:
            # Filled by the kernel as packets come.
            elements = "}" not in line
            continue
        if not table or line in {"", "}"}:
            continue
        name = f"{table} {chain}: {line}" if not line.endswith(" {") else f"{table} {chain}"
        seen[name] += 1
        if seen[name] > 1:
            name += f" ({seen[name]})"
        order.update(f"{name}\n".encode())
        state.add("firewall rule", name, ())
    state.add("firewall", "ruleset", (order.hexdigest(),))


def _sockets(state: State, content: str) -> None:
    programs = {}
    rows = []
    for line in content.splitlines():
        if line.startswith("/proc/"):
            path, _, target = line.partition(" ")
            programs[path.split("/")[2]] = target.removesuffix(" (deleted)")
        elif line.strip():
            rows.append(line.split(None, 6))
    for row in rows:
        protocol, _, _, _, local, _, *listed_users = row
        users = sorted(
            {programs.get(pid, name) for name, pid in LISTENER.findall("".join(listed_users))}
        )
        program = ",".join(users) or "kernel"
        port = local.rpartition(":")[2]
        if protocol == "udp" and port.isdigit() and int(port) >= EPHEMERAL:
            # A client's own port is another one each time.
            local = f"any port of {program}"
        state.add("socket", f"{protocol} {local}", (program,))


def _certificates(state: State, content: str) -> None:
    from cryptography import x509  # noqa: PLC0415 - see `prepare`
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    files: dict[str, list[str]] = {}
    path = ""
    for line in content.splitlines():
        if line.startswith("file /"):
            path = line.removeprefix("file ")
            files[path] = []
        elif path:
            files[path].append(line)
    for name, lines in files.items():
        try:
            found = x509.load_pem_x509_certificate("\n".join(lines).encode())
        except ValueError:
            state.add("certificate", name, ("unreadable", "", ""))
            continue
        state.add(
            "certificate",
            name,
            (
                found.fingerprint(SHA256()).hex(),
                found.subject.rfc4514_string(),
                found.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
            ),
        )


def _etcd(state: State, content: str) -> None:
    for line in content.splitlines():
        if not line or line == "absent":
            continue
        _, started, name, peers, clients, learner = line.split(", ")
        state.add("etcd member", name or peers, (peers, clients, learner))
        if started != "started":
            state.measures["etcd_members_not_started"] = 1.0


def _database(state: State, content: str) -> None:
    granted: set[str] = set()
    for line in content.splitlines():
        if not line or line == "absent":
            continue
        answer = loads(line)
        if "leads" in answer:
            if not isinstance(answer["leads"], bool):
                raise ValueError(f"its `leads` is no boolean: {answer['leads']!r}")
            state.leads = answer["leads"]
            if answer["lag"] is not None:
                state.measures["replication_lag_bytes"] = number(answer["lag"])
            continue
        for kind, rows in answer.items():
            if kind == policy.GRANTED:
                granted.update(name for name in rows or [] if policy.GRANTED_NAME.fullmatch(name))
            else:
                _rows(state, kind, rows or [])
    for name in granted:
        state.items.get("membership", {}).pop(name, None)


def _rows(state: State, kind: str, rows: Any) -> None:  # noqa: ANN401 - JSON is whatever came
    """Keep the rows of one answer of PostgreSQL's."""
    if kind == "patroni":
        for name, value in _flat(rows or {}):
            state.add(kind, name, (value,))
        return
    for name, *fields in rows:
        if kind != "setting" or name not in policy.VOLATILE_SETTINGS:
            state.add(kind, name, fields)
    if kind == "hba":
        order = hashlib.sha256("\n".join(row[0] for row in rows).encode()).hexdigest()
        state.add("hba order", "pg_hba", (order,))


def _flat(tree: dict[str, object], above: str = "") -> Iterable[tuple[str, str]]:
    """Yield the leaves of a configuration as dotted names and JSON values."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", json.dumps(value, ensure_ascii=False)


def _status(state: State, content: str) -> None:
    if not content.strip():
        return
    status = loads(content)
    repositories = status["repositories"].values()
    newest = [row["newest_backup"] for row in repositories if row["newest_backup"] is not None]
    if newest:
        state.measures["newest_backup_at"] = number(min(newest))
    if repositories:
        state.measures["vault_lag_minutes"] = number(
            max(row["lag_minutes"] for row in repositories)
        )


def _cost(state: State, content: str) -> None:
    shell, children, memory = content.splitlines()[:3]
    for word in (*shell.split(), *children.split()):
        minutes, seconds = word.removesuffix("s").split("m")
        state.cpu_seconds += number(minutes) * 60 + number(seconds)
    state.memory_kib = int(number(memory))


def _nothing(_state: State, _content: str) -> None:
    """Files are joined from four parts at the end."""


READERS: dict[str, Callable[[State, str], None]] = {
    "host": _host,
    "mark": _mark,
    "files": _nothing,
    "hashes": _nothing,
    "secrets": _nothing,
    "flags": _nothing,
    "rights": _rights,
    "programs": _programs,
    "packages": _packages,
    "services": _services,
    "accounts": _accounts,
    "keys": _keys,
    "mounts": _mounts,
    "kernel": _kernel,
    "firewall": _firewall,
    "sockets": _sockets,
    "certificates": _certificates,
    "etcd": _etcd,
    "database": _database,
    "status": _status,
    "cost": _cost,
}
