#!/bin/sh
# Say as JSON what is still to be done on this host: the stanza, the first full backups (numbers of
# repositories), timers that do not run, whether the lag was never measured, and which repositories
# do not answer, asked three times. $1: the stanza.
set -eu
[ -n "${bounded-}" ] || exec env bounded=yes timeout -v -k 5 "${KOSEKI_SECONDS:-300}" sh "$0" "$@"
export PGOPTIONS='-c lock_timeout=10s -c statement_timeout=30s'

if ! command -v pgbackrest >/dev/null || [ ! -e /etc/pgbackrest/pgbackrest.conf ]; then
    echo '{"stanza_missing": false, "without_backup": [], "idle_timers": [], "unmeasured": false, "unreachable": []}'
    exit 0
fi
cd /
idle=
for timer in pgbackrest-full pgbackrest-differential pgbackrest-incremental koseki-backup-lag; do
    # It says a state, and exits otherwise than 0 in every state but one; `show` fails when it cannot.
    state=$(systemctl show --property=ActiveState --value "$timer.timer")
    case $state in [a-z]*) ;; *) echo "systemctl says no state of $timer.timer ($state)" >&2; exit 1 ;; esac
    if [ "$state" != active ]; then
        idle="$idle${idle:+, }\"$timer.timer\""
    fi
done
unmeasured=true
if [ -e /var/lib/koseki/backup-status.json ]; then unmeasured=false; fi
leads=$(runuser -u postgres -- psql -XqtAc 'SELECT NOT pg_is_in_recovery()')
# A vault that hesitated once is asked again: a failover or a full line costs it some seconds.
info=null
case $leads in t | f) ;; *) echo "psql does not say whether this host leads ($leads)" >&2; exit 1 ;; esac
if [ "$leads" = t ]; then
    for attempt in 1 2 3; do
        info=$(runuser -u postgres -- pgbackrest --stanza="$1" --io-timeout=10 --log-level-console=off --log-level-stderr=error info --output=json)
        case $info in
        *'"code":99'*) [ $attempt -eq 3 ] || sleep 3 ;;
        *) break ;;
        esac
    done
fi
printf '%s' "$info" | python3 -c '
import json, sys
info = json.load(sys.stdin)
stanza = info[0] if info else None
missing, without, unreachable = False, [], []
if info is not None:
    rows = stanza["repo"] if stanza else []
    # 0: sound; 2: sound but without a backup; 99: it could not be asked; else: no stanza there.
    unreachable = [row["key"] for row in rows if row["status"]["code"] == 99]
    missing = not rows or any(row["status"]["code"] not in (0, 2, 99) for row in rows)
    without = [row["key"] for row in rows if row["status"]["code"] not in (0, 99)]
print(json.dumps({
    "stanza_missing": missing, "without_backup": without,
    "idle_timers": json.loads("[" + sys.argv[1] + "]"), "unmeasured": sys.argv[2] == "true",
    "unreachable": unreachable,
}))' "$idle" "$unmeasured"
