"""What a host answers to the watch: what an apply left there, and nothing that is sent along."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from koseki_ops.drift.observe import probe
from koseki_ops.verify.batch import DELIMITER, Question, digest, parse, request

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "host_programs/koseki_inspect/sbin/koseki-inspect"
PLACE = "/usr/local/lib/koseki-inspect"
KEY = "0" * 64
ADMITTED = ("echo one", 'echo "$argument"', "echo out; echo err >&2; exit 3")


class Host:
    """A host's copy of the program, with what an apply leaves beside it."""

    def __init__(self, folder: Path) -> None:
        """Lay it down in a folder."""
        self.library, self.room = folder / "lib", folder / "room"
        for made in (self.library, self.room):
            made.mkdir()
        self.program = folder / "koseki-inspect"
        text = PROGRAM.read_text(encoding="utf-8")
        assert PLACE in text
        self.program.write_text(text.replace(PLACE, str(self.library)), encoding="utf-8")
        hashes = "".join(f"{name}\n" for name in sorted(map(digest, ADMITTED)))
        (self.library / "questions").write_text(hashes, encoding="ascii")
        self.lay(probe.policy_text(), 'printf "%s\\n" "$mark" "$key" "$patience" "$extra"\n')

    def lay(self, policy: str, told: str) -> None:
        """Lay down a policy and a probe."""
        (self.library / "policy").write_text(policy, encoding="utf-8")
        (self.library / "probe").write_text(told, encoding="utf-8")

    def ask(self, question: str | bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Ask as the forced command is asked; nothing is left behind."""
        sent = question.encode() if isinstance(question, str) else question
        done = subprocess.run(
            ["sh", str(self.program), *words],
            input=sent,
            env={"TMPDIR": str(self.room)},
            capture_output=True,
            check=False,
        )
        assert list(self.room.iterdir()) == []
        return done


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host after an apply."""
    return Host(tmp_path)


def refused(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return why nothing was answered."""
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode().splitlines()
    return line.removeprefix("koseki-inspect: ")


def test_admitted_questions_are_answered_apart(host: Host) -> None:
    """Outputs, errors and exit codes come back as those of a batch, with each one's argument."""
    asked = {
        "a": Question(ADMITTED[0], aside=True),
        "b": Question(ADMITTED[1], argument="patroni.service"),
        "c": Question(ADMITTED[2]),
    }
    text, names = request(asked)
    answers = parse(host.ask(text).stdout, names)
    assert {name: (answer.rc, answer.text, answer.errors) for name, answer in answers.items()} == {
        "a": (0, "one", ""),
        "b": (0, "patroni.service", ""),
        "c": (3, "out", "err"),
    }


def test_an_argument_is_empty_where_there_is_none(host: Host) -> None:
    """What stands for none in the data is not handed to the question."""
    text, names = request({"a": Question(ADMITTED[1])})
    assert parse(host.ask(text).stdout, names)["a"].out == b"\n"


@pytest.mark.parametrize(
    "command",
    ["id", "echo one ", "echo one\nid", "echo one #", f"echo one\n{DELIMITER}x", ""],
)
def test_a_question_that_no_apply_left_is_refused(host: Host, command: str) -> None:
    """A byte more is another question; those beside it are not asked either."""
    asked = {"a": Question(ADMITTED[0])}
    text = request(asked)[0] + f"question 1 30 alone -\n{command}\n{DELIMITER}\n"
    assert refused(host.ask(text)) == "not among the questions of the last apply here: 1"


@pytest.mark.parametrize(
    "head",
    [
        "question 0 30 alone $(id)",
        "question 0 30 alone -n",
        "question ../0 30 alone -",
        "question 0 300 alone -",
        "question 0 0 alone -",
        "question 0 30 both -",
        "question 0 30 alone a b",
        "id",
    ],
)
def test_a_head_of_another_form_is_refused(host: Host, head: str) -> None:
    """Numbers, seconds and arguments are data of one form; nothing of them reaches a shell."""
    assert "no questions" in refused(host.ask(f"verify\n{head}\necho one\n{DELIMITER}\n"))


def test_a_question_has_one_number_and_an_end(host: Host) -> None:
    """The text that is hashed is the text that runs."""
    one = f"question 0 30 alone -\necho one\n{DELIMITER}\n"
    assert "no questions" in refused(host.ask(f"verify\n{one}{one}"))
    assert "no questions" in refused(host.ask(f"verify\n{one}question 1 30 alone -\nid\n"))


@pytest.mark.parametrize("question", ["", "sh\nid\n", "id", "main\n", "refuse\n", "\0\n"])
def test_whatever_else_is_asked_is_refused(host: Host, question: str) -> None:
    """Three things are answered; no name leads to another part of the program."""
    assert "sweep, contents and verify" in refused(host.ask(question))


def test_it_takes_no_argument(host: Host) -> None:
    """Sudo admits none; neither does the program."""
    assert "no argument" in refused(host.ask("verify\n", "-c", "id"))


def test_more_than_a_question_is_not_kept(host: Host) -> None:
    """Who sends without end is cut off."""
    assert "are no question" in refused(host.ask(b"verify\n" + b"x" * 4_300_000))


def test_a_sweep_takes_data_alone(host: Host) -> None:
    """The probe that lies there is told mark, key and patience, and the files that lie plainly."""
    extra = ["/etc/hosts", "/etc/../root/x", "/proc/1/environ", "/etc", "/etc/a b", "/home/x"]
    asked = probe.question(KEY, extra, 2, 40)
    done = host.ask(asked.text)
    assert done.stdout.decode().splitlines() == [asked.mark, KEY, "2", " /etc/hosts"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("mark", "x"), ("mark", "$(id)"), ("key", "'"), ("patience", "0"), ("seconds", "1;id")],
)
def test_data_of_another_form_are_refused(host: Host, name: str, value: str) -> None:
    """Each datum has one form."""
    lines = probe.question(KEY, [], 1, 40).text.splitlines()
    changed = "\n".join(
        f"{name} {value}" if f"{line} ".startswith(f"{name} ") else line for line in lines
    )
    assert f"no {name} of that form" in refused(host.ask(f"{changed}\n"))


def test_a_probe_of_another_version_does_not_answer(host: Host) -> None:
    """A sweep compares with what another set of questions would have found: it is not verified."""
    host.lay(probe.policy_text().replace(probe.scope(), "0" * 16), "echo answered\n")
    assert "another version" in refused(host.ask(probe.question(KEY, [], 1, 40).text))


def test_open_files_alone_are_shown(host: Host, tmp_path: Path) -> None:
    """No secret, no private key, nothing behind a link or outside of the places of the policy."""
    root = tmp_path / "etc"
    (root / "sub").mkdir(parents=True)
    kept = {
        "plain": "text",
        "sub/deep": "deeper",
        "my_password": "s",
        "key": "-----BEGIN X PRIVATE KEY-----\n",
    }
    for name, content in kept.items():
        (root / name).write_text(content, encoding="ascii")
    (tmp_path / "outside").write_text("o", encoding="ascii")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "way").symlink_to(tmp_path)
    policy = probe.policy_text()
    begin = policy.index("roots=")
    end = policy.index("\n", begin)
    host.lay(f"{policy[:begin]}roots={root}{policy[end:]}", "")
    wanted = [*kept, "link", "way/outside", "../outside", "nothing"]
    question = probe.contents_question([f"{root}/{name}" for name in wanted])
    stream = host.ask(question).stdout.partition(probe.CONTENTS)[2]
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        assert sorted(tar.getnames()) == [f"{root}/plain", f"{root}/sub/deep"]
