"""What the program is asked, and its answers: JSON, or one sentence.

turn is the unit's; journal is the collector's; status and the decisions are an operator's.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date, datetime
from pathlib import Path

from koseki_duplicate import control
from koseki_duplicate.settings import Settings
from koseki_duplicate.transmission import MOST_DAYS, Register, Transmission
from koseki_ops.core.errors import KosekiError
from koseki_ops.duplicates.journal import Journal
from koseki_ops.duplicates.layout import StandIn
from koseki_ops.duplicates.model import Cause, Kind

NOT_ASKED = 2
KINDS, CAUSES = [kind.value for kind in Kind], [cause.value for cause in Cause]


def arguments(argv: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="koseki-duplicate", allow_abbrev=False)
    parser.add_argument("settings", type=Path)
    parser.add_argument("slug")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("turn").add_argument("--most", type=int, default=MOST_DAYS)
    verbs.add_parser("status")
    verbs.add_parser("journal").add_argument("--after", type=int, default=0)
    resend = verbs.add_parser("resend")
    resend.add_argument("day", type=date.fromisoformat)
    resend.add_argument("--kind", choices=KINDS, default=Kind.DIFFERENCE.value)
    full = verbs.add_parser("full")
    full.add_argument("cause", choices=CAUSES)
    close = verbs.add_parser("close")
    close.add_argument("day", type=date.fromisoformat)
    answer = verbs.add_parser("close-answer")
    answer.add_argument("answer")
    decisions = [resend, full, close, answer, verbs.add_parser("hold"), verbs.add_parser("release")]
    for decision in decisions:
        decision.add_argument("--by", required=True)
        decision.add_argument("--reason", required=True)
    return parser.parse_args(argv)


def decided(given: argparse.Namespace, transmission: Transmission) -> dict[str, object]:
    """Record what an operator decided."""
    decisions = control.Decisions(transmission, given.by, given.reason)
    match given.verb:
        case "resend":
            return control.recorded(decisions.resend(given.day, Kind(given.kind)))
        case "full":
            return control.recorded(decisions.full(Cause(given.cause)))
        case "close":
            return control.recorded(decisions.give_up(given.day))
        case "close-answer":
            return control.recorded(decisions.close_answer(given.answer))
        case _:
            return control.recorded(decisions.hold(release=given.verb == "release"))


def answer(given: argparse.Namespace, settings: Settings, register: Register, now: datetime) -> int:
    """Do what is asked; return 0, 1 when something could not be done now, 2 when it is refused."""
    journal = Journal(settings.folder, settings.policy)
    transmission = Transmission(settings, journal, register, StandIn(), now)
    try:
        return _answer(given, transmission)
    except KosekiError as error:
        print(f"koseki-duplicate: {error}", file=sys.stderr)
    except OSError as error:
        print(
            f"koseki-duplicate: {error.filename or journal.path}: {error.strerror}", file=sys.stderr
        )
    return NOT_ASKED


def _answer(given: argparse.Namespace, transmission: Transmission) -> int:
    match given.verb:
        case "turn":
            transmission.turn(given.most)
            for note in transmission.notes:
                print(f"koseki-duplicate: {given.slug}: {note}", file=sys.stderr)
            return 1 if transmission.notes else 0
        case "journal":
            sys.stdout.write("".join(control.lines(transmission, given.after)))
        case "status":
            print(json.dumps(control.status(transmission)))
        case _:
            print(json.dumps(decided(given, transmission), ensure_ascii=False))
    return 0
