"""From the hosts' journals into the book: each line once, in order, held to chain and rules (K-13).

A municipality's transmission records in its journal on 住基連携サーバー; the book is the site's
ledger. What was collected is there with its line's number and hash, so that a journal that is not
what it was is seen, and nothing of it is taken.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.duplicates.history import History
from koseki_ops.duplicates.journal import End, Line, lines_of
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import Municipality
from koseki_ops.plan.site import Site
from koseki_ops.remote.run import run as run_on
from koseki_ops.remote.ssh_config import ensure_site_ssh

PROGRAM = "/usr/local/sbin/koseki-duplicate"
GROUP = "registry_link"


@dataclass
class Collected:
    """What came of it: how many lines by municipality's slug, or why none."""

    lines: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def ask(site: Site, slug: str, words: Sequence[str]) -> str:
    """Ask a municipality's transmission on its host; KosekiError with its sentence otherwise."""
    inventory = Inventory(site.inventory)
    ensure_site_ssh(site, inventory)
    (host, *_more) = inventory.hosts_in(GROUP)
    done = run_on(site, host, f"sudo -n {PROGRAM} {shlex.join([slug, *words])}")
    if done.code:
        raise KosekiError(
            _("`koseki-duplicate {slug} {verb}` failed on {host}").format(
                slug=slug, verb=words[0], host=host
            ),
            done.reason.removeprefix("koseki-duplicate: "),
            _("see `journalctl -u koseki-duplicate@{slug}` on {host}").format(slug=slug, host=host),
        )
    return done.stdout


def collect(site: Site, history: History, rows: Sequence[Municipality]) -> Collected:
    """Put the new lines of each municipality's journal into the book; none waits for another."""
    done = Collected()
    for row in rows:
        try:
            done.lines[row.slug] = len(collect_one(site, history, row))
        except KosekiError as error:
            done.failed[row.slug] = str(error)
    return done


def collect_one(site: Site, history: History, row: Municipality) -> list[Line]:
    """Put the new lines of a municipality's journal into the book; return them."""
    with history.alone():
        end = history.collected.get(row.code6, End())
        if not end.number and row.code6 in history.municipalities:
            raise KosekiError(
                _("this municipality's rows were recorded here, not on a host"),
                row.slug,
                _('leave this municipality out; see docs/duplicates.md, "On the host"'),
            )
        # The last line that is known comes once more: it has to be what it was.
        text = ask(site, row.slug, ["journal", "--after", str(max(end.number - 1, 0))])
        content = [line.encode() + b"\n" for line in text.split("\n")[:-1]]
        try:
            lines = list(_of(row.code6, lines_of(_behind(content, end), end)))
        except (ValueError, KeyError, TypeError) as error:
            raise KosekiError(
                _("the journal of {slug} is not what was collected").format(slug=row.slug),
                str(error),
                _('nothing was taken; find out who wrote there: docs/duplicates.md, "On the host"'),
            ) from error
        for line in lines:
            history.take(line)
    return lines


def _behind(content: Sequence[bytes], end: End) -> Sequence[bytes]:
    """Return the lines behind an end; ValueError when that is not where it was."""
    if not end.number:
        return content
    if not content or sha256(content[0]).hexdigest() != end.digest:
        raise ValueError(f"line {end.number} is not there, or is another")
    return content[1:]


def _of(code6: str, lines: Iterable[Line]) -> Iterator[Line]:
    """Yield the lines; ValueError for the first one of another municipality."""
    for line in lines:
        if line.event.code6 != code6:
            raise ValueError(f"line {line.number} is of {line.event.code6}")
        yield line
