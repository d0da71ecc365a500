"""The engine's door: python3 -m koseki_link SETTINGS SLUG VERB.

serve and reconcile are the units'; status, manual, automatic, resend and release an operator's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path

import psycopg2

from koseki_link import control
from koseki_link.engine import Engine, reconcile, serve
from koseki_link.layout import Refused, StandIn
from koseki_link.ledger import Ledger
from koseki_link.settings import Settings

NOT_ASKED = 2


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="koseki-link", allow_abbrev=False)
    parser.add_argument("settings", type=Path)
    parser.add_argument("slug")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("serve", "reconcile", "status"):
        verbs.add_parser(verb)
    for verb, words in (
        ("manual", ("flow",)),
        ("automatic", ("flow",)),
        ("resend", ("flow", "sequence")),
        ("release", ("file",)),
    ):
        known = verbs.add_parser(verb)
        for word in words:
            known.add_argument(word, type=int if word == "sequence" else str)
        known.add_argument("--reason", required=True)
        known.add_argument("--by", required=True)
    return parser.parse_args()


def asked(given: argparse.Namespace, settings: Settings) -> dict[str, object]:
    """Do what an operator asks."""
    engine = Engine(settings, StandIn(), Ledger(settings.database))
    match given.verb:
        case "status":
            return control.status(engine)
        case "resend":
            return control.resend(engine, given.flow, given.sequence, given.reason, given.by)
        case "release":
            return control.release(engine, given.file, given.reason, given.by)
        case mode:
            return control.choose(engine, given.flow, mode, given.reason, given.by)


def main() -> int:
    """Serve, reconcile, or answer an operator with one JSON object."""
    os.umask(0o027)
    given = arguments()
    settings = Settings.read(given.settings, given.slug)
    if given.verb == "serve":
        serve(settings, StandIn())
    try:
        if given.verb == "reconcile":
            return reconcile(settings)
        # What is said on the way is for the journal; the answer alone is for who asks.
        with contextlib.redirect_stdout(sys.stderr):
            answer = asked(given, settings)
    except Refused as refused:
        print(f"koseki-link: {refused.detail}", file=sys.stderr)
        return NOT_ASKED
    except psycopg2.Error as error:
        why = error.pgcode or type(error).__name__
        print(f"koseki-link: the municipality's database did not serve ({why})", file=sys.stderr)
        return NOT_ASKED
    print(json.dumps(answer, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
