"""Signatures over files that leave the workstation: by SSH keys, each for one purpose."""

from __future__ import annotations

from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_atomic
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import ask, run

KEY, SIGNERS = "signing_key", "allowed_signers"


def make_key(folder: Path, site: str, signer: str, namespace: str) -> Path:
    """Make a signing key in a folder and allow it, unless there is one; return the private key.

    signer: who signs, as `releases`; namespace: what may be signed, as `koseki-release`.
    """
    key, signers = folder / KEY, folder / SIGNERS
    make_pair(key, f"{site} {signer}")
    if not signers.exists():
        allow(signers, signer, namespace, key)
    return key


def make_pair(key: Path, comment: str) -> None:
    """Make a key of this name unless there is one; comment: what stands beside the public half."""
    if not key.exists():
        key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        run(
            [
                "ssh-keygen",
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-C",
                comment,
                "-f",
                str(key),
            ]
        )


def allow(signers: Path, signer: str, namespace: str, key: Path) -> None:
    """Add who may sign by a key, and for what, to the end of a list of signers."""
    public = key.with_suffix(".pub").read_text(encoding="ascii").split()
    before = signers.read_text(encoding="ascii") if signers.exists() else ""
    write_atomic(signers, f'{before}{signer} namespaces="{namespace}" {public[0]} {public[1]}\n')


def sign(path: Path, key: Path, namespace: str, tail: str = ".sig") -> Path:
    """Sign a file; return the signature's path beside it: its name and tail."""
    for needed, what in ((path, _("file to sign")), (key, _("signing key"))):
        if not needed.is_file():
            raise KosekiError(
                _("no such {what}").format(what=what),
                str(needed),
                _("name a file that exists, as `koseki release sign -h` shows"),
            )
    signature = path.with_name(path.name + tail)
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key)]
    write_atomic(signature, ask(argv, stdin=path.read_bytes(), error=_not_signed).out)
    return signature


def _not_signed(reason: str) -> KosekiError:
    return KosekiError(
        _("the file could not be signed"),
        reason,
        _("name a key that this account can use, with `--key`"),
    )


def is_signed(path: Path, signers: Path, namespace: str) -> bool:
    """Say whether a file's signature beside it is one of the allowed signers'."""
    signature = path.with_name(path.name + ".sig")
    if not signature.is_file() or not signers.is_file():
        return False
    argv = ["ssh-keygen", "-Y", "verify", "-n", namespace, "-f", str(signers)]
    for who in {line.split()[0] for line in signers.read_text(encoding="ascii").splitlines()}:
        with path.open("rb") as file:
            # 255: it is none of theirs, or none at all.
            done = ask([*argv, "-I", who, "-s", signature], answers=(0, 255), stdin=file)
        if done.code == 0:
            return True
    return False
