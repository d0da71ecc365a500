"""What must be true on a host: compiled at the end of an apply from what the engines did, signed.

Rules for each item, the first that fits:
1. an engine declared it: its declared fields, the others as found after the apply;
2. it appeared or changed while the engines worked, or the host was bare: as found afterwards;
3. the manifest before had it: carried over, so that no apply blesses an older drift;
4. it stays unmanaged.
A host that was not bare and has no manifest yet is adopted once, as found, and says so.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import create_private, write_atomic
from koseki_ops.core.language import _
from koseki_ops.drift.judge.declared import Rows
from koseki_ops.drift.observe.items import (
    ANY,
    COLUMNS,
    FORMER_ENGINES,
    PART_OF,
    Items,
    State,
    pack,
    unpack,
)
from koseki_ops.drift.observe.policy import VOLATILE_SETTINGS
from koseki_ops.drift.observe.probe import scope
from koseki_ops.evidence import site_key
from koseki_ops.plan.revision import Inputs
from koseki_ops.plan.site import Site
from koseki_ops.remote import first_contact

VERSION = 2


class TamperedError(Exception):
    """A manifest that its signature does not vouch for."""


@dataclass
class Manifest:
    """What must be true on one host.

    by: which engine declared an item, by kind and name; adopted: taken as found from a host that
    was not bare; unasked: parts that the host did not answer when it was made; scope: which
    questions it answers; born: when this host was first met, bare or to be adopted (seconds since
    the epoch; 0 for one that was met before that was noted).
    """

    host: str
    inputs: Inputs
    made_at: float
    items: Items
    by: dict[str, dict[str, str]] = field(default_factory=dict)
    adopted: bool = False
    unasked: dict[str, str] = field(default_factory=dict)
    scope: str = ""
    born: float = 0.0

    @property
    def extra(self) -> list[str]:
        """Declared files that lie outside of the directories that are looked through anyway."""
        return [path for kind in ("file", "unit") for path in self.by.get(kind, {})]


def path_of(site: Site, host: str) -> Path:
    """Return where a host's manifest lies."""
    return site.manifests / f"{host}.json"


def hash_key(site: Site) -> str:
    """Return the key for hashes of secrets; made once for a site, for its owner alone.

    A host that keeps watch makes none: what it has was handed over.
    """
    path = site.drift / "hash.key"
    if not path.exists() and site.watch_host:
        raise KosekiError(
            _("{origin} has no manifests of the last apply").format(origin=site.origin),
            str(path),
            _("run `koseki apply` on the control node"),
        )
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_private(path, secrets.token_hex(32).encode())
    return path.read_text(encoding="ascii").strip()


def write(site: Site, manifest: Manifest) -> None:
    """Sign a manifest and put it in its place in one step."""
    body = json.dumps(
        {
            "version": VERSION,
            "site": site.name,
            "host": manifest.host,
            "tree": manifest.inputs.tree,
            "commit": manifest.inputs.commit,
            "files": manifest.inputs.files,
            "made_at": manifest.made_at,
            "adopted": manifest.adopted,
            "born": manifest.born,
            "unasked": manifest.unasked,
            "scope": manifest.scope,
            "by": manifest.by,
            "items": manifest.items,
        },
        sort_keys=True,
    ).encode()
    site_key.make_key(site.drift)
    site_key.publish(site.drift)
    path = path_of(site, manifest.host)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(path, site_key.seal(site.drift, body))
    first_contact.end(site, manifest.host)


def read(site: Site, host: str) -> Manifest | None:
    """Return a host's manifest; raise TamperedError for one that was changed.

    None: there is none, or it was made by another version of the toolkit.
    """
    path = path_of(site, host)
    if not path.exists():
        return None
    body = site_key.opened(site.drift, path.read_bytes(), published=bool(site.watch_host))
    if body is None:
        raise TamperedError(f"{path.name} is not as it was signed")
    plain: dict[str, Any] = json.loads(body)
    if plain["version"] != VERSION:
        return None
    if (plain["site"], plain["host"]) != (site.name, host):
        raise TamperedError(f"{path.name} was signed for {plain['host']} of {plain['site']}")
    return Manifest(
        host,
        Inputs(plain["tree"], plain["commit"], plain["files"]),
        plain["made_at"],
        plain["items"],
        {
            kind: {name: FORMER_ENGINES.get(engine, engine) for name, engine in names.items()}
            for kind, names in plain["by"].items()
        },
        plain["adopted"],
        plain["unasked"],
        plain["scope"],
        plain.get("born", 0.0),
    )


@dataclass(frozen=True)
class Applied:
    """What an apply did on one host.

    declared: by engine; engines: those that ran; bare: the host was met as its installer left it;
    before: its state before the engines, None when it could not be asked; after: its state now.
    """

    declared: Mapping[str, Rows]
    engines: frozenset[str]
    bare: bool
    before: State | None
    after: State


def compile_manifest(
    host: str, applied: Applied, previous: Manifest | None, inputs: Inputs
) -> Manifest:
    """Return what must be true on a host from now on."""
    if applied.bare:
        # Whatever was true of a host of that name, this one is new.
        previous = None
    adopted = previous is None and not applied.bare
    made = Manifest(host, inputs, time.time(), {}, adopted=adopted, scope=scope())
    made.born = previous.born if previous else made.made_at
    made.adopted = adopted or bool(previous and previous.adopted)
    sources = {
        (kind, name): engine
        for engine, rows in applied.declared.items()
        for kind, names in rows.items()
        for name in names
        if not _below(kind, name, applied.after)
    }
    for kind in COLUMNS:
        after = applied.after.items.get(kind, {})
        old = previous.items.get(kind, {}) if previous else {}
        if (why := applied.after.failed.get(PART_OF[kind])) is not None:
            # It could not be asked: what was true before stands.
            made.unasked[PART_OF[kind]] = why
            made.items[kind], made.by[kind] = old, previous.by.get(kind, {}) if previous else {}
            continue
        before = _asked(applied.before, kind)
        kept = made.items[kind] = {}
        by = made.by[kind] = {}
        for name in {*after, *old, *(n for k, n in sources if k == kind)}:
            engine = sources.get((kind, name))
            found = after.get(name)
            if engine:
                fields = applied.declared[engine][kind][name]
                kept[name], by[name] = _completed(kind, fields, found), engine
            elif found is not None and (
                applied.bare or adopted or (before is not None and before.get(name) != found)
            ):
                kept[name] = _lasting(kind, found)
            elif name in old and not (found is None and before is not None and name in before):
                if _dropped(kind, name, previous, applied):
                    continue
                kept[name] = old[name]
                if previous and (source := previous.by.get(kind, {}).get(name)):
                    by[name] = source
    return made


def _asked(state: State | None, kind: str) -> dict[str, str] | None:
    """Return what was there of a kind, None when it could not be asked."""
    if state is None or PART_OF[kind] in state.failed:
        return None
    return state.items.get(kind, {})


def _below(kind: str, name: str, after: State) -> bool:
    """Say whether what was declared is not the host's but of the machine below the container."""
    if kind != "kernel parameter" or not after.container:
        return False
    return name not in after.items.get(kind, {})


def _dropped(kind: str, name: str, previous: Manifest | None, applied: Applied) -> bool:
    """Say whether nobody is asked for it any more.

    What the baseline declared last time and, asked again, does no more; a setting that sweeps have
    ceased to compare.
    """
    if kind == "setting" and name in VOLATILE_SETTINGS:
        return True
    source = previous.by.get(kind, {}).get(name) if previous else None
    return source == "baseline" and source in applied.engines


def _completed(kind: str, fields: Mapping[str, str], found: str | None) -> str:
    """Return a row of declared fields, the others as found, or any where nothing was found."""
    rest = unpack(kind, _lasting(kind, found)) if found is not None else {}
    return pack([fields.get(column, rest.get(column, ANY)) for column in COLUMNS[kind]])


def _lasting(kind: str, row: str) -> str:
    """Return a found row without what is true for a moment only."""
    if kind == "service":
        enabled, active = row.split("\t")
        lasting = active if enabled not in {"", "masked"} and active == "active" else ANY
        return pack((enabled, lasting))
    if kind == "setting":
        value, pending = row.split("\t")
        # A restart that is still to come brings the new value; afterwards none may be pending.
        return pack((ANY if pending == "true" else value, "false"))
    return row
