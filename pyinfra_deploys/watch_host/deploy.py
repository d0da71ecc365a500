"""The host that keeps watch: the toolkit on it, what it asks with, when it asks, whom it tells.

By hand: pyinfra @koseki/lab pyinfra_deploys/watch_host/deploy.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from pyinfra import host
from pyinfra.api import FileUploadCommand, StringCommand, deploy, operation
from pyinfra_deploys.baseline.host_data import HostData
from pyinfra_deploys.baseline.operations import (
    Absent,
    Commands,
    File,
    FileStates,
    ShellAnswer,
    ask,
    ensure,
    put_files,
)
from pyinfra_deploys.baseline.templates import environment

from koseki_ops.drift.judge.declared import Declared
from koseki_ops.supply.toolkit import (
    ACCOUNT,
    LOCK,
    STATE,
    TOOLKIT,
    VENV,
    toolkit_bundle,
    toolkit_digest,
    wheelhouse,
    wheels_bundle,
)
from koseki_ops.trust.ssh_ca import WATCH_HOSTS, WATCH_PRINCIPALS, watch_certificate
from koseki_ops.watch.schedule import RUNS

render = environment(Path(__file__).parent / "templates")
OPT = "/opt/koseki"
BUNDLE = f"{OPT}/.bundle.tar"
PASSWORD = "/etc/koseki/vault_password"  # noqa: S105 - a path
UNITS = "/etc/systemd/system"
# It started the engines here, under check.
FORMER_RUN = "koseki-second-opinion"
MTA, MTA_UNIT, MTA_CLIENT = "/etc/smtpd.conf", "opensmtpd.service", "/etc/msmtprc"
# Running checks are stopped first, so none continues with a half-replaced toolkit.
REST = "; ".join(
    f"systemctl --quiet is-active {run.unit}.timer && systemctl stop {run.unit}.service"
    for run in RUNS
)


@operation()
def keys(data: HostData) -> Commands:
    """Keep this host's own keys, made here, and the certificates that let it ask the others."""
    folder = f"{STATE}/{data.site.name}/ssh"
    paths = {principal: f"{folder}/{principal}" for principal in WATCH_PRINCIPALS}
    declared = Declared.of(data.name)
    for path in paths.values():
        declared.file(path, None, "0600", ACCOUNT, ACCOUNT)
        declared.file(f"{path}.pub", None, "0644", ACCOUNT, ACCOUNT)
    states = ask(FileStates, paths=tuple(paths.values()))
    for path in paths.values():
        if not states[path].startswith(f"600 {ACCOUNT} {ACCOUNT} "):
            yield StringCommand(
                f"[ -e {path} ] || ssh-keygen -q -t ed25519 -N '' -C {data.name} -f {path}; "
                f"chown {ACCOUNT}:{ACCOUNT} {path} {path}.pub; chmod 0600 {path}"
            )
    certificates = []
    for principal, path in paths.items():
        (public,) = ask(ShellAnswer, question=f"cat {path}.pub")
        certificate = watch_certificate(
            data.site, data.inventory, data.name, principal, f"{public}\n"
        )
        certificates.append(File(f"{path}-cert.pub", certificate, "0644", ACCOUNT, ACCOUNT))
    # The key of before entered the engines' account.
    former = [Absent(f"{folder}/automation{end}") for end in ("", ".pub", "-cert.pub")]
    yield from put_files._inner(files=[*certificates, *former])  # noqa: SLF001 - pyinfra's own way to call an operation inside another


@operation()
def toolkit(data: HostData) -> Commands:
    """Keep the toolkit and its packages; each is known by one hash, which is written last."""
    packages, wanted = wheelhouse(data.site).name, toolkit_digest(data.site, data.name)
    question = f"for f in {VENV} {TOOLKIT}; do cat $f/.koseki 2>/dev/null || echo nothing; done"
    answer = ask(ShellAnswer, question=question)
    if answer == [packages, wanted]:
        return
    if packages not in answer:
        yield from _unpacked(lambda: wheels_bundle(data.site), f"{OPT}/wheels")
        pip = f"{VENV}/bin/pip install -qq --disable-pip-version-check --no-index --no-cache-dir"
        yield StringCommand(
            f"cd {OPT}/wheels && rm -rf {VENV} && python3 -m venv {VENV} && "
            f"{pip} --require-hashes --find-links . -r {LOCK} && rm -rf {OPT}/wheels && "
            f"echo {packages} >{VENV}/.koseki"
        )
    yield from _unpacked(lambda: toolkit_bundle(data.site, data.name), f"{TOOLKIT}.new")
    pip = f"{VENV}/bin/pip install -qq --disable-pip-version-check --no-index --no-cache-dir"
    yield StringCommand(
        f"{REST}; cd {TOOLKIT}.new && {pip} --no-deps --force-reinstall ./*.whl && rm ./*.whl && "
        f"ln -s {STATE} var && chgrp -R {ACCOUNT} . && chmod -R u=rwX,g=rX,o= . && "
        f"echo {wanted} >.koseki && cd {OPT} && rm -rf {TOOLKIT} && mv {TOOLKIT}.new {TOOLKIT}"
    )


def _unpacked(make: Callable[[], bytes], folder: str) -> Commands:
    """Yield what lays a tar file's members down in a fresh folder; it is made in an apply only."""
    yield StringCommand(f"mkdir -p {OPT} && rm -rf {folder} && mkdir -m 0755 {folder}")
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        file.write(make())
        file.flush()
        yield FileUploadCommand(file.name, BUNDLE)
    yield StringCommand(f"tar -x --no-same-owner -f {BUNDLE} -C {folder} && rm {BUNDLE}")


@deploy("Keep watch: the toolkit")
def equipment(data: HostData) -> None:
    """Give the host its account, what it asks with, and the toolkit; no secret of the vault."""
    rooms = " ".join(f"{STATE}{place}" for place in _rooms(data))
    ensure(
        name="Keep the watch's account",
        question=f"getent passwd {ACCOUNT} | cut -d: -f6,7; for f in {rooms}; do "
        "stat -c '%a %U %G' $f 2>/dev/null || echo absent; done",
        wanted=[f"{STATE}:/usr/sbin/nologin", *[f"1770 root {ACCOUNT}"] * len(_rooms(data))],
        change=f"getent passwd {ACCOUNT} >/dev/null || useradd --system --user-group "
        f"--home-dir {STATE} --no-create-home {ACCOUNT}; "
        f"usermod --home {STATE} --shell /usr/sbin/nologin {ACCOUNT}; usermod --lock {ACCOUNT}; "
        f"install -d -m 1770 -o root -g {ACCOUNT} {rooms}",
        owns=[("user", ACCOUNT, {"shell": "/usr/sbin/nologin", "password": "locked"})],
    )
    keys(name="Keep what the watch asks with", data=data)
    put_files(name="Keep no secret of the vault", files=[Absent(PASSWORD)])
    toolkit(name="Keep the toolkit", data=data)


def _rooms(data: HostData) -> list[str]:
    """Return the folders, below its state, in which the watch writes beside what is root's."""
    return ["", *(f"/{data.site.name}{part}" for part in ("", "/ssh", "/drift"))]


@deploy("Keep watch: the mail")
def mail(data: HostData) -> None:
    """Keep the local MTA, which takes what the watch has to tell and hands it on."""
    alerts = data.plan.drift_alerts
    put_files(
        name="Keep whom mail is handed to",
        files=[File(MTA_CLIENT, render(MTA_CLIENT))],
    )
    put_files(
        name="Keep what the MTA does with mail",
        files=[File(MTA, render(MTA, relay=alerts.relay))],
        validate=f"smtpd -n -f $STAGE{MTA}",
        then=f"! systemctl --quiet is-active {MTA_UNIT} || systemctl restart {MTA_UNIT}",
    )
    ensure(
        name="Run the MTA",
        question=f'echo "$(systemctl is-enabled {MTA_UNIT}) $(systemctl is-active {MTA_UNIT})"',
        wanted=["enabled active"],
        change=f"systemctl enable --quiet --now {MTA_UNIT}",
        owns=[("service", MTA_UNIT, {"active": "active"})],
    )


@deploy("Keep watch: the schedule")
def schedule(data: HostData) -> None:
    """Keep the units that look at the platform by the clock."""
    times = data.plan.watch_schedule
    files = []
    for run in RUNS:
        values = {
            "run": run,
            "calendar": getattr(times, f"{run.name}_calendar"),
            "seconds": getattr(times, f"{run.name}_seconds"),
            "account": ACCOUNT,
            "programs": f"{VENV}/bin",
            "toolkit": TOOLKIT,
            "state": STATE,
        }
        for kind in ("service", "timer"):
            content = render(f"{UNITS}/koseki-watch.{kind}", **values)
            files.append(File(f"{UNITS}/{run.unit}.{kind}", content))
    put_files(
        name="Remove the run that needed secrets",
        files=[Absent(f"{UNITS}/{FORMER_RUN}.{kind}") for kind in ("service", "timer")],
        then=f"systemctl stop {FORMER_RUN}.timer {FORMER_RUN}.service; "
        f"rm -f {UNITS}/timers.target.wants/{FORMER_RUN}.timer; systemctl daemon-reload; "
        f"systemctl reset-failed '{FORMER_RUN}.*'",
    )
    put_files(name="Keep the units", files=files, then="systemctl daemon-reload")
    timers = [f"{run.unit}.timer" for run in RUNS]
    ensure(
        name="Watch by the clock",
        question="; ".join(
            f'echo "$(systemctl is-enabled {unit}) $(systemctl is-active {unit}) '
            f'$(systemctl show -P NeedDaemonReload {unit})"'
            for unit in timers
        ),
        wanted=["enabled active no"] * len(timers),
        change=f"systemctl daemon-reload; systemctl enable --quiet {' '.join(timers)}; "
        f"systemctl restart {' '.join(timers)}",
        owns=[("service", timer, {"active": "active"}) for timer in timers],
    )


def watch_host() -> None:
    """Settle one host that keeps watch; on any other nothing."""
    data = HostData.of(host)
    if WATCH_HOSTS in data.groups:
        equipment(data=data)
        mail(data=data)
        schedule(data=data)


watch_host()
