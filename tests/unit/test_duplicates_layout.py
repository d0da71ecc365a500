"""K-13, K-19: what a layout carries, and what of an answer is believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pytest

from duplicate_samples import MONDAY, difference, full, records
from koseki_ops.duplicates.layout import (
    Record,
    StandIn,
    Status,
    Unconvertible,
    characters,
    unconvertible,
)
from koseki_ops.duplicates.model import Key

LAYOUT = StandIn()
# What must survive, each a registered name's letter: docs/requirements.md, K-19.
CARRIED = [
    "葛󠄂",
    "葛󠄀",
    "𠮷",
    "﨑",
    "\ufa2a",
    "\ufa19",
    "\U0010de92",
    "〜",
    "～",
    "−",
    "－",
    "髙",
    "\U000323b0",
]
NOT_CARRIED = {
    "\ue000": "U+E000",
    "\uf8ff": "U+F8FF",
    "〓": "U+3013",
    "\ufffd": "U+FFFD",
    "\t": "U+0009",
    "\U000e0100": "U+E0100",
    "\ue000󠄀": "U+E000 U+E0100",
    "\ufdd0": "U+FDD0",
}


@pytest.mark.parametrize("letter", CARRIED)
def test_what_is_registered_is_carried(letter: str) -> None:
    """A form's selector belongs to its letter."""
    assert characters(f"戸{letter}籍") == ["戸", letter, "籍"]
    assert unconvertible(LAYOUT, [Record("1", letter)]) == []


@pytest.mark.parametrize("letter", NOT_CARRIED)
def test_what_cannot_be_carried_is_named_by_its_code_points(letter: str) -> None:
    """With the number of the register, and with nothing of the text around it."""
    # A selector alone stands at the beginning: behind another letter it would be that one's.
    text = f"{letter}籍 太郎" if letter == "\U000e0100" else f"戸{letter}籍 太郎"
    found = unconvertible(LAYOUT, [Record("00000007", text), *records(3)])
    assert found == [Unconvertible("00000007", NOT_CARRIED[letter])]


def test_half_a_letter_is_none() -> None:
    """A lone surrogate cannot even be written as UTF-8; it is listed like all others."""
    assert unconvertible(LAYOUT, [Record("1", "戸\ud800籍")]) == [Unconvertible("1", "U+D800")]


def test_the_same_records_are_the_same_bytes() -> None:
    """So is their hash; the end names that of all that is before it."""
    content = LAYOUT.compose(difference(MONDAY), records(3))
    assert content == LAYOUT.compose(difference(MONDAY), list(records(3)))
    *body, end = content.splitlines(keepends=True)
    assert json.loads(end)["sha256"] == hashlib.sha256(b"".join(body)).hexdigest()
    assert LAYOUT.count(content) == 3
    assert LAYOUT.count(LAYOUT.compose(difference(MONDAY), [])) == 0


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda content: content[:-10],
        lambda content: content.replace("第1".encode(), "第9".encode()),
        lambda content: b"".join(content.splitlines(keepends=True)[1:]),
        lambda _content: b"",
        lambda _content: b"[]\n[]\n",
    ],
)
def test_a_file_that_is_not_whole_has_no_count(spoilt: Callable[[bytes], bytes]) -> None:
    """The receiver does not say how many records a part of a file holds."""
    assert LAYOUT.count(spoilt(LAYOUT.compose(difference(MONDAY), records(3)))) is None


@pytest.mark.parametrize("key", [difference(MONDAY), full(MONDAY, 12)])
def test_a_name_says_which_row_it_is(key: Key) -> None:
    """And what is no name of ours is none."""
    assert LAYOUT.key_of(LAYOUT.file_name(key)) == key
    for name in (
        f".{key}.jsonl.7.new",
        f"{key}.txt",
        "204129-2026-02-30-full-01.jsonl",
        "１.jsonl",
    ):
        assert LAYOUT.key_of(name) is None


def test_one_number_with_other_words_is_another_answer() -> None:
    """Else whoever numbers badly would have the second one overlooked."""
    row = {"id": "1", "key": str(difference(MONDAY)), "what": "sent"}
    other = {**row, "what": "refused", "error": "E-1"}
    said = LAYOUT.status(
        json.dumps({"layout": "stand-in-1", "answers": [row, row, other]}).encode()
    )
    assert isinstance(said, Status)
    ids = [answer.id for answer in said.answers]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("said", "believed"),
    [
        ({"戸籍": 1, "除籍": 2, "改製原": 3}, True),
        ({"戸籍": 1, "除籍": 2}, False),
        ({"戸籍": 1, "除籍": 2, "改製原": -3}, False),
        ({"戸籍": True, "除籍": 2, "改製原": 3}, False),
        ({"戸籍": 1.0, "除籍": 2, "改製原": 3}, False),
        ([1, 2, 3], False),
    ],
)
def test_totals_that_are_not_whole_were_not_said(said: object, believed: bool) -> None:
    """Half of them would agree with what is not there."""
    content = json.dumps({"layout": "stand-in-1", "answers": [], "totals": {"2026-10": said}})
    status = LAYOUT.status(content.encode())
    assert status
    assert ("2026-10" in status.totals) == believed
