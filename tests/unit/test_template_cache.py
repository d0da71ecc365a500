"""Processes of one Ansible run share what they compiled, and nothing means anything else by it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible._internal._templating._engine import TemplateEngine, TemplateOptions
from ansible._internal._templating._jinja_bits import AnsibleEnvironment, TemplateOverrides
from ansible.parsing.dataloader import DataLoader
from ansible.template import trust_as_template
from jinja2.compiler import CodeGenerator

from koseki_ops.engines.template_cache import share_templates

VALUES = {"a": 1, "town": "飯田市", "rows": [{"n": 1}, {"n": 2}], "nested": "{{ a }} of {{ town }}"}
# As Ansible meets them: templates, and expressions of `when` and `that`.
TEMPLATES = [
    "plain",
    "{{ a }}",
    "{{ town }}/{{ a }}",
    "{{ rows | map(attribute='n') | list }}",
    "{{ nested }}",
    "{{ absent | default('none') }}",
    "{% for row in rows %}{{ row.n }}{% endfor %}",
    "{{ 'c:\\n' | regex_replace('n', '\\\\1') }}",
    "{{ lookup('env', 'HOME') }}",
    "{{ '{{ a }}' }}",
    "",
]
EXPRESSIONS = ["a == 1", "rows | length > 1", "town is match('飯.*')", "absent is defined", "a"]
# What has no right form, or asks for what is not there.
WRONG = ["{{ a", "{{ a | no_such_filter }}", "{{ absent.more }}", "{% if %}"]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """Return the folder that this process shares, until the test ends."""
    before = AnsibleEnvironment.compile, AnsibleEnvironment.compile_expression
    share_templates(tmp_path)
    yield tmp_path
    AnsibleEnvironment.compile, AnsibleEnvironment.compile_expression = before


def engine() -> TemplateEngine:
    """Return what a process of Ansible's begins with."""
    return TemplateEngine(loader=DataLoader(), variables=trusted(VALUES))


def trusted(values: dict[str, object]) -> dict[str, object]:
    """Return the values as Ansible reads them from its own files."""
    return {
        name: trust_as_template(value) if isinstance(value, str) else value
        for name, value in values.items()
    }


def results() -> list[str]:
    """Return what each of them comes to, errors and all."""
    found = []
    for text, expression in (
        *((text, False) for text in (*TEMPLATES, *WRONG)),
        *((text, True) for text in (*EXPRESSIONS, "a ==", "absent.more")),
    ):
        try:
            trusted_text = trust_as_template(text)
            made = (
                engine().evaluate_expression(trusted_text)
                if expression
                else engine().template(trusted_text)
            )
            found.append(f"{type(made).__name__} {made!r}")
        except Exception as error:  # noqa: BLE001 - each kind of failure has to stay what it is
            found.append(f"{type(error).__name__} {error}")
    return found


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by one with whatever this process compiles."""
    seen: list[str] = []
    visit = CodeGenerator.visit_Template

    def counted(self: CodeGenerator, node: object, frame: object = None) -> None:
        seen.append(repr(node))
        visit(self, node, frame)  # type: ignore[arg-type]

    monkeypatch.setattr(CodeGenerator, "visit_Template", counted)
    return seen


def test_what_is_taken_from_the_others_means_the_same(
    request: pytest.FixtureRequest, compilations: list[str]
) -> None:
    """Each template and expression, and each that is wrong, ends as it does without."""
    plain = results()
    request.getfixturevalue("shared")
    assert results() == plain
    compiled = len(compilations)
    assert results() == plain
    # What does not compile is kept by nobody, and one of these is only then found to be wrong.
    assert len(compilations) == compiled + 1


def test_another_process_takes_what_one_compiled(shared: Path) -> None:
    """Ansible's processes are copies of one that has compiled nothing yet."""
    child = os.fork()
    if not child:
        engine().template(trust_as_template("{{ a + 1 }}"))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    (kept,) = shared.iterdir()
    changed = kept.stat().st_mtime_ns, kept.stat().st_ino
    assert engine().template(trust_as_template("{{ a + 1 }}")) == VALUES["a"] + 1  # type: ignore[operator]
    assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == changed


@pytest.mark.usefixtures("shared")
def test_the_same_text_under_other_rules_is_another_template() -> None:
    """Delimiters, and whether a backslash in a text stands for itself."""
    text = trust_as_template("<< a >> {{ a }}")
    assert engine().template(text) == "<< a >> 1"
    angled = TemplateOptions(
        overrides=TemplateOverrides(variable_start_string="<<", variable_end_string=">>")
    )
    assert engine().template(text, options=angled) == "1 {{ a }}"
    escaped = trust_as_template(r"{{ 'x\ty' }}")
    as_written, as_tab = (
        engine().template(escaped, options=TemplateOptions(escape_backslashes=escapes))
        for escapes in (True, False)
    )
    assert (as_written, as_tab) == (r"x\ty", "x\ty")


@pytest.mark.usefixtures("shared")
def test_a_text_that_nobody_trusts_is_not_evaluated() -> None:
    """Though the same text, trusted, was compiled just before."""
    assert engine().template(trust_as_template("{{ a }}")) == VALUES["a"]
    assert engine().template("{{ a }}") == "{{ a }}"
