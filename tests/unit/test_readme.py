"""Documents in two languages say the same, and show what the toolkit prints and takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from calls import named, unknown_in
from koseki_ops import demo
from koseki_ops.core.progress import Progress
from koseki_ops.plan.site import Site, project_root
from koseki_ops.verify.cli import print_results
from koseki_ops.verify.results import PASSED, SKIPPED, Results, TestResult

ROOT = project_root()
JAPANESE = [ROOT / "README.ja.md", *sorted((ROOT / "docs/ja").rglob("*.md"))]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
COMMENT = re.compile(r"\s*(?:^|\s)#.*$", re.MULTILINE)
# What a municipal office does not write (as a pattern), and what it writes.
WORDS = {
    "問うことができなかった": "検査を実行できなかった（判定不能）",
    "成り立": "適合、不適合",
    "責任者のための一枚": "責任者向け1枚レポート",
    "見回り": "定期監視",
    "断り": "拒否",
    "断ります": "拒否します",
    "処理系": "連携処理プロセス",
    "実験環境": "検証環境（ラボ）",
    "緑になるまで": "すべて合格するまで",
    "閉じたまま": "停止時に未アーカイブのまま残ったWAL",
    "差異をしばらく認める": "差異の一時許容",
    "失くした": "紛失した",
    "写し": "複製（バックアップ）",
    "Unix 利用者": "Unixアカウント",
    "サーバ(?!ー)": "サーバー",
}


def english_of(document: Path) -> Path:
    """Return the English half of a Japanese document."""
    name = str(document.relative_to(ROOT))
    return ROOT / name.replace("README.ja.md", "README.md").replace("docs/ja/", "docs/")


def text_of(document: Path) -> str:
    """Return a document's text."""
    return document.read_text(encoding="utf-8")


def without_blocks(text: str) -> str:
    """Return a text without its blocks of code."""
    return BLOCK.sub("", text)


def levels(document: Path) -> list[int]:
    """Return the levels of a document's headings, in order."""
    return [
        len(marks)
        for marks in re.findall(r"^(#+) ", without_blocks(text_of(document)), re.MULTILINE)
    ]


def blocks(document: Path) -> list[str]:
    """Return what a document's blocks of code hold, without comments, which have a language."""
    return [COMMENT.sub("", block).rstrip() for block in BLOCK.findall(text_of(document))]


def links(document: Path) -> list[str]:
    """Return where a document's links lead, as paths of the English documents."""
    found = LINK.findall(without_blocks(text_of(document)))
    return sorted(
        str(english_of((document.parent / name).resolve()).relative_to(ROOT)) for name in found
    )


def calls(document: Path) -> list[list[str]]:
    """Return the calls of `koseki` in a document: the words behind it."""
    text = text_of(document)
    lines = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    named_in = [*INLINE.findall(without_blocks(text)), *lines]
    found = [re.match(r"\s*(?:\.venv/bin/)?koseki (.+)", line) for line in named_in]
    return [
        re.split(r"[\s\[\]|\\]+", COMMENT.sub("", one[1]).partition(" -- ")[0])
        for one in found
        if one
    ]


@pytest.mark.parametrize("document", JAPANESE, ids=lambda path: str(path.relative_to(ROOT)))
def test_both_languages_have_the_same_parts(document: Path) -> None:
    """Headings by level, blocks of code without their comments, links, and commands."""
    english = english_of(document)
    assert english.exists()
    assert levels(document) == levels(english)
    assert blocks(document) == blocks(english)
    assert links(document) == links(english)
    assert sorted(map(named, calls(document))) == sorted(map(named, calls(english)))


@pytest.mark.parametrize("document", JAPANESE, ids=lambda path: str(path.relative_to(ROOT)))
def test_japanese_is_what_an_office_writes(document: Path) -> None:
    """One word for one thing, and none of those that were found wanting."""
    text = text_of(document)
    assert {word: better for word, better in WORDS.items() if re.search(word, text)} == {}


def test_japanese_of_the_code_is_what_an_office_writes() -> None:
    """Reports, pages and mails as well: the same words as the documents."""
    files = [path for path in (ROOT / "src").rglob("*") if path.suffix in {".py", ".j2", ".yml"}]
    wrong = [
        f"{path.relative_to(ROOT)}: {word}, better {better}"
        for path in files
        for word, better in WORDS.items()
        if re.search(word, text_of(path))
    ]
    assert wrong == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_is_named_is_there(document: Path) -> None:
    """With the options that it is shown with; `koseki lab` and the like stand for their group."""
    assert [wrong for words in calls(document) for wrong in unknown_in(words)] == []


def test_the_demonstration_prints_what_the_readme_shows(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line of the excerpt is one that `make demo` prints, in this order."""
    (shown,) = [block for block in BLOCK.findall(text_of(ROOT / "README.md")) if "[1/5]" in block]
    line = r"^(\d+) passed, 0 failed, (\d+) not verified, ([\d.]+) s$"
    (counts,) = re.findall(line, shown, re.MULTILINE)
    passed, unknown, seconds = counts
    texts = dict.fromkeys(("test", "id", "host", "parameters", "why", "docstring"), "")
    row: dict[str, Any] = {**texts, "requirements": []}
    tests = [
        TestResult(**row, suite="a", outcome=outcome, seconds=0)
        for outcome, count in ((PASSED, passed), (SKIPPED, unknown))
        for _ in range(int(count))
    ]
    results = Results(tests=tests, seconds=float(seconds))
    progress = Progress(demo.STEPS)
    for step in demo.STEPS:
        with progress.step(step):
            pass
    print_results(results)
    demo.print_table(Site.open("lab"), 0, results, progress)
    printed = capsys.readouterr()
    lines = iter(click.unstyle(printed.err + printed.out).splitlines())
    assert len(shown.splitlines()) == 10
    for line in shown.splitlines():
        # An iterator that was read as far as this line: the next one comes after it.
        assert line in lines, line


def test_the_two_commands_to_begin_with_are_the_makefiles() -> None:
    """Who comes anew, and who looks from outside, begins with these."""
    makefile = text_of(ROOT / "Makefile")
    (block, *_) = blocks(ROOT / "README.md")
    assert [shlex.split(line) for line in block.splitlines() if line.strip()] == [
        ["make", "demo"],
        ["make", "test"],
    ]
    assert re.search(r"^demo:", makefile, re.MULTILINE)
    assert re.search(r"^test:", makefile, re.MULTILINE)
