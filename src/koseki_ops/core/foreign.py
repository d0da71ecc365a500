"""What came from elsewhere, read strictly: what is not plainly what was asked for is a ValueError.

No reader here takes more steps than its input is long, goes deeper than `DEPTH`, or believes a
length that the input names without looking.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.formatting import unbroken
from koseki_ops.core.language import _

# Deeper than anything that is asked for, and far from where Python ends.
DEPTH = 50
# As many as an unsigned number of 64 bits has; etcd's names are such numbers.
DIGITS = 20
# In memory it may take fifty times of it.
LONGEST_JSON = 8 << 20


def loads(text: str | bytes) -> Any:  # noqa: ANN401 - JSON is whatever came
    """Return what a text says as JSON; ValueError for anything that two readers may read as two.

    A key that stands twice, NaN and infinities, endless numbers, lone surrogates, deep nesting.
    """
    if len(text) > LONGEST_JSON:
        raise ValueError(f"{len(text)} bytes at once")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_once,
            parse_constant=_no_number,
            parse_int=_integer,
            parse_float=_number,
        )
    except RecursionError:
        raise ValueError("nested too deep") from None
    _hold(value)
    return value


def parsed(text: str | bytes) -> Any:  # noqa: ANN401 - JSON is whatever came
    """Return what a host says as JSON, every text in it on one line and fit for a reader."""
    return _shown(loads(text))


def rows_from(host: str, text: str) -> list[Any]:
    """Return what a host says, a line of JSON each; KosekiError when that is no JSON."""
    with as_asked(host):
        return [parsed(line) for line in text.split("\n") if line]


@contextmanager
def as_asked(host: str) -> Iterator[None]:
    """Take what a host said apart; what does not fit there is a KosekiError that names the host."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise KosekiError(
            _("{host} did not answer what it was asked").format(host=host),
            repr(error),
            _("check it (`ssh {host}`), then run the same command again").format(host=host),
        ) from error


def number(text: str) -> float:
    """Return a number that is one: ValueError for NaN and infinities, too."""
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(f"no number: {text[:40]!r}")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_number(text: str) -> Any:  # noqa: ANN401 - it returns nothing
    raise ValueError(f"no number: {text}")


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _number(text: str) -> float:
    return number(text)


def _hold(value: object) -> None:
    """Hold that nothing is too deep and every text can be written."""
    above = [iter([value])]
    while above:
        for found in above[-1]:
            if isinstance(found, str):
                found.encode()
            elif isinstance(found, dict | list):
                if len(above) > DEPTH:
                    raise ValueError("nested too deep")
                for key in found if isinstance(found, dict) else ():
                    key.encode()
                above.append(iter(found.values() if isinstance(found, dict) else found))
                break
        else:
            above.pop()


def _shown(value: Any) -> Any:  # noqa: ANN401 - as `loads` gave it
    if isinstance(value, str):
        return unbroken(value)
    if isinstance(value, list):
        return [_shown(one) for one in value]
    if isinstance(value, dict):
        return {unbroken(key): _shown(one) for key, one in value.items()}
    return value


BLOCK = 512
# Where a header says what (ustar): name, size, checksum, what it is, what its name begins with.
NAME, SIZE, SUM, KIND, MAGIC, PREFIX = (
    slice(0, 100),
    slice(124, 136),
    slice(148, 156),
    slice(156, 157),
    slice(257, 263),
    slice(345, 500),
)
# A second name of a file that came before holds nothing, as a folder does.
FILE, EMPTY, LONG_NAME = (b"0", b"\0"), (b"1", b"5"), b"L"
LONGEST_NAME = 4096


def tar_files(stream: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files of a tar stream, as tar writes files and folders.

    ValueError when it is not whole, has a name twice, another kind of member (devices, sparse
    files, names of other archivers) or anything behind its end. Nothing is ever larger than the
    stream itself.
    """
    place, long_name, names = 0, b"", set[str]()
    while any(header := stream[place : place + BLOCK]):
        if len(header) < BLOCK or _octal(header[SUM]) != _sum(header):
            raise ValueError(f"no header of a tar archive at {place}")
        size, begin = _octal(header[SIZE]), place + BLOCK
        content = stream[begin : begin + size]
        if len(content) < size:
            raise ValueError(f"a member of {size} bytes was cut off")
        place = begin + -(-size // BLOCK) * BLOCK
        kind = header[KIND]
        if kind == LONG_NAME and not long_name and size <= LONGEST_NAME:
            long_name = content
            continue
        name = _text(long_name or header[NAME])
        if not long_name and header[MAGIC] == b"ustar\0" and (prefix := _text(header[PREFIX])):
            name = f"{prefix}/{name}"
        long_name = b""
        if name in names:
            raise ValueError(f"{name[:80]!r} is there twice")
        names.add(name)
        if kind in FILE:
            yield name, content
        elif kind not in EMPTY or size:
            raise ValueError(f"a member of the kind {kind!r}")
    if place >= len(stream) or any(stream[place:]) or long_name:
        raise ValueError("the archive has no end, or something behind it")


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        raise ValueError("a number of a header is none")
    return int(digits, 8)


def _sum(header: bytes) -> int:
    return sum(header) - sum(header[SUM]) + 8 * ord(" ")
