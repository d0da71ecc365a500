"""What an image says of itself, signed: which host, which commit, which bytes."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import write_atomic
from koseki_ops.core.git import git
from koseki_ops.core.language import _
from koseki_ops.core.subprocesses import ask
from koseki_ops.plan.revision import inputs_of
from koseki_ops.plan.site import Site
from koseki_ops.supply.mirror import mirror_folder
from koseki_ops.trust import signatures

NAMESPACE, SIGNER = "koseki-image", "images"
FORMATS = ("qcow2", "raw")
DESCRIPTION, SBOM, AUDIT = ".json", ".spdx.json", ".witness.json"


@dataclass(frozen=True)
class Origin:
    """What an image is made from.

    commit: git's full name of it, with `+` when the checkout differs from it; tree: the hash of
    inventory, roles and deploys; mirror: the hash of the signed package lists; moment: the
    commit's, in seconds, which stands for now in everything that is built.
    """

    inventory: str
    commit: str
    tree: str
    mirror: str
    moment: int


@dataclass(frozen=True)
class Description:
    """What is signed.

    sha256, size: of the file as it lies there; sbom, audit: those files' SHA-256.
    """

    host: str
    format: str
    origin: Origin
    sha256: str
    size: int
    sbom: str
    audit: str


def folder_of(site: Site) -> Path:
    """Return where a site keeps its images, the key that signs them and who may sign."""
    return site.state / "images"


def origin_of(site: Site) -> Origin:
    """Return what an image would be made from now; KosekiError without git."""
    commit = _git(site, "rev-parse", "HEAD")
    changed = _git(site, "status", "--porcelain", "--untracked-files=no")
    lists = hashlib.sha256()
    for release in sorted((mirror_folder(site) / "dists").glob("*/Release")):
        lists.update(release.read_bytes())
    return Origin(
        site.inventory_name,
        commit + ("+" if changed else ""),
        inputs_of(site).tree,
        lists.hexdigest(),
        int(_git(site, "log", "-1", "--format=%ct")),
    )


def _git(site: Site, *words: str) -> str:
    def no_checkout(reason: str) -> KosekiError:
        return KosekiError(
            _("an image is made from a commit, and this is not a git checkout"),
            reason,
            _("work in a clone: `git clone`"),
        )

    return git(site.root, *words, error=no_checkout).text.strip()


def digest(path: Path) -> str:
    """Return a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sbom(tree: Path, host: str, origin: Origin, output: Path) -> None:
    """List a tree's packages as SPDX, from its own dpkg. output: ends in `.spdx.json`."""
    moment = datetime.fromtimestamp(origin.moment, UTC)
    argv = [sys.executable, "-m", "debsbom.cli", "generate", "-t", "spdx", "-r", str(tree)]
    argv += ["--distro-name", f"koseki-{host}", "--distro-version", origin.commit[:12]]
    argv += ["--timestamp", moment.isoformat(), "-o", str(output)]
    # A name, not an address: SPDX asks for a URI that no other document has.
    argv += ["--spdx-namespace", f"https://koseki.internal/{origin.tree}/{host}"]
    # The order of sets would tell one run from another.
    known = os.environ | {"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": str(origin.moment)}

    def not_made(reason: str) -> KosekiError:
        return KosekiError(
            _("the list of packages could not be made"), reason, _("run `make set-up`")
        )

    ask(argv, env=known, error=not_made)


def seal(site: Site, description: Description, output: Path) -> None:
    """Write what an image says of itself beside it, and sign that."""
    write_atomic(output, json.dumps(asdict(description), indent=1) + "\n")
    key = signatures.make_key(folder_of(site), site.name, SIGNER, NAMESPACE)
    signatures.sign(output, key, NAMESPACE)


def verify(site: Site, image: Path) -> Description:
    """Return what an image says of itself.

    Raises KosekiError when it is unsigned, altered, or made from something else than this
    checkout.
    """
    if not image.is_file():
        raise KosekiError(_("no such image"), str(image), _("run `koseki image build HOST`"))
    description = image.with_suffix(DESCRIPTION)
    if not description.is_file():
        raise KosekiError(
            _("the image has no description"), str(description), _("run `koseki image build HOST`")
        )
    if not signatures.is_signed(description, folder_of(site) / signatures.SIGNERS, NAMESPACE):
        raise KosekiError(
            _("the image is not signed by a known signer"),
            str(description),
            _("run `koseki image build HOST`"),
        )
    plain = json.loads(description.read_text(encoding="ascii"))
    if set(plain) != {field.name for field in fields(Description)}:
        raise KosekiError(
            _("another version made the image"),
            str(description),
            _("run `koseki image build HOST`"),
        )
    found = Description(**plain | {"origin": Origin(**plain["origin"])})
    beside = image.with_suffix(SBOM), image.with_suffix(AUDIT)
    wanted_of = zip((image, *beside), (found.sha256, found.sbom, found.audit), strict=True)
    for path, wanted in wanted_of:
        if not path.is_file() or digest(path) != wanted:
            raise KosekiError(
                _("the image was altered after it was signed"),
                str(path),
                _("run `koseki image build HOST`"),
            )
    here = origin_of(site)
    if (found.origin.commit, found.origin.tree) != (here.commit, here.tree):
        raise KosekiError(
            _("the image was made from another commit"),
            _("{commit}, here is {commit2}").format(
                commit=found.origin.commit[:12], commit2=here.commit[:12]
            ),
            _("run `koseki image build HOST`, or check that commit out"),
        )
    return found
