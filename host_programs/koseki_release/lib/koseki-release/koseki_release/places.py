"""Where a release and what belongs to it lie on a host, and the units that run it."""

from __future__ import annotations

from pathlib import Path

BASE = Path("/opt/koseki")
STATE = Path("/var/lib/koseki/releases")
ENVIRONMENT = Path("/etc/koseki/application")
SOCKETS = Path("/run/koseki/application")
SIGNERS = Path("/etc/koseki/release_signers")
INCOMING = STATE / "incoming.tar.gz"
UNIT = "koseki-application@{}.service"
SOCKET_UNIT = "koseki-application@{}.socket"
