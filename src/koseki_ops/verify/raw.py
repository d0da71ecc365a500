"""A search in raw bytes that is meant to find nothing, and proves that it would have found it.

One run of one program reads every file: its own mark in each of them says that it was read from the
first byte, and a control beside them, which holds what is looked for, says that it is recognised. A
file that went while it was searched proves nothing and is not asked for.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

# What pgBackRest's encryption writes first into every file.
MARK = "Salted__"
STILL, CONTROL = b"@@ still there\n", b"@@ control "
# Any bytes, as a vault holds them: in UTF-8 grep would skip what is none. Its status says whether
# something was found, which is not asked: what is asked is whether all was read.
PROGRAM = r"""
list=$(mktemp) && control=$(mktemp) || exit 1
trap 'rm -f "$list" "$control"' EXIT
printf '%s' {joined} >"$control"
{find} -print0 >"$list" || exit 1
printf '%s\0' "$control" | cat - "$list" |
    LC_ALL=C xargs -0 grep -soabHZF -e {mark} {wanted}
printf '@@ still there\n'
xargs -0 -r ls -1d -- <"$list" 2>/dev/null
printf '@@ control %s\n' "$control"
"""

# Reads only until the first match in a file. Named is what was not seen to hold the mark and is
# still there, whether it has none or could not be read; the last line says how many have it, a
# control that this makes among them: a place without a file yet has at least that one.
UNMARKED = r"""
found=$(mktemp) && list=$(mktemp) && marked=$(mktemp) && control=$(mktemp) || exit 1
trap 'rm -f "$found" "$list" "$marked" "$control"' EXIT
export LC_ALL=C
printf '%s' {mark} >"$control"
{find} -print0 >"$found" && printf '%s\0' "$control" >>"$found" || exit 1
sort -z "$found" >"$list" || exit 1
xargs -0 -r grep -slaZE '^{mark}' <"$list" | sort -z >"$marked"
comm -z -23 "$list" "$marked" >"$found" || exit 1
xargs -0 -r ls -1d -- <"$found" 2>/dev/null
printf '@@ %s\n' "$(tr -cd '\0' <"$marked" | wc -c)"
"""


def unmarked(find: str) -> str:
    """Return the command that names those of a `find`'s files that do not begin with the mark."""
    return UNMARKED.format(find=find, mark=MARK)


def search(find: str, wanted: Sequence[str]) -> str:
    """Return the command that looks for texts in the files that a `find` names."""
    return PROGRAM.format(
        find=find,
        mark=MARK,
        joined=shlex.quote(" ".join(wanted)),
        wanted=" ".join(f"-e {shlex.quote(text)}" for text in wanted),
    )


@dataclass(frozen=True)
class Searched:
    """What a search met.

    found: files that hold what must not be there, each with it; read: files that were read from
    their first byte; unread: files that are there and were not; recognised: the texts that were
    found in the control, in the order in which they stand there.
    """

    found: list[str]
    read: list[str]
    unread: list[str]
    recognised: list[str]

    @classmethod
    def of(cls, output: bytes) -> Searched:
        """Read what the command printed; one that did not end has recognised nothing."""
        matches, _, rest = output.partition(STILL)
        still, _, control = rest.rpartition(CONTROL)
        place = control.removesuffix(b"\n")
        found, read, recognised = list[str](), list[bytes](), list[str]()
        for line in matches.splitlines():
            name, _, what = line.partition(b"\0")
            offset, _, text = what.partition(b":")
            if name == place:
                recognised.append(text.decode(errors="replace"))
            elif text != MARK.encode():
                found.append(f"{name.decode(errors='replace')}: {text.decode(errors='replace')}")
            elif offset == b"0":
                read.append(name)
        unread = [name for name in still.splitlines() if name not in set(read)]
        return cls(found, _shown(read), _shown(unread), recognised)


def _shown(names: Sequence[bytes]) -> list[str]:
    return [name.decode(errors="replace") for name in names]
