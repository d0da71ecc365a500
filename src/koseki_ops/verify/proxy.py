"""The municipalities' doors at the proxy, and whose place there is not given back."""

from __future__ import annotations

# Every connection in each municipality's network, the proxy's doors among them; once more after a
# pause where somebody's client is gone.
CONNECTIONS = """
look() {
    for place in /run/netns/*; do
        nsenter --net="$place" ss -Htan | sed "s|^|${place##*/} |"
    done
}
seen=$(look)
echo "$seen"
case $seen in *CLOSE-WAIT*) sleep 5; echo @@; look ;; esac
"""


def abandoned(text: str) -> tuple[set[tuple[str, str]], list[str]]:
    """Read what `CONNECTIONS` saw.

    Returns (network, port) of each listener, and the connections whose end the proxy read at
    neither look. Where the database works on for a client who left, the proxy has read that.
    """
    doors: set[tuple[str, str]] = set()
    looks = []
    for look in text.split("@@\n"):
        ends = set()
        for line in look.splitlines():
            network, state, unread, _, here, there = line.split()[:6]
            if state == "LISTEN":
                doors.add((network, here.rpartition(":")[2]))
            elif state == "CLOSE-WAIT" and int(unread):
                ends.add(f"{network}: {here} to {there}")
        looks.append(ends)
    return doors, sorted(set.intersection(*looks)) if len(looks) > 1 else []
