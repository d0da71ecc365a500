"""Write what a run did, host by host, as JSON; say short lines of progress on the way.

Enabled by `koseki apply`, which names the file in KOSEKI_SUMMARY_FILE.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

from koseki_ops.core.subprocesses import cause_in
from koseki_ops.drift.judge.declared import merge, of_task

DOCUMENTATION = """
name: koseki_summary
type: stdout
short_description: The run's result as JSON, and progress as short lines
description:
  - Counts changes and failures by host and keeps their names; nothing of a task's content.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc] # Ansible's classes are untyped here
    """Collects results; prints a line a task on standard error."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "koseki_summary"

    def __init__(self) -> None:
        """Start with nothing known."""
        super().__init__()
        self.hosts: dict[str, dict[str, Any]] = {}
        self.play = ""

    def _host(self, result: Any) -> dict[str, Any]:  # noqa: ANN401 - Ansible is untyped here
        empty = {
            "changed": 0,
            "failed": 0,
            "refused": 0,
            "unreachable": False,
            "changes": [],
            "errors": [],
            "declared": {},
        }
        return self.hosts.setdefault(result.host.get_name(), empty)

    def v2_playbook_on_play_start(self, play: Any) -> None:  # noqa: ANN401
        """Say which play begins."""
        name = play.get_name()
        if name != self.play:
            self.play = name
            print(f"> services: {name}", file=sys.stderr, flush=True)

    def v2_runner_on_ok(self, result: Any) -> None:  # noqa: ANN401
        """Count a change."""
        host = self._host(result)
        if result.is_changed():
            host["changed"] += 1
            host["changes"].append(result.task.get_name())
        task = result.task
        merge(host["declared"], of_task(task.action, task.args, result.result))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: ANN401, ARG002
        """Keep a failure as one sentence."""
        host = self._host(result)
        host["failed"] += 1
        # A role asserts what it was asked for and what it found, before it changes anything.
        host["refused"] += result.task.action.endswith("assert")
        host["errors"].append(f"{self._name(result)}: {sentence(result.result)}")

    def v2_runner_on_unreachable(self, result: Any) -> None:  # noqa: ANN401
        """Keep a host that did not answer."""
        host = self._host(result)
        host["unreachable"] = True
        host["errors"].append(f"{self._name(result)}: {sentence(result.result)}")

    def _name(self, result: Any) -> str:  # noqa: ANN401
        return f"{result.host.get_name()}: {result.task.get_name()}"

    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ANN401, ARG002
        """Write what was collected."""
        if path := os.environ.get("KOSEKI_SUMMARY_FILE"):
            Path(path).write_text(json.dumps(self.hosts, ensure_ascii=False), encoding="utf-8")


def sentence(result: dict[str, Any]) -> str:
    """Return the last line that says why, of a task's result; nothing of a censored one.

    What followed from it, as a connection that was closed, is no reason: the next place is read.
    """
    if result.get("censored") or result.get("_ansible_no_log"):
        return "it holds secrets, so its output is kept back; run it by hand with -vvv"
    for row in result.get("results") or []:
        if isinstance(row, dict) and row.get("failed"):
            return sentence(row)
    texts = [str(result.get(key) or "") for key in ("stderr", "msg", "module_stderr", "stdout")]
    causes = [cause for text in texts if (cause := cause_in(text))]
    return next(iter(causes), "") or " ".join("".join(texts).split()) or "no output"
