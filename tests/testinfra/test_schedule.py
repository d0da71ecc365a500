"""Schedule: the platform is looked at by the clock, by a host that may do nothing else (K-08)."""

from __future__ import annotations

from datetime import timedelta

from koseki_ops.plan.inventory import WORKSTATION
from koseki_ops.verify.batch import Question
from koseki_ops.verify.expect import check, expect
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.plugin import Facts, Questions, on_hosts

# What each run in `watch_schedule` starts.
UNITS = {
    "sweep": "koseki-drift",
    "verify": "koseki-verify",
    "opinion": "koseki-second-opinion",
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
REACH = """
cd / && for path in {state} /etc/koseki/vault_password /etc/shadow; do
    if setpriv --reuid=nobody --regid=nogroup --clear-groups test -r "$path"; then echo "$path"; fi
done
cd / && for path in /opt/koseki/toolkit /opt/koseki/venv /etc/koseki/vault_password; do
    if setpriv --reuid={account} --regid={account} --clear-groups test -w "$path" -o \
        -r /etc/koseki/vault_password; then echo "$path"; fi
done
"""
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


def questions(plan: Plan, host: str) -> Questions:
    """Ask a host that keeps watch for its units, when they ran, and what its account may do."""
    if host == WORKSTATION or not plan.is_in(host, "watch_hosts"):
        return {}
    asked: dict[str, str | Question] = {
        "account": f"getent passwd {ACCOUNT}; passwd -S {ACCOUNT}; id -Gn {ACCOUNT}",
        "reach": REACH.format(state=STATE, account=ACCOUNT),
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
    expect(strange, set(), "by hand: find out who set it, and remove it")


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
        check(len(answer.text.split()) == 2, f"a stamp of {unit}", answer, facts.remedy, unit)
        due, now = map(int, answer.text.split())
        late = timedelta(seconds=now - due)
        check(
            late < LATE,
            f"{unit} within {LATE} of its schedule",
            f"{late} late",
            f"run `systemctl status {unit}.timer {unit}.service` on {facts.host}",
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
        check(seen.get("MemoryMax") != "infinity", f"{unit}: MemoryMax", "no limit", facts.remedy)


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
    check(facts["queue"].rc == 0, "the MTA's queue", facts["queue"], facts.remedy, MTA)
    now, *queue = facts["queue"].lines
    old = [line for line in queue if int(now) - int(line.split("|")[SINCE]) > WAITS]
    expect(old, [], f"run `smtpctl show queue` on {facts.host}: does the relay answer?", MTA)


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
    check(len(lines) == 3, f"the account {ACCOUNT}", facts["account"], facts.remedy)
    seen = (lines[0].split(":")[-1], lines[1].split()[1], lines[2])
    expect(seen, ("/usr/sbin/nologin", "L", ACCOUNT), facts.remedy)


@on_hosts("watch_hosts")
def test_the_watch_reaches_nothing_it_should_not(facts: Facts) -> None:
    """Tried: others read nothing of it; it neither changes its program nor reads the password."""
    expect(facts["reach"].lines, [], facts.remedy)


@on_hosts("watch_hosts")
def test_the_toolkit_is_as_it_was_packed(facts: Facts) -> None:
    """Every file of its packages has the hash in the package's record (K-08)."""
    right, *wrong = facts["records"].lines or ["0"]
    check(int(right) > 0, "packages with records", facts["records"], facts.remedy)
    remedy = f"run `rm -r /opt/koseki/venv` on {facts.host}, then {facts.remedy}"
    expect([line for line in wrong if line], [], remedy)


@on_hosts("watch_hosts")
def test_no_authority_leaves_the_control_node(plan: Plan, facts: Facts) -> None:
    """One private key asks, one signs this host's own history; neither certifies anybody (K-08)."""
    asks, signs = (f"{STATE}/{plan.site.name}/{name}" for name in ("ssh/automation", HISTORY_KEY))
    seen = set(facts["keys"].lines)
    check(
        asks in seen and seen <= {asks, signs},
        f"{asks}, and {signs} once a sweep was kept",
        seen,
        "by hand: remove the others, replace what they opened",
    )
