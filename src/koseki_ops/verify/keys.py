"""Each key on a host, tried at doors that are not its own, by a process of its owner.

What a certificate opens is not told from files: it is shown, and somebody answers or does not.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from koseki_ops.verify.batch import ANSWER_SECONDS, Question

# Where services keep keys of the platform's; a key's certificate lies beside it.
PLACES = ("/etc/etcd", "/etc/patroni", "/etc/haproxy", "/etc/koseki")
NO_KEY = "no key"
# As each key's owner: shows the certificate, asks what it is told, and says the answer's status, or
# why there was no answer. The servers are recognised by the platform's authority for servers.
PROGRAM = r"""
import http.client, json, os, pathlib, ssl, sys

task = json.loads(sys.argv[1])

def attempt(pair, address, port, method, path, body):
    try:
        way = ssl.create_default_context(cafile="/etc/koseki/pki/ca.crt")
        if pair:
            way.load_cert_chain(*pair)
        door = http.client.HTTPSConnection(address, port, context=way, timeout=task["seconds"])
        door.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = door.getresponse()
        return f"{answer.status} {answer.read(200).decode(errors='replace')}"
    except (OSError, http.client.HTTPException) as error:
        return f"refused: {type(error).__name__} {error}"[:200]

def as_owner(pair):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if pair:
                owner = os.stat(pair[1])
                os.setgroups([])
                os.setgid(owner.st_gid)
                os.setuid(owner.st_uid)
            answers = [attempt(pair, *way) for way in task["ways"]]
            os.write(writing, json.dumps(answers).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        answers = file.read()
    os.waitpid(child, 0)
    return json.loads(answers) if answers else ["refused: it ended"] * len(task["ways"])

pairs = {task["no key"]: None}
for place in task["places"]:
    for key in sorted(pathlib.Path(place).rglob("*.key")):
        for certificate in (key.with_suffix(".crt"), key.with_suffix("")):
            if not key.is_symlink() and certificate.exists():
                pairs[str(key)] = (str(certificate), str(key))
print(json.dumps({name: as_owner(pair) for name, pair in pairs.items()}))
"""

# A way to a door: address, port, method, path, body.
Way = tuple[str | None, int, str, str, dict[str, object]]


def every_key(ways: Sequence[Way]) -> Question:
    """Return the question what each key of a host, and none, meets on each way.

    The answer is JSON: by the key's path, a word for each way in their order: the status and the
    beginning of an answer, or `refused: ` and why.
    """
    task = {"ways": ways, "places": PLACES, "no key": NO_KEY, "seconds": ANSWER_SECONDS}
    argv = ["python3", "-I", "-c", PROGRAM, json.dumps(task)]
    return Question(shlex.join(argv), aside=True, seconds=60)
