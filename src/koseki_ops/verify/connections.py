"""Attempts to connect, and what of their outcome is an answer."""

from __future__ import annotations

OPEN = "open"
# What an attempt that was made meets where nothing lets it in. Any other word is not an answer of
# the network: the attempt was not made, and says nothing.
SHUT = (
    "no answer",
    "Connection refused",
    "No route to host",
    "Network is unreachable",
    "Operation not permitted",
    "Permission denied",
)

# In POSIX shell and bash: the datacenter host has no Python. `probe ADDRESS PROTOCOL PORT SECONDS`
# prints address, protocol, port and what came of it.
HOST_PROBE = """
probe() {
    if said=$(timeout "$4" bash -c '
        echo begun
        case $0 in
        tcp) exec 3<>"/dev/tcp/$1/$2" ;;
        # The second write meets what the first one was answered with.
        udp) exec 3>"/dev/udp/$1/$2" && printf . >&3 && sleep 0.2 && printf . >&3 ;;
        esac' "$2" "$1" "$3" 2>&1); then
        echo "$1 $2 $3 open"
    else
        code=$?
        # On a busy machine its time may be up before it had any.
        if [ "$code$said" = 124begun ]; then said='no answer'; fi
        echo "$1 $2 $3 $(printf '%s' "$said" | tail -n 1 | sed 's/.*: //')"
    fi
}
"""
# In Python, TCP alone; arguments: ADDRESS,PORT,SECONDS. Prints the same.
# The kernel connects, however late this process is: whose time is up is asked for once more.
SEAT_PROBE = """
import os, resource, select, socket, sys, time

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
poll, waiting = select.poll(), {}

def tell(address, port, said):
    print(address, "tcp", port, said)

for address, port, seconds in (words.split(",") for words in sys.argv[1:]):
    try:
        way = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        way.setblocking(False)
        way.connect((address, int(port)))
    except BlockingIOError:
        pass
    except OSError as error:
        tell(address, port, os.strerror(error.errno))
        continue
    poll.register(way, select.POLLOUT)
    waiting[way.fileno()] = way, address, port, time.monotonic() + float(seconds)
while waiting:
    now = time.monotonic()
    first = min(end for _, _, _, end in waiting.values())
    answered = {number for number, _ in poll.poll(max(0, first - now) * 1000)}
    for number, (way, address, port, end) in list(waiting.items()):
        if number in answered:
            error = way.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            tell(address, port, os.strerror(error) if error else "open")
        elif end <= now:
            tell(address, port, "no answer")
        else:
            continue
        poll.unregister(number)
        del waiting[number]
        way.close()
"""
