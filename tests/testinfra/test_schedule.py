"""Schedule: the platform is looked at by the clock, by a host that may do nothing else (K-08)."""

from __future__ import annotations

import shlex
from datetime import timedelta

from koseki_ops.core.language import _
from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.verify.batch import Question
from koseki_ops.verify.expect import check, expect
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Facts, Questions, on_hosts

# What each run in `watch_schedule` starts.
UNITS = {
    "sweep": "koseki-drift",
    "verify": "koseki-verify",
}
TIMER = "LoadState,UnitFileState,ActiveState,Persistent,TimersCalendar,LastTriggerUSec"
SERVICE = (
    "LoadState,Type,User,TimeoutStartUSec,KillMode,NoNewPrivileges,CapabilityBoundingSet,"
    "ProtectSystem,ProtectHome,PrivateTmp,PrivateDevices,RestrictSUIDSGID,MemoryMax"
)
# Each refuses something that a program which only asks never does.
CONFINED = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "RestrictSUIDSGID": "yes",
}
# How much later than scheduled a run may begin: its random delay, and a machine that is busy.
LATE = timedelta(minutes=10)
# In seconds since the epoch: the run due after the last one, or when the timer was started if
# that was later (missed runs are made up for from then on), and now.
RUN_TIMES = """
stamp=/var/lib/systemd/timers/stamp-{unit}.timer
next() {{
    systemd-analyze calendar --base-time="@$1" "{calendar}" |
        sed -n 's/^ *Next elapse: *//p' | {{ read -r text && date -d "$text" +%s; }}
}}
since=$(systemctl show --timestamp=unix -P ActiveEnterTimestamp {unit}.timer)
last=$(stat -c %Y "$stamp") && due=$(next "$last") && since=${{since#@}} &&
    echo "$((due > since ? due : since)) $(date +%s)"
"""
# As itself it tries to write what it verifies by, and to move the folders in which that lies.
REACH = """
cd / && for path in {state} /etc/shadow; do
    if setpriv --reuid=nobody --regid=nogroup --clear-groups test -r "$path"; then echo "$path"; fi
done
as_watch() {{ setpriv --reuid={account} --regid={account} --clear-groups "$@"; }}
for path in /opt/koseki/toolkit /opt/koseki/venv {site}/ssh/known_hosts {site}/drift/signing.pub \\
    {site}/drift/hash.key {site}/drift/waivers.signed {site}/drift/manifests/*.json; do
    if ! [ -e "$path" ] || as_watch test -w "$path"; then echo "$path"; fi
done
for path in {site} {site}/drift {site}/drift/manifests {site}/drift/signing.pub; do
    as_watch mv "$path" "$path.moved" 2>/dev/null && mv "$path.moved" "$path" && echo "$path"
done
"""
# A vault of secrets, or its password, whatever it is called.
VAULTS = r"""
find /opt/koseki {state} /etc/koseki -ignore_readdir_race \\
    \( -name secrets.yml -o -name 'vault_password*' \)
find /opt/koseki/toolkit {state} -ignore_readdir_race -type f -size -1024k \\
    -exec grep -lE '^[$]ANSIBLE_VAULT;1' {{}} +
"""
# Everything that whoever has the watch's keys could try, with these very keys, each on a line: the
# host, what was tried, its exit code, what came of it. On a host over one connection, as the watch
# itself asks. The end of a question is put together: written out it would end this one.
TRIES = r"""
keys=/var/lib/koseki-watch/$site/ssh
mkdir -m 0711 -p /run/koseki-tries && folder=$(mktemp -d /run/koseki-tries/XXXXXX) &&
    chown koseki-watch "$folder" || exit 1
trap 'rm -rf "$folder"' EXIT
end=end_of_question; end=${end}_7f3a
# With whose key; then ssh's own words.
as_watch() {
    key=$keys/$1; shift
    setpriv --reuid=koseki-watch --regid=koseki-watch --clear-groups \
        env HOME=/var/lib/koseki-watch timeout 25 ssh -F none -T -o BatchMode=yes \
        -o IdentitiesOnly=yes -o IdentityAgent=none -o IdentityFile="$key" \
        -o CertificateFile="$key-cert.pub" -o UserKnownHostsFile="$keys/known_hosts" \
        -o StrictHostKeyChecking=yes -o HostKeyAlias="$host" -o ConnectTimeout=20 "$@"
}
over() { as_watch "$own" -l "$answers" -o ControlPath="$folder/$host" "$@"; }
tried() {
    name=$1; shift
    "$@" >"$folder/$host.said" 2>&1
    code=$?
    printf '%s %s %s %s\n' "$host" "$name" "$code" "$(tr '\0\r\n' '   ' <"$folder/$host.said")"
}
# No answer on a busy machine is no refusal.
door() {
    for _ in 1 2 3; do
        if as_watch "$@" "$address" id </dev/null >"$folder/$host.door" 2>&1; then break; fi
        if grep -q 'Permission denied' "$folder/$host.door"; then break; fi
    done
    cat "$folder/$host.door"
    ! grep -q 'Permission denied' "$folder/$host.door"
}
verification() { printf 'verify\nquestion 0 30 alone -\n%s\n%s\n' "$1" "$end"; }
first_tries() {
    over -o ControlMaster=yes -o ControlPersist=60 "$address" </dev/null >/dev/null 2>&1
    printf 'contents\npath /etc/debian_version\n' | tried control over "$address"
    tried command over "$address" 'id -u; sudo -n id -u' </dev/null
    tried engines door "$own" -l "$engines"
}
more_tries() {
    verification 'date +%s.%N' | tried admitted over "$address"
    printf 'id -u\n' | tried shell over "$address"
    printf '\0\0\0\5\1\0\0\0\3' | tried sftp over -s "$address" sftp
    tried terminal over -tt "$address" </dev/null
    tried tunnel over -W 127.0.0.1:22 "$address" </dev/null
    tried listener over -O forward -R 127.0.0.1:0:127.0.0.1:22 "$address" </dev/null
    verification 'date +%s.%N; id' | tried tampered over "$address"
    verification "$elsewhere" | tried elsewhere over "$address"
    tried other-key door "$other" -l "$answers"
}
while read -r host address own other; do
    (
        first_tries
        case $host in
            "$city") elsewhere=$not_of_city more_tries ;;
            "$datacenter") elsewhere=$not_of_datacenter more_tries ;;
        esac
    ) >"$folder/$host.lines" </dev/null &
done <<HOSTS
$hosts
HOSTS
wait
cat "$folder"/*.lines
"""
MAY_START = """
cd / && setpriv --reuid={account} --regid={account} --clear-groups sh -c '
    for command in "id -u" "sh -c id" "{program} --version" "-u postgres id" "-e /etc/hosts"; do
        if sudo -n $command >/dev/null 2>&1; then echo "$command"; fi
    done'
find {program} /usr/local/lib/koseki-inspect -ignore_readdir_race ! -type l \\
    \\( ! -user root -o -perm /022 \\)
"""
# By sudo's own list: a rule a line.
MAY_SUDO = "sudo -l -U {account} | sed '1,/may run the following/d; s/^ *//'"
HISTORY_KEY = "drift/signing.key"
AUTHORITIES = r"""
find {state}/ -ignore_readdir_race -type f ! -path '*/.ansible/*' -exec \
    grep -lE '^-----BEGIN [A-Z ]*PRIVATE KEY-----' {{}} +
"""
# Every file of an installed package against the hash that stands in that package's record.
RECORDS = """
cd / && /opt/koseki/venv/bin/python -I - <<'END'
import base64, hashlib, importlib.metadata
wrong, right = [], 0
for package in importlib.metadata.distributions():
    for file in package.files or ():
        if file.hash is None:
            continue
        try:
            found = hashlib.new(file.hash.mode, file.locate().read_bytes()).digest()
        except OSError:
            found = b""
        told = base64.urlsafe_b64encode(found).rstrip(b"=").decode()
        right += told == file.hash.value
        if told != file.hash.value:
            wrong.append(f"{package.name}: {file}")
print(right)
print(*wrong, sep="\\n")
END
"""
MTA = "opensmtpd.service"
# Mail that waits for so long says that nobody is told (seconds); where its line says since when.
WAITS, SINCE = 3600, 7
ACCOUNT, STATE = "koseki-watch", "/var/lib/koseki-watch"
# Who answers the watch on a host, by what alone, and as whom the watch asks.
ANSWERS, ANSWER = "koseki-inspect", "/usr/local/sbin/koseki-inspect"
PRINCIPALS = ("watch", "watch-datacenter")
SSHD = "sshd -T -C user={account},host=watch,addr={address}"
WANTED = {
    "forcecommand": f"/usr/bin/sudo -n {ANSWER}",
    "permittty": "no",
    "permituserrc": "no",
    "disableforwarding": "yes",
}
WHO_ENTERS = "grep -rEH '^[^#]*[ ,]watch' /etc/ssh/principals"
NOT_ASKED_HERE = "not among the questions of the last apply here: 0"
# By what an attempt is seen to be refused, where it is not by the program's own word.
REASONS = {
    "engines": "Permission denied",
    "other-key": "Permission denied",
    "terminal": "PTY allocation request failed",
    "tunnel": "refused by peer",
    "listener": "forwarding failed",
    # A subsystem's errors are not sent on: the server for files would have named its version.
    "sftp": "",
    "tampered": NOT_ASKED_HERE,
    "elsewhere": NOT_ASKED_HERE,
}


def questions(plan: Plan, host: str) -> Questions:
    """Ask a host that keeps watch for its units, when they ran, and what its account may do."""
    if host == WORKSTATION:
        return {}
    address = plan.address(plan.hosts_in("watch_hosts")[0], host)
    answers: dict[str, str | Question] = {
        "may start": Question(MAY_START.format(account=ANSWERS, program=ANSWER), aside=True),
        "may sudo": MAY_SUDO.format(account=ANSWERS),
        "sshd": SSHD.format(account=ANSWERS, address=address),
        "who enters": WHO_ENTERS,
    }
    if not plan.is_in(host, "watch_hosts"):
        return answers
    asked: dict[str, str | Question] = {
        **answers,
        "tries": Question(tries(plan), aside=True),
        "vaults": VAULTS.format(state=STATE),
        "account": f"getent passwd {ACCOUNT}; passwd -S {ACCOUNT}; id -Gn {ACCOUNT}",
        "reach": REACH.format(state=STATE, account=ACCOUNT, site=f"{STATE}/{plan.site.name}"),
        "records": Question(RECORDS, aside=True),
        "mta": f"systemctl is-enabled {MTA}; systemctl is-active {MTA}",
        "doors": "ss -Hlntup",
        "queue": "date +%s && smtpctl show queue",
        "keys": AUTHORITIES.format(state=STATE),
        "units": (
            "systemctl list-units --all --type=timer --no-legend --plain 'koseki-*' | cut -d' ' -f1"
        ),
    }
    for run, unit in UNITS.items():
        asked[f"timer {run}"] = f"systemctl show {unit}.timer -p {TIMER}"
        asked[f"service {run}"] = f"systemctl show {unit}.service -p {SERVICE}"
        asked[f"times {run}"] = RUN_TIMES.format(unit=unit, calendar=calendar(plan, run))
    return asked


def tries(plan: Plan) -> str:
    """Return the attempts with the watch's keys: on each host some, on one of each kind all."""
    in_city = [host for host in plan.inventory.hosts if plan.stands_in_city(host)]
    city = next(host for host in in_city if plan.is_in(host, "databases"))
    datacenter = next((host for host in plan.inventory.hosts if host not in in_city), "")
    watch_host = plan.hosts_in("watch_hosts")[0]
    rows = {
        host: PRINCIPALS if plan.stands_in_city(host) else PRINCIPALS[::-1]
        for host in plan.inventory.hosts
    }
    values = {
        "site": plan.site.name,
        "hosts": "\n".join(
            f"{host} {plan.address(host, watch_host)} {own} {other}"
            for host, (own, other) in rows.items()
        ),
        "answers": ANSWERS,
        "engines": plan.platform.automation_account,
        "city": city,
        "datacenter": datacenter,
        # Each asked of another kind of host.
        "not_of_city": "smtpctl show queue",
        "not_of_datacenter": "systemctl is-enabled etcd.service",
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()) + TRIES


def calendar(plan: Plan, run: str) -> str:
    """Return when the plan wants a run."""
    return str(getattr(plan.platform.watch_schedule, f"{run}_calendar"))


def shown(facts: Facts, question: str) -> dict[str, str]:
    """Return what `systemctl show` said; of a repeated property the last."""
    return dict(line.partition("=")[::2] for line in facts[question].lines)


@on_hosts("watch_hosts")
def test_every_run_has_its_timer(facts: Facts) -> None:
    """Enabled and waiting: nobody has to remember to look (K-08)."""
    for run, unit in UNITS.items():
        seen = shown(facts, f"timer {run}")
        state = [seen.get(name) for name in ("LoadState", "UnitFileState", "ActiveState")]
        expect(f"{unit} {state}", f"{unit} {['loaded', 'enabled', 'active']}", facts.remedy, unit)
    strange = set(facts["units"].lines) - {f"{unit}.timer" for unit in UNITS.values()}
    expect(strange, set(), _("by hand: find out who set it, and remove it"))


@on_hosts("watch_hosts")
def test_the_schedule_is_the_plans(plan: Plan, facts: Facts) -> None:
    """Each run comes as often as the plan says, and makes up once for missed runs."""
    for run, unit in UNITS.items():
        seen = shown(facts, f"timer {run}")
        wanted = f"OnCalendar={normal(calendar(plan, run))} ;"
        check(
            wanted in seen.get("TimersCalendar", ""),
            f"{unit}: {wanted}",
            seen.get("TimersCalendar"),
            facts.remedy,
        )
        expect(f"{unit} {seen.get('Persistent')}", f"{unit} yes", facts.remedy)


def normal(text: str) -> str:
    """Return a calendar event as systemd writes it back, for the forms that the plan uses."""
    if text.startswith("*:0/"):
        return f"*-*-* *:00/{text.removeprefix('*:0/')}:00"
    return text


@on_hosts("watch_hosts")
def test_no_run_is_overdue(facts: Facts) -> None:
    """The last scheduled run took place: a watch that has stopped is worse than none (K-08)."""
    for run, unit in UNITS.items():
        answer = facts[f"times {run}"]
        check(
            len(answer.text.split()) == 2,
            _("a stamp of {unit}").format(unit=unit),
            answer,
            facts.remedy,
            unit,
        )
        due, now = map(int, answer.text.split())
        late = timedelta(seconds=now - due)
        check(
            late < LATE,
            _("{unit} within {late} of its schedule").format(unit=unit, late=LATE),
            _("{late} late").format(late=late),
            _("run `systemctl status {unit}.timer {unit}.service` on {host}").format(
                unit=unit, host=facts.host
            ),
            unit,
        )


@on_hosts("watch_hosts")
def test_runs_end_and_never_overlap(plan: Plan, facts: Facts) -> None:
    """A unit is one at a time, has an end, and takes with it whatever it started."""
    for run, unit in UNITS.items():
        seen = shown(facts, f"service {run}")
        wanted = {"Type": "oneshot", "KillMode": "control-group"}
        expect({name: seen.get(name) for name in wanted}, wanted, facts.remedy, unit)
        limit = getattr(plan.platform.watch_schedule, f"{run}_seconds")
        expect(
            f"{unit} {seconds(seen.get('TimeoutStartUSec', ''))}", f"{unit} {limit}", facts.remedy
        )
        check(
            seen.get("MemoryMax") != "infinity",
            f"{unit}: MemoryMax",
            _("no limit"),
            facts.remedy,
        )


def seconds(text: str) -> int:
    """Return a span of time as systemd writes it (`1h 30min`, `4min`) in seconds."""
    sizes = {"h": 3600, "min": 60, "s": 1}
    total = 0
    for word in text.split():
        number = word.rstrip("hmins")
        total += int(number) * sizes[word[len(number) :]] if number.isdigit() else 0
    return total


@on_hosts("watch_hosts")
def test_the_watch_can_tell(facts: Facts) -> None:
    """Its own MTA takes mail from this host alone, and none has been waiting for an hour (K-08)."""
    expect(facts["mta"].lines, ["enabled", "active"], facts.remedy, MTA)
    doors = [line.split()[4] for line in facts["doors"].lines if '"smtpd"' in line]
    expect(doors, ["127.0.0.1:25"], facts.remedy, MTA)
    check(facts["queue"].rc == 0, _("the MTA's queue"), facts["queue"], facts.remedy, MTA)
    now, *queue = facts["queue"].lines
    old = [line for line in queue if int(now) - int(line.split("|")[SINCE]) > WAITS]
    expect(
        old,
        [],
        _("run `smtpctl show queue` on {host}: does the relay answer?").format(host=facts.host),
        MTA,
    )


@on_hosts("watch_hosts")
def test_the_watch_is_confined(facts: Facts) -> None:
    """It may open connections and write its own state; it is nobody on its own host (K-11)."""
    for run, unit in UNITS.items():
        seen = shown(facts, f"service {run}")
        expect(f"{unit} {seen.get('User')}", f"{unit} {ACCOUNT}", facts.remedy, unit)
        expect({name: seen.get(name) for name in CONFINED}, CONFINED, facts.remedy, unit)


@on_hosts("watch_hosts")
def test_nobody_becomes_the_watch(facts: Facts) -> None:
    """Its account is locked, has no shell and no group but its own (K-11)."""
    lines = facts["account"].lines
    check(
        len(lines) == 3,
        _("the account {account}").format(account=ACCOUNT),
        facts["account"],
        facts.remedy,
    )
    seen = (lines[0].split(":")[-1], lines[1].split()[1], lines[2])
    expect(seen, ("/usr/sbin/nologin", "L", ACCOUNT), facts.remedy)


@on_hosts("watch_hosts")
def test_the_watch_reaches_nothing_it_should_not(facts: Facts) -> None:
    """Tried: others read nothing of it; it changes neither its program nor what it verifies by."""
    expect(facts["reach"].lines, [], facts.remedy)


@on_hosts("watch_hosts")
def test_no_secret_is_where_the_watch_is(facts: Facts) -> None:
    """Neither the vault nor its password: who takes this host takes no cipher and no CA (K-11)."""
    expect(facts["vaults"].lines, [], facts.remedy)


def attempts(facts: Facts) -> dict[tuple[str, str], tuple[int, str]]:
    """Return exit code and output of each attempt, by host and what was tried."""
    found = {}
    for line in facts["tries"].lines:
        host, name, code, *said = line.split(" ", 3)
        found[host, name] = int(code), " ".join(said)
    return found


@on_hosts("watch_hosts")
def test_the_watchs_keys_ask_and_do_nothing_else(plan: Plan, facts: Facts) -> None:
    """Tried with them on every host: no command, no shell, nobody else's account (K-11).

    The questions of the same connections are answered, so a refusal is one.
    """
    met = attempts(facts)
    expect({host for host, _name in met}, set(plan.inventory.hosts), facts.remedy, "ssh")
    for (host, name), (code, said) in met.items():
        tried = f"{host}: {name}"
        if name in {"control", "admitted"}:
            check(
                code == 0 and said,
                _("{tried}: an answer").format(tried=tried),
                said,
                _("run `koseki apply --limit {host}`").format(host=host),
            )
            continue
        check(
            code != 0,
            _("{tried}: refused").format(tried=tried),
            said,
            _("run `koseki apply --limit {host}`").format(host=host),
        )
        check(
            "uid=" not in said,
            _("{tried}: nothing ran").format(tried=tried),
            said,
            _("run `koseki apply --limit {host}`").format(host=host),
        )
        reason = REASONS.get(name, f"{ANSWERS}: ")
        check(
            reason in said,
            f"{tried}: {reason}",
            said,
            _("run `koseki apply --limit {host}`").format(host=host),
            "ssh",
        )
    names = {name for _host, name in met}
    expect({*REASONS, "command", "shell"} - names, set(), facts.remedy)


@on_hosts("all")
def test_one_program_answers_the_watch(facts: Facts) -> None:
    """Sudo lets its account start that one, without an argument; it is root's alone (K-11)."""
    expect(facts["may start"].lines, [], facts.remedy)
    expect(facts["may sudo"].lines, [f'(root) NOPASSWD: {ANSWER} ""'], facts.remedy)


@on_hosts("all")
def test_the_watch_enters_one_account(plan: Plan, facts: Facts) -> None:
    """By the key of its kind of host, to the forced command; never as the engines (K-11)."""
    rows = dict(line.split(" ", 1) for line in facts["sshd"].lines if " " in line)
    expect({name: rows.get(name) for name in WANTED}, WANTED, facts.remedy, "ssh")
    principal = PRINCIPALS[not plan.stands_in_city(facts.host)]
    lines = [line.partition(":") for line in facts["who enters"].lines]
    seen = [(file.rpartition("/")[2], row.split()[-1]) for file, _hash, row in lines]
    expect(seen, [(ANSWERS, principal)], facts.remedy, "ssh")


@on_hosts("watch_hosts")
def test_the_toolkit_is_as_it_was_packed(facts: Facts) -> None:
    """Every file of its packages has the hash in the package's record (K-08)."""
    right, *wrong = facts["records"].lines or ["0"]
    check(int(right) > 0, _("packages with records"), facts["records"], facts.remedy)
    remedy = _("run `rm -r /opt/koseki/venv` on {host}, then {remedy}").format(
        host=facts.host, remedy=facts.remedy
    )
    expect([line for line in wrong if line], [], remedy)


@on_hosts("watch_hosts")
def test_no_authority_leaves_the_control_node(plan: Plan, facts: Facts) -> None:
    """Two private keys ask, one signs this host's own history; none certifies anybody (K-08)."""
    asks = {f"{STATE}/{plan.site.name}/ssh/{name}" for name in PRINCIPALS}
    signs = f"{STATE}/{plan.site.name}/{HISTORY_KEY}"
    seen = set(facts["keys"].lines)
    check(
        asks <= seen <= {*asks, signs},
        _("{keys}, and {signs} once a sweep was kept").format(
            keys=", ".join(sorted(asks)), signs=signs
        ),
        seen,
        _("by hand: remove the others, replace what they opened"),
    )
