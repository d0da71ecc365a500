"""The authorities of a site, which cannot be remade: hosts believe these and no others.

They are made before the first host is met. Afterwards one that is missing is a loss, and a new one
in its place would be believed by nobody: connections would end, counters would be shut out.

Each certifies for one purpose and is believed where that purpose is: whoever holds a certificate of
one is a stranger to who asks for another's.
"""

from __future__ import annotations

from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import N_, _
from koseki_ops.plan.site import BUILD_LAB, Site
from koseki_ops.trust.x509 import INTERNAL_CA, open_authority

# By their place in the site's state: what each certifies.
AUTHORITIES = {
    "ssh/user_ca": N_("people and engines at the hosts' sshd"),
    "ssh/host_ca": N_("the hosts to whoever connects"),
    "pki/ca.key": N_("servers to whoever asks them"),
    "pki/ca.crt": N_("servers to whoever asks them"),
    "cluster/ca.key": N_("the members of the cluster to one another"),
    "cluster/ca.crt": N_("the members of the cluster to one another"),
    "roles/ca.key": N_("the municipalities' roles at the databases"),
    "roles/ca.crt": N_("the municipalities' roles at the databases"),
    "terminals/ca.key": N_("the municipalities' terminals"),
    "terminals/ca.crt": N_("the municipalities' terminals"),
}
# The internal ones: their folders in the site's state, and what each is called.
INTERNAL = {
    "pki": INTERNAL_CA,
    "cluster": "koseki cluster CA",
    "roles": "koseki roles CA",
}
# Those that came later: a host that was met before has not heard of them, and its manifest says by
# this file whether it has.
BELIEVED_IN = {
    "cluster": "/etc/koseki/pki/cluster.crt",
    "roles": "/etc/koseki/pki/roles.crt",
}


def ensure_internal(site: Site, passphrase: str, days: int) -> None:
    """Make the internal authorities that are not there yet; days: the life of a new one.

    Raises KosekiError when the passphrase does not open one that is there.
    """
    for folder, name in INTERNAL.items():
        open_authority(site.state / folder, passphrase, days, name)


def require(site: Site) -> None:
    """Raise KosekiError when hosts were met and an authority that they believe is not here.

    A host that keeps watch has none; what an image is made with is thrown away.
    """
    if site.watch_host or site.name.endswith(BUILD_LAB) or not _hosts_were_met(site):
        return
    for place, certifies in AUTHORITIES.items():
        path = site.state / place
        if not path.exists() and _is_believed(site, Path(place).parent.name):
            raise KosekiError(
                _("the authority that certifies {certifies} is not here").format(
                    certifies=_(certifies)
                ),
                str(path),
                _(
                    "bring back the copy of `var/{site}` that is kept elsewhere; nothing "
                    "was made in its place"
                ).format(site=site.name),
            )


def _is_believed(site: Site, folder: str) -> bool:
    """Say whether a host was told of an authority; of those from the beginning each was."""
    file = BELIEVED_IN.get(folder)
    return file is None or any(
        f'"{file}"' in path.read_text(encoding="utf-8") for path in site.manifests.glob("*.json")
    )


def _hosts_were_met(site: Site) -> bool:
    return any(site.manifests.glob("*.json"))
