#!/usr/bin/python3
"""The host's half of host_certificates: keys are made here and never leave."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_certificates
short_description: Keep a host's private keys, and the certificates that the platform's CA signed
description:
  - Makes missing keys (EC P-256), shows public keys and present certificates, installs what the
    action plugin of the same name signed on the workstation.
options:
  authorities: {type: dict, required: true, description: Certificates of CAs to keep, PEM by path.}
  certificates:
    description: name, common_name, names, key, certificate, owner, group of each certificate.
    type: list
    elements: dict
    required: true
  signed: {type: dict, default: {}, description: PEM by name, to be installed.}
author: [koseki]
"""

EXAMPLES = r"""
- name: Keep this host's certificates
  host_certificates:
    authorities:
      servers: {folder: var/lab/pki, name: koseki internal CA, path: /etc/koseki/pki/ca.crt}
    trusted: [servers]
    certificates:
      - {name: etcd, common_name: primary1, names: [10.0.0.1], key: /etc/etcd/tls/server.key,
         certificate: /etc/etcd/tls/server.crt, owner: etcd, group: etcd, authority: servers}
"""

RETURN = r"""
states:
  description: public_key and certificate (PEM, empty when there is none) by name
  type: dict
  returned: always
"""

KEY_MODE = 0o600
CERTIFICATE_MODE = 0o644
FOLDER_MODE = 0o750


def read(path: str) -> str:
    """Return a file's text, empty when there is none."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="ascii") as file:
        return file.read()


def output_of(argv: list[str]) -> str:
    """Return what a program printed; its failure is ours."""
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout  # noqa: TID251 - the toolkit is not on hosts


def public_key(path: str) -> str:
    """Return the public half of a private key."""
    return output_of(["openssl", "pkey", "-in", path, "-pubout"])


class Host:
    """Files and folders of the certificates on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        """Start with nothing changed."""
        self.module, self.changed = module, False

    def write(self, path: str, text: str, mode: int, owner: int, group: int) -> None:
        """Replace a file in one step, with its rights."""
        self.changed = True
        if self.module.check_mode:
            return
        aside = f"{path}.koseki-new"
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
        os.chown(aside, owner, group)
        os.chmod(aside, mode)
        os.rename(aside, path)

    def rights(self, path: str, mode: int, owner: int, group: int) -> None:
        """Correct mode, owner and group of what is there."""
        state = os.stat(path)
        if (state.st_mode & 0o7777, state.st_uid, state.st_gid) != (mode, owner, group):
            self.changed = True
            if not self.module.check_mode:
                os.chown(path, owner, group)
                os.chmod(path, mode)

    def folder(self, path: str, mode: int, owner: int, group: int) -> None:
        """Keep a folder with its rights."""
        if not os.path.isdir(path):
            self.changed = True
            if self.module.check_mode:
                return
            os.makedirs(path, mode=0o755, exist_ok=True)
        self.rights(path, mode, owner, group)

    def keep(self, entry: dict[str, Any], signed: str | None) -> dict[str, str]:
        """Keep one key and its certificate; return what the workstation needs to know."""
        try:
            owner = pwd.getpwnam(entry["owner"]).pw_uid
            group = grp.getgrnam(entry["group"]).gr_gid
        except KeyError:
            if not self.module.check_mode:
                raise
            # A bare host under check: the account comes with a package or a task before.
            self.changed = True
            return {"public_key": "", "certificate": ""}
        self.folder(os.path.dirname(entry["key"]), FOLDER_MODE, 0, group)
        if not os.path.exists(entry["key"]):
            made = ""
            if not self.module.check_mode:
                argv = ["openssl", "genpkey", "-algorithm", "EC"]
                argv += ["-pkeyopt", "ec_paramgen_curve:P-256"]
                made = output_of(argv)
            self.write(entry["key"], made, KEY_MODE, owner, group)
        else:
            self.rights(entry["key"], KEY_MODE, owner, group)
        if signed:
            self.write(entry["certificate"], signed, CERTIFICATE_MODE, owner, group)
        public = public_key(entry["key"]) if os.path.exists(entry["key"]) else ""
        return {"public_key": public, "certificate": read(entry["certificate"])}


def main() -> None:
    """Keep all certificates of this host."""
    module = AnsibleModule(
        argument_spec={
            "authorities": {"type": "dict", "required": True},
            "certificates": {"type": "list", "elements": "dict", "required": True},
            "signed": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    host = Host(module)
    for path, pem in sorted(module.params["authorities"].items()):
        host.folder(os.path.dirname(path), 0o755, 0, 0)
        if read(path) != pem:
            host.write(path, pem, CERTIFICATE_MODE, 0, 0)
    try:
        states = {
            entry["name"]: host.keep(entry, module.params["signed"].get(entry["name"]))
            for entry in module.params["certificates"]
        }
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=f"openssl failed: {error.stderr.strip()}")
    module.exit_json(changed=host.changed, states=states)


if __name__ == "__main__":
    main()
