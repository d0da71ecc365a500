"""What a person reads is there in Japanese and English, and nothing else changes with it."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import click
import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core._pydantic_core import list_all_errors

from koseki_ops.cli import cli
from koseki_ops.core import language
from koseki_ops.core.command_language import in_language
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import CATALOGUE, CHOSEN_BY, PACKAGE, VARIABLE, _, ngettext
from koseki_ops.plan.pydantic_faults import SENTENCES
from koseki_ops.plan.site import project_root
from koseki_ops.reference.commands import commands
from koseki_ops.reference.messages import messages
from koseki_ops.verify.runner import SUITE_FOLDER

ROOT = project_root()
PROGRAMS = PACKAGE
TEXT = (PACKAGE / CATALOGUE).read_text(encoding="utf-8")
JAPANESE = language.read_catalogue(TEXT)
MESSAGES = messages(ROOT)
SUITES = ROOT / SUITE_FOLDER
# Rooms whose sentences are a developer's, or a machine's of the lab: docs/language.md says why.
ENGLISH_ALONE = ("bench/", "reference/", "lab/counters.py", "lab/stand_in_relay.py")
# A call that a person reads: its name, and which of its arguments; None: all.
SINKS: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("ClickException", "UsageError", "BadParameter", "ConnectError"), (0,)),
    **dict.fromkeys(
        ("echo", "secho", "confirm", "prompt", "say", "report", "on_progress", "step"), (0,)
    ),
    "exclusive": (1,),
}
# A suite's: what is expected in words, what was seen where a literal says it, and the remedy. What
# `expect` compares is a value.
SINKS_OF_SUITES = {"check": (1, 2, 3), "expect": (2,), "not_verified": (0,), "skip": (0,)}
# Of the plan and of what is agreed, a ValueError is a finding, whose sentence is read.
SINKS_OF_ROOM: dict[str, dict[str, tuple[int, ...]]] = {
    "plan/": {"ValueError": (0,), "Finding": (2, 3), "finding": (1, 2), "Form": (1, 2)},
    "costs/": {"ValueError": (0,)},
    "verify/": SINKS_OF_SUITES,
    f"{SUITE_FOLDER}/": SINKS_OF_SUITES,
}
# What a suite expects word for word of a machine.
OF_A_MACHINE = frozenset(
    {
        *("Permission denied", "Permission denied (publickey)", "www-data", "archive-push"),
        *("wal_level replica", "root postgres 640", "install usb-storage /bin/false"),
        *("internal-sftp without links", "vault", "file:/", "chroot {}", "{}: MemoryMax"),
        *("OnCalendar={} ;", "-S execve,execveat -F euid=0 -F auid={} -F key=as-root"),
    }
)
# Arguments of such a call that are given by name.
BY_NAME = frozenset({"expected", "remedy", "reason"})
# What makes a text fit for a line, and shows it.
SHORTENED = frozenset({"one_line", "in_short", "painted", "unbroken"})
# Programs, units, keys: no words of a language.
NAMES = frozenset(
    {"koseki", "sha256", "MiB", "KiB", "lynis", "pyinfra", "Debian", "UTC", "SHA", "null"}
)
CODE = re.compile(
    r"https?://\S*|`[^`]*`|--[a-z-]+( [a-z]+$)?|(?:/[\w.@-]+)+/?|[\w-]+\.(?:py|yml|json|md|sql)\b"
    r"|^\w+_\w+$|%[A-Za-z]"
)
WORD = re.compile(r"[A-Za-z][A-Za-z'-]+")


def words(text: str) -> list[str]:
    """Return the words of a text that somebody would translate."""
    return [word for word in WORD.findall(CODE.sub(" ", text)) if word not in NAMES]


def fields(text: str) -> set[tuple[str, str, str]]:
    """Return what a text puts in: by name, with its format and conversion."""
    return {
        (name, spec or "", conversion or "")
        for _literal, name, spec, conversion in Formatter().parse(text)
        if name is not None
    }


# The catalogue.


def test_every_sentence_is_there_in_japanese() -> None:
    """Whoever adds one writes its Japanese into the catalogue (docs/language.md)."""
    assert len(MESSAGES) > 1000
    assert [message.text for message in MESSAGES if not JAPANESE.get(message.text)] == []


def test_a_translation_has_the_same_values_in_it() -> None:
    """And the same line breaks around it."""
    wrong = [
        (message.text, japanese)
        for message in MESSAGES
        if (japanese := JAPANESE.get(message.text, message.text))
        and (
            fields(japanese) != fields(message.many or message.text)
            or japanese.startswith("\n") != message.text.startswith("\n")
            or japanese.endswith("\n") != message.text.endswith("\n")
        )
    ]
    assert wrong == []


def test_the_catalogue_has_no_guesses_and_nothing_that_is_gone() -> None:
    """A merge that guesses marks it; what is not asked for any more is taken out."""
    assert "#, fuzzy" not in TEXT
    assert "#~" not in TEXT
    assert JAPANESE.keys() == {message.text for message in MESSAGES}


def terms() -> dict[str, set[str]]:
    """Return each word of the glossary with its Japanese, that of its other meanings included."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "docs/glossary.md").read_text(encoding="utf-8").splitlines():
        if not line.startswith("| ") or line.startswith("| word |"):
            continue
        english, japanese = (cell.strip() for cell in line.strip("|").split("|")[:2])
        words, forms = english.split(", "), re.sub("（.*?）", "", japanese).split("、")
        for number, word in enumerate(words):
            found.setdefault(word, set()).update(
                {forms[number]} if len(words) == len(forms) else set(forms)
            )
    return found


TERMS = terms()


def wrong_terms(english: str, japanese: str) -> list[str]:
    """Return the words of the glossary that a translation has no Japanese of.

    A word that stands in the translation as well is a name, and no word.
    """
    plain = re.sub(
        r"\bkoseki [a-z-]+|[\w./-]*[._\[][\w./\]{}-]+|\{[^}]*\}|\"[^\"]*\"", " ", english
    )
    found = []
    for word, forms in TERMS.items():
        ending = rf"{word.removesuffix('y')}(?:y|ies|s|es|d|ed|ing)?"
        met = re.search(rf"(?<![\w-]){ending}(?![\w-])", CODE.sub(" ", plain), re.IGNORECASE)
        if met and met[0].lower() not in japanese and not any(form in japanese for form in forms):
            found.append(word)
    return found


def test_a_thing_has_one_name_in_japanese() -> None:
    """The glossary's, or that of a word's other meaning, which the glossary has as well."""
    assert len(TERMS) > 60
    wrong = [(text, found) for text in JAPANESE if (found := wrong_terms(text, JAPANESE[text]))]
    assert wrong == []


@pytest.mark.parametrize(
    ("english", "japanese", "found"),
    [
        ("run it on the control node", "運用端末で実行してください。", ["control node"]),
        ("two municipalities", "二つの自治体", ["municipality"]),
        ("the vault `vault` answers", "金庫が応答します", ["vault"]),
        ("run `koseki lab up`", "`koseki lab up` を実行してください。", []),
        ("The leader leads.", "リーダーです。", []),
    ],
)
def test_another_name_would_be_seen(english: str, japanese: str, found: list[str]) -> None:
    """It would be no test of the catalogue otherwise."""
    assert wrong_terms(english, japanese) == found


def test_a_word_of_katakana_is_spelt_in_one_way() -> None:
    """With its long mark or without: サーバー and サーバ would be two things."""
    text = " ".join(JAPANESE.values())
    words = set(re.findall("[ァ-ヴー]{3,}", text))
    assert sorted(word for word in words if f"{word}ー" in words) == []


def test_a_sentence_is_polite() -> None:
    """敬体, as an office writes to a person; what a check is about ends in こと and is none."""
    plain = re.compile("(?:[うくすつぬむるい]|だ|ない|である)。")
    polite = re.compile("(?:ます|ません|です|でした|ました|ください|しょう)。")
    wrong = [
        japanese
        for japanese in JAPANESE.values()
        # Exit codes are a list of what may be, not sentences to somebody.
        if plain.search(polite.sub(" ", japanese.partition("終了コード")[0]))
        and not re.search("(?:こと|：).*（K-", japanese)
    ]
    assert wrong == []


VALUE = "‹value›"


class Value:
    """Anything that a sentence may put in: a text, a number, a moment, a fraction."""

    def __format__(self, spec: str) -> str:
        """Take any format that some value has."""
        return VALUE

    def __repr__(self) -> str:
        """Stand for a value in quotes."""
        return VALUE


@pytest.mark.parametrize("spoken", language.LANGUAGES)
def test_every_sentence_takes_its_values(spoken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A brace too many would be a traceback in the one place where an error is told."""
    monkeypatch.setenv(VARIABLE, spoken)
    for message in MESSAGES:
        # click's own for a version, which none of ours shows.
        if "%(" in message.text:
            continue
        for count in (1, 2):
            shown = ngettext(message.text, message.many or message.text, count)
            wanted = fields(message.text) | fields(message.many)
            values = {name: Value() for name, _spec, _conversion in wanted}
            assert shown.format(**values).count(VALUE) >= len(fields(shown)), message.text


def test_one_language_or_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence that has no translation stays as it is; plural forms are the language's own."""
    one, many = "  {count} sweep without a change", "  {count} sweeps without a change"
    assert [ngettext(one, many, count) for count in (0, 1, 2)] == [many, one, many]
    assert _("add it") == "add it"
    monkeypatch.setenv(VARIABLE, "ja")
    assert {ngettext(one, many, count) for count in (0, 1, 2)} == {JAPANESE[one]}
    assert _("add it") == "追加してください。"
    assert _("a sentence of nobody") == "a sentence of nobody"


@given(st.dictionaries(st.text(min_size=1).filter(str.strip), st.text(min_size=1)))
def test_the_reader_reads_what_babel_writes(texts: dict[str, str]) -> None:
    """Whatever stands in it: quotes, backslashes, line breaks, long lines."""
    texts = {key: value for key, value in texts.items() if "\r" not in key + value}
    catalogue = Catalog("ja")
    for english, japanese in texts.items():
        catalogue.add(english, japanese)
    written = io.BytesIO()
    write_po(written, catalogue, omit_header=True, width=20)
    assert language.read_catalogue(written.getvalue().decode("utf-8")) == texts


def test_the_reader_reads_our_catalogue_as_babel_does() -> None:
    """Plural forms included, of which Japanese has one."""
    catalogue = read_po(io.BytesIO(TEXT.encode()), locale="ja")
    read = {}
    for message in catalogue:
        if message.id:
            one = message.id[0] if isinstance(message.id, tuple) else message.id
            string = message.string
            read[one] = string[0] if isinstance(string, tuple | list) else string
    assert read == JAPANESE


# The sources.


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Yield each program whose sentences are translated, by its place: the package's, a suite's."""
    for path in sorted(PROGRAMS.rglob("*.py")):
        name = str(path.relative_to(PROGRAMS))
        if not name.startswith(ENGLISH_ALONE):
            yield name, ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(SUITES.glob("test_*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


SOURCES = dict(sources())
ERRORS = {"KosekiError"}
for _round in range(3):
    ERRORS |= {
        node.name
        for tree in SOURCES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id in ERRORS for base in node.bases)
    }


def called(node: ast.AST) -> str:
    """Return the last part of what is called, nothing for anything else."""
    function = node.func if isinstance(node, ast.Call) else None
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def untranslated(node: ast.AST) -> Iterator[str]:
    """Yield the words of an expression that no `_` is around."""
    if called(node) in {"_", "N_", "ngettext"}:
        return
    if isinstance(node, ast.Constant):
        is_ours = isinstance(node.value, str) and node.value not in OF_A_MACHINE
        yield from words(str(node.value)) if is_ours else ()
    elif isinstance(node, ast.JoinedStr):
        pieces = [str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values]
        text = "".join(pieces)
        yield from words(text) if text not in OF_A_MACHINE else ()
    for part in parts(node):
        yield from untranslated(part)


def parts(node: ast.AST) -> list[ast.expr]:
    """Return the expressions that are shown as parts of one."""
    found: list[ast.expr] = []
    match node:
        case ast.JoinedStr(values=values):
            found = [part.value for part in values if isinstance(part, ast.FormattedValue)]
        case ast.IfExp(body=body, orelse=orelse):
            found = [body, orelse]
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            found = [left, right]
        case ast.BoolOp(values=values):
            found = values
        case ast.Call(func=ast.Attribute(attr="style"), args=[text, *_]):
            found = [text]
        case ast.Call(func=ast.Name(id=name), args=[text, *_]) if name in SHORTENED:
            found = [text]
        case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr != "join":
            # What a method makes of a text: `"…".format(…)`, `"…".rstrip()`.
            found = [value]
    return found


def names(node: ast.AST) -> Iterator[str]:
    """Yield the variables that are shown as parts of an expression."""
    if isinstance(node, ast.Name):
        yield node.id
    values: list[ast.expr] = []
    if isinstance(node, ast.Call) and called(node) == "format":
        values = [word.value for word in node.keywords]
    for part in [*parts(node), *values]:
        yield from names(part)


def assigned(function: ast.FunctionDef) -> dict[str, list[ast.expr]]:
    """Return what each local variable is given, by its name."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return found


def returned(function: ast.FunctionDef) -> list[ast.expr]:
    """Return what a function may end with."""
    found = (node.value for node in ast.walk(function) if isinstance(node, ast.Return))
    return [value for value in found if value is not None]


def read_by_a_person(name: str, tree: ast.Module) -> Iterator[tuple[int, ast.expr]]:
    """Yield what a program shows: arguments, and what a local variable among them was given."""
    sinks: dict[str, tuple[int, ...] | None] = dict.fromkeys(ERRORS) | SINKS
    for room in (room for room in SINKS_OF_ROOM if name.startswith(room)):
        sinks |= SINKS_OF_ROOM[room]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    made = {function.name: returned(function) for function in functions}
    for function in functions:
        variables = assigned(function)
        for node in ast.walk(function):
            if not isinstance(node, ast.Call) or called(node) not in sinks:
                continue
            places = sinks[called(node)] or range(len(node.args))
            given = [node.args[n] for n in places if n < len(node.args)]
            for argument in [*given, *(k.value for k in node.keywords if k.arg in BY_NAME)]:
                yield node.lineno, argument
                if called(argument) in made and name.startswith(str(SUITE_FOLDER)):
                    yield from ((node.lineno, value) for value in made[called(argument)])
                for variable in names(argument):
                    yield from ((node.lineno, value) for value in variables.get(variable, ()))


def test_no_sentence_is_shown_without_a_translation() -> None:
    """Every literal that goes into an error, a line on the terminal or a finding has its `_`."""
    bare = [
        f"{name}:{line}: {' '.join(found)}"
        for name, tree in SOURCES.items()
        for line, shown in read_by_a_person(name, tree)
        if (found := list(untranslated(shown)))
    ]
    assert bare == []


@pytest.mark.parametrize(
    "source",
    [
        "raise KosekiError('the disk is full', str(place), _('free some room'))",
        "raise KosekiError(_('the disk is full'), f'{n} bytes left', _('free some room'))",
        "click.echo(f'{n} hosts')",
        "click.echo(_('{n} hosts').format(n=n) + ' failed')",
        "click.echo('all gone' if n else _('none'))",
        "click.echo(names or 'none')",
        "click.echo(click.style('failed', fg='red'))",
        "said = 'all gone'\n    click.echo(said)",
        "progress.say('asking')",
        "click.echo('{n} hosts'.format(n=n))",
    ],
)
def test_the_search_finds_one(source: str) -> None:
    """It would be no test of the sources otherwise."""
    tree = ast.parse(f"def shown():\n    {source}\n")
    assert [word for _line, one in read_by_a_person("x.py", tree) for word in untranslated(one)]


def test_what_is_translated_is_a_literal() -> None:
    """A sentence that is put together first is in no catalogue; values come by `.format`.

    What is not a literal was marked by `N_` where it stands.
    """
    simple = (ast.Constant, ast.Name, ast.Attribute, ast.Subscript)
    put_together = [
        f"{name}:{node.lineno}"
        for name, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and called(node) in {"_", "N_"}
        and not isinstance(node.args[0], simple)
        # A docstring's first sentence is brought into the catalogue from the suites themselves.
        and called(node.args[0]) != "first_sentence"
    ]
    assert put_together == []


def test_nothing_else_is_called_underscore_where_it_translates() -> None:
    """A throwaway `_` in the same function would be called instead."""
    functions = [
        (f"{name}:{node.lineno}", list(ast.walk(node)))
        for name, tree in SOURCES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    ]
    hidden = [
        place
        for place, nodes in functions
        if any(
            isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "_"
            for n in nodes
        )
        and any(
            (isinstance(n, ast.Name) and n.id == "_" and isinstance(n.ctx, ast.Store))
            or (isinstance(n, ast.arg) and n.arg == "_")
            for n in nodes
        )
    ]
    assert hidden == []


def test_pydantic_says_what_is_translated() -> None:
    """A new version may word it otherwise, and its sentence would be English again."""
    theirs = {str(row["type"]): row["message_template_python"] for row in list_all_errors()}
    assert {kind: theirs[kind] for kind in SENTENCES} == SENTENCES


# Which language.


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"LANG": "ja_JP.UTF-8"}, "ja"),
        ({"LANG": "ja"}, "ja"),
        ({"LANG": "ja_JP.eucJP"}, "ja"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "xx_YY.nothing"}, "en"),
        ({"LANG": "jam"}, "en"),
        ({"LANG": ""}, "en"),
        ({"LANG": "\0\n@@"}, "en"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": ""}, "ja"),
        ({"LANG": "ja_JP.UTF-8", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
        ({"LANG": "C", "LC_MESSAGES": "ja_JP.UTF-8"}, "ja"),
        ({"LC_MESSAGES": "ja_JP.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LC_ALL": "ja_JP.UTF-8", "KOSEKI_LANG": "en"}, "en"),
        ({"LC_ALL": "C", "KOSEKI_LANG": "ja"}, "ja"),
        ({"LANGUAGE": "ja", "LC_CTYPE": "ja_JP.UTF-8"}, "en"),
    ],
)
def test_the_language_is_what_the_locale_says(environment: dict[str, str], expected: str) -> None:
    """In POSIX's order; what is no locale, or of no language of ours, is English."""
    assert language.language_of(environment) == expected


@given(st.dictionaries(st.sampled_from(CHOSEN_BY[1:]), st.text()))
def test_any_locale_is_a_language(environment: dict[str, str]) -> None:
    """Whatever stands in its variables."""
    assert language.language_of(environment) in language.LANGUAGES


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose inventory does not hold."""
    ignored = shutil.ignore_patterns("secrets.yml")
    shutil.copytree(ROOT / "inventories", tmp_path / "inventories", symlinks=True, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def koseki(
    *words: str, root: Path = ROOT, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Call the command as a person does."""
    return subprocess.run(
        [Path(sys.executable).with_name("koseki"), *words],
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/root",
            "KOSEKI_ROOT": str(root),
            **(environment or {}),
        },
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=ROOT,
    )


def keys(value: object) -> object:
    """Return the shape of a JSON value: its keys, without what stands under them."""
    if isinstance(value, dict):
        return {key: keys(inner) for key, inner in value.items()}
    return [keys(inner) for inner in value] if isinstance(value, list) else None


def test_a_broken_inventory_is_told_in_the_language(checkout: Path) -> None:
    """The sentences change with it; exit code, JSON keys and what is named by a key do not."""
    place = checkout / "inventories/iida/group_vars/all/municipalities.yml"
    text = place.read_text(encoding="utf-8")
    place.write_text(text.replace("name: 松川町", "name: 松川村", 1), encoding="utf-8")
    said = {
        spoken: koseki("--lang", spoken, "check", "-i", "iida", "--json", root=checkout)
        for spoken in language.LANGUAGES
    }
    english, japanese = said["en"], said["ja"]
    assert english.returncode == japanese.returncode == 2
    assert "is registered as 松川町; write exactly that" in english.stderr
    assert "松川町 として登録されています。そのとおりに書いてください。" in japanese.stderr
    reports = [json.loads(done.stdout.splitlines()[-1]) for done in (english, japanese)]
    assert keys(reports[0]) == keys(reports[1])
    assert reports[0]["findings"]
    for one, other in zip(reports[0]["findings"], reports[1]["findings"], strict=True):
        assert [one[k] for k in ("file", "key")] == [other[k] for k in ("file", "key")]


@pytest.mark.parametrize(
    "words",
    [
        ("check", "-i", "iida", "--json"),
        ("municipalities", "-i", "iida", "--json"),
        ("municipalities", "--as-of", "never"),
        ("procedure", "list", "--json"),
        ("evidence", "show", "joinings", "--json"),
        ("nothing",),
        ("check", "--nothing"),
    ],
    ids=" ".join,
)
def test_exit_codes_and_keys_are_the_same_in_both(words: tuple[str, ...]) -> None:
    """Programs read these: they have no language."""
    english, japanese = (koseki("--lang", spoken, *words) for spoken in ("en", "ja"))
    assert english.returncode == japanese.returncode
    assert english.stdout + english.stderr != japanese.stdout + japanese.stderr
    if "--json" in words:
        reports = [json.loads(done.stdout.splitlines()[-1]) for done in (english, japanese)]
        assert keys(reports[0]) == keys(reports[1])


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LANG": "ja_JP.UTF-8"}, "日付ではありません"),
        ({"LC_ALL": "ja_JP.nothing", "PYTHONOPTIMIZE": "1"}, "日付ではありません"),
        ({"LC_ALL": "xx_YY.nothing"}, "not a date"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "not a date"),
    ],
)
def test_a_command_speaks_what_its_caller_speaks(
    environment: dict[str, str], expected: str
) -> None:
    """Also when Python is started once more, without a caller's variables; no locale is needed."""
    done = koseki("municipalities", "--as-of", "x", environment=environment)
    assert done.returncode == 2
    assert expected in done.stderr


@pytest.mark.parametrize("place", ["option", "variable"])
def test_a_language_that_is_not_there_is_refused(place: str) -> None:
    """One sentence, with those that there are."""
    ways: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
        "option": (("--lang", "fr"), {}),
        "variable": ((), {VARIABLE: "fr"}),
    }
    option, environment = ways[place]
    done = koseki(*option, "check", environment=environment)
    assert done.returncode == 2
    assert "'fr' is not one of 'ja', 'en'" in done.stderr
    assert "Traceback" not in done.stderr


# Help.


@pytest.mark.parametrize("context", list(commands()), ids=lambda context: context.command_path)
def test_the_help_of_every_command_is_japanese(
    context: click.Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its paragraphs and its options'; the command itself stays as it is."""
    monkeypatch.setenv(VARIABLE, "ja")
    before = context.command.help
    shown = in_language(context.command)
    assert shown.help
    said = [shown.help, *(item.help for item in shown.params if isinstance(item, click.Option))]
    assert [text for text in said if not re.search("[ぁ-んァ-ン一-龥]", text or "")] == []
    assert shown.help.split("\n\n")[0] in shown.get_help(context).replace("\n  ", "")
    assert context.command.help == before


def test_the_list_of_commands_is_in_the_language_that_was_asked_for() -> None:
    """`--lang` before a command and before the help, whatever the environment says."""
    runner = CliRunner(env={VARIABLE: "en"})
    for words in (["--lang", "ja", "--help"], ["--lang", "ja", "lab", "--help"]):
        done = runner.invoke(cli, words)
        assert done.exit_code == 0
        assert "検証環境" in done.output or "機械で動く六台" in done.output
    assert "Six real hosts on this machine." in runner.invoke(cli, ["--help"]).output


def test_english_reads_no_catalogue() -> None:
    """Whoever does not need it does not wait for it."""
    program = (
        "from koseki_ops.cli import cli\nfrom koseki_ops.core import language\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "print(language._catalogue.cache_info().currsize)"
    )
    for spoken, read in (("en", "0"), ("ja", "1")):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"PATH": os.environ["PATH"], VARIABLE: spoken},
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        assert done.stdout.splitlines()[-1] == read


def test_an_error_is_one_sentence_in_japanese(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong, what was seen, what to do: in that order, with Japanese marks."""
    error = KosekiError("ディスクに空きがありません", "/var", "空き容量を確保してください。")
    monkeypatch.setenv(VARIABLE, "ja")
    assert str(error) == "ディスクに空きがありません（/var）。空き容量を確保してください。"
    monkeypatch.setenv(VARIABLE, "en")
    assert str(KosekiError("it is full", "", "free some")) == "it is full: free some"
