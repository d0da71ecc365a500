"""Traces: no name of a register in a journal, a log, a mail, a core or a temporary file (K-20).

Requests that fail carry a name that nobody has: a database quotes it in its refusals, the gateway
gets it where requests have names. Then all hosts are searched for it, in the same look as for words
that were put there to be found. What fails leaves no row.
"""

from __future__ import annotations

import json
import re

from koseki_ops.core.language import _
from koseki_ops.lab.network import LabNetwork
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.plan.model import Municipality
from koseki_ops.trust.terminals import stand_ins_of
from koseki_ops.verify.batch import Question
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Everywhere, Facts, Questions, on_hosts
from koseki_ops.verify.registers import is_leader, psql

# With kanji as a register has them; the letters are found however these are written. Put together
# here, so that no file of the toolkit has the word, and the same at every run: a host answers the
# watch those questions alone whose text it knows.
LETTERS = "-".join(("canary", "in", "no", "trace"))  # noqa: FLY002 - see above
CANARY = f"葛城{LETTERS}"
# What the search has to find, or it has looked nowhere.
FOUND = "-".join(("koseki", "found", "in", "traces"))  # noqa: FLY002 - as above
MINUTES = 10
# Each refusal quotes the name in another part of itself; none of them can be carried out.
FAILING = (
    f"INSERT INTO platform.probe (id, note, at) VALUES (-1, '{CANARY}', NULL);",  # noqa: S608 - our own words
    f"INSERT INTO platform.probe (id, note) VALUES (('{CANARY}')::bigint, '');",  # noqa: S608 - as above
    f'SELECT * FROM "{CANARY}";',  # noqa: S608 - as above
    f"DO $$ BEGIN RAISE EXCEPTION '{CANARY}' USING DETAIL = '{CANARY}'; END $$;",
    f"SELECT set_config('{CANARY}', '{CANARY}', false);",
)
CODE = re.compile("SQLSTATE (22P02|42P01|P0001)")
# Brings a release's files to a database, as its owner.
SCHEMA = "/usr/local/sbin/koseki-schema"
# How many of them quote it to whoever asked, at least.
QUOTED = 5
# Who is refused hears the name; of a step of a release nobody hears more than a code.
SAID = "printf '%s' \"$said\" | grep -c {letters}; printf '%s\\n' \"$said\" | grep -v {letters}"
# Where a program writes what is nobody's register: not the registers and their backups, nor the
# exchanges, whose files are a register's own.
PLACES = (
    "/tmp /var/tmp /run /dev/shm /var/log /var/mail /var/spool /var/crash /var/cache /root /home"  # noqa: S108 - looked into, not used
    " /opt /etc /var/lib/systemd /var/lib/koseki /var/lib/koseki-watch /var/lib/nginx /var/lib/etcd"
)
# The journal is asked by its own program, what it set aside after a power cut (`.journal~`) too.
SEARCH = f"""
control=$(mktemp /var/tmp/koseki-traces.XXXXXX) || exit 1
trap 'rm -f "$control"' EXIT
echo {FOUND} >"$control"
journalctl --sync
journalctl --since=-{MINUTES}min --no-pager --output=export | grep -aoE '{LETTERS}|{FOUND}' |
    sort | uniq -c | sed 's/^/journal /'
find {PLACES} -ignore_readdir_race -xdev -type f -mmin -{MINUTES} -size -65536k \
    ! -path '/run/koseki-questions.*' ! -path '/run/koseki-inspect.*' \
    ! -name '*.journal' ! -name '*.journal~' -print0 2>/dev/null |
    xargs -0r grep -alE '{LETTERS}|{FOUND}' 2>/dev/null | sed 's/^/file /'
"""
# A process's limit of cores, where it is not none; a kernel thread has no command line, and the
# first process gives itself what it gives to nobody.
CORES = r"""
grep -sH '^Max core file size' /proc/[0-9]*/limits |
    awk '$5 != 0 && $1 !~ "^/proc/1/" { print $1, $5 }' |
    while IFS=/ read -r _ _ pid rest; do
        what=$(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c1-80)
        [ -z "$what" ] || echo "${rest##* } $what"
    done
"""


def refused_by(session: str) -> str:
    """Return the question that makes a session fail, and counts what quotes the name."""
    said = SAID.format(letters=LETTERS)
    return f"said=$({session} 2>&1 <<'SQL'\n{'\n'.join(FAILING)}\nSQL\n)\n{said}"


def questions(plan: Plan, host: str) -> Questions:
    """Let requests fail with the name; put the words there that must be found."""
    municipality = plan.joined[0]
    if host == WORKSTATION:
        if not plan.site.is_lab:
            return {}
        return {"gateway": Question(gateway_program(plan), aside=True)}
    asked: dict[str, str | Question] = {
        "told": f"logger -t koseki-verify {FOUND}",
        "cores": CORES,
    }
    where = f"host=127.0.0.1 port={plan.ports.proxy_leader} dbname={municipality.database}"
    if plan.is_in(host, "application"):
        asked["application"] = Question(
            refused_by(f'{psql(plan, municipality)} "{where}"'), aside=True
        )
    if plan.is_in(host, "registry_link"):
        asked["link"] = Question(
            refused_by(f'{psql(plan, municipality, "link")} "{where}"'), aside=True
        )
    if plan.is_in(host, "databases"):
        asked["step"] = step_of_a_release(municipality)
    return asked


def step_of_a_release(municipality: Municipality) -> str:
    """Return the question that lets files of a release fail, by the program that brings them.

    Each is a work of its own, since the first that fails ends one; none of them is noted.
    """
    works = [
        {
            "release": "0",
            "databases": [
                {
                    "database": municipality.database,
                    "owner": municipality.names.owner_role,
                    "files": [{"number": 0, "file": "0000-traces.sql", "sha256": "", "sql": sql}],
                }
            ],
        }
        for sql in FAILING
    ]
    rows = "\n".join(json.dumps(work, ensure_ascii=False) for work in works)
    asked = f"while IFS= read -r work; do printf '%s' \"$work\" | {SCHEMA} 2>&1; done"
    return f"said=$({asked} <<'WORK'\n{rows}\nWORK\n)\n{SAID.format(letters=LETTERS)}"


def gateway_program(plan: Plan) -> str:
    """Return the command by which a lab's terminal sends the name in each part of a request."""
    municipality = plan.joined[0]
    network = LabNetwork(plan.site.netns, plan.inventory)
    (host, *_) = plan.hosts_in("application")
    key = stand_ins_of(plan.site) / f"{municipality.slug}-01"
    base = f"https://{plan.address(host, WORKSTATION)}"
    curl = (
        f"nsenter --net=/run/netns/{network.counter(municipality.slug).netns}"
        " curl -sk -m 15 -o /dev/null"
        " -w '%{http_code}\\n'"
    )
    own = f"--cert {key}.crt --key {key}.key"
    parts = (
        f"{own} '{base}/{LETTERS}?name={LETTERS}'",
        f"{own} -X '{LETTERS}' '{base}/'",
        f"{own} -H 'Host: {LETTERS}/{LETTERS}' '{base}/'",
        f"{own} -H 'Referer: {LETTERS}' -A {LETTERS} -b 'a={LETTERS}' '{base}/'",
        f"{own} -d 'name={LETTERS}' '{base}/filings'",
        f"{own} -H 'X-Long: {LETTERS}{'x' * 9000}' '{base}/'",
        f"{own} -H 'Content-Length: {LETTERS}' '{base}/'",
        f"'{base}/{LETTERS}'",
    )
    return "\n".join(f"{curl} {part}" for part in parts)


def later_questions(plan: Plan, host: str, everywhere: Everywhere) -> Questions:
    """Search every host once all has been said everywhere."""
    del plan, everywhere
    return {} if host == WORKSTATION else {"search": Question(SEARCH, aside=True)}


def traces(facts: Facts, kind: str, word: str) -> list[str]:
    """Return where a host's search found a word. kind: journal or file."""
    seen = facts["search"]
    check(seen.rc == 0, _("a search that ended"), seen, facts.remedy, host=facts.host)
    rows = [line for line in seen.lines if line.startswith(f"{kind} ")]
    return [row for row in rows if word in row] if kind == "journal" else rows


def quoted(facts: Facts, name: str) -> int:
    """Return how many lines of refusals quoted the name to whoever asked."""
    seen = facts[name]
    check(seen.lines and seen.lines[0].isdecimal(), _("refusals"), seen, facts.remedy, "haproxy")
    return int(seen.lines[0])


@on_hosts("application", "registry_link")
def test_who_is_refused_is_told_the_name(plan: Plan, facts: Facts) -> None:
    """The database does quote it, so that silence elsewhere is no accident (K-20)."""
    for name, group in (("application", "application"), ("link", "registry_link")):
        if plan.is_in(facts.host, group):
            seen = quoted(facts, name)
            check(
                seen >= QUOTED,
                _("{quoted} refusals that quote it").format(quoted=QUOTED),
                seen,
                facts.remedy,
                "haproxy",
            )


def test_a_failed_step_of_a_release_tells_no_name(plan: Plan, everywhere: Everywhere) -> None:
    """Whoever applies a release reads a code and a line, and nothing of a register (K-20)."""
    for host in plan.hosts_in("databases"):
        if is_leader(everywhere[host]):
            seen = everywhere[host]["step"]
            codes = [line for line in seen.lines[1:] if CODE.search(line)]
            check(len(codes) >= 3, _("three codes"), seen, _("run `koseki apply`"), "patroni", host)
            expect(quoted(everywhere[host], "step"), 0, _("run `koseki apply`"), "patroni")
            return
    not_verified(_("no database host leads; see the suite replication"))


def test_the_gateway_is_asked_with_the_name(plan: Plan, everywhere: Everywhere) -> None:
    """Every request was answered, the malformed ones too (K-20)."""
    if not plan.site.is_lab:
        not_verified(_("nobody here stands at a counter: connect from a terminal"))
    seen = everywhere[WORKSTATION]["gateway"]
    answered = [line for line in seen.lines if line != "000"]
    check(
        len(answered) == len(seen.lines) >= 8,
        _("eight answers"),
        seen,
        _("run `koseki verify traces`"),
    )


@on_hosts("all")
def test_the_search_finds_what_is_there(facts: Facts) -> None:
    """A word in the journal and one in a file, put there in this run: both are found (K-20)."""
    seen = (bool(traces(facts, "journal", FOUND)), bool(traces(facts, "file", FOUND)))
    expect(seen, (True, True), _("run `koseki verify traces`"), "systemd-journald")


@on_hosts("all")
def test_no_journal_has_the_name(facts: Facts) -> None:
    """Neither the database's nor the gateway's nor an instance's nor any other (K-20)."""
    expect(
        traces(facts, "journal", LETTERS),
        [],
        _("find out who logs it; {remedy}").format(remedy=facts.remedy),
    )


@on_hosts("all")
def test_no_other_file_has_the_name(facts: Facts) -> None:
    """Temporary files, logs, mails, what programs leave in their folders (K-20)."""
    seen = [row for row in traces(facts, "file", LETTERS) if "/koseki-traces." not in row]
    expect(seen, [], _("find out who writes it; {remedy}").format(remedy=facts.remedy))


@on_hosts("all")
def test_no_process_would_leave_a_core(facts: Facts) -> None:
    """The memory of a process that dies, with names in it, is written nowhere (K-20)."""
    expect(facts["cores"].lines, [], facts.remedy)
