#!/bin/sh
# Say whether the databases' members answer whoever shows no certificate: yes or no.
#
# Where they do not, this host's proxy still shows one, and must go on with it until they have been
# applied: a proxy that shows none would find nobody who leads. A member that cannot be reached at all
# says nothing about that. $1: the authority; then each member's name, address and port by commas.
set -eu
[ -n "${bounded-}" ] || exec env bounded=yes timeout -v -k 5 "${KOSEKI_SECONDS:-60}" sh "$0" "$@"

exec python3 - "$@" <<'PYTHON'
import pathlib
import socket
import ssl
import sys

SHOWN = pathlib.Path("/etc/haproxy/tls")
authority, *members = sys.argv[1:]
said = "yes"
if SHOWN.exists():
    way = ssl.create_default_context(cafile=authority)
    for member in members:
        name, address, port = member.split(",")
        try:
            with (
                socket.create_connection((address, int(port)), 5) as line,
                way.wrap_socket(line, server_hostname=name) as door,
            ):
                door.sendall(b"GET /liveness HTTP/1.0\r\n\r\n")
                # A server that wants a certificate says so with its first answer.
                door.recv(1)
        except ssl.SSLError:
            said = "no"
        except OSError:
            continue
print(said)
PYTHON
