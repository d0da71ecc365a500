"""Nothing that a host sends steers who reads it: every control and format character, every way."""

from __future__ import annotations

import ast
import io
import json
import os
import pty
import subprocess
import sys
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from email.policy import SMTP
from pathlib import Path

import click
import pytest

from drift_samples import NOW, drifted, not_verified
from drift_samples import sweep as swept
from koseki_ops.core import terminal
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.formatting import in_short, json_line, one_line, printable, unbroken
from koseki_ops.core.progress import Progress
from koseki_ops.core.results import EngineResult, HostResult
from koseki_ops.core.subprocesses import reason_of
from koseki_ops.core.terminal import Guarded, painted
from koseki_ops.drift import cli as drift_cli
from koseki_ops.drift.report.alerts import Notified, message
from koseki_ops.drift.report.exports import as_junit, as_prometheus, as_sarif
from koseki_ops.engines.cli import print_result
from koseki_ops.plan.cli_options import print_json
from koseki_ops.plan.site import Site, project_root
from koseki_ops.report.picture import environment
from koseki_ops.verify.batch import CommandResult
from koseki_ops.verify.cli import print_results
from koseki_ops.verify.expect import CheckFailed, check
from koseki_ops.verify.expect import not_verified as skip
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.results import FAILED, SKIPPED, HostState, Results, TestResult

SOURCES = project_root() / "src/koseki_ops"
STEERING = "".join(
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp", "Cs"}
    or ord(character) & 0xFFFE == 0xFFFE
    or 0xFDD0 <= ord(character) <= 0xFDEF
)
# What an attacker would write, and then each of them, between two letters.
FOREIGN = "\x1b[2J\x1b]0;x\x07\r\nkoseki: all holds\r\nBcc: a@b.example" + "".join(
    f"a{character}" for character in STEERING
)
# So that no line is cut before the last of them.
PIECES = [FOREIGN[start : start + 400] for start in range(0, len(FOREIGN), 400)]
ENDS = frozenset("\n")


def clean(text: str, allowed: frozenset[str] = ENDS) -> bool:
    """Say whether a text has none of them."""
    return not (set(text) & set(STEERING)) - allowed


class Screen(io.StringIO):
    """A terminal that keeps what it was sent."""

    def isatty(self) -> bool:
        """Say that a person reads it: click takes no colour away."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override] # typeshed has it writable
        """What a terminal takes."""
        return "utf-8"


@contextmanager
def guarded() -> Iterator[Screen]:
    """Give what a guarded process prints meanwhile, errors and all."""
    screen = Screen()
    with redirect_stdout(Guarded(screen)), redirect_stderr(Guarded(screen)):
        yield screen


def test_each_of_them_is_shown_as_a_mark() -> None:
    """A thousand and more by Unicode's own tables; letters, forms and 外字 stay (K-19)."""
    assert len(STEERING) > 2000
    assert clean(printable(FOREIGN), frozenset("\n\t"))
    for show in (one_line, unbroken):
        assert clean(show(FOREIGN), frozenset())
    for piece in PIECES:
        assert clean(in_short(piece), frozenset())
    names = "葛󠄂葛󠄀𠮷﨑\U0010de92髙〜～\u3000é"
    assert printable(names) == names
    assert printable("a\nb\tc\r\nd") == "a\nb\tc\nd"


def test_a_long_text_is_not_even_looked_at() -> None:
    """A host's megabytes cost a sentence nothing."""
    assert len(in_short("x" * 50_000_000)) == 2000
    assert len(str(KosekiError("what", "y" * 50_000_000, "remedy"))) < 2100


@pytest.mark.parametrize("piece", PIECES, ids=range(len(PIECES)))
def test_a_sentence_is_one_line(piece: str) -> None:
    """An error, the reason of a program, a line of progress, a reason why not verified."""
    assert clean(str(KosekiError(piece, piece, piece)), frozenset())
    assert clean(reason_of(piece.encode(errors="replace"), 1), frozenset())
    with pytest.raises(CheckFailed) as failed:
        check(0, piece, [piece], "remedy")
    for text in (
        str(failed.value),
        str(CommandResult(1, piece.encode(errors="replace"), b"\x1b[31m")),
    ):
        assert clean(text, frozenset("\n\t"))
    with pytest.raises(pytest.skip.Exception) as skipped:
        skip(piece)
    assert clean(str(skipped.value), frozenset())


@pytest.mark.parametrize("piece", PIECES, ids=range(len(PIECES)))
def test_what_commands_print_steers_no_terminal(piece: str) -> None:
    """Progress, a sweep, a verification, an apply; and no line of it begins where ours do."""
    found = swept(drifted(name=piece, seen=piece, expected=piece), not_verified(why=piece))
    test = TestResult("time", "t", "t", "primary1", "", FAILED, 0.0, "why", "why", [])
    test.seen = test.expected = piece
    test.unit, test.journal = "x.service", [piece]
    results = Results([test], {"primary1": HostState("10.0.0.1", unreachable_reason=piece)})
    results.tests.append(
        TestResult("time", "t", "t", "", "", SKIPPED, 0.0, "", "", [], reason=piece)
    )
    with guarded() as screen:
        Progress([]).report(piece)
        drift_cli._print(found)  # noqa: SLF001 - a command prints by it
        drift_cli._explain(found, found.findings[0].id)  # noqa: SLF001 - as above
        print_results(results)
        print_result(EngineResult("all", {"primary1": HostResult(errors=[piece])}), check=False)
    said = screen.getvalue()
    assert len(said) > len(piece)
    for colour in ("\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[0m"):
        said = said.replace(colour, "")
    assert clean(said, frozenset("\n\t"))
    assert not [line for line in said.splitlines() if line.startswith(("koseki: all holds", "Bcc"))]


def test_colours_are_our_own_alone() -> None:
    """The same sequence out of a host's mouth is text."""
    odd = painted("x\x1b[8m", "red", bold=True)
    with guarded() as screen:
        click.echo(f"{painted('good', 'green')} \x1b[32mgood\x1b[0m {odd}")
    assert screen.getvalue() == (
        "\x1b[32mgood\x1b[0m \ufffd[32mgood\ufffd[0m \x1b[31m\x1b[1mx\ufffd[8m\x1b[0m\n"
    )
    assert terminal._OURS not in screen.getvalue()  # noqa: SLF001 - the number that nobody sees


def test_json_stays_json_and_says_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """What steers is escaped there: one line, and the same value again."""
    value = {FOREIGN: [FOREIGN, 1, None]}
    line = json_line(value)
    assert clean(line, frozenset())
    assert json.loads(line) == value
    print_json(value)
    assert json.loads(capsys.readouterr().out) == value


def test_a_page_escapes_and_marks() -> None:
    """Every page is made by one environment; what is markup there was made here."""
    page = environment("koseki_ops.drift.report").from_string("{{ a }}|{{ b | safe }}|{{ c }}")
    shown = page.render(a=f"<b>{FOREIGN}</b>", b="<i>", c=7)
    assert clean(shown, frozenset("\n\t"))
    assert shown.startswith("&lt;b&gt;")
    assert shown.endswith("|<i>|7")
    made = [
        path.name
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Environment"
    ]
    # That of an image's boot loader, and one that reads what is marked in a page and renders none.
    assert set(made) == {"picture.py", "loader.py", "messages.py"}


def test_other_tools_get_what_they_can_read() -> None:
    """JUnit is XML, SARIF is JSON, metrics have a line each."""
    found = swept(
        drifted(name=FOREIGN, seen=FOREIGN, repair=FOREIGN, logged_in=(FOREIGN,)),
        not_verified(why=FOREIGN),
    )
    junit = as_junit(found)
    ET.fromstring(junit)  # noqa: S314 - our own
    assert clean(junit, frozenset("\n\t"))
    json.loads(as_sarif(found))
    assert clean(as_sarif(found), frozenset("\n\t"))
    assert clean(as_prometheus(found))


def test_a_mail_has_our_headers_and_our_lines() -> None:
    """No header, no address and no line of a host's own; its bytes are ASCII."""
    site = Site(project_root(), "lab", "lab")
    settings = Plan.of(site).platform.drift_alerts
    found = drifted(name=FOREIGN, seen=FOREIGN, logged_in=(FOREIGN,), first_seen=NOW)
    told = Notified((found,), (), (found,), ())
    mail = message(told, swept(found), settings, "Asia/Tokyo", "1 00")
    raw = mail.as_bytes(policy=SMTP.clone(cte_type="7bit"))
    assert set(mail.keys()) <= {
        *("Subject", "From", "To", "Auto-Submitted", "MIME-Version"),
        *("Content-Type", "Content-Transfer-Encoding"),
    }
    assert all(byte > 31 or byte in b"\r\n\t" for byte in raw)
    assert clean(mail.get_content().replace("\r\n", "\n"))
    assert not any(line.startswith(("Bcc", "koseki: ")) for line in mail.get_content().splitlines())


def test_the_command_itself_is_guarded() -> None:
    """On a terminal: whatever a command was told, and says again, is text."""
    ours, theirs = pty.openpty()
    command = [str(Path(sys.executable).parent / "koseki"), "check", "a\x1b[31m\x9b2J\u202eb"]
    done = subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=project_root())
    os.close(theirs)
    assert done.wait(60) == 2
    said = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert "a\ufffd[31m\ufffd2J\ufffdb" in said
    assert clean(said.replace("\r\n", "\n"))


def test_other_libraries_find_the_stream_they_expect() -> None:
    """Ansible's display, which the vault brings along, takes hold of it; click stays with it."""
    program = (
        "import click\n"
        "from koseki_ops.core.terminal import guard\n"
        "guard()\n"
        "from ansible.utils.display import Display\n"
        "Display()\n"
        "click.echo('a\\u202eb')\n"
        "click.echo('a\\u202eb', err=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("a\ufffdb\n", "a\ufffdb\n")


def test_everything_is_printed_by_what_is_guarded() -> None:
    """No other way to a terminal: neither a stream of its own nor a print."""
    others = {
        # Processes of their own, whose words go into a pipe of ours or to a host.
        "engines/pyinfra_job.py",
        "verify/connections.py",
        "lab/counters.py",
        "lab/stand_in_relay.py",
        "lab/writers.py",
    }
    found = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and ast.unparse(node.func)
            if called in {"print", "sys.stdout.write", "sys.stderr.write", "os.write"}:
                found.add(str(path.relative_to(SOURCES)))
    pipes = {
        "core/subprocesses.py",
        "drift/observe/transport.py",
        "core/files.py",
        "duplicates/journal.py",
        "evidence/ledger.py",
    }
    assert {name for name in found - pipes if not name.startswith("bench/")} <= others
