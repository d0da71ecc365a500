"""Malformed requests, as many as told, the same ones for the same seed; run on a town's line.

Prints as JSON how many were answered with what, and each answer that should not have been: a 5xx
that is not the gateway's own refusal, or a word that tells of another municipality.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

SECONDS = 20
UNAVAILABLE = "現在利用できません。"
PATHS = (
    "/", "/health", "/filings", "/registers/1", "/registers/1/certificates", "/test-print",
    "/filings/1/approve", "/takeover/oshika/", "/takeover/iida/", "/nothing",
)  # fmt: skip
METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "PATCH", "GeT", "X" * 99)
PIECES = (
    b"\x00", b"\xff\xfe", b"%", b"%zz", b"%00", b"%ff", b"..", b"/..%2f", b"//", b"\r\n", b"\n",
    b"\t", b"'", b'"', b"<script>", b"{{7*7}}", b"; DROP TABLE koseki.registers", b"%F0%9F",
    b"\xe8\x91\x9b\xf3\xa0\x84\x80", b"9" * 40, b"-1", b"A" * 3000, b"&" * 60, b"=" * 60,
)  # fmt: skip
HEADERS = (
    b"Content-Length: -1", b"Content-Length: 99999999999",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Expect: 100-continue",
    b"X-Koseki-Terminal: oshika-01", b"Host: takamori", b"Host:", b"Range: bytes=9999999-",
    b"Content-Type: multipart/form-data; boundary=", b"Cookie: " + b"a=b; " * 900, b"\x00: \x00",
    b"Upgrade: h2c\r\nConnection: Upgrade", b"Content-Encoding: br", b": nothing", b"NoColon",
)  # fmt: skip


def requests(seed: int) -> Iterator[bytes]:
    """Yield requests for ever, hardly one of them right."""
    chance = random.Random(seed)  # noqa: S311 - the same garbage at every run
    while True:
        if chance.random() < 0.1:
            yield chance.randbytes(chance.randrange(1, 4000))
            continue
        path = chance.choice(PATHS).encode()
        for _ in range(chance.randrange(3)):
            path += chance.choice((b"", b"?", b"/", b"&kana=", b"#")) + chance.choice(PIECES)
        method = chance.choice(METHODS).encode()
        version = chance.choice(
            (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/3.7", b"", b"XXXX/1")
        )
        head = [method + b" " + path + b" " + version, b"Host: gateway"]
        head += [chance.choice(HEADERS) for _ in range(chance.randrange(3))]
        body = chance.choice(PIECES) * chance.randrange(4)
        if chance.random() < 0.5:
            head += [b"Content-Type: application/x-www-form-urlencoded"]
            body = b"&".join(
                chance.choice((b"kind=", b"register=", b"name=", b"operator=", b"born=", b""))
                + chance.choice(PIECES)
                for _ in range(chance.randrange(8))
            )
        if chance.random() < 0.7:
            head += [b"Content-Length: %d" % len(body)]
        yield b"\r\n".join([*head, b"Connection: close", b"", body])


def answer(told: dict[str, Any], request: bytes, context: ssl.SSLContext | None) -> bytes:
    """Send a request over a connection of its own; return what came back, if anything."""
    said = b""
    try:
        with socket.create_connection((told["address"], 443), SECONDS) as plain:
            door = context.wrap_socket(plain, server_hostname=told["address"]) if context else plain
            door.sendall(request)
            if context is None:
                plain.shutdown(socket.SHUT_WR)
            # Where the gateway waits for the rest of a body, there is none.
            door.settimeout(0.25)
            while part := door.recv(65536):
                said += part
    except OSError:
        # No answer is an answer, too.
        return said
    return said


def judged(status: str, said: str, others: Iterable[str]) -> str:
    """Return what is wrong with an answer, empty when nothing is; others: words it may not hold."""
    clean = status == "503" and UNAVAILABLE in said
    tells = [word for word in others if word in said]
    return f"{status} {tells}" if tells or (status.startswith("5") and not clean) else ""


def main() -> None:
    """Send them all and judge each answer."""
    told = json.loads(sys.argv[1])
    trusted = ssl.create_default_context(cafile=told["authority"])
    certified = ssl.create_default_context(cafile=told["authority"])
    certified.load_cert_chain(f"{told['key']}.crt", f"{told['key']}.key")
    # By its certificate, by none, and without TLS at all.
    ways = (certified, certified, certified, certified, certified, certified, trusted, None)
    seen, bad = Counter[str](), list[str]()
    for number, request in zip(range(told["count"]), requests(told["seed"]), strict=False):
        said = answer(told, request, ways[number % len(ways)]).decode(errors="replace")
        status = said.split(" ", 2)[1] if said.startswith("HTTP/") else "none"
        seen[status] += 1
        if found := judged(status, said, told["others"]):
            bad.append(f"{request[:80]!r}: {found}")
    print(json.dumps({"seen": seen, "bad": bad}, ensure_ascii=False))


if __name__ == "__main__":
    main()
