"""What a failed question says to do: a command as it stands, a document, or hands.

A command stands between backticks. `koseki …` is run on the control node; any other as root
on the host that is named beside it. What no command can do begins with `BY_HAND`.
"""

from __future__ import annotations

import re

from koseki_ops.plan.site import LAB_INVENTORY, Site

BY_HAND = "by hand: "
COMMAND = re.compile(r"`([^`]+)`")
DOCUMENT = re.compile(r"docs/[a-z/-]+\.md")
# `koseki lab up` is about a lab alone and takes no inventory.
OWN, OF_A_LAB = "koseki ", "koseki lab "


def commands(remedy: str) -> list[str]:
    """Return the commands that a remedy names."""
    return COMMAND.findall(remedy)


def for_site(remedy: str, site: Site) -> str:
    """Return a remedy whose commands mean the site that was verified: without it, the lab."""
    of_inventory = "" if site.inventory_name == LAB_INVENTORY else f" -i {site.inventory_name}"
    of_lab = "" if site.name == site.inventory_name else f" --name {site.name}"

    def filled(found: re.Match[str]) -> str:
        command = found[1]
        if not command.startswith(OWN):
            return found[0]
        inventory = "" if command.startswith(OF_A_LAB) else of_inventory
        return f"`{command}{inventory}{of_lab}`"

    return COMMAND.sub(filled, remedy)
