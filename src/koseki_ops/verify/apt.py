"""What apt makes of its own configuration (apt.conf(5), `StringToBool` of apt's library)."""

from __future__ import annotations

import re

# Whatever is none of these words and no zero switches something on.
NO = frozenset({"no", "false", "without", "off", "disable"})
SETTING = re.compile(r'^(?P<name>\S+) "(?P<value>.*)";$')


def switched_on(lines: list[str]) -> list[str]:
    """Return those of `apt-config dump`'s lines that say yes.

    A number of days says so as well as a word; an empty value says nothing. A line that is no
    setting is returned too: what cannot be read is not known to be off.
    """
    found = []
    for line in lines:
        match = SETTING.match(line)
        value = match["value"].strip().lower() if match else "?"
        if value and value not in NO and value.strip("0"):
            found.append(line)
    return found
