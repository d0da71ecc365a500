"""Begin `koseki apply`, press Ctrl-C some seconds after a line of its progress, hold what it says.

Usage: interrupt_apply.py LINE SECONDS. It must end with exit 2, one sentence and no traceback.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

# What a shell puts into the background is deaf to Ctrl-C, and whoever starts us may be there.
HEARING = ("env", "--default-signal=INT")


def main(line: str, seconds: float) -> None:
    """Interrupt an apply."""
    with subprocess.Popen(
        [*HEARING, "koseki", "apply"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as apply:
        assert apply.stderr is not None
        said = []
        for row in apply.stderr:
            said.append(row)
            if line in row:
                time.sleep(seconds)
                os.killpg(apply.pid, signal.SIGINT)
                break
        said += apply.stderr.readlines()
    text = "".join(said)
    assert apply.returncode == 2, f"exit {apply.returncode}\n{text}"
    assert said[-1].startswith("koseki: interrupted"), text
    assert "Traceback" not in text, text


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
