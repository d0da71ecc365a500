"""HTTP on the municipality's socket, which systemd holds: no connection is refused at a restart.

One request a connection. When told to stop, an instance answers what it has accepted; what still
waits in the socket's queue is answered by the instance that follows.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import socketserver
import sys
import threading
import traceback
from types import FrameType
from typing import Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler

from koseki_sample.application import Application
from koseki_sample.settings import Settings

# systemd's first descriptor.
FIRST = 3
# A client that says nothing for so long is gone.
SECONDS = 30
LINE_LIMIT = 8192


class Answer(ServerHandler):
    """How a request is answered; a fault is noted without what it was about."""

    request_handler: Handler

    def log_exception(self, exc_info: Any) -> None:  # noqa: ANN401 - the library's own type
        """Note kind and place only: a message may hold a name out of a register."""
        kind, _, trace = exc_info
        place = traceback.extract_tb(trace)[-1]
        print(f"{kind.__name__} in {place.filename}:{place.lineno}", file=sys.stderr, flush=True)


class Handler(WSGIRequestHandler):
    """One request; nothing of it is logged here: the gateway's log has no personal data either."""

    server: Server
    timeout = SECONDS
    server_version = "koseki"
    sys_version = ""

    def address_string(self) -> str:
        """Name the peer: a local socket has no address."""
        return "gateway"

    def handle(self) -> None:
        """Answer one request."""
        self.raw_requestline = self.rfile.readline(LINE_LIMIT + 1)
        if len(self.raw_requestline) > LINE_LIMIT:
            self.requestline = self.request_version = self.command = ""
            self.send_error(414)
            return
        if not self.parse_request():
            return
        streams = (self.rfile, self.wfile, self.get_stderr())
        handler = Answer(*streams, self.get_environ())  # type: ignore[arg-type] # typeshed's rfile is no IO
        handler.server_software = "koseki"
        handler.request_handler = self
        handler.run(self.server.application)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Keep requests out of the journal: their lines hold names."""


class Server(socketserver.ThreadingMixIn, socketserver.BaseServer):
    """A thread a request on a socket that is given."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, listening: socket.socket, settings: Settings) -> None:
        """Take the socket over; it stays open and bound when this server ends."""
        super().__init__("", Handler)
        self.socket = listening
        self.application = Application(settings)
        # What WSGIRequestHandler.get_environ asks for.
        self.base_environ = {
            "SERVER_NAME": settings.slug,
            "SERVER_PORT": "0",
            "GATEWAY_INTERFACE": "CGI/1.1",
            "REMOTE_HOST": "",
            "CONTENT_LENGTH": "",
            "SCRIPT_NAME": "",
        }

    def fileno(self) -> int:
        """Give the descriptor that is waited on."""
        return self.socket.fileno()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection."""
        connection, _ = self.socket.accept()
        connection.settimeout(SECONDS)
        return connection, ("gateway", 0)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - the library's own type
        """Say that nothing follows, then close."""
        # A peer that has gone already is told nothing.
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
        self.close_request(request)

    def close_request(self, request: Any) -> None:  # noqa: ANN401 - the library's own type
        """Close a connection."""
        request.close()


def main() -> None:
    """Serve until told to stop."""
    server = Server(socket.socket(fileno=FIRST), Settings.read())

    def stop(_number: int, _frame: FrameType | None) -> None:
        # `shutdown` waits for the loop, which this handler interrupts: another thread must wait.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    server.serve_forever(poll_interval=0.1)
    # Waits for the threads that still answer.
    server.server_close()
