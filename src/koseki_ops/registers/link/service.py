"""The resident registries that exchange files: their keys here, their links asked on the host.

Under `var/<site>/link/`: `<slug>.pub`, the key that a town's registry comes with; in a lab also
`lab/<slug>`, the key of its stand-in.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_atomic
from koseki_ops.core.foreign import rows_from
from koseki_ops.core.language import _
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import Platform
from koseki_ops.plan.site import Site
from koseki_ops.remote.run import run as run_on
from koseki_ops.remote.ssh_config import ensure_site_ssh
from koseki_ops.trust.signatures import make_pair

PROGRAM = "/usr/local/sbin/koseki-link"
# One key, of the only kind that the exchange admits; what stands before it would be options.
KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{68}(?: [!-~]{1,100})?\n?")


def folder_of(site: Site) -> Path:
    """Return where a site keeps the registries' public keys."""
    return site.state / "link"


def stand_in_of(site: Site, slug: str) -> Path:
    """Return where a lab keeps the private key of a town's registry that it plays."""
    return folder_of(site) / "lab" / slug


def joined(platform: Platform) -> list[str]:
    """Return the slugs of the municipalities that have joined."""
    return [municipality.slug for municipality in platform.joined]


def verify_keys(site: Site, platform: Platform) -> None:
    """Raise KosekiError for the first joined town whose registry has no key here."""
    for slug in joined(platform):
        path = folder_of(site) / f"{slug}.pub"
        if not path.exists():
            raise KosekiError(
                _("the registry of {slug} has no key").format(slug=slug),
                str(path),
                _("put the municipality's public key there: `koseki link key {slug} FILE`").format(
                    slug=slug
                ),
            )


def keep_key(site: Site, platform: Platform, slug: str, file: Path) -> Path:
    """Keep the public key of a town's registry, and return where; KosekiError when it is none."""
    _verify_slug(platform, slug)
    try:
        text = file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise KosekiError(
            _("the key cannot be read"),
            f"{file}: {error}",
            _("give the file: `koseki link key MUNICIPALITY FILE`"),
        ) from error
    if not KEY.fullmatch(text):
        raise KosekiError(
            _("not one public key of the type ssh-ed25519"),
            f"{file}: {text[:40]!r}",
            _("get the .pub file of its registry's key from the municipality (docs/link.md)"),
        )
    path = folder_of(site) / f"{slug}.pub"
    write_atomic(path, text.rstrip("\n") + "\n")
    return path


def ensure_stand_ins(site: Site, platform: Platform) -> None:
    """Keep a key for the registry of each town of the plan, which a lab plays."""
    for municipality in platform.municipalities:
        key = stand_in_of(site, municipality.slug)
        make_pair(key, municipality.slug)
        keep_key(site, platform, municipality.slug, key.with_suffix(".pub"))


def _verify_slug(platform: Platform, slug: str) -> None:
    known = [municipality.slug for municipality in platform.municipalities]
    if slug not in known:
        raise KosekiError(
            _("no such municipality"),
            slug,
            _("name one of {known} (`koseki municipalities`)").format(known=", ".join(known)),
        )


def ask(
    site: Site, platform: Platform, slugs: Sequence[str], words: Sequence[str]
) -> list[dict[str, Any]]:
    """Ask the link's program on its host about towns, one after the other; return its answers.

    slugs: empty for all that have joined; words: the program's own. KosekiError with its sentence
    when it refuses, and when the host does not answer.
    """
    municipalities = list(slugs) or joined(platform)
    for slug in municipalities:
        if slug not in joined(platform):
            raise KosekiError(
                _("no such municipality, or it has not joined"),
                slug,
                _("name one of {joined} (`koseki municipalities`)").format(
                    joined=", ".join(joined(platform))
                ),
            )
    inventory = Inventory(site.inventory)
    ensure_site_ssh(site, inventory)
    (host, *_more) = inventory.hosts_in("registry_link")
    calls = [f"sudo -n {PROGRAM} {shlex.join([slug, *words])}" for slug in municipalities]
    done = run_on(site, host, " && ".join(calls))
    if done.code:
        raise KosekiError(
            _("`koseki-link {words}` failed on {host}").format(words=" ".join(words), host=host),
            done.reason.removeprefix("koseki-link: "),
            _("see `koseki link status`, and `journalctl -u 'koseki-link@*'` on {host}").format(
                host=host
            ),
        )
    answers = rows_from(host, done.stdout)
    if not all(isinstance(answer, dict) for answer in answers) or len(answers) != len(
        municipalities
    ):
        seen = _("{count} answers about {count2} municipalities").format(
            count=len(answers), count2=len(municipalities)
        )
        raise KosekiError(
            _("the link on {host} did not answer what it was asked").format(host=host),
            seen,
            _("see `journalctl -n 50` on {host}, then run the same command again").format(
                host=host
            ),
        )
    return answers
