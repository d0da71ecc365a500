#!/bin/sh
# Say as JSON whether an instance or an engine still runs in this host's own network, and which of
# these units do not run, or would not after a boot.
set -eu
[ -n "${bounded-}" ] || exec env bounded=yes timeout -v -k 5 "${KOSEKI_SECONDS:-120}" sh "$0" "$@"

outside=false
own=$(stat -Lc %i /proc/1/ns/net)
pids=$(systemctl show --property=MainPID --value 'koseki-application@*.service' 'koseki-link@*.service')
for pid in $pids; do
    case $pid in *[!0-9]*) echo "systemctl says no process's number ($pid)" >&2; exit 1 ;; esac
    if network=$(stat -Lc %i "/proc/$pid/ns/net" 2>&1); then
        case $network in *[!0-9]*) echo "stat says no network of process $pid ($network)" >&2; exit 1 ;; esac
        if [ "$network" = "$own" ]; then outside=true; fi
    else
        # One that ends meanwhile is nowhere; one that is still there a second later is somewhere.
        sleep 1
        if [ -d "/proc/$pid" ]; then
            echo "nobody can tell the network of process $pid ($network)" >&2
            exit 1
        fi
    fi
done
resting=
for unit in "$@"; do
    state=$(systemctl show --property=ActiveState,UnitFileState --value "$unit")
    case $state in
    [a-z]*) ;;
    *) echo "systemctl says no state of $unit ($state)" >&2; exit 1 ;;
    esac
    if [ "$state" != 'active
enabled' ]; then resting="$resting${resting:+, }\"$unit\""; fi
done
printf '{"outside": %s, "resting": [%s]}\n' "$outside" "$resting"
