"""`koseki lab`: six real systemd hosts on this machine, in seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import click

from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import N_, _
from koseki_ops.core.progress import Progress
from koseki_ops.core.subprocesses import reason_of
from koseki_ops.lab.lab import Lab
from koseki_ops.plan.cli_options import json_option, lab_option, print_json
from koseki_ops.plan.site import Site

# As the municipality's own Unix user, in its network, with what its instance is told.
IMPORT = """
systemd-run --quiet --pipe --wait --collect --uid=koseki-{slug} --working-directory=/ \
  -p NetworkNamespacePath=/run/netns/koseki-{slug} \
  -p EnvironmentFile=/etc/koseki/application/{slug}.env \
  /opt/koseki/current/bin/import-invented {count}
"""
PASS_THROUGH = {"ignore_unknown_options": True}
words = click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)


@click.group("lab")
def lab_group() -> None:
    """Run six real systemd hosts on this machine, in a network namespace of their own."""


def _lab(name: str | None) -> tuple[Lab, Progress]:
    progress = Progress([])
    return Lab(Site.open(name=name), progress.report), progress


@lab_group.command("up")
@lab_option
@json_option
def up(name: str | None, *, as_json: bool) -> None:
    """Start the hosts and wait until all answer SSH; quick when they run already.

    Example: koseki lab up --name rehearsal
    """
    lab, progress = _lab(name)
    lab.up()
    seconds = round(progress.elapsed(), 1)
    click.echo(
        _("lab {site}: {count} hosts in {seconds} s").format(
            site=lab.site.name, count=len(lab.inventory.hosts), seconds=seconds
        )
    )
    if as_json:
        print_json({"hosts": lab.inventory.hosts, "seconds": seconds})


@lab_group.command("down")
@lab_option
def down(name: str | None) -> None:
    """End the hosts and remove what they wrote; nothing stays behind, also after a crash.

    Example: koseki lab down
    """
    lab, _ignored = _lab(name)
    lab.down()
    click.echo(_("lab {site}: gone").format(site=lab.site.name))


@lab_group.command("status")
@lab_option
@json_option
def status(name: str | None, *, as_json: bool) -> None:
    """Show which hosts run, where, and what memory they hold.

    Exit 0: all run; 1: one does not; 2: it could not be asked.

    Example: koseki lab status --json
    """
    lab, _ignored = _lab(name)
    states = lab.status()
    for state in states:
        running = (
            _("runs, {memory_bytes} MiB").format(memory_bytes=state.memory_bytes >> 20)
            if state.running
            else _("does not run")
        )
        click.echo(f"{state.host:20} {state.address:16} {running}")
    if as_json:
        hosts: dict[str, Any] = {
            state.host: {
                "running": state.running,
                "address": state.address,
                "memory_bytes": state.memory_bytes,
            }
            for state in states
        }
        print_json({"lab": lab.site.name, "netns": lab.netns, "hosts": hosts})
    if not all(state.running for state in states):
        sys.exit(1)


@lab_group.command("exec", context_settings=PASS_THROUGH)
@lab_option
@click.argument("host")
@words
def exec_command(name: str | None, host: str, command: tuple[str, ...]) -> None:
    """Run a command on a host as root, as from its console.

    Exit N: as COMMAND itself; 2 also when there is no such lab or host.

    Example: koseki lab exec primary1 -- systemctl --failed
    """
    lab, _ = _lab(name)
    _become(lab.exec_argv(host, command))


@lab_group.command("run", context_settings=PASS_THROUGH)
@lab_option
@words
def run_command(name: str | None, command: tuple[str, ...]) -> None:
    """Run a command of this machine inside the lab's network, as on the workstation.

    Exit N: as COMMAND itself; 2 also when there is no such lab.

    Example: koseki lab run -- ping -c 1 10.158.10.11
    """
    lab, _ = _lab(name)
    _become(lab.run_argv(command))


@lab_group.command("terminal", context_settings=PASS_THROUGH)
@lab_option
@click.argument("municipality")
@words
def terminal_command(name: str | None, municipality: str, command: tuple[str, ...]) -> None:
    """Run a command of this machine as on a municipality's terminal: on its line, in its subnet.

    The keys of the lab's terminals are in var/<site>/terminals/lab/.

    Exit N: as COMMAND itself; 2 also when there is no such lab or municipality.

    Example: koseki lab terminal oshika -- curl --cacert var/lab/pki/ca.crt
    --cert var/lab/terminals/lab/oshika-01.crt --key var/lab/terminals/lab/oshika-01.key
    https://10.158.10.21/
    """
    lab, _ = _lab(name)
    _become(lab.terminal_argv(municipality, command))


def _become(argv: list[str]) -> None:
    sys.stdout.flush()
    os.execvp(argv[0], argv)  # noqa: S606 - no shell is wanted


def _host_command(verb: str, act: Callable[[Lab, str], None], done: str, text: str) -> None:
    @lab_group.command(verb, help=text)
    @lab_option
    @click.argument("host")
    def command(name: str | None, host: str) -> None:
        lab, _ignored = _lab(name)
        act(lab, host)
        click.echo(f"{lab.machine(host).host}: {_(done)}")


_host_command(
    "start", Lab.start, N_("runs"), "Start one host again.\n\nExample: koseki lab start primary1"
)
_host_command(
    "stop",
    Lab.stop,
    N_("powered off"),
    "Power one host off.\n\nExample: koseki lab stop secondary1",
)
_host_command(
    "kill",
    Lab.kill,
    N_("killed"),
    "Cut one host's power: SIGKILL to its init.\n\nExample: koseki lab kill primary1",
)


@lab_group.command("partition")
@lab_option
@click.argument("one")
@click.argument("other")
def partition(name: str | None, one: str, other: str) -> None:
    """Cut the line between two ends, both directions: hosts, groups, workstation or all.

    Example: koseki lab partition primary1 all
    """
    lab, _ignored = _lab(name)
    lab.partition(one, other)
    click.echo(_("{one} and {other}: cut").format(one=one, other=other))


@lab_group.command("heal")
@lab_option
@click.argument("one", required=False)
@click.argument("other", required=False)
def heal(name: str | None, one: str | None, other: str | None) -> None:
    """Undo one cut, or all of them.

    Example: koseki lab heal
    """
    if one is not None and other is None:
        raise click.UsageError(_("name both ends, or none for all"))
    lab, _ignored = _lab(name)
    lab.heal(one, other)
    click.echo(
        _("{one} and {other}: healed").format(one=one, other=other)
        if one
        else _("every line: healed")
    )


@lab_group.command("snapshot")
@lab_option
@click.argument("snapshot")
def snapshot_command(name: str | None, snapshot: str) -> None:
    """Keep the state of all hosts under a name; they are restarted on top of it.

    Example: koseki lab snapshot converged
    """
    lab, _ignored = _lab(name)
    lab.snapshot(snapshot)
    click.echo(_("snapshot {snapshot}: kept").format(snapshot=snapshot))


@lab_group.command("restore")
@lab_option
@click.argument("snapshot")
def restore_command(name: str | None, snapshot: str) -> None:
    """Bring all hosts back to a snapshot; what they wrote since is lost.

    Example: koseki lab restore converged
    """
    lab, progress = _lab(name)
    lab.restore(snapshot)
    click.echo(
        _("snapshot {snapshot}: restored in {seconds:.1f} s").format(
            snapshot=snapshot, seconds=progress.elapsed()
        )
    )


@lab_group.command("registers")
@lab_option
@click.option(
    "--count", default=50_000, show_default=True, help="How many, over all municipalities."
)
@json_option
def registers_command(name: str | None, count: int, *, as_json: bool) -> None:
    """Fill the municipalities' empty databases with invented registers, through the proxy.

    Example: koseki lab registers --count 50000
    """
    lab, progress = _lab(name)
    rows = lab.inventory.platform.joined
    (host, *_more) = lab.inventory.hosts_in("application")
    share, rest = divmod(count, len(rows))
    for place, row in enumerate(rows):
        progress.report(_("registers: {name}").format(name=row.name))
        own = share + (place < rest)
        done = lab.exec(host, ["sh", "-c", IMPORT.format(slug=row.slug, count=own)])
        if done.returncode:
            reason = reason_of(done.stderr, done.returncode)
            raise KosekiError(
                _("{name} got no registers").format(name=row.name),
                reason,
                _("remove the cause that it names, then run `koseki lab registers` again"),
            )
    seconds = round(progress.elapsed(), 1)
    click.echo(
        _("{count} invented registers in {count2} municipalities in {seconds} s").format(
            count=count, count2=len(rows), seconds=seconds
        )
    )
    if as_json:
        print_json({"registers": count, "municipalities": len(rows), "seconds": seconds})
