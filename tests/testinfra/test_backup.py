"""Backup: two sealed copies, complete and recent, that nobody but Iida can read (K-04).

A canary is written through a municipality's own table, archived, found again by reading the
archive with the keys, and then looked for in every raw byte of both vaults. That one row (id -1
of `platform.probe`) and the log segment that carries it are all that a verification leaves.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from koseki_ops.core.language import N_, _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.plan.model import Vault
from koseki_ops.verify.batch import NONCE, Question
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import STANZA, Plan
from koseki_ops.verify.plugin import Everywhere, Facts, Questions, on_hosts
from koseki_ops.verify.raw import Searched, search, unmarked
from koseki_ops.verify.registers import SUPERUSER, is_leader
from koseki_ops.verify.wal import Segment, findable, gaps

CIPHER = "aes-256-cbc"
# A differential runs daily; a day and two hours without any backup means that one was missed.
NEWEST_BACKUP = timedelta(hours=26)
# One name a verification: what an earlier one wrote cannot be taken for this one's. A question has
# it as `$canary` in this one's place, for its text is the same in every verification.
CANARY, CANARY_HERE = f"canary-{NONCE}", f"canary-{'#' * len(NONCE)}"
# K-19: what a careless copy changes. Base and selector, outside the BMP, compatibility
# ideographs, private plane, and the marks that conversions confuse.
TEXT = "葛\U000e0102葛\U000e0100\U00020bb7﨑\ufa2a\ufa19\U0010de92〜～−－髙"
NOTE = findable(CANARY, TEXT)
PROBE_ID = -1
ARCHIVE_SECONDS = 15
UPLOADED = "uploaded"

PGBACKREST = f"cd / && runuser -u postgres -- pgbackrest --stanza={STANZA} --log-level-console=off"
LEADER_ONLY = f"[ \"$({SUPERUSER} -c 'select pg_is_in_recovery()')\" = f ] || exit 0\n"
# Not an update: of an update the log holds only what differs from the row before, and a canary
# that is not whole in the log would be found in no vault, encrypted or not. The log may be closed
# by others at any moment: the row lies in the segment that was written to before it and after it.
# Nor a compressed page, in which a text need not stand as it is. So both texts are whole in that
# segment, always (`findable`): the chance that a sound archive lacks one is not small but none.
WRITE_CANARY = """{leader_only}
canary=canary-$argument
segment= after=-
until [ "$segment" = "$after" ]; do
    answer=$({psql} -d {database} <<SQL
begin;
set local wal_compression = off;
delete from platform.probe where id = {id};
select pg_walfile_name(pg_current_wal_insert_lsn());
insert into platform.probe (id, note, at) values ({id}, '{note}', now());
select pg_walfile_name(pg_current_wal_insert_lsn());
commit;
SQL
    ) || exit 1
    segment=${{answer%%[!0-9A-F]*}} after=${{answer##*[!0-9A-F]}}
done
{psql} -c 'select pg_switch_wal()' >/dev/null
begun=$(date +%s%N)
until [ "$({psql} -c "select left(last_archived_wal, 24) >= '$segment'
    and last_archived_wal !~ 'history' from pg_stat_archiver")" = t ]; do
    if [ $(( ($(date +%s%N) - begun) / 1000000000 )) -ge {seconds} ]; then
        echo "segment $segment was not archived within {seconds} s" >&2
        exit 1
    fi
    sleep 0.2
done
echo "segment $segment"
echo "milliseconds $(( ($(date +%s%N) - begun) / 1000000 ))"
folder=$(mktemp -d) && chown postgres "$folder" || exit 1
trap 'rm -rf "$folder"' EXIT
for repository in {repositories}; do
    {pgbackrest} --repo="$repository" --no-archive-async archive-get "$segment" \\
        "$folder/$repository" || echo "repository $repository: not there" >&2
    if grep -qaF "$canary" "$folder/$repository"; then echo "found $repository"; fi
done
"""
# A segment's name, and only when the server knows that it and all before it are archived.
CONFIRMED = (
    "select case when last_archived_wal ~ '^[0-9A-F]{24}' then left(last_archived_wal, 24) end"
    " from pg_stat_archiver"
)
# One after the other: backups are made and expire, and segments arrive, while they are listed.
# What must be in a listing was confirmed before it; what stands before it and after it was there.
PART = "echo; echo '@@ {name}'; {command}\n"
ARCHIVER = "select row_to_json(pg_stat_archiver) from pg_stat_archiver"
READ_NOTE = "select note from platform.probe where id = {id}"
ALL_FILES = "find {folder} -ignore_readdir_race -type f -size +0"
NEW_FILES = f'{ALL_FILES} -newermt "@${{{{argument%-*}}}}"'
AGAIN = N_("run `koseki verify backup`: this search did not end")
CHECK = f"cd / && runuser -u postgres -- pgbackrest --stanza={STANZA} check"


def questions(plan: Plan, host: str) -> Questions:
    """Write and archive the canary on the leader; read what both repositories hold."""
    if host == WORKSTATION or not plan.is_in(host, "databases"):
        return {}
    asked: dict[str, str | Question] = {
        "books": Question(books(plan), aside=True),
        "settings": f"{SUPERUSER} -c 'show archive_command'",
        "configuration": "cat /etc/pgbackrest/pgbackrest.conf /etc/pgbackrest.conf"
        " | grep -v cipher-pass",
        "permissions": "stat -c '%n %U %G %a' /etc/pgbackrest/pgbackrest.conf",
        "timers": "systemctl list-timers --all --no-legend --plain 'pgbackrest*' 'koseki-backup*'",
        "failed": "systemctl --failed --no-legend --plain",
        "status": "cat /var/lib/koseki/backup-status.json",
    }
    if plan.joined:
        asked["canary"] = Question(
            WRITE_CANARY.format(
                leader_only=LEADER_ONLY,
                psql=SUPERUSER,
                pgbackrest=PGBACKREST,
                database=plan.joined[0].database,
                id=PROBE_ID,
                note=findable("$canary", TEXT),
                seconds=ARCHIVE_SECONDS,
                repositories=" ".join(map(str, repositories(plan))),
            ),
            aside=True,
            argument=NONCE,
        )
    return asked


def later_questions(plan: Plan, host: str, everywhere: Everywhere) -> Questions:
    """Once the canary is archived: read it back, and look for it in every raw byte."""
    if plan.is_in(host, "databases") and plan.joined:
        read = f"-d {plan.joined[0].database} -c '{READ_NOTE.format(id=PROBE_ID)}'"
        return {
            "note": f"{SUPERUSER} {read}",
            "archiver": f"{SUPERUSER} -c '{ARCHIVER}'",
        }
    if host == WORKSTATION:
        return {}
    asked: dict[str, str | Question] = {}
    # A vault's clock may be behind: a minute more costs nothing.
    since = int(everywhere.replies[host].asked_at) - 60
    for vault in plan.vaults_on(host):
        for place, folder in places(vault).items():
            new = NEW_FILES.format(folder=shlex.quote(folder))
            asked[f"{place} plain"] = unmarked(ALL_FILES.format(folder=shlex.quote(folder)))
            canary = search(new, (CANARY_HERE, TEXT)).replace(
                CANARY_HERE, """'"canary-${argument#*-}"'"""
            )
            asked[f"{place} canary"] = Question(canary, argument=f"{since}-{NONCE}")
    return asked


def books(plan: Plan) -> str:
    """Return the command that lists what both repositories hold, by parts."""
    info = f"{PGBACKREST} info --output=json"
    parts = {"confirmed": f'{SUPERUSER} -c "{CONFIRMED}"', "info": info}
    for number in repositories(plan):
        listing = f"{PGBACKREST} --repo={number} repo-ls --output=json"
        parts[f"archive {number}"] = f"{listing} --recurse archive/{STANZA}"
        parts[f"backups {number}"] = f"{listing} backup/{STANZA}"
    parts["info again"] = info
    return LEADER_ONLY + "".join(PART.format(name=n, command=c) for n, c in parts.items())


def part(facts: Facts, name: str) -> str:
    """Return one part of what a leader lists; the test fails when it did not come."""
    said = facts["books"]
    found = dict(text.partition("\n")[::2] for text in said.text.split("@@ ")[1:])
    check(
        name in found, _("an answer: {name}").format(name=name), said, facts.remedy, host=facts.host
    )
    return found[name].strip()


def repositories(plan: Plan) -> list[int]:
    """Return the numbers of the plan's repositories."""
    return sorted(vault.repository for vault in plan.platform.vaults)


def places(vault: Vault) -> dict[str, str]:
    """Return where a vault's ciphertext lies: what is uploaded, and what was sealed of it."""
    return {
        f"{vault.name} {UPLOADED}": vault.root,
        f"{vault.name} sealed": f"{vault.root}-sealed/objects",
    }


def leading(plan: Plan, everywhere: Everywhere) -> Facts:
    """Return the leader's facts; repositories are asked from there."""
    for host in plan.hosts_in("databases"):
        if is_leader(everywhere[host]):
            return everywhere[host]
    return not_verified(_("no database host leads; see the suite replication"))


def info(plan: Plan, everywhere: Everywhere, name: str = "info") -> dict[str, Any]:
    """Return pgBackRest's own account of the stanza, before what is listed or after it."""
    facts = leading(plan, everywhere)
    rows = json.loads(part(facts, name) or "[]")
    check(
        len(rows) == 1 and rows[0]["name"] == STANZA,
        _("the stanza {stanza}").format(stanza=STANZA),
        facts["books"],
        _("run `koseki apply --limit databases`"),
        host=facts.host,
    )
    return dict(rows[0])


def full_backup(facts: Facts) -> str:
    """Return how a full backup is made now, on the host that leads."""
    return _("run `systemctl start pgbackrest-full.service` on {host}").format(host=facts.host)


def archiver(facts: Facts) -> str:
    """Return where it is told why the log does not arrive."""
    return _("run `journalctl -u patroni -n 50` on {host}, and see that both vaults answer").format(
        host=facts.host
    )


def backups_in(plan: Plan, everywhere: Everywhere, number: int) -> list[dict[str, Any]]:
    """Return the backups of one repository that were there all the while, oldest first."""
    after = {row["label"] for row in of_repository(info(plan, everywhere, "info again"), number)}
    found = [r for r in of_repository(info(plan, everywhere), number) if r["label"] in after]
    check(
        found,
        _("a backup in repository {number}").format(number=number),
        _("none"),
        full_backup(leading(plan, everywhere)),
    )
    return found


def of_repository(account: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """Return the backups of one repository in pgBackRest's account."""
    return [row for row in account["backup"] if row["database"]["repo-key"] == number]


def archived(said: str, per_file: int = 256) -> list[Segment]:
    """Return the segments that a repository lists."""
    names = (path.rsplit("/", 1)[-1] for path in json.loads(said or "{}"))
    return [
        Segment.of(name[:24], per_file)
        for name in names
        if len(name) > 24 and name[24] == "-" and ".partial" not in name
    ]


def test_both_repositories_are_sound_and_encrypted(plan: Plan, everywhere: Everywhere) -> None:
    """Each vault's repository opens with its own key, and with a cipher of the plan (K-04)."""
    facts = leading(plan, everywhere)
    rows = {row["key"]: row for row in info(plan, everywhere)["repo"]}
    seen = {key: (row["cipher"], row["status"]["message"]) for key, row in rows.items()}
    wanted = dict.fromkeys(repositories(plan), (CIPHER, "ok"))
    expect(
        seen,
        wanted,
        _("run `{check}` on {host} and read what it says").format(check=CHECK, host=facts.host),
        host=facts.host,
    )


def test_each_repository_has_a_whole_backup(plan: Plan, everywhere: Everywhere) -> None:
    """A full backup without errors, and every backup that is listed is really there (K-04)."""
    facts = leading(plan, everywhere)
    for number in repositories(plan):
        rows = backups_in(plan, everywhere, number)
        check(any(row["type"] == "full" for row in rows), _("a full backup"), rows, facts.remedy)
        # True: it found broken pages; null: it was never checked.
        broken = [row["label"] for row in rows if row["error"] is not False]
        expect(
            broken,
            [],
            _("{full_backup}, and look at the disk").format(full_backup=full_backup(facts)),
            host=facts.host,
        )
        listed = {row["label"] for row in rows}
        present = set(json.loads(part(facts, f"backups {number}") or "{}"))
        expect(
            listed - present,
            set(),
            _("repository {number} lost them: {full_backup}").format(
                number=number, full_backup=full_backup(facts)
            ),
            host=facts.host,
        )


def test_the_newest_backup_is_recent(plan: Plan, everywhere: Everywhere) -> None:
    """Restoring starts from the newest backup: a day old at most, in either vault (K-04)."""
    now = datetime.now(tz=UTC)
    for number in repositories(plan):
        newest = max(row["timestamp"]["stop"] for row in backups_in(plan, everywhere, number))
        age = now - datetime.fromtimestamp(newest, UTC)
        check(
            age < NEWEST_BACKUP,
            _("repository {number}: younger than {newest_backup}").format(
                number=number, newest_backup=NEWEST_BACKUP
            ),
            age,
            _("run `journalctl -u 'pgbackrest-*' -n 50` on {host}").format(
                host=leading(plan, everywhere).host
            ),
            "pgbackrest-differential",
            leading(plan, everywhere).host,
        )


def test_the_log_has_no_gap(plan: Plan, everywhere: Everywhere) -> None:
    """From the oldest backup on every segment of the log is in either vault (K-04).

    Up to the last that the server knew to be archived before: several are uploaded at once.
    """
    facts = leading(plan, everywhere)
    confirmed = part(facts, "confirmed")
    last = Segment.of(confirmed, 256) if confirmed else None
    for number in repositories(plan):
        rows = backups_in(plan, everywhere, number)
        start = min(row["archive"]["start"] for row in rows)
        found = archived(part(facts, f"archive {number}"))
        first = Segment.of(start, 256)
        # Who leads since a moment ago may not have archived anything for months.
        if last and last >= first:
            found = [segment for segment in found if segment <= last]
        expect(
            gaps(found, first),
            [],
            _(
                "repository {number}: {full_backup}; what lies before the gap can only be restored"
                " up to it"
            ).format(number=number, full_backup=full_backup(facts)),
            host=facts.host,
        )


def test_the_log_is_archived_now(plan: Plan, everywhere: Everywhere) -> None:
    """A segment closed now reaches both vaults at once; the archiver has no open failure (K-04)."""
    facts = leading(plan, everywhere)
    said = facts["canary"]
    remedy = archiver(facts)
    check(
        said.rc == 0 and "segment" in said.text, _("archived"), said, remedy, "patroni", facts.host
    )
    told = facts["archiver"].json
    failed, worked = told["last_failed_time"], told["last_archived_time"]
    check(
        failed is None or (worked is not None and failed < worked),
        _("no failure after the last success"),
        told,
        remedy,
        "patroni",
        facts.host,
    )


def test_the_canary_is_in_both_archives(plan: Plan, everywhere: Everywhere) -> None:
    """With the keys the text is found in either archive: what is searched for is there (K-04)."""
    if not plan.joined:
        not_verified(_("no municipality has joined: there is no table to write a canary to"))
    facts = leading(plan, everywhere)
    seen = {line for line in facts["canary"].lines if line.startswith("found")}
    wanted = {f"found {number}" for number in repositories(plan)}
    check(seen == wanted, wanted, facts["canary"], archiver(facts), host=facts.host)


def test_the_canary_is_in_no_raw_byte(plan: Plan, everywhere: Everywhere) -> None:
    """Without the keys nothing that was uploaded since holds the text, in either vault (K-04).

    The very segment that carries it was read from its first byte, and the text would have been
    recognised: otherwise to find nothing says nothing.
    """
    if not plan.joined:
        not_verified(_("no municipality has joined: there is no table to write a canary to"))
    leader = leading(plan, everywhere)
    segment = next(
        iter(re.findall(r"^segment ([0-9A-F]{24})$", leader["canary"].text, re.MULTILINE)), ""
    )
    check(
        segment,
        _("a segment with the canary"),
        leader["canary"],
        archiver(leader),
        host=leader.host,
    )
    for vault in plan.platform.vaults:
        host = plan.vault_host(vault)
        facts = everywhere[host]
        remedy = _("by hand: stop archiving to {name}, rebuild its repository encrypted").format(
            name=vault.name
        )
        for place in places(vault):
            said = facts[f"{place} canary"]
            seen = Searched.of(said.out)
            check(
                seen.recognised == [CANARY, TEXT],
                _("a search that ended"),
                said,
                _(AGAIN),
                host=host,
            )
            # What is no ciphertext has no mark: the next test names it.
            plain = set(facts[f"{place} plain"].lines[:-1])
            expect(set(seen.unread) - plain, set(), _(AGAIN), host=host)
            # What was uploaded since is sealed when the timer fires, perhaps not yet.
            check(
                not place.endswith(UPLOADED) or any(f"/{segment}-" in name for name in seen.read),
                _("{place}: the segment {segment} among what was searched").format(
                    place=place, segment=segment
                ),
                seen.read,
                archiver(leader),
                host=host,
            )
            expect(seen.found, [], remedy, host=host)


def test_everything_in_the_vaults_is_ciphertext(plan: Plan, everywhere: Everywhere) -> None:
    """Every file begins with its encryption's mark; compression alone would hide a text (K-04)."""
    for vault in plan.platform.vaults:
        host = plan.vault_host(vault)
        for place in places(vault):
            said = everywhere[host][f"{place} plain"]
            *plain, marked = said.lines or [""]
            check(
                re.fullmatch(r"@@ [1-9][0-9]*", marked), _("ciphertext"), said, _(AGAIN), host=host
            )
            expect(plain, [], _("by hand: find out who wrote these, and remove them"), host=host)


@on_hosts("databases")
def test_text_is_unchanged_on_both_servers(plan: Plan, facts: Facts) -> None:
    """Selectors, rare and private characters come back byte for byte from 正 and 副 (K-19)."""
    if not plan.joined:
        not_verified(_("no municipality has joined: there is no table to write a text to"))
    expect(
        facts["note"].out.removesuffix(b"\n").hex(),
        NOTE.encode().hex(),
        _("stop: something changes text; run `koseki verify replication text`"),
        "patroni",
    )


@on_hosts("databases")
def test_no_setting_may_drop_the_log(facts: Facts) -> None:
    """With archive-push-queue-max pgBackRest throws the log away when a vault is slow (K-04)."""
    check(facts["configuration"].text, _("a configuration"), facts["configuration"], facts.remedy)
    seen = [line for line in facts["configuration"].lines if "queue-max" in line]
    expect(seen, [], facts.remedy)
    check("archive-push" in facts["settings"].text, "archive-push", facts["settings"], facts.remedy)


@on_hosts("databases")
def test_only_the_database_reads_the_keys(facts: Facts) -> None:
    """The repositories' keys lie in one file that only postgres and root read (K-04)."""
    seen = facts["permissions"].text.split()
    check(
        seen[1:] in (["root", "postgres", "640"], ["postgres", "postgres", "600"]),
        "root postgres 640",
        facts["permissions"],
        facts.remedy,
    )


@on_hosts("databases")
def test_backups_are_made_by_the_clock(facts: Facts) -> None:
    """Full, differential and incremental backups, and the lag's alarm, each have a timer (K-04)."""
    said = facts["timers"].text
    missing = [kind for kind in ("full", "diff", "incr", "lag") if kind not in said]
    check(not missing, _("timers for full, diff and incr"), said, facts.remedy)


@on_hosts("databases")
def test_no_backup_has_failed(facts: Facts) -> None:
    """A unit that failed says that a backup was missed or that the lag alarms (K-04)."""
    failed = [line for line in facts["failed"].lines if "backup" in line or "backrest" in line]
    unit = failed[0].split()[0] if failed else ""
    expect(
        failed,
        [],
        _(
            "run `journalctl -u {unit} -n 50` on {host}, mend it,"
            " then `systemctl restart {unit}` there"
        ).format(unit=unit, host=facts.host),
        unit,
    )


def test_the_second_backup_is_close_behind(plan: Plan, everywhere: Everywhere) -> None:
    """The lag that the alarm measured is below its limit, and was measured lately (K-04)."""
    facts = leading(plan, everywhere)
    limit = plan.platform.backup_policy.lag_alarm_minutes
    status = facts["status"].json
    age = time.time() - status["measured_at"]
    check(
        age < limit * 60,
        _("measured lately"),
        _("{age:.0f} s ago").format(age=age),
        facts.remedy,
        host=facts.host,
    )
    if not status["leads"]:
        not_verified(_("the leader has changed since the lag was measured last"))
    expect(
        {int(number) for number in status["repositories"]}, set(repositories(plan)), facts.remedy
    )
    for number, row in status["repositories"].items():
        check(
            row["lag_minutes"] <= limit,
            _("repository {number}: at most {limit} minutes behind").format(
                number=number, limit=limit
            ),
            row,
            archiver(facts),
            "patroni",
            facts.host,
        )
