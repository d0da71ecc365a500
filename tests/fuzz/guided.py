"""One target under atheris, in a process that libFuzzer ends: NAME SECONDS FOLDER."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["koseki_ops", "koseki_link"]):
    from fuzz.targets import TARGETS

from fuzz.mutations import TOKENS


def main(name: str, seconds: str, found: str) -> None:
    """Give the target inputs for so many seconds; it does not return."""
    target = TARGETS[name]
    Path(found).mkdir(parents=True, exist_ok=True)
    # What it learns is this run's; what is kept in the repository stays small.
    corpus = Path(tempfile.mkdtemp(prefix="koseki-corpus-"))
    for number, seed in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(seed)
    words = corpus.with_suffix(".dict")
    words.write_text("".join(f'"{_escaped(token)}"\n' for token in TOKENS if 0 < len(token) < 64))
    argv = [
        sys.argv[0],
        str(corpus),
        f"-max_total_time={seconds}",
        f"-dict={words}",
        f"-artifact_prefix={found}/{name.replace(' ', '-')}-",
        "-timeout=10",
        "-max_len=8192",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
    ]
    atheris.Setup(argv, target)
    atheris.Fuzz()


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


if __name__ == "__main__":
    main(*sys.argv[1:])
