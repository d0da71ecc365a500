"""Time: one clock for every record, and records that outlive a restart (K-20)."""

from __future__ import annotations

from koseki_ops.core.language import N_, _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Facts, Questions, on_hosts

# K-20: a skew over one second alarms.
SKEW_SECONDS = 1.0
NO_CLOCK = N_("a container has no clock of its own; shown on a booted image")


def questions(_plan: Plan, host: str) -> Questions:
    """Ask each host for its clock, what the clock follows, and where its records are."""
    if host == WORKSTATION:
        return {}
    return {
        "zone": "readlink -f /etc/localtime",
        "zone name": "cat /etc/timezone",
        # -p prints the configuration as chronyd itself reads it, drop-ins included.
        "configuration": "chronyd -p",
        "enabled": "systemctl is-enabled chrony.service",
        "rivals": "systemctl is-enabled systemd-timesyncd.service",
        "tracking": "chronyc -c -n tracking",
        "sources": "chronyc -c -n sources",
        "journal": "ls -d /var/log/journal/*/",
        "journal size": "systemd-analyze cat-config systemd/journald.conf | grep -E '^[A-Z]'",
        "journal state": "journalctl --disk-usage",
    }


@on_hosts("all")
def test_the_zone_is_the_plans(plan: Plan, facts: Facts) -> None:
    """Records of all hosts are read side by side: one time zone (K-20)."""
    expect(facts["zone"].text, f"/usr/share/zoneinfo/{plan.platform.timezone}", facts.remedy)


@on_hosts("all")
def test_the_clock_is_right(facts: Facts) -> None:
    """A host's clock differs from the workstation's by less than a second (K-20)."""
    said = float(facts.base("clock").text)
    # The host read its clock at some moment between the question and the answer.
    ahead = max(0.0, said - facts.reply.answered_at)
    behind = max(0.0, facts.reply.asked_at - said)
    check(
        ahead < SKEW_SECONDS and behind < SKEW_SECONDS,
        _("within {skew_seconds} s of the workstation").format(skew_seconds=SKEW_SECONDS),
        f"{ahead - behind:+.2f} s",
        _("run `chronyc tracking` on {host}, and ask who set this clock").format(host=facts.host),
        "chrony",
    )


@on_hosts("all")
def test_the_clock_follows_the_plan(plan: Plan, facts: Facts) -> None:
    """Clocks follow the plan's sources only; the datacenter's asks nobody (K-20)."""
    check(
        facts["configuration"].rc == 0, _("a configuration"), facts["configuration"], facts.remedy
    )
    words = [line.split() for line in facts["configuration"].lines]
    asked = {row[1] for row in words if row[0] in {"server", "pool", "peer"}}
    expect(asked, set(plan.time_sources_of(facts.host)), facts.remedy, "chrony")
    expect(facts["enabled"].text, "enabled", facts.remedy, "chrony")


@on_hosts("all")
def test_only_one_daemon_sets_the_clock(facts: Facts) -> None:
    """Two daemons that both correct the clock fight over it (K-20)."""
    check(
        facts["rivals"].text in {"masked", "disabled", "not-found", ""},
        _("systemd-timesyncd off"),
        facts["rivals"],
        _("run `systemctl disable --now systemd-timesyncd` on {host}").format(host=facts.host),
    )


@on_hosts("city")
def test_the_clock_is_synchronised(plan: Plan, facts: Facts) -> None:
    """The daemon has a source it trusts and says how far away the clock is (K-20)."""
    if facts.container:
        not_verified(_(NO_CLOCK))
    check(
        facts["tracking"].rc == 0, _("chronyd answers"), facts["tracking"], facts.remedy, "chrony"
    )
    fields = facts["tracking"].text.split(",")
    check(
        fields[1] in plan.time_sources_of(facts.host) and abs(float(fields[4])) < SKEW_SECONDS,
        _("synchronised with {sources}").format(sources=plan.time_sources_of(facts.host)),
        facts["tracking"],
        _("run `chronyc sources -v` on {host}").format(host=facts.host),
        "chrony",
    )


@on_hosts("all")
def test_the_journal_outlives_a_restart(facts: Facts) -> None:
    """Who did what is still there after the machine was switched off (K-20)."""
    check(
        facts["journal"].lines,
        _("a journal in /var/log/journal"),
        facts["journal"],
        facts.remedy,
        "systemd-journald",
    )


@on_hosts("all")
def test_the_journal_cannot_fill_the_disk(facts: Facts) -> None:
    """The journal has a limit: a full disk would stop the registers before it stops the log."""
    # The last line of a setting is the one that counts.
    settings = dict(line.partition("=")[::2] for line in facts["journal size"].lines)
    check(settings.get("SystemMaxUse"), _("SystemMaxUse is set"), settings, facts.remedy)
