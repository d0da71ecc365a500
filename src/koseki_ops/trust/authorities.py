"""The authorities of a site, which cannot be remade: hosts believe these and no others.

They are made before the first host is met. Afterwards one that is missing is a loss, and a new one
in its place would be believed by nobody: connections would end, counters would be shut out.
"""

from __future__ import annotations

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import N_, _
from koseki_ops.plan.site import BUILD_LAB, Site

# By their place in the site's state: what each certifies.
AUTHORITIES = {
    "ssh/user_ca": N_("people and engines at the hosts' sshd"),
    "ssh/host_ca": N_("the hosts to whoever connects"),
    "pki/ca.key": N_("the hosts and services to one another"),
    "pki/ca.crt": N_("the hosts and services to one another"),
    "terminals/ca.key": N_("the municipalities' terminals"),
    "terminals/ca.crt": N_("the municipalities' terminals"),
}


def require(site: Site) -> None:
    """Raise KosekiError when hosts were met and an authority that they believe is not here.

    A host that keeps watch has none; what an image is made with is thrown away.
    """
    if site.watch_host or site.name.endswith(BUILD_LAB) or not _hosts_were_met(site):
        return
    for place, certifies in AUTHORITIES.items():
        path = site.state / place
        if not path.exists():
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


def _hosts_were_met(site: Site) -> bool:
    return any(site.manifests.glob("*.json"))
