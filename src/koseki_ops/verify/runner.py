"""Run the suites in a process of their own and keep what they found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.plan.site import Site
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.report import write_report
from koseki_ops.verify.results import Results

SUITE_FOLDER = Path("tests/testinfra")
# pytest's own exit codes: every test passed; some failed.
ANSWERED = (0, 1)
# Only what the suites use: other plugins cost a second before the first question.
PLUGINS = ("testinfra.plugin",)


@dataclass(frozen=True)
class Reports:
    """Where a site's verification is kept; each run replaces the one before."""

    folder: Path

    @classmethod
    def of(cls, site: Site) -> Reports:
        """Return a site's reports."""
        return cls(site.state / "reports")

    @property
    def html(self) -> Path:
        """The report for people."""
        return self.folder / "verify.html"

    @property
    def junit(self) -> Path:
        """The report for CI."""
        return self.folder / "verify.xml"

    @property
    def results(self) -> Path:
        """Every test's result as JSON."""
        return self.folder / "verify.json"

    @property
    def log(self) -> Path:
        """What pytest itself printed."""
        return self.folder / "verify.log"


def known_suites(site: Site) -> list[str]:
    """Return the names of a site's suites."""
    return suites_in(site.root)


def suites_in(root: Path) -> list[str]:
    """Return the names of all suites of a checkout, or of a toolkit's folder on a watch host."""
    files = (root / SUITE_FOLDER).glob("test_*.py")
    return sorted(file.stem.removeprefix("test_") for file in files)


def suite_files(site: Site, suites: Sequence[str]) -> list[str]:
    """Return the files of these suites, or the folder for all; KosekiError for an unknown one."""
    known = known_suites(site)
    for suite in suites:
        if suite not in known:
            raise KosekiError(
                _("unknown suite"),
                suite,
                _("name one of {known} (`koseki verify -h`)").format(known=", ".join(known)),
            )
    if not suites:
        return [str(SUITE_FOLDER)]
    return [str(SUITE_FOLDER / f"test_{suite}.py") for suite in suites]


def verify(site: Site, suites: Sequence[str], limit: Sequence[str]) -> Results:
    """Ask the hosts and return what was found; the reports are written.

    limit: hosts or groups, empty for all. KosekiError when the question itself is wrong: an
    unknown suite or host, an inventory that does not hold, a suite that cannot be read.
    """
    started = time.monotonic()
    files = suite_files(site, suites)
    plan = Plan.of(site)
    plan.hosts_in(*limit)
    ensure_site_ssh(site, plan.inventory)
    reports = Reports.of(site)
    reports.folder.mkdir(parents=True, exist_ok=True)
    reports.results.unlink(missing_ok=True)
    code = _pytest(site, files, limit, reports)
    if code not in ANSWERED or not reports.results.exists():
        raise KosekiError(
            _("the suites could not be run"),
            _("pytest ended with {code}: {last_line}").format(
                code=code, last_line=_last_line(reports.log)
            ),
            _("read {log}").format(log=reports.log),
        )
    results = Results.from_json(json.loads(reports.results.read_text(encoding="utf-8")))
    if not results.tests:
        raise KosekiError(
            _("no test matches"),
            ", ".join([*suites, *limit]),
            _("give other suites or another --limit"),
        )
    results.seconds = time.monotonic() - started
    write_report(plan, results, reports.html)
    return results


def _pytest(site: Site, files: list[str], limit: Sequence[str], reports: Reports) -> int:
    plugins = [word for plugin in PLUGINS for word in ("-p", plugin)]
    command = [
        *(sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"),
        *plugins,
        f"--hosts={','.join(limit) or 'all'}",
        f"--koseki-inventory={site.inventory_name}",
        f"--koseki-results={reports.results}",
        f"--junitxml={reports.junit}",
        *([f"--koseki-name={site.name}"] if site.is_lab else []),
        *files,
    ]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with reports.log.open("wb") as log:
        return subprocess.run(  # noqa: TID251 - its output goes to a file, its code is the answer
            command, cwd=site.root, env=environment, stdout=log, stderr=log, check=False
        ).returncode


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    return lines[-1] if lines else _("no output")
