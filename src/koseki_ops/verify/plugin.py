"""The suites' pytest hooks and fixtures; `tests/testinfra/conftest.py` hands them to pytest.

A suite is a module with `questions(plan, host)`: the shell commands whose answers its tests
compare. After collection the questions of all selected suites become one command per host; the
hosts are asked at once, and only then the tests run. A suite may add `later_questions(plan, host,
everywhere)` for what can only be asked once the first answers are known.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

import testinfra
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_atomic
from koseki_ops.core.formatting import SHOWN_LENGTH, in_short, printable
from koseki_ops.core.language import N_, _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.plan.site import Site
from koseki_ops.verify.batch import CommandResult, Question
from koseki_ops.verify.expect import CheckFailed
from koseki_ops.verify.expectations import Plan, pairs
from koseki_ops.verify.remedies import for_site
from koseki_ops.verify.results import FAILED, PASSED, SKIPPED, HostState, Results, TestResult
from koseki_ops.verify.transport import HostResults, ask_all

JOURNAL_LINES = 12
# The last lines that say something: who came and went would push them out.
JOURNAL = (
    'journalctl -u "$argument" -n 500 --no-pager -o short-iso -q'
    f" | grep -vE 'LOG:  (dis)?connection' | tail -n {JOURNAL_LINES}"
)
DEFAULT_REMEDY = N_("read the assertion above and the host's journal, then run `koseki apply`")
SUITE_QUESTION = "{suite}/{name}"
BASE = "base"
# Why a test was skipped that nobody asked for: it is about hosts outside --limit.
LEFT_OUT = N_("{host} was left out by --limit")
NO_HOSTS = "got empty parameter set"

Questions = Mapping[str, str | Question]


def base_questions(plan: Plan, host: str) -> Questions:
    """Return what every host is asked whatever the suites: what it is, its clock, its part."""
    if host == WORKSTATION:
        return {}
    asked = {
        "clock": "date +%s.%N",
        # Exit 1 and `none` on a machine that is no container: that is an answer too.
        "container": "systemd-detect-virt --container",
        "release": '. /etc/os-release && printf \'%s %s\' "$ID" "$VERSION_CODENAME"',
    }
    if plan.is_in(host, "databases"):
        asked["role"] = (
            "runuser -u postgres -- psql -XAtqc "
            "\"select case when pg_is_in_recovery() then 'replica' else 'leader' end\""
        )
    return asked


@dataclass
class Everywhere:
    """What all hosts said. Knows every suite's answers; `for_suite` narrows it to one."""

    plan: Plan
    replies: dict[str, HostResults] = field(default_factory=dict)
    suite: str = ""

    def for_suite(self, suite: str) -> Everywhere:
        """Return the same answers, addressed by one suite's own names."""
        return Everywhere(self.plan, self.replies, suite)

    def __getitem__(self, host: str) -> Facts:
        """Return one host's facts; the test ends as not verified when there are none."""
        reply = self.replies.get(host)
        if reply is None:
            pytest.skip(_left_out(host))
        if reply.unreachable_reason:
            sentence = _("{host} did not answer: {reason}")
            pytest.skip(in_short(sentence.format(host=host, reason=reply.unreachable_reason)))
        return Facts(host, self.suite, reply)


def _left_out(host: str) -> str:
    return in_short(_(LEFT_OUT).format(host=host))


@dataclass(frozen=True)
class Facts:
    """What one host said to one suite's questions."""

    host: str
    suite: str
    reply: HostResults

    def __getitem__(self, name: str) -> CommandResult:
        """Return the answer to one of this suite's questions."""
        return self.reply.answers[SUITE_QUESTION.format(suite=self.suite, name=name)]

    def base(self, name: str) -> CommandResult:
        """Return the answer to a question that every host is asked."""
        return self.reply.answers[SUITE_QUESTION.format(suite=BASE, name=name)]

    @property
    def container(self) -> bool:
        """Whether the host is a container, which has no clock and no kernel of its own."""
        return self.base("container").rc == 0

    @property
    def remedy(self) -> str:
        """The ordinary remedy: bring this host to what the inventory says."""
        return _("run `koseki apply --limit {host}`, then verify again").format(host=self.host)


PLAN = pytest.StashKey[Plan]()
EVERYWHERE = pytest.StashKey[Everywhere]()
LIMIT = pytest.StashKey[list[str]]()
RESULTS = pytest.StashKey[Results]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say which site is verified; `--hosts` is testinfra's own."""
    group = parser.getgroup("koseki")
    group.addoption("--koseki-inventory", metavar="NAME", help="Inventory (default: lab).")
    group.addoption("--koseki-name", metavar="LAB", help="Name of the lab (default: lab).")
    group.addoption("--koseki-results", metavar="FILE", help="Write the results as JSON.")


def know_marks(config: pytest.Config) -> None:
    """Make the suites' own mark known."""
    config.addinivalue_line("markers", "on_hosts(*groups): once for each host of these groups")


def pytest_configure(config: pytest.Config) -> None:
    """Read the plan once; an inventory that does not hold ends the run with its sentence."""
    know_marks(config)
    try:
        site = Site.open(config.getoption("koseki_inventory"), config.getoption("koseki_name"))
        plan = Plan.of(site)
        config.stash[LIMIT] = _limit(plan, config.getoption("hosts"))
    except KosekiError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[PLAN] = plan
    config.stash[EVERYWHERE] = Everywhere(plan)
    config.stash[RESULTS] = Results()


def _limit(plan: Plan, hosts: str | None) -> list[str]:
    """Return the hosts to ask: those of `--hosts` (names, groups, all), and the workstation.

    A host that keeps watch cannot ask in the workstation's place: that is left out there.
    """
    names = [name.strip() for name in (hosts or "all").split(",") if name.strip()]
    return plan.hosts_in(*names, *([] if plan.site.watch_host else [WORKSTATION]))


def on_hosts(*groups: str) -> pytest.MarkDecorator:
    """Run a test once for each host of these groups; its `facts` are that host's."""
    return pytest.mark.on_hosts(*groups)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test a run for each of its hosts, each town, or each ordered pair of towns.

    Asked for by the names of its arguments: `host_name` (and what reads it, as `facts` does),
    `municipality`, `pair` (two slugs: source and target).
    """
    config, names = metafunc.config, metafunc.fixturenames
    if "host_name" in names:
        marker = metafunc.definition.get_closest_marker("on_hosts")
        groups = marker.args if marker else ("all",)
        hosts = config.stash[PLAN].hosts_in(*groups)
        chosen = [host for host in hosts if host in config.stash[LIMIT]]
        metafunc.parametrize("host_name", chosen, ids=chosen, scope="session")
    municipalities = config.stash[PLAN].joined
    slugs = [municipality.slug for municipality in municipalities]
    if "pair" in names:
        ordered_pairs = pairs(slugs)
        metafunc.parametrize("pair", ordered_pairs, ids=[f"{a}-to-{b}" for a, b in ordered_pairs])
    if "municipality" in names:
        metafunc.parametrize("municipality", municipalities, ids=slugs)


@pytest.fixture(scope="session")
def plan(request: pytest.FixtureRequest) -> Plan:
    """Give the inventory's expectations."""
    return request.config.stash[PLAN]


@pytest.fixture
def host_name(request: pytest.FixtureRequest) -> str:
    """Give the host that this run of the test is about."""
    return cast("str", request.param)


@pytest.fixture
def host(plan: Plan, host_name: str) -> Any:  # noqa: ANN401 - testinfra has no types
    """Give testinfra's own host, over the site's SSH configuration, for what no batch can ask."""
    return testinfra.get_host(f"ssh://{host_name}", ssh_config=str(plan.site.ssh_config))


@pytest.fixture
def everywhere(request: pytest.FixtureRequest) -> Everywhere:
    """Give what all hosts said to this suite."""
    return request.config.stash[EVERYWHERE].for_suite(suite_of(request.module))


@pytest.fixture
def facts(everywhere: Everywhere, host_name: str) -> Facts:
    """Give what this run's host said to this suite."""
    return everywhere[host_name]


def suite_of(module: ModuleType) -> str:
    """Return a suite's name: its module's, without `test_`."""
    return module.__name__.rsplit(".", 1)[-1].removeprefix("test_")


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Refuse to give a verdict on less than what was asked for, whoever left it out."""
    if items[0].config.getoption("koseki_results"):
        sentence = _(
            "{count} tests were left out, {name} the first: a verification leaves out none"
        )
        raise pytest.UsageError(sentence.format(count=len(items), name=items[0].name))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Ask all hosts everything that the selected suites want to know."""
    config = session.config
    if config.option.collectonly or not session.items:
        return
    modules = {item.module: None for item in session.items if isinstance(item, pytest.Function)}
    plan, everywhere = config.stash[PLAN], config.stash[EVERYWHERE]
    config.stash[RESULTS].about = {
        suite_of(module): _(first_sentence(module.__doc__ or "")) for module in modules
    }
    asked: dict[str, dict[str, Question]] = {}
    for host in config.stash[LIMIT]:
        asked[host] = _named(BASE, base_questions(plan, host))
        for module in modules:
            asked[host] |= _named(suite_of(module), module.questions(plan, host))
    everywhere.replies = ask_all(plan.site, {host: q for host, q in asked.items() if q})
    _ask_later(list(modules), plan, everywhere)


def _ask_later(modules: list[ModuleType], plan: Plan, everywhere: Everywhere) -> None:
    """Ask the questions that depend on the first answers, of the hosts that gave some."""
    asked: dict[str, dict[str, Question]] = {}
    for module in modules:
        later: Callable[[Plan, str, Everywhere], Questions] | None = getattr(
            module, "later_questions", None
        )
        if later is None:
            continue
        suite = suite_of(module)
        for host in [
            host for host, reply in everywhere.replies.items() if not reply.unreachable_reason
        ]:
            try:
                named = _named(suite, later(plan, host, everywhere.for_suite(suite)))
            except Exception as error:  # noqa: BLE001 - whatever one host's answers make of it, the others are asked
                why = _("its answer cannot be read: {kind} {error}").format(
                    kind=type(error).__name__, error=error
                )
                everywhere.replies[host] = HostResults(host, unreachable_reason=in_short(why))
                continue
            asked.setdefault(host, {}).update(named)
    for host, more in ask_all(plan.site, {host: q for host, q in asked.items() if q}).items():
        first = everywhere.replies[host]
        if first.unreachable_reason:
            continue
        everywhere.replies[host] = HostResults(
            host,
            {**first.answers, **more.answers},
            more.unreachable_reason,
            first.asked_at,
            first.answered_at,
        )


def _named(suite: str, questions: Questions) -> dict[str, Question]:
    return {
        SUITE_QUESTION.format(suite=suite, name=name): (
            Question(question) if isinstance(question, str) else question
        )
        for name, question in questions.items()
    }


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep each test's result with what it expected, saw and advises."""
    report = yield
    decided = report.when == "call" or (report.when == "setup" and not report.passed)
    if not decided and not (report.when == "teardown" and report.failed):
        return report
    results, result = item.config.stash[RESULTS], _result(item, call, report)
    hosts = item.config.stash[PLAN].inventory.hosts
    if result.reason in map(_left_out, hosts) or result.reason.startswith(NO_HOSTS):
        results.left_out += 1
    else:
        results.tests.append(result)
    return report


def _result(
    item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
) -> TestResult:
    function = cast("pytest.Function", item)
    parameters = function.callspec.params if hasattr(function, "callspec") else {}
    docstring = " ".join((function.function.__doc__ or "").split())
    result = TestResult(
        suite=suite_of(function.module),
        test=function.originalname,
        id=item.nodeid.rsplit("/", 1)[-1],
        host=str(parameters.get("host_name", "")),
        parameters=function.callspec.id if parameters else "",
        outcome=PASSED if report.passed else SKIPPED if report.skipped else FAILED,
        seconds=report.duration,
        why=_(first_sentence(docstring)),
        docstring=docstring,
        requirements=sorted(set(re.findall(r"K-\d\d", docstring))),
    )
    if report.skipped:
        result.reason = _skip_reason(report)
    elif report.failed:
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, CheckFailed):
            result.expected, result.seen = error.expected, error.seen
            result.remedy = for_site(error.remedy, item.config.stash[PLAN].site)
            result.unit = error.unit
            result.host = result.host or error.host
        else:
            result.expected = result.why
            result.remedy = for_site(_(DEFAULT_REMEDY), item.config.stash[PLAN].site)
            result.seen = printable(f"{type(error).__name__}: {error}"[:SHOWN_LENGTH])
    return result


def first_sentence(docstring: str) -> str:
    """Return a docstring up to its first full stop."""
    return re.split(r"(?<=[.。])\s", " ".join(docstring.split()))[0]


def _skip_reason(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


def unreachable_hosts(config: pytest.Config) -> dict[str, str]:
    """Return the hosts that were asked and said nothing, and why."""
    replies = config.stash[EVERYWHERE].replies if EVERYWHERE in config.stash else {}
    return {
        host: reply.unreachable_reason
        for host, reply in replies.items()
        if reply.unreachable_reason
    }


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name the hosts that did not answer: their tests were skipped, not passed."""
    for host, unreachable_reason in unreachable_hosts(config).items():
        terminalreporter.write_line(
            _("{host} did not answer: {reason}").format(
                host=host, reason=in_short(unreachable_reason)
            ),
            red=True,
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fetch the journals that explain failures, then write the results where asked.

    A run in which a host was unreachable does not end as if all were well.
    """
    config = session.config
    if unreachable_hosts(config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    target = config.getoption("koseki_results")
    if RESULTS not in config.stash or not target:
        return
    results, plan = config.stash[RESULTS], config.stash[PLAN]
    replies = config.stash[EVERYWHERE].replies
    if replies:
        results.hosts = {
            host: _state(plan, host, replies.get(host)) for host in plan.inventory.hosts
        }
        _add_journals(plan, results)
    results.finished_at = time.time()
    write_atomic(Path(target), json.dumps(results.as_json(), ensure_ascii=False))


def _state(plan: Plan, host: str, reply: HostResults | None) -> HostState:
    """Return how a host stands now, for the picture in the report."""
    address = plan.address(host, WORKSTATION) or ""
    if reply is None:
        return HostState(address, asked=False)
    role = reply.answers.get(SUITE_QUESTION.format(suite=BASE, name="role"))
    return HostState(
        address,
        unreachable_reason=reply.unreachable_reason,
        role=in_short(role.text) if role else "",
    )


def _add_journals(plan: Plan, results: Results) -> None:
    wanted: dict[str, dict[str, Question]] = {}
    for test in results.tests:
        host = results.hosts.get(test.host)
        if (
            test.outcome == FAILED
            and test.unit
            and host
            and host.asked
            and not host.unreachable_reason
        ):
            wanted.setdefault(test.host, {})[test.unit] = Question(JOURNAL, argument=test.unit)
    replies = ask_all(plan.site, wanted)
    for test in results.tests:
        reply = replies.get(test.host)
        if reply and test.unit in reply.answers:
            test.journal = [in_short(line) for line in reply.answers[test.unit].lines]
