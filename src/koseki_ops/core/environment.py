"""What a command takes over from whoever typed it: who and where he is, and nothing that steers.

A variable that is meant for another program (`ANSIBLE_SKIP_TAGS`, `PYTEST_ADDOPTS`, `http_proxy`,
`GIT_DIR`, `PGHOST`, a locale that does not exist, a umask) would change what is applied or verified
here. What is kept is a list; everything else is forgotten before the command begins. A locale is
read once, for the language of what a person reads, and handed on as `KOSEKI_LANG`. Only what
fetches from outside hears of the way there: proxies, certificates, pip's and apt's own settings.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from koseki_ops.core.language import VARIABLE, language_of

KEPT = frozenset({
    *("HOME", "USER", "LOGNAME", "SUDO_USER", "SHELL", "PATH", "TMPDIR"),
    *("TERM", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR"),
    # These decide when Python writes, and nothing of what it does.
    *("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"),
})  # fmt: skip
# The toolkit's own, and what click asks it by to complete a word.
KEPT_PREFIXES = ("KOSEKI_", "_KOSEKI_")
FETCHING = frozenset({
    *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "APT_CONFIG"),
})  # fmt: skip
FETCHING_PREFIXES = ("PIP_",)
# Messages that are read by programs, in every language and on every machine.
LOCALE = {"LC_ALL": "C.UTF-8"}
UMASK = 0o022

_for_fetching: dict[str, str] = {}


def chosen(
    found: Mapping[str, str], names: frozenset[str], prefixes: tuple[str, ...]
) -> dict[str, str]:
    """Return the variables of these names, and of those that begin so."""
    return {
        name: value for name, value in found.items() if name in names or name.startswith(prefixes)
    }


def forget_caller() -> None:
    """Leave in this process's environment, and its children's, what is kept alone.

    Python itself has read its own variables by then: it is started once more without them.
    """
    found = dict(os.environ)
    kept = chosen(found, KEPT, KEPT_PREFIXES)
    kept.setdefault("PATH", os.defpath)
    kept[VARIABLE] = language_of(found)
    if any(name.startswith("PYTHON") and name not in KEPT for name in found):
        fetching = chosen(found, FETCHING, FETCHING_PREFIXES)
        # By its own name, where it has one: `koseki` stays what it is among the processes.
        argv = sys.orig_argv[1:]
        if not os.access(argv[0], os.X_OK):
            argv = [sys.executable, *argv]
        os.execve(argv[0], argv, kept | fetching)  # noqa: S606 - itself
    _for_fetching.update(chosen(found, FETCHING, FETCHING_PREFIXES))
    os.environ.clear()
    os.environ.update(kept | LOCALE)
    os.umask(UMASK)


def for_fetching() -> dict[str, str]:
    """Return the environment for a program that fetches from outside of this machine."""
    return {**os.environ, **_for_fetching}
