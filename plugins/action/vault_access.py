"""Answers on the workstation what a database's host needs to enter the vaults.

The host shows its public key; its certificate is signed here when that is due. The vaults' host
keys are those that an apply has met.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.trust.ssh_ca import upload_certificate, vault_host_keys


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible's classes are untyped here
    """Asks the site's state; nothing is done on the host."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return `certificate`, empty under check when it had to be signed, and `known_hosts`."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, arguments = task_vars or {}, self._task.args
        host, folder = str(variables["inventory_hostname"]), Path(arguments["site_folder"])
        try:
            site = Site.open(Path(variables["inventory_dir"]).name, folder.name)
            inventory = Inventory(site.inventory)
            certificate = upload_certificate(
                site, inventory, host, arguments["public_key"], sign=not self._task.check_mode
            )
            known_hosts = vault_host_keys(site, inventory, host)
        except KosekiError as error:
            raise AnsibleActionFail(str(error)) from error
        return {**result, "changed": False, "certificate": certificate, "known_hosts": known_hosts}
