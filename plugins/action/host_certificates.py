"""Keep a host's certificates in one question and, when needed, one answer.

The host makes its keys and shows their public halves; what is missing, foreign or old is signed
here, on the workstation, and sent back. In the usual case nothing is sent back. Each certificate is
signed by the authority of its purpose, for what that authority certifies and nothing else.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from koseki_ops.core.errors import KosekiError
from koseki_ops.drift.judge.declared import Declared
from koseki_ops.trust.x509 import USAGES, Authority, Request, open_authority, sign, still_good

MODULE = "host_certificates"


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible's classes are untyped here
    """Runs the module to ask, signs, and runs it again to install."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the module's result; `renewed` names the certificates that were signed."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        known, trusted = arguments.pop("authorities"), arguments.pop("trusted")
        passphrase = arguments.pop("authority_passphrase")
        authority_days = int(arguments.pop("authority_days"))
        days, renew = int(arguments.pop("days")), int(arguments.pop("renew_days"))
        self._refuse_shared_folders(arguments["certificates"])
        asked_for = {entry["authority"] for entry in arguments["certificates"]} | {*trusted}
        authorities: dict[str, Authority] = {}
        try:
            for name in sorted(asked_for):
                row = known[name]
                authorities[name] = open_authority(
                    Path(row["folder"]), passphrase, authority_days, row["name"]
                )
        except KosekiError as error:
            raise AnsibleActionFail(str(error)) from error
        arguments["authorities"] = {known[name]["path"]: authorities[name].pem for name in trusted}
        asked = self._execute_module(MODULE, arguments, task_vars=task_vars)
        if asked.get("failed"):
            return {**result, **asked}
        self._declare(
            str((task_vars or {})["inventory_hostname"]),
            arguments["authorities"],
            arguments["certificates"],
        )
        signed: dict[str, str] = {}
        for entry in arguments["certificates"]:
            state = asked["states"][entry["name"]]
            names = tuple(entry.get("names", []))
            authority = authorities[entry["authority"]]
            usages = tuple(USAGES[usage] for usage in entry["usages"])
            request = Request(entry["common_name"], names, days, renew, usages=usages)
            if not state["public_key"]:
                signed[entry["name"]] = ""  # check mode on a bare host: there is no key yet
            elif not still_good(authority, request, state["public_key"], state["certificate"]):
                signed[entry["name"]] = (
                    # Nothing is signed to be thrown away; and who watches has no key to sign with.
                    "" if self._task.check_mode else sign(authority, request, state["public_key"])
                )
        result |= {"changed": bool(asked["changed"] or signed), "renewed": sorted(signed)}
        if signed and not self._task.check_mode:
            answer = self._execute_module(
                MODULE, {**arguments, "signed": signed}, task_vars=task_vars
            )
            if answer.get("failed"):
                return {**result, **answer}
        return result

    def _refuse_shared_folders(self, certificates: list[dict[str, Any]]) -> None:
        """Refuse keys of two groups in one folder: it is one group's, and shut to the other."""
        groups: dict[str, str] = {}
        for entry in certificates:
            folder = str(Path(entry["key"]).parent)
            if groups.setdefault(folder, entry["group"]) != entry["group"]:
                raise AnsibleActionFail(
                    f"{folder} would hold keys of {groups[folder]} and of {entry['group']}: "
                    "give each group a folder of its own"
                )

    def _declare(
        self, host: str, authorities: Iterable[str], certificates: list[dict[str, Any]]
    ) -> None:
        """Say for the host's manifest what is kept here: the task's own result is kept back."""
        folder = os.environ.get("KOSEKI_DECLARED_DIR")
        if folder is None or self._task.check_mode:
            return
        declared = Declared()
        for path in authorities:
            declared.file(path, None, "0644", "root", "root")
        for entry in certificates:
            declared.file(entry["key"], None, "0600", entry["owner"], entry["group"])
            declared.file(entry["certificate"], None, "0644", entry["owner"], entry["group"])
        handle, _ = tempfile.mkstemp(suffix=".json", dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"host": host, "declared": declared.rows}, file)
