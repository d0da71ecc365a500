"""Ask every host at once, each with one command over the site's one SSH configuration."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.formatting import in_short
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import ANSWER_BYTES, TIMED_OUT, Bounds, hear
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.plan.site import Site
from koseki_ops.remote.run import argv
from koseki_ops.verify.batch import CommandResult, Question, assemble, parse, request

# Longer than any question may take: the host ends a question, this ends a host.
HOST_SECONDS = 90
LATE_SECONDS = 75
# What `koseki-inspect` says of questions that no apply left on its host; the first one's number.
NOT_ADMITTED = re.compile(r"not among the questions of the last apply here: ([0-9]{1,4})")


@dataclass(frozen=True)
class HostResults:
    """What one host said, or why it said nothing.

    asked_at, answered_at: this workstation's clock (seconds since 1970) around the batch.
    """

    host: str
    answers: Mapping[str, CommandResult] = field(default_factory=dict)
    unreachable_reason: str = ""
    asked_at: float = 0.0
    answered_at: float = 0.0


def shell_of(site: Site, host: str) -> list[str]:
    """Return the command that reads a program on standard input and runs it there as root.

    The workstation of a lab is the lab's network namespace. The watch names no command: whatever it
    names, one program answers.
    """
    if site.watch_host:
        return argv(site, host)
    if host != WORKSTATION:
        return argv(site, host, "sudo -n sh")
    if site.is_lab:
        return ["nsenter", f"--net=/run/netns/{site.netns}", "sh"]
    return ["sh"]


def ask(site: Site, host: str, questions: Mapping[str, Question]) -> HostResults:
    """Ask one host its questions; a host that cannot be asked is reported as unreachable, and why.

    A question that ran out of time is asked once more, without the others and with more time: on
    a busy machine slow is no answer.
    """
    first = _ask_once(site, host, questions)
    late = {
        name: replace(questions[name], aside=True, seconds=LATE_SECONDS)
        for name, answer in first.answers.items()
        if answer.rc == TIMED_OUT
    }
    if not late:
        return first
    again = _ask_once(site, host, late)
    return replace(first, answers={**first.answers, **again.answers})


def _ask_once(site: Site, host: str, questions: Mapping[str, Question]) -> HostResults:
    program, names = request(questions) if site.watch_host else assemble(questions)
    asked_at = time.time()
    heard = hear(shell_of(site, host), program.encode(), Bounds(HOST_SECONDS, ANSWER_BYTES))
    answered_at = time.time()
    if heard.cut:
        return HostResults(host, unreachable_reason=heard.cut)
    if heard.code:
        words = heard.err.decode(errors="replace").strip().splitlines()
        # The first line is the network's own word; later ones say what ssh made of it.
        reason = in_short(words[0]) if words else f"exit {heard.code}"
        return HostResults(host, unreachable_reason=_not_admitted(reason, host, names) or reason)
    try:
        answers = parse(heard.out, names)
    except KosekiError as error:
        return HostResults(host, unreachable_reason=str(error))
    return HostResults(host, answers, "", asked_at, answered_at)


def _not_admitted(reason: str, host: str, names: list[str]) -> str:
    """Return which question a host does not know yet, empty when it was refused otherwise."""
    found = NOT_ADMITTED.search(reason)
    number = int(found[1]) if found else len(names)
    if number >= len(names):
        return ""
    return _(
        "it knows no question {question} yet: run `koseki apply --limit {host}` at the control node"
    ).format(question=names[number], host=host)


def ask_all(site: Site, questions: Mapping[str, Mapping[str, Question]]) -> dict[str, HostResults]:
    """Ask all hosts at once; return what each said, by host."""
    if not questions:
        return {}
    with ThreadPoolExecutor(max_workers=len(questions)) as pool:
        replies = pool.map(lambda host: ask(site, host, questions[host]), questions)
        return {reply.host: reply for reply in replies}
