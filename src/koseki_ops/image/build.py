"""One host of the inventory as a bootable disk.

A bare machine of the build lab is made from the platform's own mirror and gets its baseline and its
services by the same deploys and roles as every other; what is left on its disk, less what makes it
that machine, becomes the image.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from cryptography import x509

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.files import put_file
from koseki_ops.core.language import _
from koseki_ops.core.progress import OnProgress
from koseki_ops.core.results import EngineResult
from koseki_ops.core.subprocesses import ask, run
from koseki_ops.engines import ansible_run, apply, pyinfra_run
from koseki_ops.image import disk, loader, lynis, sanitize, seal
from koseki_ops.image.tools import Tools
from koseki_ops.image.volumes import ROOT, Layout, layout_of
from koseki_ops.lab.lab import Lab, MachineSet
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.site import Site
from koseki_ops.supply.base_tree import ensure_tree
from koseki_ops.supply.mirror import VAULT_SUITE
from koseki_ops.trust.authorities import INTERNAL
from koseki_ops.trust.secrets import load_secrets, read_password

# The tree, the raw disk without its holes, the compressed one.
ROOM_BYTES = 6 << 30
PASSWORD = "boot_loader_password"  # noqa: S105 - the name of a secret
# Both consoles show the login prompt, and neither every record of use: those have their own file.
CONSOLES = ("console=tty0", "console=ttyS0,115200", "quiet")
# What can be done without asking anybody; the rest comes with the machine's first apply: services'
# certificates, who starts first, and the toolkit of a host that keeps watch, which knows its site.
DEPLOYS = tuple(path for path in apply.DEPLOYS if "watch_host" not in path)
STAGES = ("install", "configure")
PLACE_IN_TREE = Path("usr/share/koseki")


def build(site: Site, host: str, form: str, on_progress: OnProgress) -> Path:
    """Build, sign and put in place the image of a host; return its path.

    form: `qcow2` (compressed) or `raw`. Raises KosekiError; nothing half-made stays then.
    """
    inventory = Inventory(site.inventory)
    if host not in inventory.hosts:
        raise KosekiError(
            _("no such host in the inventory"),
            host,
            _("name one of `hosts.yml`: {hosts}").format(hosts=", ".join(inventory.hosts)),
        )
    secrets = load_secrets(site)
    if PASSWORD not in secrets:
        raise KosekiError(
            _("the secrets lack the boot loader's password"),
            PASSWORD,
            _("run `koseki secrets init`"),
        )
    apply.prepare(site, inventory)
    origin = seal.origin_of(site)
    place = seal.folder_of(site)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    free = shutil.disk_usage(place).free
    if free < ROOM_BYTES:
        raise KosekiError(
            _("an image needs more room"),
            _("{free} MiB left at {place}").format(free=free >> 20, place=place),
            _("free {room_bytes} MiB; `df {place}` shows the room").format(
                room_bytes=ROOM_BYTES >> 20, place=place
            ),
        )
    with apply.one_at_a_time(open_build_lab(site)):
        for left in place.glob(".building-*"):
            shutil.rmtree(left)
        aside = place / f".building-{os.getpid()}"
        aside.mkdir(mode=0o700)
        try:
            made = _build(site, inventory, host, form, origin, aside, on_progress)
            for path in sorted(aside.glob(f"{host}.*")):
                put_file(path, place / path.name)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise KosekiError(
                _("the disk is full"),
                str(place),
                _("free some room; `df {place}` shows it").format(place=place),
            ) from error
        finally:
            shutil.rmtree(aside)
    return place / made


def open_build_lab(site: Site) -> Site:
    """Return the site's workshop: machines and services' keys of its own, the site's authorities.

    What the image trusts is what the site trusts: who certifies people and engines, who signs
    releases, whose terminals are admitted. The services' own certificates are made by an authority
    that nobody knows, and none of them stays.
    """
    build_lab = site.build_lab
    ssh = build_lab.state / "ssh"
    ssh.mkdir(mode=0o700, parents=True, exist_ok=True)
    shared = [f"ssh/{name}" for name in ("user_ca", "host_ca")]
    shared += ["ssh/user_ca.pub", "ssh/host_ca.pub", "terminals", "release", "link"]
    for name in shared:
        link = build_lab.state / name
        if not link.is_symlink():
            link.symlink_to(site.state / name)
    return build_lab


def _build(
    site: Site,
    inventory: Inventory,
    host: str,
    form: str,
    origin: seal.Origin,
    aside: Path,
    on_progress: OnProgress,
) -> str:
    packages = inventory.platform.packages
    base = ensure_tree(site, [*packages["base"], *packages["image"]], VAULT_SUITE, on_progress)
    build_lab = site.build_lab
    lab = Lab(build_lab, on_progress, MachineSet((host,), base))
    lab.down()
    try:
        lab.up()
        _apply(lab, host, on_progress)
        on_progress(_("image: an independent audit"))
        audit = lynis.run_audit(build_lab, host, container=True)
        _place(aside / f"{host}{seal.AUDIT}", json.dumps(audit.as_json(), indent=1) + "\n")
        lab.stop(host)
        with _tree(lab.machine(host).upper, base, aside) as tree:
            on_progress(_("image: taking away who the machine was"))
            layout = layout_of(inventory, site.inventory_name, host)
            _finish(site, inventory, host, origin, layout, tree, on_progress)
            name = _write(host, form, origin, layout, tree, aside, on_progress)
    finally:
        lab.down()
    seal.seal(
        site,
        seal.Description(
            host,
            form,
            origin,
            seal.digest(aside / name),
            (aside / name).stat().st_size,
            seal.digest(aside / f"{host}{seal.SBOM}"),
            seal.digest(aside / f"{host}{seal.AUDIT}"),
        ),
        aside / f"{host}{seal.DESCRIPTION}",
    )
    return name


def _apply(lab: Lab, host: str, on_progress: OnProgress) -> None:
    """Let the engines do on the build machine what they do anywhere."""
    build_lab, upper = lab.site, lab.machine(host).upper
    on_progress(_("baseline: the build machine"))
    done = pyinfra_run.run_deploys(
        build_lab, list(DEPLOYS), limit=[host], check=False, progress=on_progress
    )
    refuse_failure(done, host)
    if host in lab.inventory.hosts_in("city"):
        roles = sorted(path.name for path in (build_lab.root / "roles").iterdir())
        tags = [f"{role}_{stage}" for role in roles for stage in STAGES]
        on_progress(_("services: the build machine"))
        wanted = _wanted_at_boot(upper)
        done = ansible_run.run_playbook(
            build_lab,
            apply.PLAYBOOK,
            limit=[host],
            check=False,
            progress=on_progress,
            tags=tags,
            at_rest=True,
        )
        refuse_failure(done, host)
        # A package wants its daemon at every boot; without the certificates and the secrets that
        # come with the first apply it could only fail. A link that was left, an alias say, would
        # tell that apply that the unit is enabled already.
        if units := sorted({link.name for link in _wanted_at_boot(upper) - wanted}):
            lab.exec(host, ["systemctl", "disable", "--quiet", *units]).check_returncode()


def _wanted_at_boot(upper: Path) -> set[Path]:
    """Return the links by which units are started at boot."""
    return {path for path in upper.glob("etc/systemd/system/*.wants/*") if path.is_symlink()}


def refuse_failure(result: EngineResult, host: str) -> None:
    """Raise KosekiError with an engine's own words where it failed on a host."""
    found = result.hosts[host]
    if found.failed or found.unreachable:
        raise KosekiError(
            _("{engine} could not make {host}").format(engine=result.engine, host=host),
            " ".join(found.errors)[-300:],
            _("remove the cause that it names, then run `koseki image build {host}` again").format(
                host=host
            ),
        )


@contextmanager
def _tree(upper: Path, base: Path, aside: Path) -> Iterator[Path]:
    """Yield a machine's whole tree; what is changed in it leaves the machine's own files alone.

    The mount is this process's alone and ends with it.
    """
    os.unshare(os.CLONE_NEWNS)
    run(["mount", "--make-rprivate", "/"])
    tree, over, work = aside / "tree", aside / "over", aside / "work"
    for folder in (tree, over, work):
        folder.mkdir()
    options = f"lowerdir={upper}:{base},upperdir={over},workdir={work}"
    run(["mount", "-t", "overlay", "overlay", "-o", options, str(tree)])
    try:
        yield tree
    finally:
        run(["umount", str(tree)])


def _finish(
    site: Site,
    inventory: Inventory,
    host: str,
    origin: seal.Origin,
    layout: Layout,
    tree: Path,
    on_progress: OnProgress,
) -> None:
    """Make a machine's tree one that any machine may start from."""
    secrets = load_secrets(site)
    values = [*_values(secrets), read_password(site).decode()]
    own_ones = [site.build_lab.state / folder / "ca.crt" for folder in INTERNAL]
    known = [x509.load_pem_x509_certificate(it.read_bytes()) for it in own_ones if it.exists()]
    for found in sanitize.strip_identity(tree, values, known, origin.moment):
        on_progress(_("image: left out /{path}: {what}").format(path=found.path, what=found.what))
    own = files("koseki_ops.image").joinpath("files")
    for name, path, mode in (
        ("koseki-first-boot", "usr/local/sbin/koseki-first-boot", 0o755),
        ("koseki-first-boot.service", "etc/systemd/system/koseki-first-boot.service", 0o644),
    ):
        _place(tree / path, own.joinpath(name).read_text(encoding="utf-8"), mode)
    wants = tree / "etc/systemd/system/multi-user.target.wants/koseki-first-boot.service"
    wants.symlink_to("/etc/systemd/system/koseki-first-boot.service")
    lab = Lab(site.build_lab, machine_set=MachineSet((host,)))
    _place(
        tree / "etc/systemd/network/10-koseki.network", lab.network.link_file(host, "Type=ether")
    )
    _place(tree / "etc/fstab", "".join(volume.fstab for volume in layout.volumes))
    for volume in layout.volumes:
        (tree / str(volume.mount).lstrip("/")).mkdir(parents=True, exist_ok=True)
    # The kernel takes its rules at boot and locks them: a rule on a folder that comes with the
    # first apply would be none until the next boot. Who owns the folder gives it its rights then.
    for watched in inventory.audited_key_files(host):
        if watched.endswith("/"):
            (tree / watched.strip("/")).mkdir(parents=True, exist_ok=True)
    words = [*inventory.platform.kernel_command_line, *CONSOLES]
    _place(
        tree / loader.CONFIGURATION,
        loader.configuration(layout, words, secrets[PASSWORD], host),
        0o600,
    )
    (tree / loader.CONFIGURATION.parent).chmod(0o700)
    _place(tree / PLACE_IN_TREE / "image.json", json.dumps({"host": host, **asdict(origin)}) + "\n")
    on_progress(_("image: making the initial file system"))
    _in_tree(tree, origin.moment, ["update-initramfs", "-u", "-k", "all"])
    seal.write_sbom(tree, host, origin, tree / PLACE_IN_TREE / f"image{seal.SBOM}")
    on_progress(_("image: looking for secrets"))
    for found in sanitize.scan(tree, values):
        raise KosekiError(
            _("the image would contain a secret"),
            f"/{found.path}: {found.what}",
            _("keep it out in the role or deploy that writes it (docs/images.md)"),
        )
    sanitize.clamp_mtimes(tree, origin.moment)


def _values(content: Any) -> Iterator[str]:  # noqa: ANN401 - secrets are text in tables
    """Yield every secret's value."""
    if isinstance(content, dict):
        for inner in content.values():
            yield from _values(inner)
    elif isinstance(content, list):
        for inner in content:
            yield from _values(inner)
    else:
        yield str(content)


def _place(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _in_tree(tree: Path, moment: int, argv: list[str]) -> None:
    """Run a program of the tree in it, cut off from this computer's network."""
    inside = ["unshare", "--net", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--mount"]
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
    known = ["env", "-i", path, "LANG=C.UTF-8", f"SOURCE_DATE_EPOCH={moment}"]
    run([*inside, "chroot", str(tree), *known, *argv])


def _write(
    host: str,
    form: str,
    origin: seal.Origin,
    layout: Layout,
    tree: Path,
    aside: Path,
    on_progress: OnProgress,
) -> str:
    """Write the disk from the tree; return the name of its file."""
    trees = _split(layout, tree, aside, origin.moment)
    raw = aside / "disk.raw"
    on_progress(_("image: writing the disk"))
    disk.write(Tools(tree, origin.moment), layout, trees, raw)
    name = f"{host}.{form}"
    if form == "raw":
        raw.rename(aside / name)
    else:
        on_progress(_("image: compressing"))
        disk.squeeze(raw, aside / name)
    sbom = tree / PLACE_IN_TREE / f"image{seal.SBOM}"
    shutil.copyfile(sbom, aside / f"{host}{seal.SBOM}")
    return name


def _split(layout: Layout, tree: Path, aside: Path, moment: int) -> dict[str, Path]:
    """Move what belongs to a volume of its own out of the tree; return each volume's tree."""
    trees = {str(ROOT): tree}
    for number, volume in enumerate(layout.volumes):
        if volume.mount == ROOT:
            continue
        mount = tree / str(volume.mount).lstrip("/")
        own = aside / f"volume-{number}"
        # With owners, modes and times; what is left is the folder that it is mounted on.
        ask(["cp", "--archive", mount, own])
        shutil.rmtree(mount)
        mount.mkdir(mode=0o755)
        sanitize.clamp_mtimes(tree, moment)
        trees[str(volume.mount)] = own
    return trees
