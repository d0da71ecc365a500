"""The program's door: work on standard input as JSON, what was applied on standard output."""

from __future__ import annotations

import json
import sys

import psycopg2

from koseki_schema.owner import Refused, apply

NOT_DONE = 2


def main() -> int:
    """Apply what is missing; a refusal is one sentence and exit code 2."""
    work = json.load(sys.stdin)
    applied: list[str] = []
    try:
        for row in work["databases"]:
            for file in row["files"]:
                apply(row["database"], row["owner"], work["release"], file)
                applied.append(f"{file['file']} in {row['database']}")
    except Refused as refused:
        print(f"koseki-schema: {refused}", file=sys.stderr)
        return NOT_DONE
    except psycopg2.Error as error:
        # Its class alone: a detail of the server's may hold a row.
        reason = error.pgcode or type(error).__name__
        print(
            f"koseki-schema: {row['database']} could not be entered as its owner ({reason}): "
            "run `koseki apply`, and read `journalctl -u patroni` on the leader",
            file=sys.stderr,
        )
        return NOT_DONE
    finally:
        print(json.dumps({"applied": applied}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
