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

    Returns (network, port) of each listener, and the connections to one of these whose end the
    proxy read at neither look. Where the database works on for a client who left, the proxy has
    read that; a client who has not yet read that the proxy went holds no place.
    """
    looks = [[line.split()[:6] for line in look.splitlines()] for look in text.split("@@\n")]
    doors = {
        (network, port_of(here))
        for network, state, _unread, _queued, here, _there in looks[0]
        if state == "LISTEN"
    }
    left = [
        {
            f"{network}: {here} to {there}"
            for network, state, unread, _queued, here, there in look
            if state == "CLOSE-WAIT" and int(unread) and (network, port_of(here)) in doors
        }
        for look in looks
    ]
    return doors, sorted(set.intersection(*left)) if len(left) > 1 else []


def port_of(address: str) -> str:
    """Return the port of an address as `ss` writes it."""
    return address.rpartition(":")[2]
